"""Synchronization of a loop body: the posts and waits of its steady state."""

from __future__ import annotations

from collections.abc import Sequence

from sta.passes.scheduling.knowledge import Knowledge, rehearse_loop
from sta.passes.scheduling.loop_edges import Edge, NodeSummary, find_edges
from sta.passes.scheduling.synchronized_block import SynchronizedBlock
from sta.passes.scheduling.work import Channel, Loop, Work, works_of


def synchronize_loop_body(block: SynchronizedBlock, loops: Sequence[Loop]) -> None:
    """
    Places the posts and waits of the body of the last of `loops`, which are nested.

    Inner loops hand on their credit where possible. If a rehearsal shows that this is not enough, they are closed: each
    gets its credit just before it and gives it back just after.
    """
    edges = find_edges([_summary(block, index) for index in range(len(block.nodes))], loops)
    handed_on = _equal_needs(block)
    while True:
        _place(block, edges, handed_on)
        missing = _missing(block, loops) if handed_on else None
        if not missing:
            return
        handed_on -= missing & handed_on or handed_on


def _summary(block: SynchronizedBlock, index: int) -> NodeSummary:
    inner = block.inner.get(index)
    return NodeSummary(list(works_of(block.nodes[index])), set() if inner is None else inner.channels())


def _equal_needs(block: SynchronizedBlock) -> set[Channel]:
    """
    Channels on which the inner loops could hand their credit to each other. It is then loop-carried in the outer loop,
    which has no edges of its own there.
    """
    needs: dict[Channel, set[int]] = {}
    for inner in block.inner.values():
        for channel in inner.channels():
            needs.setdefault(channel, set()).add(inner.credits.get(channel, 0))
    return {channel for channel, counts in needs.items() if len(counts) == 1 and counts != {0}}


def _place(block: SynchronizedBlock, edges: Sequence[Edge], handed_on: set[Channel]) -> None:
    """Places all posts and waits again."""
    block.clear()
    for edge in edges:
        if edge.channel in handed_on:
            continue
        block.ordered.add(edge.channel)
        block.post(edge.source, edge.channel)
        block.wait(edge.target, edge.channel)
        if edge.carried:
            block.credits[edge.channel] = block.credits.get(edge.channel, 0) + 1
    for index, inner in block.inner.items():
        for channel, count in sorted(inner.credits.items()):
            if channel in handed_on:
                block.credits[channel] = count
                continue
            block.before[index] += [Work(channel[0], posts=[channel]) for _ in range(count)]
            block.after[index][:0] = [Work(channel[1], waits=[channel]) for _ in range(count)]


def _missing(block: SynchronizedBlock, loops: Sequence[Loop]) -> set[Channel]:
    """Channels on which a wait is missing when the loop runs by itself."""
    knowledge = Knowledge()
    for channel, count in block.credits.items():
        for _ in range(count):
            knowledge.perform(Work(channel[0], posts=[channel]))
    *outer, loop = loops
    return rehearse_loop(knowledge, loop, block.result(), tuple((around, 0) for around in outer))
