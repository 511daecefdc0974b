"""Look-up of a single instruction: when it runs, and which buffers its operands lie in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sta.backend.container import Container
from sta.backend.instruction_text import print_instruction
from sta.runtime import Program
from sta.runtime.steps import Step
from sta.runtime.values.walk import registers_at


@dataclass(frozen=True)
class Operand:
    """A tile that an instruction reads or writes, where it lies the first time."""

    name: str
    """The field of the instruction that holds its address."""
    direction: str
    """``reads`` or ``writes``."""
    space: str
    address: int
    shape: tuple[int, int]
    """Rows and columns."""
    dtype: str
    buffer: str
    """The name of the buffer or constant that it lies in; empty where the debug map has none."""


@dataclass(frozen=True)
class InstructionFacts:
    """Facts about one instruction of a program."""

    address: int
    text: str
    executions: int
    """Number of times that a run executes it."""
    start: int | None
    """Cycle in which its unit starts it first; None for what the sequencer does itself."""
    end: int | None
    """Cycle in which its unit is free again, the first time."""
    busy: int
    """Cycles for which its unit works on it, all times together."""
    operands: tuple[Operand, ...]


def instruction_facts(program: Program, address: int) -> InstructionFacts:
    """
    Looks one instruction up.

    Raises:
        ValueError: there is no such instruction.
        ProgramError: the program deadlocks, or is too long to be recorded.
    """
    code = program.container.code
    if not 0 <= address < len(code):
        raise ValueError(f"@{address}: the program has {len(code):,} instructions, from @0 on")
    step = program.valid.steps[address]
    schedule = program.schedule
    rows = np.flatnonzero(schedule.pc == address)
    first = None if rows.size == 0 else int(rows[0])
    return InstructionFacts(
        address,
        print_instruction(code[address]),
        step.executions,
        None if first is None else int(schedule.start[first]),
        None if first is None else int(schedule.end[first]),
        int((schedule.end[rows] - schedule.start[rows]).sum()),
        _operands(program.container, step),
    )


def _operands(container: Container, step: Step) -> tuple[Operand, ...]:
    if step.instruction.definition.is_sequencer:
        return ()
    registers = registers_at(step, [0] * step.depth)
    return tuple(
        Operand(
            access.address,
            "writes" if access.writes else "reads",
            access.space,
            registers[access.address],
            (access.rows, access.columns),
            access.dtype.name,
            _buffer(container, access.space, registers[access.address], step.pc),
        )
        for access in step.accesses
    )


def _buffer(container: Container, space: str, address: int, pc: int) -> str:
    """The name of what lies at an address when an instruction runs; of several the smallest."""
    known = [entry for entry in container.debug["buffers"] if entry.get("space") == space and _is_used(entry, pc)]
    if space == "dram":
        known += container.debug["constants"]
    here = [entry for entry in known if 0 <= address - entry.get("offset", -1) < entry.get("bytes", 0)]
    return str(min(here, key=lambda entry: entry["bytes"])["name"]) if here else ""


def _is_used(entry: Mapping[str, Any], pc: int) -> bool:
    return entry.get("first", pc) <= pc <= entry.get("last", pc)
