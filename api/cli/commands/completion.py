"""``sta completion``: the script with which a shell completes commands, options and files."""

from __future__ import annotations

from argparse import Namespace

from sta.api.cli.completion import script


def execute(arguments: Namespace) -> None:
    """Runs the command."""
    print(script(arguments.shell))
