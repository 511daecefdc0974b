"""
The race check: whether semaphores and fences order every two instructions whose order matters.

Two instructions of different units conflict where both touch a byte and one of them writes it. The one that comes first
in the program must then be complete before the other may start, whatever the durations (``happens_before.py``).
The check walks through a run and keeps for every byte, unit and direction the last instruction that has touched it; an
instruction finds a race where this one is not certain to be complete. Tiles are exact byte sets, rows and gaps; where
everything in a memory is a multiple of some number of bytes, that many bytes are one mark. Nothing here depends on
data: a gather counts as reading its whole table. Instructions of one unit are not compared, a unit keeps its own order.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sta.runtime.analysis.happens_before import Clock, clocks_before
from sta.runtime.analysis.schedule import SEQUENCER, Schedule
from sta.runtime.errors import ProgramError
from sta.runtime.memory import place
from sta.runtime.steps import Step
from sta.runtime.validate import ValidProgram
from sta.spec.affine import Affine
from sta.spec.instructions.access import Access
from sta.spec.instructions.definition import UNITS

REPORT_LIMIT = 8
"""Most pairs of instructions that one error names."""


@dataclass(frozen=True)
class Party:
    """One of the two executions of a race."""

    pc: int
    name: str
    """The mnemonic."""
    module_path: str
    unit: str
    execution: int
    """Number of executions of the instruction before this one."""
    writes: bool

    def __str__(self) -> str:
        path = f", {self.module_path}" if self.module_path else ""
        return f"instruction {self.pc} ({self.name}{path}) of unit {self.unit}, execution {self.execution + 1},"


@dataclass(frozen=True)
class Race:
    """Two executions that touch the same bytes in an order that nothing guarantees."""

    earlier: Party
    """The one that comes first in the program."""
    later: Party
    space: str
    start: int
    """The first byte that both touch."""
    stop: int
    """The end of the bytes in a row, from ``start``, that both touch."""
    bytes: int
    """All bytes that both touch."""

    def __str__(self) -> str:
        more = f" and {self.bytes - (self.stop - self.start)} more bytes" if self.bytes > self.stop - self.start else ""
        does, has = ("write" if self.later.writes else "read"), ("written" if self.earlier.writes else "read")
        return (
            f"{self.later} may {does} {self.space} bytes {self.start}..{self.stop - 1}{more} before "
            f"{self.earlier} has {has} them"
        )


class RaceError(ProgramError):
    """The order of conflicting accesses is not guaranteed; the message names the instructions, memory and bytes."""

    def __init__(self, races: Sequence[Race]) -> None:
        self.races = tuple(races)
        """One race for each pair of instructions of the code, in the order of the run; up to ``REPORT_LIMIT``."""
        super().__init__("\n  ".join(["race: no semaphore or fence orders conflicting accesses", *map(str, races)]))


class FoundRace(NamedTuple):
    """A race as rows of a schedule."""

    earlier: int
    earlier_writes: bool
    later: int
    access: int
    """Index of the later instruction's access, constants left out."""


@dataclass(frozen=True)
class RaceCheck:
    """A program without races: how much has been compared."""

    instructions: int
    """Executions of instructions of units."""
    accesses: int
    """Tiles that they read and write."""
    bytes: int
    """Bytes of these tiles, constants in DRAM left out."""

    def to_json(self) -> dict[str, Any]:
        """Returns the numbers as a dictionary that JSON can hold."""
        return {"instructions": self.instructions, "accesses": self.accesses, "bytes": self.bytes}


def check_races(program: ValidProgram, schedule: Schedule) -> RaceCheck:
    """
    Compares all conflicting accesses of a run.

    Args:
        program: the program.
        schedule: its schedule; any one will do, since the result does not depend on durations.

    Raises:
        RaceError: an order is not guaranteed.
    """
    return _Checker(program, schedule).run()


@dataclass
class _Marks:
    """For every granule of a memory, how many instructions its unit had begun when one of them last touched it."""

    unit: int
    writes: bool
    marks: NDArray[np.int32]
    last: int = 0
    """The largest of them."""


class _Space:
    """Last accesses to one memory."""

    def __init__(self, name: str, size: int, granule: int) -> None:
        self.name = name
        self.granule = granule
        self.granules = -(-size // granule)
        self.tracks: dict[tuple[int, bool], _Marks] = {}
        """By unit, and whether it writes."""

    def track(self, unit: int, writes: bool) -> _Marks:
        if (unit, writes) not in self.tracks:
            self.tracks[unit, writes] = _Marks(unit, writes, np.zeros(self.granules, np.int32))
        return self.tracks[unit, writes]

    def rivals(self, unit: int, writes: bool) -> list[_Marks]:
        """Returns what an access conflicts with: the other units' writes, and with a write their reads too."""
        tracks = sorted(self.tracks.items())
        return [track for (other, wrote), track in tracks if other != unit and (writes or wrote)]


@dataclass
class _Footprint:
    """The granules that an instruction reads or writes, in each of its executions."""

    space: _Space
    access: Access
    first: array[int]
    stride: array[int]
    rows: array[int]
    width: int
    """Granules in a row."""
    own: _Marks
    rivals: list[_Marks]

    def view(self, marks: NDArray[Any], execution: int) -> NDArray[Any]:
        """Returns the marks of one execution's tile; they share memory with all marks."""
        size = marks.itemsize
        first, stride, rows = self.first[execution] * size, self.stride[execution], self.rows[execution]
        if rows == 1 or stride == self.width:
            return np.ndarray(rows * self.width, marks.dtype, marks, first)
        return np.ndarray((rows, self.width), marks.dtype, marks, first, (stride * size, size))

    @property
    def bytes(self) -> int:
        """Bytes of all executions' tiles."""
        return sum(self.rows) * self.width * self.space.granule


class _Checker:
    def __init__(self, program: ValidProgram, schedule: Schedule) -> None:
        self.program = program
        self.schedule = schedule
        self.touched = {
            step.pc: touched(program, step)
            for step in program.steps
            if not step.instruction.definition.is_sequencer and step.executions
        }
        self.footprints = self._footprints()
        self.found: dict[tuple[int, int, str], FoundRace] = {}
        """By the two instructions and the memory."""

    def _footprints(self) -> dict[int, list[_Footprint]]:
        spaces = self._spaces()
        footprints: dict[int, list[_Footprint]] = {}
        for pc, touched in self.touched.items():
            step = self.program.steps[pc]
            unit = UNITS.index(step.instruction.unit)
            footprints[pc] = [_footprint(self.program, step, access, spaces[access.space], unit) for access in touched]
        # Only now is it known who else touches a memory.
        for footprint in (footprint for own in footprints.values() for footprint in own):
            footprint.rivals = footprint.space.rivals(footprint.own.unit, footprint.access.writes)
        return footprints

    def _spaces(self) -> dict[str, _Space]:
        granules = {name: 0 for name in ("spad", "wbuf", "acc", "dram")}
        for pc, touched in self.touched.items():
            for access in touched:
                address, stride = _geometry(self.program, self.program.steps[pc], access)
                parts = [
                    address.base,
                    stride.base,
                    access.row_bytes,
                    *(s for a in (address, stride) for _, s in a.terms),
                ]
                granules[access.space] = math.gcd(granules[access.space], *parts)
        sizes: Mapping[str, int] = {
            **self.program.memories,
            "dram": max(self.program.memories["dram"] - self.program.container.writable_base, 0),
        }
        return {name: _Space(name, sizes[name], max(granule, 1)) for name, granule in granules.items()}

    def run(self) -> RaceCheck:
        schedule, footprints = self.schedule, self.footprints
        executions = dict.fromkeys(footprints, 0)
        rows = zip(
            schedule.pc.tolist(),
            schedule.unit.tolist(),
            schedule.position.tolist(),
            clocks_before(self.program, schedule),
            strict=True,
        )
        for row, (pc, unit, position, clock) in enumerate(rows):
            if unit == SEQUENCER:
                continue
            execution = executions[pc]
            executions[pc] = execution + 1
            for access, footprint in enumerate(footprints[pc]):
                for rival in footprint.rivals:
                    if rival.last > clock[rival.unit]:
                        self._compare(row, access, execution, rival, clock)
                footprint.view(footprint.own.marks, execution)[...] = position + 1
                footprint.own.last = position + 1
            if len(self.found) >= REPORT_LIMIT:
                break
        if self.found:
            raise RaceError([described(self.program, schedule, race) for race in self.found.values()])
        return self._summary(executions)

    def _summary(self, executions: Mapping[int, int]) -> RaceCheck:
        used = [(count, footprint) for pc, count in executions.items() for footprint in self.footprints[pc]]
        return RaceCheck(
            sum(executions.values()), sum(count for count, _ in used), sum(footprint.bytes for _, footprint in used)
        )

    def _compare(self, row: int, access: int, execution: int, rival: _Marks, clock: Clock) -> None:
        pc = int(self.schedule.pc[row])
        footprint = self.footprints[pc][access]
        marks = footprint.view(rival.marks, execution)
        if not marks.size:
            return
        latest = int(marks.max())
        if latest <= clock[rival.unit]:
            return
        earlier = int(self.schedule.rows_of_unit[rival.unit][latest - 1])
        pair = (int(self.schedule.pc[earlier]), pc, footprint.space.name)
        self.found.setdefault(pair, FoundRace(earlier, rival.writes, row, access))


def described(program: ValidProgram, schedule: Schedule, found: FoundRace) -> Race:
    """Returns a race with all that one wants to know of it."""
    earlier, later = (_execution(program, schedule, row) for row in (found.earlier, found.later))
    access = touched(program, later.step)[found.access]
    sides = [
        [_tile(program, later, access)],
        [
            _tile(program, earlier, other)
            for other in touched(program, earlier.step)
            if other.space == access.space and other.writes == found.earlier_writes
        ],
    ]
    granule = math.gcd(*(part for tiles in sides for tile in tiles for part in tile[:3]))
    own, other = (np.concatenate([_granules(tile, granule) for tile in tiles]) for tiles in sides)
    both = np.intersect1d(own, other)
    row = int(np.argmax(np.append(np.diff(both) > 1, True))) + 1
    base = program.container.writable_base if access.space == "dram" else 0
    return Race(
        _party(program, earlier, found.earlier_writes),
        _party(program, later, access.writes),
        access.space,
        base + int(both[0]) * granule,
        base + (int(both[0]) + row) * granule,
        len(both) * granule,
    )


class _Execution(NamedTuple):
    """One execution of an instruction."""

    step: Step
    number: int
    """Earlier executions of the same instruction."""
    counters: Sequence[int]


def _execution(program: ValidProgram, schedule: Schedule, row: int) -> _Execution:
    """Returns the execution that a row of the schedule stands for."""
    step = program.steps[int(schedule.pc[row])]
    number = int(np.count_nonzero(schedule.pc[:row] == step.pc))
    counters = np.unravel_index(number, step.counts) if step.counts else ()
    return _Execution(step, number, [int(counter) for counter in counters])


def _tile(program: ValidProgram, execution: _Execution, access: Access) -> tuple[int, int, int, int]:
    """Returns first byte, bytes from row to row, bytes of a row, and rows of an access."""
    address, stride, rows = (
        form.at(execution.counters)
        for form in (*_geometry(program, execution.step, access), _rows(execution.step, access))
    )
    return address, stride, access.row_bytes, rows


def _granules(tile: tuple[int, int, int, int], granule: int) -> NDArray[np.int64]:
    """Returns the numbers of the granules in a tile."""
    first, stride, row_bytes, rows = tile
    starts = first // granule + np.arange(rows) * (stride // granule)
    return (starts[:, np.newaxis] + np.arange(row_bytes // granule)).ravel()


def _party(program: ValidProgram, execution: _Execution, writes: bool) -> Party:
    step = execution.step
    path = program.container.module_path(step.pc)
    return Party(step.pc, step.instruction.name, path, step.instruction.unit, execution.number, writes)


def touched(program: ValidProgram, step: Step) -> list[Access]:
    """Returns what an instruction touches; constants are left out, nothing writes them."""
    return [access for access in step.accesses if place(program, step, access)[0] != "constants"]


def _geometry(program: ValidProgram, step: Step, access: Access) -> tuple[Affine[int], Affine[int]]:
    """Returns the address, in DRAM relative to the first writable byte, and the stride of an access in bytes."""
    address = step.registers[access.address]
    if access.space == "dram":
        address = address - program.container.writable_base
    # A stride that is not used must not matter.
    unused = access.stride is None or (access.rows == 1 and access.rows_register is None)
    return address, Affine(access.row_bytes) if unused else step.registers[str(access.stride)]


def _rows(step: Step, access: Access) -> Affine[int]:
    return Affine(access.rows) if access.rows_register is None else step.registers[access.rows_register]


def _footprint(program: ValidProgram, step: Step, access: Access, space: _Space, unit: int) -> _Footprint:
    address, stride = _geometry(program, step, access)
    return _Footprint(
        space,
        access,
        _values(address, step.counts, space.granule),
        _values(stride, step.counts, space.granule),
        _values(_rows(step, access), step.counts),
        access.row_bytes // space.granule,
        space.track(unit, access.writes),
        [],
    )


def _values(form: Affine[int], counts: Sequence[int], unit: int = 1) -> array[int]:
    """Returns the values of an affine form in the order of a run, in units of so many bytes."""
    values = np.full((1,) * len(counts), form.base, np.int64)
    for depth, step in form.terms:
        shape = [1] * len(counts)
        shape[depth] = counts[depth]
        values = values + (step * np.arange(counts[depth], dtype=np.int64)).reshape(shape)
    return array("q", (np.broadcast_to(values, tuple(counts)) // unit).tobytes())
