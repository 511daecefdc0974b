"""
Schedule of a run: the timing model with a record of every instruction.

Profile, trace and race check start from here. Recording does not change the timing; a run that nobody looks at is
timed without a record.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.runtime.errors import ProgramError
from sta.runtime.timing import Job, Queues, play
from sta.runtime.validate import ValidProgram
from sta.spec.instructions.definition import SEMAPHORE_COUNT, UNITS

SEQUENCER = len(UNITS)
"""The unit number of the rows of fences and the halt; other numbers are positions in ``UNITS``."""
RECORD_LIMIT = 10**7
"""Most rows of a schedule; each takes some 100 bytes while the schedule is used."""

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Schedule:
    """
    A run, one row for each dynamic unit instruction, each fence and the final halt, in program order.

    All times are cycles from the start of the run.
    """

    pc: Integers
    unit: Integers
    """The position in ``UNITS``, or ``SEQUENCER``."""
    ready: Integers
    """The end of the cycle in which the sequencer issues the row, if nothing holds it up."""
    entered: Integers
    """Cycle of entry into the unit's queue; later than ``ready`` where that was full. A fence: its end."""
    start: Integers
    """Cycle in which the unit starts. A fence: in which the sequencer issues it."""
    end: Integers
    """Cycle in which the unit is free for its next instruction."""
    complete: Integers
    """Cycle in which the result is complete and posts."""
    order: Integers
    """The rows of units in the order in which they start; what one start brings about comes after it."""

    def __len__(self) -> int:
        return len(self.pc)

    def __repr__(self) -> str:
        """``<Schedule: 1,234 rows, 12,345 cycles>``."""
        return f"<Schedule: {len(self):,} rows, {self.cycles:,} cycles>"

    @property
    def cycles(self) -> int:
        """Cycles of the run: the end of the halt."""
        return int(self.complete[-1])

    @cached_property
    def rows_of_unit(self) -> list[Integers]:
        """For each unit its rows, in program order, which is the order in which they start."""
        return [np.flatnonzero(self.unit == unit) for unit in range(len(UNITS))]

    @cached_property
    def position(self) -> Integers:
        """The number of earlier rows of the same unit."""
        position = np.zeros(len(self), np.int64)
        for rows in [*self.rows_of_unit, np.flatnonzero(self.unit == SEQUENCER)]:
            position[rows] = np.arange(len(rows))
        return position

    @cached_property
    def start_order(self) -> Integers:
        """The position of each row in ``order``; fences have none, and hold -1."""
        position = np.full(len(self), -1, np.int64)
        position[self.order] = np.arange(len(self.order))
        return position

    @cached_property
    def idle_before(self) -> Integers:
        """Cycles for which a unit was free, and the instruction in its queue, but a semaphore missing."""
        idle = np.zeros(len(self), np.int64)
        for rows in self.rows_of_unit:
            free = np.concatenate([[0], self.end[rows[:-1]]]) if rows.size else rows
            idle[rows] = self.start[rows] - np.maximum(free, self.entered[rows])
        return idle


def record(program: ValidProgram) -> Schedule:
    """
    Returns the schedule of a run, which does not depend on data.

    Raises:
        ProgramError: deadlock, or a run of more than ``RECORD_LIMIT`` rows or 2^63 cycles.
    """
    check_recordable(program)
    recorder = _Recorder(program)
    try:
        play(program, recorder)
    except OverflowError:
        raise ProgramError("a run takes 2^63 cycles or more, too many to be recorded") from None
    return recorder.schedule()


def check_recordable(program: ValidProgram) -> None:
    """Raises ProgramError if a run has more than ``RECORD_LIMIT`` rows."""
    if program.instructions <= RECORD_LIMIT:
        return
    rows = sum(step.executions for step in program.steps if step.is_executed)
    if rows > RECORD_LIMIT:
        raise ProgramError(f"a run executes {rows} instructions of units, only up to {RECORD_LIMIT} can be recorded")


class _Recorder(Queues):
    """The queues, with a record of what happens."""

    def __init__(self, program: ValidProgram) -> None:
        super().__init__(program)
        # Rows in program order: pc, unit, ready, entered.
        self.issues = array("q")
        # Per unit: start, end, complete of one instruction after the other.
        self.works = [array("q") for _ in UNITS]
        # Fences: start, end, complete.
        self.fences = array("q")
        self.started = array("b")

    def enter(self, job: Job, busy: int) -> None:
        ready = self.now + 1
        super().enter(job, busy)
        self.issues.extend((job.pc, job.unit, ready, self.now))

    def drain(self, pc: int) -> None:
        issued = self.now
        super().drain(pc)
        self.issues.extend((pc, SEQUENCER, issued + 1, self.now))
        self.fences.extend((issued, self.now, self.now))

    def start(self, unit: int, time: int) -> None:
        waiting = len(self.queues[unit])
        super().start(unit, time)
        if len(self.queues[unit]) < waiting:
            self.works[unit].extend((time, self.free[unit], self.complete[unit]))
            self.started.append(unit)

    def schedule(self) -> Schedule:
        pc, unit, ready, entered = _columns(self.issues, 4)
        started = np.frombuffer(self.started, np.int8) if self.started else np.zeros(0, np.int8)
        times = np.zeros((3, len(pc)), np.int64)
        order = np.zeros(len(started), np.int64)
        for number, work in enumerate([*self.works, self.fences]):
            rows = np.flatnonzero(unit == number)
            times[:, rows] = _columns(work, 3)
            if number != SEQUENCER:
                order[started == number] = rows
        return Schedule(pc, unit, ready, entered, times[0], times[1], times[2], order)


def _columns(records: array[int], width: int) -> NDArray[Any]:
    """Returns the fields of records, one row a field."""
    flat = np.frombuffer(records, np.int64) if records else np.zeros(0, np.int64)
    return np.ascontiguousarray(flat.reshape(-1, width).T)


@dataclass(frozen=True)
class Handovers:
    """
    The post that each wait took.

    The k-th start that waits for a semaphore takes its k-th post in the order of completion.
    """

    semaphore: Integers
    post: Integers
    """Rows of the posting instructions."""
    wait: Integers
    """Rows of the waiting instructions; ascending in start order for each semaphore."""


def handovers(program: ValidProgram, schedule: Schedule) -> Handovers:
    """Returns the handovers of a schedule, ordered by semaphore."""
    semaphores: list[Integers] = []
    posts: list[Integers] = []
    waits: list[Integers] = []
    for semaphore in range(SEMAPHORE_COUNT):
        posting = rows_with(program, schedule, "post", semaphore)
        waiting = rows_with(program, schedule, "wait", semaphore)
        # Of posts in one cycle, those of earlier starts come first: they may have brought about the others.
        posting = posting[np.lexsort((schedule.start_order[posting], schedule.complete[posting]))]
        waiting = waiting[np.argsort(schedule.start_order[waiting])]
        semaphores.append(np.full(len(waiting), semaphore, np.int64))
        posts.append(posting[: len(waiting)])
        waits.append(waiting)
    return Handovers(np.concatenate(semaphores), np.concatenate(posts), np.concatenate(waits))


def rows_with(program: ValidProgram, schedule: Schedule, field: str, semaphore: int) -> Integers:
    """Returns the rows, in program order, whose ``wait`` or ``post`` names a semaphore."""
    names = [
        not step.instruction.definition.is_sequencer and bool(step.instruction[field] >> semaphore & 1)
        for step in program.steps
    ]
    return np.flatnonzero(np.array(names, np.bool_)[schedule.pc])
