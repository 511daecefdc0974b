"""``sta run``: run a program on inputs from a file. Needs NumPy only."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sta.npz import read_arrays
from sta.output_file import check_output, write_arrays
from sta.runtime import Result, load
from sta.runtime.program import ENGINES
from sta.tables import count, duration, percent, print_json, print_table, size
from sta.usage import UsageError, about, suggestion


def execute(arguments: Namespace) -> None:
    """Runs the command; raises what ``Program.load``, ``Program.run`` and ``read_arrays`` raise."""
    if arguments.engine not in ENGINES:
        known = f"known: {', '.join(ENGINES)}"
        raise UsageError(f"unknown engine {arguments.engine!r}{suggestion(arguments.engine, ENGINES)}; {known}")
    output = Path(arguments.output)
    check_output(output, Path(arguments.program), Path(arguments.inputs))
    with about(arguments.program):
        program = load(arguments.program)
    inputs = read_arrays(Path(arguments.inputs))
    result = program.run(inputs, engine=arguments.engine)
    write_arrays(output, result.outputs)
    if arguments.json:
        print_json(result.to_json())
        return
    _print_result(result, program.target.name)


def _print_result(result: Result, target: str) -> None:
    print_table(
        ["output", "shape", "smallest", "largest"],
        [
            [name, " x ".join(map(str, values.shape)), f"{values.min():.6g}", f"{values.max():.6g}"]
            for name, values in result.outputs.items()
            if values.size
        ],
        numbers=[2, 3],
    )
    print()
    print_table(
        ["cost", f"on {target}"],
        [
            ["cycles", count(result.cycles)],
            ["time", duration(result.seconds)],
            ["MAC efficiency", percent(result.mac_efficiency)],
            ["useful MACs", count(result.macs)],
            ["DRAM traffic", size(result.dram_bytes)],
        ],
        numbers=[1],
    )
