"""The instructions of a run, one after the other, without executing them: their order does not depend on data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sta.runtime.steps import Step, execution
from sta.runtime.validate import ValidProgram
from sta.spec.instructions.access import Access
from sta.spec.instructions.definition import MAXIMUM_LOOP_DEPTH


@dataclass(frozen=True)
class Written:
    """A rectangle of memory that an instruction writes."""

    access: Access
    address: int
    stride: int
    """Bytes from row to row."""

    def overlaps(self, space: str, start: int, end: int) -> bool:
        """True if some row of it touches bytes start..end-1 of a memory."""
        if self.access.space != space:
            return False
        if not self.stride:
            return self.address < end and start < self.address + self.access.row_bytes
        # The first row that ends behind the start of the range; only that one can be the first to touch it.
        row = max(0, (start - self.address - self.access.row_bytes) // self.stride + 1)
        return row < self.access.rows and self.address + row * self.stride < end


class Walk:
    """
    A place in a run, between two instructions.

    A position is the number of instructions executed so far, those of units and fences; `lea`, `loop` and `end` do not
    count, their effect is part of the operands.
    """

    def __init__(self, program: ValidProgram, origin: Walk | None = None) -> None:
        """Begins at the start of a run, or at the place of another walk."""
        self._program = program
        self._counters: list[int] = [0] * MAXIMUM_LOOP_DEPTH if origin is None else list(origin.loop_counters)
        self._stream: Iterator[tuple[Step, int]] = execution(
            program.steps, self._counters, -1 if origin is None else origin.step.pc
        )
        self.position = 0 if origin is None else origin.position
        """Instructions executed so far."""
        self.step = next(self._stream)[0]
        """The instruction that is executed next; the program's last is its halt, which does nothing."""
        self.previous: Step | None = None if origin is None else origin.previous
        """The instruction before it; None at the start."""

    @property
    def loop_counters(self) -> Sequence[int]:
        """The counters of all loops, MAXIMUM_LOOP_DEPTH of them; they change with the place."""
        return self._counters

    @property
    def counters(self) -> tuple[int, ...]:
        """The counters of the loops around the next instruction, outermost first."""
        return tuple(self._counters[: self.step.depth])

    @property
    def is_at_end(self) -> bool:
        """True if everything has been executed."""
        return self.step.instruction.definition.control == "halt"

    @property
    def registers(self) -> dict[str, int]:
        """Values of the next instruction's register fields, by field name."""
        return registers_at(self.step, self._counters)

    def written(self) -> list[Written]:
        """Returns what the next instruction writes."""
        return written_by(self.step, self._counters)

    def writes(self, space: str, start: int, end: int) -> bool:
        """True if the next instruction writes some of the bytes start..end-1 of a memory."""
        # Most instructions write elsewhere, and their operands need not be looked at.
        if not any(access.writes and access.space == space for access in self.step.accesses):
            return False
        return any(written.overlaps(space, start, end) for written in self.written())

    def go_on(self) -> None:
        """Goes on by one instruction; nothing happens at the end."""
        if self.is_at_end:
            return
        self.previous, self.step = self.step, next(self._stream)[0]
        self.position += 1


def registers_at(step: Step, counters: Sequence[int]) -> dict[str, int]:
    """Returns what the register fields of an instruction hold for the given loop counters, by field name."""
    return {name: affine.at(counters) for name, affine in step.registers.items()}


def written_by(step: Step, counters: Sequence[int]) -> list[Written]:
    """Returns what an instruction writes for the given loop counters."""
    if step.instruction.definition.is_sequencer:
        return []
    registers = registers_at(step, counters)
    return [
        Written(
            access,
            registers[access.address],
            access.row_bytes if access.stride is None else registers[access.stride],
        )
        for access in step.accesses
        if access.writes
    ]


def total_positions(program: ValidProgram) -> int:
    """Returns how many instructions of units, and fences, a run executes."""
    # The halt is executed as well, and does nothing.
    return sum(step.executions for step in program.steps if step.is_executed) - 1
