"""``sta version``: the versions of the toolchain, of its file format, and of the packages that it uses."""

from __future__ import annotations

import platform
from argparse import Namespace

from sta.api.cli.tables import print_json, print_table
from sta.api.compiler.package_versions import versions
from sta.backend.container import VERSION
from sta.runtime.engines import native_is_built


def execute(arguments: Namespace) -> None:
    """Runs the command."""
    engine = "built" if native_is_built() else "not built"
    found = {**versions(), "Python": platform.python_version(), "container": f"{VERSION[0]}.{VERSION[1]}"}
    if arguments.json:
        print_json({**found, "native engine": engine})
        return
    print_table(["package", "version"], [*([name, text] for name, text in found.items()), ["native engine", engine]])
