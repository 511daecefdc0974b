"""
The timing model: the cycles of a program on its target.

The sequencer issues one instruction a cycle, in order. An instruction of a unit enters the unit's queue at the end of
its cycle; while ``queue_depth`` instructions wait there, the sequencer stalls. A unit starts the head of its queue when
it is free and every semaphore the head waits for is at least 1; it decrements these. It is then busy for the
instruction's cycles (``sta.spec.instructions``) and starts the next one, while the result becomes complete some latency
later (and never before the results of the unit's earlier instructions); completion posts. A fence, and the final halt,
last until all queues are empty and all results complete. Within a cycle results complete and post first, then the
sequencer's instruction enters its queue, then units start, in the order of ``UNITS``; effects of a start in the same
cycle come before the next start. Nothing here depends on data.

The simulation goes from event to event, and lets the sequencer run ahead of the units until a queue looks full: until
then no unit can delay it.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

from sta.runtime.errors import ProgramError
from sta.runtime.steps import Step, execution
from sta.runtime.validate import ValidProgram
from sta.spec.affine import Affine
from sta.spec.instructions.definition import MAXIMUM_LOOP_DEPTH, SEMAPHORE_COUNT, UNITS
from sta.spec.target import Target

_NEVER = 1 << 200


@dataclass(frozen=True)
class Timing:
    """Cost of a run of a program."""

    cycles: int
    """From the start to the completion of the last result."""
    busy: dict[str, int]
    """Cycles in which each unit works."""
    dram_bytes_read: int
    dram_bytes_written: int
    instructions: int
    """Instructions that the sequencer issues."""

    @property
    def dram_bytes(self) -> int:
        """Bytes read from and written to DRAM."""
        return self.dram_bytes_read + self.dram_bytes_written

    def to_json(self) -> dict[str, Any]:
        """Returns the numbers as a dictionary for JSON."""
        return {
            "cycles": self.cycles,
            "busy": dict(self.busy),
            "dram_bytes_read": self.dram_bytes_read,
            "dram_bytes_written": self.dram_bytes_written,
            "instructions": self.instructions,
        }


class Job(NamedTuple):
    """Timing data of one static unit instruction."""

    pc: int
    unit: int
    busy: int
    latency: int
    waits: tuple[int, ...]
    posts: tuple[int, ...]
    timed: Affine[int] | None
    """Value of the instruction's timed register if it, and so the cycles, depends on loop counters."""


def simulate(program: ValidProgram) -> Timing:
    """
    Returns the timing of a program.

    Raises:
        ProgramError: deadlock; names the instruction that each unit hangs on and what it waits for.
    """
    queues = Queues(program)
    play(program, queues)
    read, written = dram_traffic(program)
    busy = dict(zip(UNITS, queues.busy, strict=True))
    return Timing(queues.now, busy, read, written, program.instructions)


def play(program: ValidProgram, queues: Queues) -> None:
    """
    Lets the sequencer issue a whole run into the queues, and drains them.

    Raises:
        ProgramError: as ``simulate``.
    """
    jobs = [
        None if step.instruction.definition.is_sequencer else job_of(step, program.target) for step in program.steps
    ]
    counters = [0] * MAXIMUM_LOOP_DEPTH
    for step, issued in execution(program.steps, counters):
        job = jobs[step.pc]
        queues.now += issued - 1
        if job is None:
            queues.drain(step.pc)
        elif job.timed is None:
            queues.enter(job, job.busy)
        else:
            cycles = step.instruction.definition.cycles
            queues.enter(job, cycles(step.instruction, program.target, job.timed.at(counters)))


def dram_traffic(program: ValidProgram) -> tuple[int, int]:
    """Returns the bytes that a run reads from DRAM and writes there."""
    read = written = 0
    for step in program.steps:
        for access in step.accesses:
            if access.space != "dram":
                continue
            moved = step.executions * access.bytes_moved
            read, written = (read, written + moved) if access.writes else (read + moved, written)
    return read, written


def job_of(step: Step, target: Target) -> Job:
    """Returns the timing data of a unit instruction."""
    instruction, definition = step.instruction, step.instruction.definition
    timed = step.registers.get(definition.timed_register, Affine(0))
    return Job(
        step.pc,
        UNITS.index(instruction.unit),
        definition.cycles(instruction, target, timed.base),
        definition.latency(target),
        instruction.semaphores("wait"),
        instruction.semaphores("post"),
        timed if timed.terms else None,
    )


class Queues:
    """The units with their queues, and the semaphores."""

    def __init__(self, program: ValidProgram) -> None:
        units = len(UNITS)
        self.program = program
        self.depth = program.target.queue_depth
        self.now = 0
        """The end of the sequencer's last cycle; events up to here may be outstanding."""
        self.busy = [0] * units
        self.queues: list[deque[tuple[int, Job, int]]] = [deque() for _ in range(units)]
        """Entry time, instruction and cycles of waiting instructions, oldest first."""
        self.free = [0] * units
        self.complete = [0] * units
        self.ready = [_NEVER] * units
        """Earliest start of each queue's head; never if the queue is empty or the head waits for a semaphore."""
        self.blocked: dict[int, tuple[int, int]] = {}
        """Units whose head waits for a semaphore: the head's start without it, and the semaphore."""
        self.semaphores = [0] * SEMAPHORE_COUNT
        self.posts: list[tuple[int, tuple[int, ...]]] = []
        """A heap of future posts: time and semaphores."""

    def enter(self, job: Job, busy: int) -> None:
        """Puts an instruction into its queue, after stalling the sequencer while that is full."""
        self.now += 1
        queue = self.queues[job.unit]
        while len(queue) >= self.depth:
            time = self.advance()
            if len(queue) < self.depth and time > self.now:
                self.now = time
        queue.append((self.now, job, busy))
        if len(queue) == 1:
            self.ready[job.unit] = max(self.now, self.free[job.unit])

    def drain(self, pc: int) -> None:
        """Lets the sequencer wait, at the fence or halt at ``pc``, until queues are empty and results complete."""
        while self.posts or any(self.queues):
            self.advance()
        self.now = max(self.now + 1, *self.complete)

    def advance(self) -> int:
        """Handles the next event, and returns its time."""
        time = min(self.ready)
        if self.posts and self.posts[0][0] <= time:
            return self.post()
        if time == _NEVER:
            raise self.deadlock()
        self.start(self.ready.index(time), time)
        return time

    def post(self) -> int:
        time, semaphores = heapq.heappop(self.posts)
        for semaphore in semaphores:
            self.semaphores[semaphore] += 1
        for unit in [unit for unit, (_, semaphore) in self.blocked.items() if semaphore in semaphores]:
            since, _ = self.blocked.pop(unit)
            self.ready[unit] = max(since, time)
        return time

    def start(self, unit: int, time: int) -> None:
        """Starts the head of a unit's queue, or blocks the unit if a semaphore is missing."""
        queue = self.queues[unit]
        _, job, busy = queue[0]
        semaphores = self.semaphores
        for semaphore in job.waits:
            if not semaphores[semaphore]:
                self.ready[unit] = _NEVER
                self.blocked[unit] = (time, semaphore)
                return
        for semaphore in job.waits:
            semaphores[semaphore] -= 1
        queue.popleft()
        end = time + busy
        complete = max(self.complete[unit], end + job.latency)
        self.busy[unit] += busy
        self.free[unit] = end
        self.complete[unit] = complete
        self.ready[unit] = max(end, queue[0][0]) if queue else _NEVER
        if job.posts:
            heapq.heappush(self.posts, (complete, job.posts))

    def deadlock(self) -> ProgramError:
        lines = [
            f"{UNITS[unit]}: {self.program.at(queue[0][1].pc)} waits for "
            + ", ".join(f"semaphore {number}" for number in queue[0][1].waits if not self.semaphores[number])
            for unit, queue in enumerate(self.queues)
            if queue
        ]
        first = next(queue[0][1].pc for queue in self.queues if queue)
        return ProgramError("deadlock: no unit can start its next instruction\n  " + "\n  ".join(lines), first)
