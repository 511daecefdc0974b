"""``sta objdump``: a container as text."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from sta.backend.assembler import disassemble
from sta.backend.container import read_container
from sta.output_file import check_output, write_text
from sta.usage import about


def execute(arguments: Namespace) -> None:
    """Runs the command; raises ValueError for a bad container, and OSError."""
    if arguments.output is not None:
        check_output(Path(arguments.output), Path(arguments.program))
    with about(arguments.program):
        text = disassemble(read_container(arguments.program))
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        write_text(Path(arguments.output), text)
