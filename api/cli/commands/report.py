"""``sta report``: a page about a program that opens offline."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any, cast

from sta.api.cli.argument_parser import about
from sta.api.cli.progress import Progress
from sta.api.cli.tables import print_json, size
from sta.api.dump.ir_dump import Dump
from sta.api.files.npz import read_arrays
from sta.api.files.output_file import check_output
from sta.api.report.report import write_report
from sta.api.report.report_data import Sources
from sta.runtime import load

_SHOWN = ("module", "operation", "float_operation", "isolated", "accumulated")
"""Keys of an operation of ``sta diff`` that a report shows."""


def execute(arguments: Namespace) -> None:
    """Runs the command; raises the errors of ``Program.load``, ``run``, ``Dump.read`` and ``write_report``."""
    program_path, output = Path(arguments.program), Path(arguments.output)
    others = (arguments.inputs, arguments.other, arguments.diff)
    check_output(output, program_path, *(Path(path) for path in others if path is not None))
    diff = None if arguments.diff is None else _operations(Path(arguments.diff))
    dump = None if arguments.ir is None else Dump.read(Path(arguments.ir))
    inputs = None if arguments.inputs is None else read_arrays(Path(arguments.inputs))
    with Progress() as progress:
        progress.report("load", None)
        with about(arguments.program):
            program = load(program_path)
        other = None
        if arguments.other is not None:
            with about(arguments.other):
                other = (Path(arguments.other).name, load(arguments.other))
        progress.report("run", None)
        result = None if inputs is None else program.run(inputs)
        progress.report("write the report", None)
        written = write_report(output, Sources(program_path.name, program, result, dump, diff, other))
    if arguments.json:
        print_json({"report": str(output), "bytes": written})
        return
    print(f"{output}: {size(written)}; open it in a browser, it needs no network")


def _operations(path: Path) -> list[dict[str, Any]]:
    """Returns the operations in the output of ``sta diff --json``; raises OSError, and ValueError for another file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        operations = cast("list[dict[str, Any]]", found["operations"])
        rows = [{key: one[key] for key in _SHOWN} for one in operations]
        if not all(isinstance(one[side]["decibels"], float | None) for one in rows for side in _SHOWN[3:]):
            raise TypeError
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not the output of `sta diff --json`") from error
    return rows
