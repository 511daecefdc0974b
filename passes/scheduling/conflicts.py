"""Conflicts between work items: pairs that may touch the same byte, and the iterations in which they do."""

from __future__ import annotations

from dataclasses import dataclass

from sta.passes.scheduling.work import Loop, Range, Work

Iterations = tuple[tuple[Loop, int], ...]
"""The loops around an execution of an item, outermost first, each with its iteration."""


@dataclass(frozen=True)
class Lag:
    """
    Compared iterations of two items: loops whose iteration they share, and a loop (inside all of those) in which the
    second is at least `least` iterations behind the first. Nothing is known of any other loop.
    """

    shared: tuple[Loop, ...] = ()
    loop: Loop | None = None
    least: int = 0

    def overlap(self, first: Range, second: Range) -> bool:
        """True if two ranges of one memory may share a byte."""
        apart = first.start.base - second.start.base
        start, stop = apart - second.size, apart + first.size
        steps, others = dict(first.start.terms), dict(second.start.terms)
        lagging = 0
        for loop in {**steps, **others}:
            step, other = steps.get(loop, 0), others.get(loop, 0)
            if step == other and loop in self.shared:
                continue
            if step == other and loop is self.loop:
                lagging = step
                continue
            for move in (step * (loop.count - 1), -other * (loop.count - 1)):
                start, stop = start + min(move, 0), stop + max(move, 0)
        return self._reached(start, stop, lagging)

    def _reached(self, start: int, stop: int, step: int) -> bool:
        """True if `iterations * step` lies strictly between start and stop for a possible number of iterations."""
        if step == 0 or self.loop is None:
            return start < 0 < stop
        if step < 0:
            start, stop, step = -stop, -start, -step
        fewest = max(self.least, start // step + 1)
        return fewest <= self.loop.count - 1 and fewest * step < stop


def lag_between(earlier: Iterations, later: Iterations) -> Lag:
    """
    Difference between the iterations of two executions. Inside a loop whose iteration differs all others count as
    unknown, as a rehearsal does not reach every combination.
    """
    shared: list[Loop] = []
    for (loop, first), (other, second) in zip(earlier, later, strict=False):
        if loop is not other:
            break
        if first != second:
            return Lag(tuple(shared), loop, second - first)
        shared.append(loop)
    return Lag(tuple(shared))


def conflict(earlier: Work, later: Work, lag: Lag) -> bool:
    """True if the order of two items matters."""
    pairs = ((earlier.writes, later.writes), (earlier.writes, later.reads), (earlier.reads, later.writes))
    return any(a.space == b.space and lag.overlap(a, b) for first, second in pairs for a in first for b in second)
