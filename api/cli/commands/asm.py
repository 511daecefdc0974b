"""``sta asm``: text to a container."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sta.api.cli.argument_parser import about
from sta.api.cli.tables import print_json
from sta.api.files.output_file import check_output
from sta.backend.assembler import assemble
from sta.backend.container import write_container
from sta.runtime import Program


def execute(arguments: Namespace) -> None:
    """Runs the command; raises ValueError naming the source and its line or instruction, or OSError."""
    source, output = Path(arguments.source), Path(arguments.output)
    check_output(output, source)
    data = source.read_bytes()
    with about(arguments.source):
        container = assemble(_decoded(data))
        program = Program(container)
    write_container(container, output)
    if arguments.json:
        costs = {"instructions": program.valid.instructions, "macs": program.macs, "dense_macs": program.dense_macs}
        print_json({"code": len(container.code), "constants": len(container.constants), **costs})


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text: {error}") from error
