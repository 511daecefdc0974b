"""``sta report``: a page about a program that opens offline."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sta.api.cli.argument_parser import UsageError, about
from sta.api.cli.progress import Progress
from sta.api.cli.tables import print_json, size
from sta.api.dump.ir_dump import Dump
from sta.api.files.output_file import check_output
from sta.api.files.run_files import read_sample
from sta.api.report.report import write_report
from sta.runtime import load


def execute(arguments: Namespace) -> None:
    """Runs the command; raises the errors of ``Program.load``, ``run``, ``Dump.read`` and ``write_report``."""
    program_path, output = Path(arguments.program), Path(arguments.output)
    check_output(output, program_path, *([Path(arguments.inputs)] if arguments.inputs else []))
    dump = None if arguments.ir is None else Dump.read(Path(arguments.ir))
    if arguments.sample is not None and arguments.inputs is None:
        raise UsageError("argument --sample: it chooses among inputs: give --inputs as well")
    with Progress() as progress:
        progress.report("load", None)
        with about(arguments.program):
            program = load(program_path)
        if dump is not None:
            dump.check_is_of(program.container)
        inputs = None if arguments.inputs is None else read_sample(program, Path(arguments.inputs), arguments.sample)
        progress.report("run", None)
        result = None if inputs is None else program.run(inputs)
        progress.report("write the report", None)
        written = write_report(output, program_path.name, program, result, dump)
    if arguments.json:
        print_json({"report": str(output), "bytes": written})
        return
    if arguments.quiet:
        return
    print(f"{output}: {size(written)}; open it in a browser, it needs no network")
