"""
Attribution of every cycle of a run to an instruction.

While the product unit works, a cycle is charged to the product. While it is idle, the cycle is charged to what its next
product waits for (after the last product, what the end of the run waits for), traced back from cause to cause: the
result of the instruction whose post comes last, for as long as that works and its result is under way; before that, to
what that one waited for, and so on. Where nothing but the sequencer is in the way, to the instruction that it issues;
where the sequencer is stalled by a full queue or a fence, to what these wait for. The charges are a partition of the
run, so they sum to its cycles exactly.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sta.runtime.analysis.schedule import SEQUENCER, Integers, Schedule, handovers
from sta.runtime.validate import ValidProgram
from sta.spec.instructions.definition import UNITS
from sta.spec.instructions.table import PRODUCT_UNIT

_PRODUCTS = UNITS.index(PRODUCT_UNIT)


@dataclass(frozen=True)
class Charges:
    """A partition of the cycles of a run into consecutive intervals, each charged to a row of its schedule."""

    start: Integers
    end: Integers
    row: Integers
    issued: NDArray[np.bool_]
    """True if the row is charged because the sequencer issues it (or the ``lea`` and loop instructions before it)."""


def attribute(program: ValidProgram, schedule: Schedule) -> Charges:
    """Returns what every cycle of a run is charged to, in the order of time."""
    return _Attribution(program, schedule).charges()


_Event = Literal["issued", "starts", "complete"]


class _Attribution:
    """Goes through a run from its end to its start."""

    def __init__(self, program: ValidProgram, schedule: Schedule) -> None:
        self.depth = program.target.queue_depth
        self.unit: list[int] = schedule.unit.tolist()
        self.ready: list[int] = schedule.ready.tolist()
        self.entered: list[int] = schedule.entered.tolist()
        self.start: list[int] = schedule.start.tolist()
        self.end: list[int] = schedule.end.tolist()
        self.complete: list[int] = schedule.complete.tolist()
        self.position: list[int] = schedule.position.tolist()
        self.rows: list[list[int]] = [rows.tolist() for rows in schedule.rows_of_unit]
        self.posts: dict[int, list[int]] = {}
        """For each row the rows whose posts it took."""
        met = handovers(program, schedule)
        for post, wait in zip(met.post.tolist(), met.wait.tolist(), strict=True):
            self.posts.setdefault(wait, []).append(post)
        self.found = array("q")
        """End, row and whether issued, of one interval after the other, the latest first."""

    def charges(self) -> Charges:
        halt = len(self.unit) - 1
        event: _Event = "issued"
        row, now = halt, self.entered[halt]
        for product in reversed(self.rows[_PRODUCTS]):
            self._explain(event, row, now, self.end[product])
            self._charge(product, self.start[product], self.end[product])
            event, row, now = "starts", product, self.start[product]
        self._explain(event, row, now, 0)
        end, rows, issued = np.frombuffer(self.found, np.int64).reshape(-1, 3)[::-1].T
        return Charges(np.concatenate([[0], end[:-1]]), end, rows, issued.astype(np.bool_))

    def _charge(self, row: int, start: int, end: int, issued: bool = False) -> None:
        if end > start:
            self.found.extend((end, row, issued))

    def _explain(self, event: _Event, row: int, now: int, since: int) -> None:
        """Charges the cycles from ``since`` to ``now``, when the event happens to the row, to what it waits for."""
        while now > since:
            cause, causing, began = self._cause(event, row, now)
            if began < now:
                # Work is charged to the row that does it, which in these two cases is not the one that waits.
                charged = causing if event == "starts" else row
                self._charge(charged, max(began, since), now, event == "issued")
            event, row, now = cause, causing, began

    def _cause(self, event: _Event, row: int, now: int) -> tuple[_Event, int, int]:
        """Returns the event that brought an event about, and its time."""
        before = self._before(row)
        if event == "starts":
            posted = [post for post in self.posts.get(row, ()) if self.complete[post] == now]
            if posted:
                return "complete", posted[0], now
            if before >= 0 and self.end[before] == now:
                return "starts", before, self.start[before]
            return "issued", row, now
        if event == "complete":
            # Results complete in order: one may have had to wait for the one before.
            if before >= 0 and self.complete[before] == now:
                return "complete", before, now
            return "starts", row, self.start[row]
        if now == self.ready[row]:
            return "issued", row - 1, self.entered[row - 1] if row else 0
        if self.unit[row] == SEQUENCER:
            return "complete", self._last_to_complete(row), now
        # The queue was full until the instruction so many places ahead started.
        return "starts", self.rows[self.unit[row]][self.position[row] - self.depth], now

    def _before(self, row: int) -> int:
        """Returns the row in front of a row in its unit's queue, or -1."""
        unit, position = self.unit[row], self.position[row]
        return -1 if unit == SEQUENCER or position == 0 else self.rows[unit][position - 1]

    def _last_to_complete(self, fence: int) -> int:
        """Returns a row in front of a fence that is complete only when the fence ends."""
        latest = [rows[bisect_left(rows, fence) - 1] for rows in self.rows if rows and rows[0] < fence]
        return max(latest, key=lambda row: self.complete[row])
