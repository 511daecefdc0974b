"""A block with its synchronization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sta.passes.scheduling.work import Channel, Loop, Node, Work


class SynchronizedBlock:
    """
    Nodes, and the synchronization items before and after each.

    `inner` has the blocks of the loops among the nodes, by position.
    """

    def __init__(self, nodes: Sequence[Node], inner: Mapping[int, SynchronizedBlock]):
        self.nodes = list(nodes)
        self.inner = dict(inner)
        self.clear()

    def clear(self) -> None:
        """Removes all synchronization from the block."""
        self.before: list[list[Work]] = [[] for _ in self.nodes]
        self.after: list[list[Work]] = [[] for _ in self.nodes]
        self.credits: dict[Channel, int] = {}
        """Loop-carried posts, which the next iteration consumes."""
        self.ordered: set[Channel] = set()
        """Channels of the edges between nodes of the block."""
        for node in self.nodes:
            if isinstance(node, Work):
                node.waits, node.posts = [], []

    def channels(self) -> set[Channel]:
        """All channels used in the block and the loops in it."""
        return self.ordered.union(self.credits, *(inner.channels() for inner in self.inner.values()))

    def post(self, index: int, channel: Channel) -> None:
        """Lets a node post: itself, or an item of its unit after it."""
        node = self.nodes[index]
        if isinstance(node, Work) and channel not in node.posts:
            node.posts.append(channel)
        else:
            self.after[index].append(Work(channel[0], posts=[channel]))

    def wait(self, index: int, channel: Channel) -> None:
        """Lets a node wait: itself, or an item of its unit before it."""
        node = self.nodes[index]
        if isinstance(node, Work) and channel not in node.waits:
            node.waits.append(channel)
        else:
            self.before[index].insert(0, Work(channel[1], waits=[channel]))

    def result(self) -> list[Node]:
        """The nodes with the synchronization items between them."""
        nodes: list[Node] = []
        for index, node in enumerate(self.nodes):
            nodes += self.before[index]
            if isinstance(node, Loop):
                node.body = self.inner[index].result()
            nodes.append(node)
            nodes += self.after[index]
        return nodes
