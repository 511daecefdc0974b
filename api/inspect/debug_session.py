"""A debugged run: its stops and their reasons. No input or output of its own."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.runtime import Program
from sta.runtime.memory import Memories
from sta.runtime.values.model_values import Value, buffers_of, values_of
from sta.runtime.values.stepper import Stepper, total_positions

Array = NDArray[Any]

REPORT_INTERVAL = 64
"""Instructions between two reports."""


@dataclass(frozen=True)
class AtInstruction:
    """Stops before an instruction."""

    pc: int

    def __str__(self) -> str:
        """The breakpoint as a user types it."""
        return f"break {self.pc}"

    def stops(self, session: Session) -> bool:
        """True if the run stops at its present position."""
        return session.run.step.pc == self.pc


@dataclass(frozen=True)
class AtModule:
    """Stops where the run enters a module whose path matches."""

    pattern: str

    def __str__(self) -> str:
        """The breakpoint as a user types it."""
        return f"break {self.pattern}"

    def stops(self, session: Session) -> bool:
        """True if the run stops at its present position."""
        return session.path != session.previous_path and fnmatchcase(session.path, self.pattern)


@dataclass(frozen=True)
class AtUnit:
    """Stops before each instruction with work for a unit, which `sync` has not."""

    unit: str

    def __str__(self) -> str:
        """The breakpoint as a user types it."""
        return f"break unit {self.unit}"

    def stops(self, session: Session) -> bool:
        """True if the run stops at its present position."""
        return session.run.step.instruction.definition.unit == self.unit


@dataclass(frozen=True)
class AtWrite:
    """Stops before an instruction that writes some of the bytes."""

    space: str
    start: int
    end: int

    def __str__(self) -> str:
        """The breakpoint as a user types it."""
        return f"break write {self.space} {self.start:#x} {self.end - self.start}"

    def stops(self, session: Session) -> bool:
        """True if the run stops at its present position."""
        return any(written.overlaps(self.space, self.start, self.end) for written in session.run.written())


@dataclass
class Watch:
    """Stops after an instruction that has changed the watched bytes."""

    text: str
    read: Callable[[Memories], Array]
    last: bytes = b""

    def __str__(self) -> str:
        """The watchpoint as a user types it."""
        return f"watch {self.text}"

    def remember(self, memories: Memories) -> None:
        """Takes the present bytes as the reference for changes."""
        self.last = self.read(memories).tobytes()

    def changed(self, memories: Memories) -> int:
        """Returns the number of bytes changed since the last call."""
        now = self.read(memories).tobytes()
        before, self.last = self.last, now
        return 0 if now == before else int(np.count_nonzero(np.frombuffer(before, "u1") != np.frombuffer(now, "u1")))


Breakpoint = AtInstruction | AtModule | AtUnit | AtWrite


class Session:
    """One program, its inputs, and the present state of its run."""

    def __init__(self, program: Program, inputs: dict[str, Array], poison: int, report: Callable[[int], None]) -> None:
        """
        Starts a run; `report` is called with its position, now and then.

        Raises:
            ContainerError: the debug map is damaged.
            ValueError: the inputs are not those of the program.
        """
        self.program = program
        self.values: list[Value] = values_of(program.container)
        self.buffers: list[Value] = buffers_of(program.container)
        self.run = Stepper(program.valid, program.encode_inputs(inputs), poison)
        self.total = total_positions(program.valid)
        self.stops: dict[int, Breakpoint | Watch] = {}
        self.previous_path = ""
        """The module of the previous instruction."""
        self._report = report
        self._number = 0

    @property
    def path(self) -> str:
        """The path of the next instruction's module."""
        return self.program.container.module_path(self.run.step.pc)

    def add(self, stop: Breakpoint | Watch) -> int:
        """Adds a breakpoint or watchpoint, and returns its number."""
        if isinstance(stop, Watch):
            stop.remember(self.run.memories)
        self._number += 1
        self.stops[self._number] = stop
        return self._number

    def written(self) -> list[str]:
        """
        Executes the next instruction, and describes the written bytes: place, smallest and largest number, checksum.

        Raises:
            ProgramError: the instruction failed.
        """
        announced = self.run.written()
        self._advance()
        lines: list[str] = []
        for written in announced:
            array = self.run.read(written)
            sizes = f"{written.access.rows} x {written.access.columns} {written.access.dtype.name}"
            lines.append(
                f"wrote {written.access.space} {written.address:#x}: {sizes}, {array.min()} to {array.max()}, "
                f"crc {zlib.crc32(array.tobytes()):08x}"
            )
        return lines

    def run_until(self, is_there: Callable[[], bool] = lambda: False) -> list[str]:
        """
        Runs until a breakpoint, a watchpoint, the end or a place; at least one instruction.

        Returns:
            Why it stopped, a line each; empty if ``is_there`` is the reason.

        Raises:
            ProgramError: an instruction failed; the run stays before it.
        """
        while not self.run.is_at_end:
            self._advance()
            if reasons := self._reasons():
                return reasons
            if is_there():
                return []
        return ["the program has ended"]

    def go_to(self, position: int) -> None:
        """Goes to a position, forwards or backwards, without regard to breakpoints; raises ProgramError."""
        self.run.go_to(max(position - 1, 0), self._visited)
        self.previous_path = self.path if position > 0 else ""
        self.run.go_to(position, self._visited)
        self._remember()

    def back_to_stop(self) -> list[str]:
        """Goes back to the last breakpoint before the present position, or to the start; returns why it stopped."""
        here, found = self.run.position, 0
        self.run.go_to(0)
        self.previous_path = ""
        while self.run.position < here:
            if any(stop.stops(self) for stop in self.stops.values() if not isinstance(stop, Watch)):
                found = self.run.position
            self._advance()
        self.go_to(found)
        return self._reasons() if found else ["the start of the program"]

    def _advance(self) -> None:
        path = self.path
        self.run.advance()
        self.previous_path = path
        self._visited()

    def _visited(self) -> None:
        if self.run.position % REPORT_INTERVAL == 0:
            self._report(self.run.position)

    def _remember(self) -> None:
        for stop in self.stops.values():
            if isinstance(stop, Watch):
                stop.remember(self.run.memories)

    def _reasons(self) -> list[str]:
        """Returns the reason why the run stops at its present position."""
        reasons: list[str] = []
        for number, stop in self.stops.items():
            if isinstance(stop, Watch):
                changed = stop.changed(self.run.memories)
                reasons += [f"{number}: {stop}: {changed} bytes have changed"] if changed else []
            elif stop.stops(self):
                reasons.append(f"{number}: {stop}")
        return reasons
