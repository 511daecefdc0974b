"""
Happens-before: the order of a run that is certain, whatever the durations of its instructions.

Known are three rules. A unit starts its instructions in program order and completes them in program order. No
instruction behind a fence starts before all those in front of it are complete. And a semaphore that has been waited for
k times has been posted k times. Nothing else counts: neither the cycles an instruction takes nor the depth of a queue.

What follows from the rules is kept as vector clocks: for each instruction, and each unit, how many of the unit's
instructions are certain to be complete before it starts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sta.runtime.analysis.schedule import SEQUENCER, Schedule, handovers, rows_with
from sta.runtime.validate import ValidProgram
from sta.spec.instructions.definition import SEMAPHORE_COUNT, UNITS

Clock = tuple[int, ...]
"""For each unit the number of its instructions, counted from its first, that are complete."""

_NOTHING: Clock = (0,) * len(UNITS)
_ROUNDS = 4
"""Most passes over a program with shared semaphores; each one's result holds, a further one may only say more."""


def clocks_before(program: ValidProgram, schedule: Schedule) -> list[Clock]:
    """
    Returns for each row of the schedule what is certain to be complete when it starts; for a fence, when it is issued.

    Semaphores with one posting and one waiting unit are treated exactly. Where several units post, a post counts as
    certain only if the wait could not have been met by all other posts that may come before it; where several units
    wait, a wait counts on only those other waits that are certain to come before it.

    Args:
        program: the program.
        schedule: its schedule; used only as one of the orders in which the instructions can start.
    """
    return _Order(program, schedule).clocks()


@dataclass(frozen=True)
class _Posts:
    """The posts of one unit to a shared semaphore, in program order."""

    unit: int
    rows: list[int]
    known: list[list[int]]
    """For each unit, how many of its instructions were certain to be complete before each of the posting rows."""

    def not_after(self, unit: int, position: int) -> int:
        """Returns how many of the posts are not certain to come after the completion of an instruction."""
        return bisect_left(self.known[unit], position + 1)


class _Shared(NamedTuple):
    """A semaphore to which several units post, or for which several wait."""

    posts: list[_Posts]
    waits: list[list[int]]
    """For each unit the positions of its waiting instructions."""


class _Order:
    def __init__(self, program: ValidProgram, schedule: Schedule) -> None:
        self.unit: list[int] = schedule.unit.tolist()
        self.position: list[int] = schedule.position.tolist()
        self.order: list[int] = schedule.order.tolist()
        self.fenced = _fenced(schedule)
        self.partners: dict[int, list[int]] = {}
        """For each waiting row the rows that certainly post before it."""
        self.shared: dict[int, tuple[list[list[int]], list[list[int]]]] = {}
        """For each shared semaphore the posting and the waiting rows of each unit."""
        self.shared_waits: dict[int, list[int]] = {}
        """For each row the shared semaphores that it waits for."""
        self._find_partners(program, schedule)
        self.posting = {row for rows in self.partners.values() for row in rows}
        self.posting |= {row for posts, _ in self.shared.values() for rows in posts for row in rows}

    def _find_partners(self, program: ValidProgram, schedule: Schedule) -> None:
        for semaphore in range(SEMAPHORE_COUNT):
            posts = self._by_unit(rows_with(program, schedule, "post", semaphore).tolist())
            waits = self._by_unit(rows_with(program, schedule, "wait", semaphore).tolist())
            if max(sum(map(bool, posts)), sum(map(bool, waits))) <= 1:
                continue
            self.shared[semaphore] = (posts, waits)
            for row in (row for rows in waits for row in rows):
                self.shared_waits.setdefault(row, []).append(semaphore)
        met = handovers(program, schedule)
        for semaphore, post, wait in zip(met.semaphore.tolist(), met.post.tolist(), met.wait.tolist(), strict=True):
            if semaphore not in self.shared:
                self.partners.setdefault(wait, []).append(post)

    def _by_unit(self, rows: Sequence[int]) -> list[list[int]]:
        return [[row for row in rows if self.unit[row] == unit] for unit in range(len(UNITS))]

    def clocks(self) -> list[Clock]:
        clocks = self._pass(self.fenced)
        for _ in range(_ROUNDS - 1 if self.shared else 0):
            before, clocks = clocks, self._pass(clocks)
            if clocks == before:
                break
        return clocks

    def _pass(self, before: list[Clock]) -> list[Clock]:
        """Returns the clocks; ``before`` are clocks that are known already, from fences or from a pass before."""
        shared = {semaphore: self._shared(semaphore, before) for semaphore in self.shared}
        clocks = list(self.fenced)
        latest = [_NOTHING] * len(UNITS)
        completions: dict[int, Clock] = {}
        for row in self.order:
            unit = self.unit[row]
            clock = _later(latest[unit], self.fenced[row])
            for post in self.partners.get(row, ()):
                clock = _later(clock, completions[post])
            for semaphore in self.shared_waits.get(row, ()):
                for post in self._certain(shared[semaphore], row, clock):
                    clock = _later(clock, completions[post])
            clocks[row] = latest[unit] = clock
            if row in self.posting:
                completions[row] = (*clock[:unit], max(clock[unit], self.position[row] + 1), *clock[unit + 1 :])
        return clocks

    def _shared(self, semaphore: int, clocks: list[Clock]) -> _Shared:
        posts, waits = self.shared[semaphore]
        return _Shared(
            [
                _Posts(unit, rows, [[clocks[row][other] for row in rows] for other in range(len(UNITS))])
                for unit, rows in enumerate(posts)
                if rows
            ],
            [[self.position[row] for row in rows] for rows in waits],
        )

    def _certain(self, shared: _Shared, wait: int, clock: Clock) -> list[int]:
        """Returns for each unit the last of its posts that is certain to come before a wait, where there is one."""
        unit = self.unit[wait]
        started = [self.position[wait] if other == unit else clock[other] for other in range(len(UNITS))]
        posted = 1 + sum(bisect_left(waits, count) for waits, count in zip(shared.waits, started, strict=True))
        certain: list[int] = []
        for posts in shared.posts:
            others = [other for other in shared.posts if other is not posts]
            limits = [self._possible(other, wait) for other in others]

            def without(number: int, posts: _Posts = posts, others: list[_Posts] = others, limits: list[int] = limits):
                """Returns how many posts may come before the wait without the post ``number`` of this unit."""
                position = self.position[posts.rows[number]]
                pairs = zip(others, limits, strict=True)
                return number + sum(min(limit, other.not_after(posts.unit, position)) for other, limit in pairs)

            # The later a post, the more others may come without it.
            count = bisect_left(range(len(posts.rows)), posted, key=without)
            if count:
                certain.append(posts.rows[count - 1])
        return certain

    def _possible(self, posts: _Posts, wait: int) -> int:
        """Returns how many posts of a unit may come before a wait."""
        unit, position = self.unit[wait], self.position[wait]
        if posts.unit == unit:
            return bisect_left(posts.rows, wait)
        return posts.not_after(unit, position)


def _later(a: Clock, b: Clock) -> Clock:
    return a if a == b else tuple(map(max, a, b))


def _fenced(schedule: Schedule) -> list[Clock]:
    """Returns for each row how many instructions of each unit lie in front of the last fence before it."""
    fences = np.flatnonzero(schedule.unit == SEQUENCER)
    counts = np.stack([np.searchsorted(rows, fences) for rows in schedule.rows_of_unit])
    clocks: list[Clock] = [_NOTHING, *map(tuple, counts.T.tolist())]
    before = np.searchsorted(fences, np.arange(len(schedule)))
    return [clocks[number] for number in before.tolist()]
