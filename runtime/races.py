"""
The race check: whether semaphores and fences order every two instructions whose order matters.

Two instructions of different units conflict where both touch a byte and one of them writes it. The one that comes first
in the program must then be complete before the other may start, whatever the durations (``sta.runtime.order``). The
check walks through a run and keeps for every byte, unit and direction the last instruction that has touched it; an
instruction finds a race where this one is not certain to be complete. Tiles are exact byte sets, rows and gaps; where
everything in a memory is a multiple of some number of bytes, that many bytes are one mark. Nothing here depends on
data: a gather counts as reading its whole table. Instructions of one unit are not compared, a unit keeps its own order.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.backend.isa import UNITS
from sta.runtime.accesses import Access, accesses
from sta.runtime.affine import Affine
from sta.runtime.errors import ProgramError
from sta.runtime.order import Clock, clocks_before
from sta.runtime.schedule import SEQUENCER, Schedule
from sta.runtime.stream import Step
from sta.runtime.validate import ValidProgram

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
    """How often the instruction has been executed before."""
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
    """What is known of one memory."""

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
        tracks = self.tracks.items()
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
            step.pc: [access for access in accesses(step.instruction) if not _is_constant(program, step, access)]
            for step in program.steps
            if not step.instruction.definition.is_sequencer and step.executions
        }
        self.footprints = self._footprints()
        self.found: dict[tuple[int, int, str], Race] = {}

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
        for pc, unit, position, clock in rows:
            if unit == SEQUENCER:
                continue
            execution = executions[pc]
            executions[pc] = execution + 1
            for footprint in footprints[pc]:
                for rival in footprint.rivals:
                    if rival.last > clock[rival.unit]:
                        self._compare(pc, footprint, execution, rival, clock)
                footprint.view(footprint.own.marks, execution)[...] = position + 1
                footprint.own.last = position + 1
            if len(self.found) >= REPORT_LIMIT:
                break
        if self.found:
            raise RaceError(list(self.found.values()))
        return self._summary(executions)

    def _summary(self, executions: Mapping[int, int]) -> RaceCheck:
        used = [(count, footprint) for pc, count in executions.items() for footprint in self.footprints[pc]]
        return RaceCheck(
            sum(executions.values()), sum(count for count, _ in used), sum(footprint.bytes for _, footprint in used)
        )

    def _compare(self, pc: int, footprint: _Footprint, execution: int, rival: _Marks, clock: Clock) -> None:
        marks = footprint.view(rival.marks, execution)
        if not marks.size:
            return
        latest = int(marks.max())
        if latest <= clock[rival.unit]:
            return
        row = int(self.schedule.rows_of_unit[rival.unit][latest - 1])
        rival_pc = int(self.schedule.pc[row])
        if (rival_pc, pc, footprint.space.name) in self.found:
            return
        rival_execution = int(np.count_nonzero(self.schedule.pc[:row] == rival_pc))
        race = self._race((rival_pc, rival_execution, rival.writes), (pc, execution, footprint))
        self.found[rival_pc, pc, footprint.space.name] = race

    def _race(self, earlier: tuple[int, int, bool], later: tuple[int, int, _Footprint]) -> Race:
        pc, execution, writes = earlier
        later_pc, later_execution, footprint = later
        space = footprint.space
        own, other = np.zeros(space.granules, np.bool_), np.zeros(space.granules, np.bool_)
        footprint.view(own, later_execution)[...] = True
        for rival in self.footprints[pc]:
            if rival.space is space and rival.access.writes == writes:
                rival.view(other, execution)[...] = True
        both = np.flatnonzero(own & other)
        row = int(np.argmax(np.append(np.diff(both) > 1, True))) + 1
        base = self.program.container.writable_base if space.name == "dram" else 0
        return Race(
            self._party(pc, execution, writes),
            self._party(later_pc, later_execution, footprint.access.writes),
            space.name,
            base + int(both[0]) * space.granule,
            base + (int(both[0]) + row) * space.granule,
            len(both) * space.granule,
        )

    def _party(self, pc: int, execution: int, writes: bool) -> Party:
        instruction = self.program.steps[pc].instruction
        path = self.program.container.module_path(pc)
        return Party(pc, instruction.name, path, instruction.unit, execution, writes)


def _is_constant(program: ValidProgram, step: Step, access: Access) -> bool:
    """Whether an access reads DRAM's constants, which nothing writes."""
    if access.space != "dram" or access.writes:
        return False
    # The validator made sure that an access stays in one part of DRAM.
    return step.registers[access.address].interval(step.counts)[0] < program.container.writable_base


def _geometry(program: ValidProgram, step: Step, access: Access) -> tuple[Affine, Affine]:
    """Returns the address, in DRAM relative to the first writable byte, and the stride of an access in bytes."""
    address = step.registers[access.address]
    if access.space == "dram":
        address = address.plus(Affine(-program.container.writable_base))
    # A stride that is not used must not matter.
    unused = access.stride is None or (access.rows == 1 and access.rows_register is None)
    return address, Affine(access.row_bytes) if unused else step.registers[str(access.stride)]


def _footprint(program: ValidProgram, step: Step, access: Access, space: _Space, unit: int) -> _Footprint:
    address, stride = _geometry(program, step, access)
    rows = Affine(access.rows) if access.rows_register is None else step.registers[access.rows_register]
    return _Footprint(
        space,
        access,
        _values(address, step.counts, space.granule),
        _values(stride, step.counts, space.granule),
        _values(rows, step.counts),
        access.row_bytes // space.granule,
        space.track(unit, access.writes),
        [],
    )


def _values(form: Affine, counts: Sequence[int], unit: int = 1) -> array[int]:
    """Returns the values of an affine form in the order of a run, in units of so many bytes."""
    values = np.full((1,) * len(counts), form.base, np.int64)
    for depth, step in form.terms:
        shape = [1] * len(counts)
        shape[depth] = counts[depth]
        values = values + (step * np.arange(counts[depth], dtype=np.int64)).reshape(shape)
    return array("q", (np.broadcast_to(values, tuple(counts)) // unit).tobytes())
