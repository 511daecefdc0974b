"""Stock tools of xDSL know our dialects and passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from xdsl.universe import Universe

from sta.api.dump.ir_dump import Dump
from sta.passes.pipeline import pass_registry
from tests.api.conftest import files_of


def test_xdsl_opt_reads_dumps_and_runs_our_passes(dump: Dump) -> None:
    for level, arguments in (
        ("import", []),
        ("convert-torch-to-nm", ["-p", "nm-sink-views"]),
        ("sta-allocate", ["-p", "sta-synchronize"]),
    ):
        path = next(path for path in files_of(dump) if path.stem.endswith(level))
        tool = Path(sys.executable).with_name("xdsl-opt")
        done = subprocess.run([tool, path, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("builtin.module {\n  func.func @main(")


def test_the_registry_of_xdsl_has_our_dialects_and_passes() -> None:
    universe = Universe.get_multiverse()
    assert pass_registry().keys() <= universe.all_passes.keys()
    assert {"torch", "nm", "sta"} <= universe.all_dialects.keys()
