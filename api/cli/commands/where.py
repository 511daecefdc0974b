"""``sta where``: the model's module of a place, and its source, instructions and cycles."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from typing import Any

from sta.api.cli.argument_parser import about
from sta.api.cli.tables import count, percent, print_json, print_table, shortened
from sta.api.cli.terminal import columns
from sta.api.inspect.instruction_lookup import InstructionFacts, instruction_facts
from sta.api.inspect.place_lookup import Origin, find, instruction_at
from sta.runtime import Program

_PART_OF_SOURCE = 3
"""A line is so many times as long as the path of a source."""
_MOST_RUNS = 4
"""Runs of instructions listed in a row of the table."""


def execute(arguments: Namespace) -> None:
    """Runs the command; raises the errors of ``sta.load``, and ValueError if there is nothing at the place."""
    program = None if arguments.program is None else _load(arguments.program)
    origins = find(arguments.place, program)
    address = instruction_at(arguments.place)
    facts = None if program is None or address is None else instruction_facts(program, address)
    if arguments.json:
        found: dict[str, Any] = {"place": arguments.place, "modules": [asdict(origin) for origin in origins]}
        print_json(found if facts is None else {**found, "instruction": asdict(facts)})
        return
    if program is None:
        print_table(["module", "source"], [[origin.path, _source(origin)] for origin in origins])
        return
    if facts is not None:
        _print_instruction(facts)
    print_table(
        ["module", "source", "instructions", "cycles", "share"],
        [_cells(origin, program.cycles) for origin in origins],
        numbers=[3, 4],
        drop=[4],
    )


def _print_instruction(facts: InstructionFacts) -> None:
    print(f"@{facts.address}  {facts.text}")
    if facts.start is not None:
        times = "" if facts.executions == 1 else f", {count(facts.executions)} times, {count(facts.busy)} cycles in all"
        print(f"from cycle {count(facts.start)} to {count(facts.end or 0)}{times}")
    print()
    if facts.operands:
        rows = [
            [
                operand.name,
                operand.direction,
                f"{operand.space} {operand.address:#x}",
                f"{operand.shape[0]} x {operand.shape[1]} {operand.dtype}",
                operand.buffer or "-",
            ]
            for operand in facts.operands
        ]
        print_table(["operand", "", "first at", "tile", "buffer"], rows)
        print()


def _load(path: str) -> Program:
    with about(path):
        return Program.load(path)


def _source(origin: Origin) -> str:
    """The lines of the source; paths take part of a line at most."""
    available = columns()
    most = None if available is None else available // _PART_OF_SOURCE
    return " ".join(origin.source if most is None else [shortened(line, most) for line in origin.source])


def _cells(origin: Origin, all_cycles: int) -> list[str]:
    runs = [f"@{first}" if first == last else f"@{first}..{last}" for first, last in origin.instructions]
    more = [f"and {len(runs) - _MOST_RUNS} more"] if len(runs) > _MOST_RUNS else []
    cycles = origin.cycles or 0
    return [
        origin.path or "-",
        _source(origin),
        " ".join([*runs[:_MOST_RUNS], *more]) or "-",
        count(cycles),
        percent(cycles / all_cycles),
    ]
