"""A debugged run: its stops and their reasons. No input or output of its own."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.runtime import Program, ProgramError
from sta.runtime.analysis.schedule import Schedule
from sta.runtime.memory import Memories
from sta.runtime.values.last_writers import last_writers
from sta.runtime.values.model_values import Value, buffers_of, values_of
from sta.runtime.values.walk import Walk, total_positions
from sta.spec.instructions.definition import UNITS

Array = NDArray[Any]

REPORT_INTERVAL = 64
"""Instructions between two reports."""


@dataclass(frozen=True)
class Place:
    """A place of a run, with the modules around it."""

    walk: Walk
    paths: list[str]
    """The module path of every instruction."""

    @property
    def path(self) -> str:
        """The path of the next instruction's module."""
        return self.paths[self.walk.step.pc]

    @property
    def previous_path(self) -> str:
        """The path of the previous instruction's module; empty at the start."""
        return "" if self.walk.previous is None else self.paths[self.walk.previous.pc]


@dataclass(frozen=True)
class AtInstruction:
    """Stops before an instruction."""

    pc: int

    def __str__(self) -> str:
        """The breakpoint as a user types it."""
        return f"break {self.pc}"

    def stops(self, place: Place) -> bool:
        """True if a run stops at a place."""
        return place.walk.step.pc == self.pc


@dataclass(frozen=True)
class AtModule:
    """Stops where the run enters a module whose path matches."""

    pattern: str

    def __str__(self) -> str:
        """The breakpoint as a user types it."""
        return f"break {self.pattern}"

    def stops(self, place: Place) -> bool:
        """True if a run stops at a place."""
        return place.path != place.previous_path and fnmatchcase(place.path, self.pattern)


@dataclass(frozen=True)
class AtUnit:
    """Stops before each instruction with work for a unit, which `sync` has not."""

    unit: str

    def __str__(self) -> str:
        """The breakpoint as a user types it."""
        return f"break unit {self.unit}"

    def stops(self, place: Place) -> bool:
        """True if a run stops at a place."""
        return place.walk.step.instruction.definition.unit == self.unit


@dataclass(frozen=True)
class AtWrite:
    """Stops before an instruction that writes some of the bytes."""

    space: str
    start: int
    end: int

    def __str__(self) -> str:
        """The breakpoint as a user types it."""
        return f"break write {self.space} {self.start:#x} {self.end - self.start}"

    def stops(self, place: Place) -> bool:
        """True if a run stops at a place."""
        return place.walk.writes(self.space, self.start, self.end)


@dataclass
class Watch:
    """Stops after an instruction that has changed the watched bytes."""

    text: str
    space: str
    start: int
    end: int
    """The watched bytes lie in start..end-1 of the memory."""
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


@dataclass(frozen=True)
class Work:
    """An instruction that a unit executes, and the cycle in which it ends."""

    unit: str
    pc: int
    end: int


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
        self.run = program.stepper(inputs, poison=poison)
        # The same run in memory that held other bytes at the start: what differs comes from there.
        self._shadow = program.stepper(inputs, poison=poison ^ 0xFF)
        self.total = total_positions(program.valid)
        self.stops: dict[int, Breakpoint | Watch] = {}
        self._paths = program.container.module_paths()
        self._report = report
        self._number = 0

    @property
    def place(self) -> Place:
        """The present place of the run."""
        return Place(self.run.walk, self._paths)

    @property
    def path(self) -> str:
        """The path of the next instruction's module."""
        return self.place.path

    def add(self, stop: Breakpoint | Watch) -> int:
        """Adds a breakpoint or watchpoint, and returns its number."""
        if isinstance(stop, Watch):
            stop.remember(self.run.memories)
        self._number += 1
        self.stops[self._number] = stop
        return self._number

    def undefined(self, read: Callable[[Memories], Array]) -> NDArray[np.bool_]:
        """True for elements of memory that depend on its contents at the start: nothing has been written there."""
        self._shadow.go_to(self.run.walk.position)
        return read(self.run.memories) != read(self._shadow.memories)

    def stale(self, value: Value) -> NDArray[np.bool_]:
        """True for elements of a value, in its shape, in whose places other instructions than its own wrote last."""
        writers = last_writers(self.program.valid, value, self.run.walk.position)
        return (writers < value.first) | (writers > value.last)

    @cached_property
    def schedule(self) -> Schedule | None:
        """Times of all instructions; None for a run that is too long to be recorded."""
        try:
            return self.program.schedule
        except ProgramError:
            return None

    def work(self, cycle: int) -> list[Work]:
        """Returns what the units execute in a cycle of the run."""
        schedule, works = self.schedule, list[Work]()
        for unit, rows in enumerate([] if schedule is None else schedule.rows_of_unit):
            assert schedule is not None
            begun = int(np.searchsorted(schedule.start[rows], cycle, "right"))
            row = int(rows[begun - 1]) if begun else -1
            if begun and schedule.end[row] > cycle:
                works.append(Work(UNITS[unit], int(schedule.pc[row]), int(schedule.end[row])))
        return works

    def written(self) -> list[str]:
        """
        Executes the next instruction, and describes the written bytes: place, smallest and largest number, checksum.

        Raises:
            ProgramError: the instruction failed.
        """
        announced = self.run.walk.written()
        self.run.advance()
        lines: list[str] = []
        for written in announced:
            array = self.run.read(written)
            sizes = f"{written.access.rows} x {written.access.columns} {written.access.dtype.name}"
            lines.append(
                f"wrote {written.access.space} {written.address:#x}: {sizes}, {array.min()} to {array.max()}, "
                f"crc {zlib.crc32(array.tobytes()):08x}"
            )
        return lines

    def run_until(self, is_there: Callable[[Place], bool] = lambda _: False) -> list[str]:
        """
        Runs until a breakpoint, a watchpoint, the end or a place; at least one instruction.

        Where a run may stop does not depend on data, so that the run goes there at once.

        Returns:
            Why it stopped, a line each; empty if ``is_there`` is the reason.

        Raises:
            ProgramError: an instruction failed; the run stays before it.
        """
        ahead = Place(Walk(self.program.valid, self.run.walk), self._paths)
        while not ahead.walk.is_at_end:
            may_change = any(ahead.walk.writes(one.space, one.start, one.end) for one in self._watches())
            ahead.walk.go_on()
            arrived = is_there(ahead)
            if not (may_change or arrived or self._stops_at(ahead)):
                continue
            self.run.go_to(ahead.walk.position, self._visited)
            if reasons := self._reasons():
                return reasons
            if arrived:
                return []
        self.run.go_to(ahead.walk.position, self._visited)
        return ["the program has ended"]

    def go_to(self, position: int) -> None:
        """Goes to a position, forwards or backwards, without regard to breakpoints; raises ProgramError."""
        self.run.go_to(position, self._visited)
        for watch in self._watches():
            watch.remember(self.run.memories)

    def back_to_stop(self) -> list[str]:
        """Goes back to the last breakpoint before the present position, or to the start; returns why it stopped."""
        here, found = self.run.walk.position, 0
        place = Place(Walk(self.program.valid), self._paths)
        while place.walk.position < here:
            if self._stops_at(place):
                found = place.walk.position
            place.walk.go_on()
        self.go_to(found)
        return self._reasons() if found else ["the start of the program"]

    def _visited(self, position: int) -> None:
        if position % REPORT_INTERVAL == 0:
            self._report(position)

    def _watches(self) -> list[Watch]:
        return [stop for stop in self.stops.values() if isinstance(stop, Watch)]

    def _stops_at(self, place: Place) -> bool:
        """True if a breakpoint stops a run at a place."""
        return any(stop.stops(place) for stop in self.stops.values() if not isinstance(stop, Watch))

    def _reasons(self) -> list[str]:
        """Returns the reason why the run stops at its present position."""
        reasons: list[str] = []
        for number, stop in self.stops.items():
            if isinstance(stop, Watch):
                changed = stop.changed(self.run.memories)
                reasons += [f"{number}: {stop}: {changed} bytes have changed"] if changed else []
            elif stop.stops(self.place):
                reasons.append(f"{number}: {stop}")
        return reasons
