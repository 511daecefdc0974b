"""``sta gui``: xDSL's window for trying out passes, with ours in it."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path


def execute(arguments: Namespace) -> None:
    """Opens the window; raises the errors of ``application``, and ValueError without a terminal."""
    from sta.api.inspect.gui import application

    app = application(None if arguments.module is None else Path(arguments.module))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ValueError("a window needs a terminal: use `sta opt` elsewhere")
    app.run()
