"""One run of a program that stops between any two instructions, and goes back: what a debugger stands on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sta.runtime.memory import Array, Memories
from sta.runtime.reference import ReferenceEngine, State
from sta.runtime.validate import ValidProgram
from sta.runtime.values.walk import Walk, Written

CHECKPOINTS = 32
"""Most checkpoints that are kept, unless they are large."""
CHECKPOINT_BYTES = 1 << 28
"""Most bytes that checkpoints take together; two are always kept."""
FIRST_INTERVAL = 64
"""Instructions between two checkpoints at first; doubled whenever there are too many."""

Visit = Callable[[int], None]
"""Receives the position, at each on the way or only at the end of the way."""


def _ignored(position: int) -> None:
    """Does nothing."""


class Stepper(ABC):
    """A run, and its place; see ``Walk`` for positions."""

    walk: Walk
    """The place of the run."""

    @property
    @abstractmethod
    def memories(self) -> Memories:
        """The machine's memories as they are now."""

    @abstractmethod
    def go_to(self, position: int, visit: Visit = _ignored) -> None:
        """
        Executes up to a position, or goes back to it; stops earlier where the program ends.

        Raises:
            ProgramError: as ``ReferenceEngine.run``; the run stays before the instruction, whose result may be there in
                part.
        """

    def advance(self) -> None:
        """Executes the next instruction; nothing happens at the end. Raises ProgramError as ``go_to`` does."""
        self.go_to(self.walk.position + 1)

    def read(self, written: Written) -> Array:
        """Returns a copy of a rectangle ``[rows, columns]`` as it is now."""
        return read_rectangle(self.memories, written)


@dataclass(frozen=True)
class _Checkpoint:
    walk: Walk
    state: State


class ReferenceStepper(Stepper):
    """A run on the reference engine. Going back restores the last checkpoint and executes from there."""

    def __init__(self, program: ValidProgram, inputs: Mapping[str, Array], poison: int) -> None:
        """Starts a run; takes what ``ReferenceEngine.run`` takes."""
        self._program = program
        self._engine = ReferenceEngine(program)
        self._engine.begin(inputs, poison)
        self._interval = FIRST_INTERVAL
        self._checkpoints: list[_Checkpoint] = []
        self.walk = Walk(program)

    @property
    def memories(self) -> Memories:
        """The machine's memories as they are now."""
        return self._engine.memories

    def go_to(self, position: int, visit: Visit = _ignored) -> None:
        """Executes up to a position, or goes back to it; see ``Stepper``."""
        if position < self.walk.position:
            self._restore(max(position, 0))
        while self.walk.position < position and not self.walk.is_at_end:
            self._execute()
            visit(self.walk.position)

    def _execute(self) -> None:
        if self.walk.position % self._interval == 0:
            self._keep()
        self._engine.execute(self.walk.step, self.walk.loop_counters)
        self.walk.go_on()

    def _keep(self) -> None:
        """Keeps a checkpoint of the present position; thins them out where they are too many."""
        if self._checkpoints and self._checkpoints[-1].walk.position >= self.walk.position:
            return
        state = self._engine.save()
        self._checkpoints.append(_Checkpoint(Walk(self._program, self.walk), state))
        most = max(2, min(CHECKPOINTS, CHECKPOINT_BYTES // max(state.bytes, 1)))
        if len(self._checkpoints) > most:
            self._interval *= 2
            self._checkpoints = [one for one in self._checkpoints if one.walk.position % self._interval == 0]

    def _restore(self, position: int) -> None:
        """Goes back to the last checkpoint that is not behind a position."""
        checkpoint = next(one for one in reversed(self._checkpoints) if one.walk.position <= position)
        self._engine.restore(checkpoint.state)
        self.walk = Walk(self._program, checkpoint.walk)


def read_rectangle(memories: Memories, written: Written) -> Array:
    """Returns a copy of a rectangle ``[rows, columns]`` as it is now."""
    access, memory, address = written.access, written.access.space, written.address
    if memory == "dram":
        memory, address = "writable", address - memories.program.container.writable_base
    pitch = access.pitch or access.dtype.itemsize
    shape, strides = (access.rows, access.columns), (written.stride, pitch)
    return np.ndarray(shape, access.dtype, getattr(memories, memory), address, strides).copy()
