"""
Ordering work on in-order units by counting semaphores: plain Python, no IR.

A program is a tree of work items and loops. Each unit runs its own items in program order; what one unit reads or
writes after another has touched it must wait. For every ordered pair of units there is one channel, a counting
semaphore: an item of the first unit posts when it is complete, an item of the second waits. A channel is first in,
first out, so that correctness is a matter of counting: the k-th wait must not be met by a post older than the item it
needs.

In a straight line, an item waits for the latest conflicting item of each other unit, unless a wait before it already
implies that. In a loop the same holds for the steady state: waits for the iteration before are met, the first time
round, by posts made before the loop, and leave as many posts over at its end. Those are carried to the next loop that
needs such credit, where that is safe, so that units do not drain between the layers of a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Channel = tuple[str, str]
"""
The posting and the waiting unit.
"""
COPIES_LIMIT = 8
"""
Iterations by which what the units know of each other has long become periodic.
"""


@dataclass(frozen=True)
class Range:
    """
    Bytes of a memory.
    """

    space: str
    start: int
    stop: int

    def overlaps(self, other: Range) -> bool:
        """
        Whether the two share a byte.
        """
        return self.space == other.space and self.start < other.stop and other.start < self.stop


@dataclass(eq=False)
class Work:
    """
    One item of a unit: the bytes it may read and write in any iteration, the channels it waits on and posts to.
    """

    unit: str
    reads: tuple[Range, ...] = ()
    writes: tuple[Range, ...] = ()
    waits: list[Channel] = field(default_factory=list[Channel])
    posts: list[Channel] = field(default_factory=list[Channel])

    def conflicts(self, other: Work) -> bool:
        """
        Whether the order of the two matters.
        """
        pairs = ((self.writes, other.writes), (self.writes, other.reads), (self.reads, other.writes))
        return any(a.overlaps(b) for first, second in pairs for a in first for b in second)


@dataclass(eq=False)
class Loop:
    """
    A body that is repeated.
    """

    body: list[Node]
    source: object = None


Node = Work | Loop
"""
A work item without reads and writes is a synchronization item: it only waits and posts.
"""


def works_of(node: Node) -> Iterator[Work]:
    """
    The work items of a node, in program order.
    """
    if isinstance(node, Work):
        yield node
        return
    for inner in node.body:
        yield from works_of(inner)


@dataclass(frozen=True)
class Edge:
    """
    An item of `channel[1]` at position `target` waits for the item of `channel[0]` at `source`; positions count the
    nodes of a block, and `carried` means that the source is in the iteration before.
    """

    channel: Channel
    source: int
    target: int
    carried: bool


@dataclass
class _Summary:
    """
    What a block needs to know of one of its nodes.
    """

    works: list[Work]
    channels: set[Channel]
    """
    Channels that are used inside a loop.
    """

    def conflicting(self, unit: str, later: Work) -> bool:
        return any(work.unit == unit and work.conflicts(later) for work in self.works)


@dataclass
class Carried:
    """
    Posts of a synchronized loop that meet waits of the next iteration: for each channel the positions, in its body, of
    the posting and the waiting nodes.
    """

    sources: dict[Channel, list[int]] = field(default_factory=dict[Channel, list[int]])
    targets: dict[Channel, list[int]] = field(default_factory=dict[Channel, list[int]])


def find_edges(summaries: Sequence[_Summary], in_loop: bool) -> list[Edge]:
    """
    The edges of a block: for each node and each other unit the latest node it must wait for and does not yet know to be
    complete. In a loop, those of the steady state: the first iteration whose edges are those of the one before it.
    """
    count = len(summaries)
    units = sorted({work.unit for summary in summaries for work in summary.works})
    known: dict[Channel, int] = {}
    knew: list[dict[Channel, int]] = []
    before: list[Edge] | None = None
    for copy in range(COPIES_LIMIT if in_loop else 1):
        edges = [
            edge
            for position in range(copy * count, (copy + 1) * count)
            for edge in _edges_into(summaries, position, units, known, knew)
        ]
        if edges == before:
            break
        before = edges
    else:
        if in_loop:
            raise AssertionError("what the units of a loop know of each other does not become periodic")
    assert before is not None
    return before


def _edges_into(
    summaries: Sequence[_Summary],
    position: int,
    units: Sequence[str],
    known: dict[Channel, int],
    knew: list[dict[Channel, int]],
) -> list[Edge]:
    """
    The edges into one node; `known` and `knew` (the former, after each node) are brought up to date.
    """
    count = len(summaries)
    summary = summaries[position % count]
    edges: list[Edge] = []
    for waiting in sorted({work.unit for work in summary.works}):
        later = [work for work in summary.works if work.unit == waiting]
        for posting in units:
            if posting == waiting:
                continue
            channel = (posting, waiting)
            source = _after_loops(summaries, position, channel, _latest(summaries, position, posting, later))
            if source <= known.get(channel, -1):
                continue
            known[channel] = source
            _learn(known, knew[source], posting, waiting)
            edges.append(Edge(channel, source % count, position % count, source // count < position // count))
    knew.append(dict(known))
    return edges


def _latest(summaries: Sequence[_Summary], position: int, posting: str, later: Sequence[Work]) -> int:
    """
    The last position before `position`, at most one iteration back, with a conflicting item of `posting`; -1 if none.
    """
    count = len(summaries)
    for earlier in range(position - 1, max(position - count, 0) - 1, -1):
        if any(summaries[earlier % count].conflicting(posting, work) for work in later):
            return earlier
    return -1


def _after_loops(summaries: Sequence[_Summary], position: int, channel: Channel, source: int) -> int:
    """
    A post must not be outstanding across a loop that uses its channel: it is then made after that loop.
    """
    if source < 0:
        return source
    count = len(summaries)
    for between in range(position - 1, source, -1):
        if channel in summaries[between % count].channels:
            return between
    return source


def _learn(known: dict[Channel, int], knew: dict[Channel, int], posting: str, waiting: str) -> None:
    """
    Who waits for an item also knows what that item's unit had waited for.
    """
    for (other, knower), position in knew.items():
        if knower == posting and other != waiting and known.get((other, waiting), -1) < position:
            known[other, waiting] = position


class BlockSynchronizer:
    """
    Synchronizes one block: `nodes` become `result`, with synchronization items put in.
    """

    def __init__(self, nodes: Sequence[Node], in_loop: bool):
        self.nodes = list(nodes)
        self.in_loop = in_loop
        self.carried = Carried()
        self.before: list[list[Work]] = [[] for _ in nodes]
        self.after: list[list[Work]] = [[] for _ in nodes]
        self.inner: dict[int, BlockSynchronizer] = {}

    def run(self) -> BlockSynchronizer:
        """
        Synchronizes the loops inside, then the block.
        """
        for index, node in enumerate(self.nodes):
            if isinstance(node, Loop):
                self.inner[index] = BlockSynchronizer(node.body, True).run()
        self.summaries = [self._summary(index) for index in range(len(self.nodes))]
        self.edges = find_edges(self.summaries, self.in_loop)
        if self.in_loop:
            self._keep_carried()
            self._synchronize_closed()
        else:
            Chain(self).run()
        return self

    def _summary(self, index: int) -> _Summary:
        inner = self.inner.get(index)
        return _Summary(list(works_of(self.nodes[index])), set() if inner is None else inner.channels())

    def channels(self) -> set[Channel]:
        """
        All channels used in the block and the loops in it.
        """
        used = {edge.channel for edge in self.edges}
        for inner in self.inner.values():
            used |= inner.channels()
        return used

    def _keep_carried(self) -> None:
        for edge in self.edges:
            if edge.carried:
                self.carried.sources.setdefault(edge.channel, []).append(edge.source)
                self.carried.targets.setdefault(edge.channel, []).append(edge.target)

    def _synchronize_closed(self) -> None:
        """
        Inside a loop every inner loop gets its credit just before and gives it back just after.
        """
        for edge in self.edges:
            self.post(edge.source, edge.channel)
            self.wait(edge.target, edge.channel)
        for index, inner in self.inner.items():
            for channel, sources in sorted(inner.carried.sources.items()):
                for _ in sources:
                    self.before[index].append(Work(channel[0], posts=[channel]))
                    self.after[index].insert(0, Work(channel[1], waits=[channel]))

    def post(self, index: int, channel: Channel) -> None:
        """
        Lets a node post: itself, or an item of its unit after it.
        """
        node = self.nodes[index]
        if isinstance(node, Work) and channel not in node.posts:
            node.posts.append(channel)
        else:
            self.after[index].append(Work(channel[0], posts=[channel]))

    def wait(self, index: int, channel: Channel) -> None:
        """
        Lets a node wait: itself, or an item of its unit before it.
        """
        node = self.nodes[index]
        if isinstance(node, Work) and channel not in node.waits:
            node.waits.append(channel)
        else:
            self.before[index].insert(0, Work(channel[1], waits=[channel]))

    def wait_before(self, index: int, channel: Channel) -> None:
        """
        Puts a wait in front of a node and of the waits it already has.
        """
        self.before[index].insert(0, Work(channel[1], waits=[channel]))

    def result(self) -> list[Node]:
        """
        The nodes with the synchronization items between them.
        """
        nodes: list[Node] = []
        for index, node in enumerate(self.nodes):
            nodes += self.before[index]
            if isinstance(node, Loop):
                node.body = self.inner[index].result()
            nodes.append(node)
            nodes += self.after[index]
        return nodes


@dataclass(frozen=True)
class _Credit:
    """
    A post left over by a loop: the loop, and the node of its body that posted in the last iteration.
    """

    loop: int
    inner: int


class Chain:
    """
    The outermost block, where the credit that one loop leaves over can serve the next.
    """

    def __init__(self, block: BlockSynchronizer):
        self.block = block
        self.credits: dict[Channel, list[_Credit]] = {}

    def run(self) -> None:
        """
        Places the posts and waits of the block, using up credit where it is there.
        """
        by_target: dict[int, list[Edge]] = {}
        for edge in self.block.edges:
            by_target.setdefault(edge.target, []).append(edge)
        for index in range(len(self.block.nodes)):
            inner = self.block.inner.get(index)
            edges = {edge.channel: edge for edge in by_target.get(index, [])}
            if inner is None:
                for edge in edges.values():
                    self._straight(edge)
                continue
            for channel in sorted({*edges, *inner.channels()}):
                self._into_loop(index, inner, channel, edges.get(channel))

    def _straight(self, edge: Edge) -> None:
        self._use_up(edge.target, edge.channel)
        self.block.post(edge.source, edge.channel)
        self.block.wait(edge.target, edge.channel)

    def _use_up(self, index: int, channel: Channel, keep: int = 0) -> None:
        """
        Takes the oldest credit off a channel, so that what is posted next is what the next wait gets.
        """
        credit = self.credits.get(channel, [])
        spent = len(credit) - keep
        for _ in range(spent):
            self.block.before[index].append(Work(channel[1], waits=[channel]))
        self.credits[channel] = credit[spent:]

    def _into_loop(self, index: int, inner: BlockSynchronizer, channel: Channel, edge: Edge | None) -> None:
        needed = len(inner.carried.sources.get(channel, []))
        credit = self.credits.get(channel, [])
        served = needed > 0 and len(credit) >= needed and self._covers(index, inner, channel, credit[-needed:])
        if served:
            self._use_up(index, channel, keep=needed)
        else:
            self._use_up(index, channel)
            if edge is not None:
                self.block.post(edge.source, channel)
                self.block.before[index].append(Work(channel[1], waits=[channel]))
            for _ in range(needed):
                self.block.before[index].append(Work(channel[0], posts=[channel]))
        sources = inner.carried.sources.get(channel, [])
        self.credits[channel] = [_Credit(index, source) for source in sources]

    def _covers(self, index: int, inner: BlockSynchronizer, channel: Channel, credit: list[_Credit]) -> bool:
        """
        Whether waiting for the credit orders everything in the loop's first iteration after what it conflicts with.
        """
        posting, waiting = channel
        targets = inner.carried.targets[channel]
        for position, node in enumerate(inner.nodes):
            for work in works_of(node):
                if work.unit != waiting:
                    continue
                met = [credit[j] for j, target in enumerate(targets) if target <= position]
                need = self._latest_conflict(index, posting, work)
                if need is not None and not any(_not_before(token, need) for token in met):
                    return False
        return True

    def _latest_conflict(self, index: int, posting: str, work: Work) -> tuple[int, int] | None:
        """
        The last node, and in a loop the last node of its body, before `index` that conflicts with `work`.
        """
        for earlier in range(index - 1, -1, -1):
            node = self.block.nodes[earlier]
            body: Sequence[Node] = node.body if isinstance(node, Loop) else [node]
            body = self.block.inner[earlier].nodes if isinstance(node, Loop) else body
            for position in range(len(body) - 1, -1, -1):
                if any(w.unit == posting and w.conflicts(work) for w in works_of(body[position])):
                    return earlier, position
        return None


def _not_before(token: _Credit, need: tuple[int, int]) -> bool:
    return (token.loop, token.inner) >= need


def synchronize(program: Sequence[Node]) -> list[Node]:
    """
    The program with waits and posts, so that every two conflicting items of different units keep program order.

    Work items are changed in place; synchronization items (without reads and writes) are new.
    """
    return BlockSynchronizer(program, False).run().result()
