"""``sta where``: the model's module of a place, and its source, instructions and cycles."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict

from sta.api.cli.argument_parser import about
from sta.api.cli.tables import count, percent, print_json, print_table
from sta.api.inspect.place_lookup import Origin, find, instruction_at
from sta.runtime import Program

_MOST_RUNS = 4
"""Runs of instructions listed in a row of the table."""


def execute(arguments: Namespace) -> None:
    """Runs the command; raises the errors of ``sta.load``, and ValueError if there is nothing at the place."""
    program = None if arguments.program is None else _load(arguments.program)
    origins = find(arguments.place, program)
    if arguments.json:
        print_json({"place": arguments.place, "modules": [asdict(origin) for origin in origins]})
        return
    if program is None:
        print_table(["module", "source"], [[origin.path, " ".join(origin.source)] for origin in origins])
        return
    if (text := instruction_at(arguments.place, program)) is not None:
        print(f"{arguments.place}  {text}\n")
    print_table(
        ["module", "source", "instructions", "cycles", "share"],
        [_cells(origin, program.cycles) for origin in origins],
        numbers=[3, 4],
    )


def _load(path: str) -> Program:
    with about(path):
        return Program.load(path)


def _cells(origin: Origin, all_cycles: int) -> list[str]:
    runs = [f"@{first}" if first == last else f"@{first}..{last}" for first, last in origin.instructions]
    more = [f"and {len(runs) - _MOST_RUNS} more"] if len(runs) > _MOST_RUNS else []
    cycles = origin.cycles or 0
    return [
        origin.path or "-",
        " ".join(origin.source),
        " ".join([*runs[:_MOST_RUNS], *more]) or "-",
        count(cycles),
        percent(cycles / all_cycles),
    ]
