"""One run of a program, instruction by instruction, forwards and backwards: what a debugger stands on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sta.runtime.memory import Array, Memories
from sta.runtime.reference import ReferenceEngine, State
from sta.runtime.steps import Step, execution
from sta.runtime.validate import ValidProgram
from sta.spec.instructions.access import Access
from sta.spec.instructions.definition import MAXIMUM_LOOP_DEPTH

CHECKPOINTS = 32
"""Most checkpoints that are kept, unless they are large."""
CHECKPOINT_BYTES = 1 << 28
"""Most bytes that checkpoints take together; two are always kept."""
FIRST_INTERVAL = 64
"""Instructions between two checkpoints at first; doubled whenever there are too many."""


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


@dataclass(frozen=True)
class _Checkpoint:
    position: int
    pc: int
    counters: tuple[int, ...]
    state: State


class Stepper:
    """
    A run on the reference engine that stops between any two instructions.

    A position is the number of instructions executed so far, those of units and fences; `lea`, `loop` and `end` do not
    count, their effect is part of the operands. Going back restores the last checkpoint and executes from there.
    """

    def __init__(self, program: ValidProgram, inputs: Mapping[str, Array], poison: int) -> None:
        """Starts a run; takes what ``ReferenceEngine.run`` takes."""
        self._program = program
        self._engine = ReferenceEngine(program)
        self._engine.begin(inputs, poison)
        self._interval = FIRST_INTERVAL
        self._checkpoints: list[_Checkpoint] = []
        self._counters = [0] * MAXIMUM_LOOP_DEPTH
        self._execution: Iterator[tuple[Step, int]] = execution(program.steps, self._counters)
        self.position = 0
        """Instructions executed so far."""
        self.step = next(self._execution)[0]
        """The instruction that is executed next; the program's last is its halt, which does nothing."""

    @property
    def memories(self) -> Memories:
        """The machine's memories as they are now."""
        return self._engine.memories

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

    def read(self, written: Written) -> Array:
        """Returns a copy of a rectangle ``[rows, columns]`` as it is now."""
        return read_rectangle(self.memories, written)

    def advance(self) -> None:
        """
        Executes the next instruction; nothing happens at the end.

        Raises:
            ProgramError: as ``ReferenceEngine.run``; the position stays, and so do the memories.
        """
        if self.is_at_end:
            return
        if self.position % self._interval == 0:
            self._keep()
        self._engine.execute(self.step, self._counters)
        self.step = next(self._execution)[0]
        self.position += 1

    def go_to(self, position: int, visit: Callable[[], None] | None = None) -> None:
        """
        Executes up to a position, or goes back to it; stops earlier where the program ends.

        ``visit`` is called at each position on the way, after going back to a checkpoint.
        """
        if position < self.position:
            self._restore(max(position, 0))
        while self.position < position and not self.is_at_end:
            if visit is not None:
                visit()
            self.advance()

    def _keep(self) -> None:
        """Keeps a checkpoint of the present position; thins them out where they are too many."""
        if self._checkpoints and self._checkpoints[-1].position >= self.position:
            return
        state = self._engine.save()
        self._checkpoints.append(_Checkpoint(self.position, self.step.pc, tuple(self._counters), state))
        most = max(2, min(CHECKPOINTS, CHECKPOINT_BYTES // max(state.bytes, 1)))
        if len(self._checkpoints) > most:
            self._interval *= 2
            self._checkpoints = [one for one in self._checkpoints if one.position % self._interval == 0]

    def _restore(self, position: int) -> None:
        """Goes back to the last checkpoint that is not behind a position."""
        checkpoint = next(one for one in reversed(self._checkpoints) if one.position <= position)
        self._engine.restore(checkpoint.state)
        self._counters[:] = checkpoint.counters
        self._execution = execution(self._program.steps, self._counters, checkpoint.pc)
        self.step = next(self._execution)[0]
        self.position = checkpoint.position


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


def read_rectangle(memories: Memories, written: Written) -> Array:
    """Returns a copy of a rectangle ``[rows, columns]`` as it is now."""
    access, memory, address = written.access, written.access.space, written.address
    if memory == "dram":
        memory, address = "writable", address - memories.program.container.writable_base
    pitch = access.pitch or access.dtype.itemsize
    shape, strides = (access.rows, access.columns), (written.stride, pitch)
    return np.ndarray(shape, access.dtype, getattr(memories, memory), address, strides).copy()


def total_positions(program: ValidProgram) -> int:
    """Returns how many instructions of units, and fences, a run executes."""
    # The halt is executed as well, and does nothing.
    return sum(step.executions for step in program.steps if step.is_executed) - 1
