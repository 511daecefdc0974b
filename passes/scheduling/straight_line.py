"""Synchronization of a program's outermost block."""

from __future__ import annotations

from bisect import bisect_right

from sta.passes.scheduling.knowledge import Knowledge, rehearse_loop
from sta.passes.scheduling.synchronized_block import SynchronizedBlock
from sta.passes.scheduling.work import Channel, Loop, Work


class StraightLine:
    """
    The outermost block. A run of the program so far determines each item's waits, so that nothing is waited for twice,
    and the surplus posts of one loop serve the next.
    """

    def __init__(self, block: SynchronizedBlock):
        self.block = block
        self.knowledge = Knowledge()
        self.ends: list[int] = []
        """Number of items up to the end of each node."""

    def run(self) -> None:
        """Places the posts and waits of the block."""
        for index, node in enumerate(self.block.nodes):
            if isinstance(node, Loop):
                self._loop(index, node, self.block.inner[index])
            else:
                self._work(index, node)
            self.ends.append(self.knowledge.count)

    def _work(self, index: int, work: Work) -> None:
        for unit, item in sorted(self.knowledge.unordered(work).items()):
            if item > self.knowledge.known.get((unit, work.unit), -1):
                self._order(index, (unit, work.unit), item)
        self.knowledge.perform(work)

    def _order(self, index: int, channel: Channel, item: int) -> None:
        """Lets a work item wait until an item of another unit is complete."""
        posts = self.knowledge.outstanding.setdefault(channel, [])
        if all(post < item for post in posts):
            self._post_after(item, channel)
        while self.knowledge.known.get(channel, -1) < item:
            if posts[0] >= item:
                self.block.wait(index, channel)
            else:
                self.block.before[index].append(Work(channel[1], waits=[channel]))
            self.knowledge.wait(channel)

    def _post_after(self, item: int, channel: Channel) -> None:
        """Adds a post by an earlier item: by itself or, inside a loop, by an item behind the loop."""
        source = bisect_right(self.ends, item)
        node = self.block.nodes[source]
        self.block.post(source, channel)
        end = item if isinstance(node, Work) else self.ends[source] - 1
        self.knowledge.outstanding[channel].append(end)

    def _loop(self, index: int, loop: Loop, inner: SynchronizedBlock) -> None:
        body = inner.result()
        for channel in sorted(inner.channels()):
            self._bring_credit(index, channel, inner.credits.get(channel, 0))
        ordered: set[Channel] = set()
        while missing := rehearse_loop(attempt := self.knowledge.copy(), loop, body, ()):
            if missing <= ordered:
                raise AssertionError(f"a loop leaves conflicts of its own iterations unordered: {sorted(missing)}")
            ordered |= missing
            for channel in sorted(missing):
                self._order_all(index, channel, inner.credits.get(channel, 0))
        self.knowledge = attempt

    def _bring_credit(self, index: int, channel: Channel, needed: int) -> None:
        """Makes exactly as many posts outstanding as the loop's first iteration waits for."""
        posts = self.knowledge.outstanding.setdefault(channel, [])
        while len(posts) > needed:
            self._insert(index, Work(channel[1], waits=[channel]))
        while len(posts) < needed:
            self._insert(index, Work(channel[0], posts=[channel]))

    def _order_all(self, index: int, channel: Channel, needed: int) -> None:
        """Lets the waiting unit wait, before the loop, for all work of the posting unit."""
        self._bring_credit(index, channel, 0)
        self._insert(index, Work(channel[0], posts=[channel]))
        self._insert(index, Work(channel[1], waits=[channel]))
        self._bring_credit(index, channel, needed)

    def _insert(self, index: int, work: Work) -> None:
        """Puts a synchronization item in front of a node."""
        self.block.before[index].append(work)
        for channel in work.waits:
            self.knowledge.wait(channel)
        self.knowledge.perform(work)
