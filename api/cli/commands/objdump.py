"""``sta objdump``: a container as text."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from sta.api.cli.argument_parser import about
from sta.api.cli.standard_streams import write_data
from sta.api.cli.tables import json_text
from sta.api.files.output_file import check_output, write_text
from sta.backend.assembler import disassemble
from sta.backend.container import Container, read_container


def execute(arguments: Namespace) -> None:
    """Runs the command; raises ValueError for a bad container, and OSError."""
    if arguments.output is not None:
        check_output(Path(arguments.output), Path(arguments.program))
    with about(arguments.program):
        container = read_container(arguments.program)
        text = json_text(_contents(container)) + "\n" if arguments.json else disassemble(container)
    if arguments.output is None:
        write_data(text)
    else:
        write_text(Path(arguments.output), text)


def _contents(container: Container) -> dict[str, Any]:
    """Returns every section as JSON can hold it; of the constants, which are bytes, only how many there are."""
    return {
        "code": [
            {"instruction": instruction.name, **{field.name: value for field, value in instruction}}
            for instruction in container.code
        ],
        "constants": len(container.constants),
        "program": container.program,
        "signature": container.signature,
        "debug": container.debug,
        "ir": container.ir,
        "target": container.target,
    }
