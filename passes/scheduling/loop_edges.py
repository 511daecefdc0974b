"""Edges of a loop body: the waits between its nodes, in the steady state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sta.passes.scheduling.conflicts import Lag, conflict
from sta.passes.scheduling.knowledge import learn
from sta.passes.scheduling.work import Channel, Loop, Work

COPIES_LIMIT = 8
"""Iterations after which the units' knowledge of each other has long become periodic."""


@dataclass(frozen=True)
class Edge:
    """
    A wait of an item of `channel[1]` at position `target` for the item of `channel[0]` at `source`. Positions count the
    nodes of a block; `carried` means that the source is in the iteration before.
    """

    channel: Channel
    source: int
    target: int
    carried: bool


@dataclass
class NodeSummary:
    """Summary of a node for the block around it."""

    works: list[Work]
    channels: set[Channel]
    """Channels used inside a loop."""

    def conflicting(self, unit: str, later: Work, lag: Lag) -> bool:
        return any(work.unit == unit and conflict(work, later, lag) for work in self.works)


def find_edges(summaries: Sequence[NodeSummary], loops: Sequence[Loop]) -> list[Edge]:
    """
    Edges of the body of the last of `loops`, which are nested. For each node and each other unit they name the latest
    node that it must wait for and does not yet know to be complete. The steady state is the first iteration with the
    edges of the one before it.
    """
    count = len(summaries)
    units = sorted({work.unit for summary in summaries for work in summary.works})
    known: dict[Channel, int] = {}
    knew: list[dict[Channel, int]] = []
    before: list[Edge] | None = None
    for copy in range(COPIES_LIMIT):
        edges = [
            edge
            for position in range(copy * count, (copy + 1) * count)
            for edge in _edges_into(summaries, loops, position, units, known, knew)
        ]
        if edges == before:
            return edges
        before = edges
    raise AssertionError("what the units of a loop know of each other does not become periodic")


def _edges_into(
    summaries: Sequence[NodeSummary],
    loops: Sequence[Loop],
    position: int,
    units: Sequence[str],
    known: dict[Channel, int],
    knew: list[dict[Channel, int]],
) -> list[Edge]:
    """Edges into one node; updates `known` and `knew` (the former, after each node)."""
    count = len(summaries)
    summary = summaries[position % count]
    edges: list[Edge] = []
    for waiting in sorted({work.unit for work in summary.works}):
        later = [work for work in summary.works if work.unit == waiting]
        for posting in units:
            if posting == waiting:
                continue
            channel = (posting, waiting)
            source = _after_loops(summaries, position, channel, _latest(summaries, loops, position, posting, later))
            if source <= known.get(channel, -1):
                continue
            known[channel] = source
            learn(known, knew[source], posting, waiting)
            edges.append(Edge(channel, source % count, position % count, source // count < position // count))
    knew.append(dict(known))
    return edges


def _latest(
    summaries: Sequence[NodeSummary], loops: Sequence[Loop], position: int, posting: str, later: Sequence[Work]
) -> int:
    """
    Last position before `position`, in this iteration or the one before, with a conflicting item of `posting`; -1 if
    none. A conflict with an earlier iteration counts as one with the last: units keep their own order.
    """
    count = len(summaries)
    same, before = Lag(tuple(loops)), Lag(tuple(loops[:-1]), loops[-1], 1)
    for earlier in range(position - 1, max((position // count - 1) * count, 0) - 1, -1):
        lag = same if earlier // count == position // count else before
        if any(summaries[earlier % count].conflicting(posting, work, lag) for work in later):
            return earlier
    return -1


def _after_loops(summaries: Sequence[NodeSummary], position: int, channel: Channel, source: int) -> int:
    """Moves a post after a loop that uses its channel: no post may be outstanding across such a loop."""
    if source < 0:
        return source
    count = len(summaries)
    for between in range(position - 1, source, -1):
        if channel in summaries[between % count].channels:
            return between
    return source
