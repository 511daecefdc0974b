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

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sta.spec.affine import Affine

Channel = tuple[str, str]
"""
The posting and the waiting unit.
"""
COPIES_LIMIT = 8
"""
Iterations by which what the units know of each other has long become periodic.
"""


@dataclass(eq=False)
class Loop:
    """
    A body that is repeated, at least once.
    """

    body: list[Node]
    count: int
    source: object = None


@dataclass(frozen=True)
class Range:
    """
    Bytes of a memory: `size` of them, from a `start` that is affine in the iterations of loops.
    """

    space: str
    start: Affine[Loop]
    size: int


@dataclass(frozen=True)
class Lag:
    """
    In which iterations two items are compared: the loops whose iteration they share, and a loop (inside all of those)
    in which the second is at least so many iterations behind the first. Nothing is known of any other loop.
    """

    shared: tuple[Loop, ...] = ()
    loop: Loop | None = None
    least: int = 0

    def overlap(self, first: Range, second: Range) -> bool:
        """
        Whether the two may share a byte.
        """
        if first.space != second.space:
            return False
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
        """
        Whether `iterations * step` lies strictly between start and stop for a possible number of iterations.
        """
        if step == 0 or self.loop is None:
            return start < 0 < stop
        if step < 0:
            start, stop, step = -stop, -start, -step
        fewest = max(self.least, start // step + 1)
        return fewest <= self.loop.count - 1 and fewest * step < stop


ANYWHERE = Lag()


@dataclass(eq=False)
class Work:
    """
    One item of a unit: the bytes it may read and write, the channels it waits on and posts to.
    """

    unit: str
    reads: tuple[Range, ...] = ()
    writes: tuple[Range, ...] = ()
    waits: list[Channel] = field(default_factory=list[Channel])
    posts: list[Channel] = field(default_factory=list[Channel])

    def conflicts(self, later: Work, lag: Lag = ANYWHERE) -> bool:
        """
        Whether the order of the two matters.
        """
        pairs = ((self.writes, later.writes), (self.writes, later.reads), (self.reads, later.writes))
        return any(lag.overlap(a, b) for first, second in pairs for a in first for b in second)


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

    def conflicting(self, unit: str, later: Work, lag: Lag) -> bool:
        return any(work.unit == unit and work.conflicts(later, lag) for work in self.works)


def find_edges(summaries: Sequence[_Summary], loops: Sequence[Loop]) -> list[Edge]:
    """
    The edges of the body of the last of `loops`, which are nested: for each node and each other unit the latest node it
    must wait for and does not yet know to be complete, in the steady state: the first iteration whose edges are those
    of the one before it.
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
    summaries: Sequence[_Summary],
    loops: Sequence[Loop],
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
            source = _after_loops(summaries, position, channel, _latest(summaries, loops, position, posting, later))
            if source <= known.get(channel, -1):
                continue
            known[channel] = source
            _learn(known, knew[source], posting, waiting)
            edges.append(Edge(channel, source % count, position % count, source // count < position // count))
    knew.append(dict(known))
    return edges


def _latest(
    summaries: Sequence[_Summary], loops: Sequence[Loop], position: int, posting: str, later: Sequence[Work]
) -> int:
    """
    The last position before `position`, in this iteration or the one before, with a conflicting item of `posting`; -1
    if none. A conflict with an earlier iteration counts as one with the last: units keep their own order.
    """
    count = len(summaries)
    same, before = Lag(tuple(loops)), Lag(tuple(loops[:-1]), loops[-1], 1)
    for earlier in range(position - 1, max((position // count - 1) * count, 0) - 1, -1):
        lag = same if earlier // count == position // count else before
        if any(summaries[earlier % count].conflicting(posting, work, lag) for work in later):
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
    Synchronizes one block, that of the last of `loops`: `nodes` become `result`, with synchronization items put in.
    """

    def __init__(self, nodes: Sequence[Node], loops: tuple[Loop, ...] = ()):
        self.nodes = list(nodes)
        self.loops = loops
        self.credits: dict[Channel, int] = {}
        """
        Posts that an iteration takes from the one before it.
        """
        self.before: list[list[Work]] = [[] for _ in nodes]
        self.after: list[list[Work]] = [[] for _ in nodes]
        self.inner: dict[int, BlockSynchronizer] = {}

    def run(self) -> BlockSynchronizer:
        """
        Synchronizes the loops inside, then the block.
        """
        for index, node in enumerate(self.nodes):
            if isinstance(node, Loop):
                self.inner[index] = BlockSynchronizer(node.body, (*self.loops, node)).run()
        if self.loops:
            self._synchronize_loop()
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
        used = {edge.channel for edge in self.edges} | set(self.credits)
        for inner in self.inner.values():
            used |= inner.channels()
        return used

    def _synchronize_loop(self) -> None:
        """
        Hands on what can be handed on. Where that is not enough, which a rehearsal shows, inner loops are closed: each
        gets its credit just before it and gives it back just after.
        """
        edges = find_edges([self._summary(index) for index in range(len(self.nodes))], self.loops)
        handed_on = self._equal_needs()
        while True:
            self._place(edges, handed_on)
            missing = self._missing() if handed_on else None
            if not missing:
                return
            handed_on -= missing & handed_on or handed_on

    def _equal_needs(self) -> set[Channel]:
        """
        Channels on which the inner loops could hand their credit on to each other, round and round: the outer loop then
        carries it, and has no edges of its own there.
        """
        needs: dict[Channel, set[int]] = {}
        for inner in self.inner.values():
            for channel in inner.channels():
                needs.setdefault(channel, set()).add(inner.credits.get(channel, 0))
        return {channel for channel, counts in needs.items() if len(counts) == 1 and counts != {0}}

    def _place(self, edges: Sequence[Edge], handed_on: set[Channel]) -> None:
        """
        Places all posts and waits anew.
        """
        self.edges = [edge for edge in edges if edge.channel not in handed_on]
        self.before, self.after = [[] for _ in self.nodes], [[] for _ in self.nodes]
        self.credits = {}
        for node in self.nodes:
            if isinstance(node, Work):
                node.waits, node.posts = [], []
        for edge in self.edges:
            self.post(edge.source, edge.channel)
            self.wait(edge.target, edge.channel)
            if edge.carried:
                self.credits[edge.channel] = self.credits.get(edge.channel, 0) + 1
        for index, inner in self.inner.items():
            for channel, count in sorted(inner.credits.items()):
                if channel in handed_on:
                    self.credits[channel] = count
                    continue
                self.before[index] += [Work(channel[0], posts=[channel]) for _ in range(count)]
                self.after[index][:0] = [Work(channel[1], waits=[channel]) for _ in range(count)]

    def _missing(self) -> set[Channel]:
        """
        The channels on which a wait is missing when the loop runs by itself.
        """
        knowledge = Knowledge()
        for channel, count in self.credits.items():
            for _ in range(count):
                knowledge.perform(Work(channel[0], posts=[channel]))
        *outer, loop = self.loops
        return rehearse_loop(knowledge, loop, self.result(), tuple((around, 0) for around in outer))

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


Iterations = tuple[tuple[Loop, int], ...]
"""
The loops around an execution of an item, outermost first, each with its iteration.
"""


def lag_between(earlier: Iterations, later: Iterations) -> Lag:
    """
    How the iterations of two executions differ. Inside a loop whose iteration differs all others count as unknown, as a
    rehearsal does not get to every combination.
    """
    shared: list[Loop] = []
    for (loop, first), (other, second) in zip(earlier, later, strict=False):
        if loop is not other:
            break
        if first != second:
            return Lag(tuple(shared), loop, second - first)
        shared.append(loop)
    return Lag(tuple(shared))


@dataclass
class Knowledge:
    """
    What has happened, and what units know of it, at one point of a run of the program: a run in which every loop goes
    round `ROUNDS` times at most, which is enough to see its first iteration, its steady state and its end. A loop that
    goes round more often lets units know more; one that goes round less often must not be taken to.
    """

    count: int = 0
    known: dict[Channel, int] = field(default_factory=dict[Channel, int])
    """
    For (posting, waiting): the last item of the one that the other knows to be complete.
    """
    outstanding: dict[Channel, list[int]] = field(default_factory=dict[Channel, list[int]])
    """
    Posts nobody has waited for yet, oldest first: the items that made them.
    """
    history: dict[str, list[tuple[int, Work, Iterations]]] = field(
        default_factory=dict[str, list[tuple[int, Work, Iterations]]]
    )
    knew: list[dict[Channel, int]] = field(default_factory=list[dict[Channel, int]])

    def copy(self) -> Knowledge:
        """
        A copy that can go on by itself.
        """
        return Knowledge(
            self.count,
            dict(self.known),
            {channel: list(posts) for channel, posts in self.outstanding.items()},
            {unit: list(items) for unit, items in self.history.items()},
            list(self.knew),
        )

    def wait(self, channel: Channel) -> int:
        """
        The waiting unit of a channel takes the oldest post; returns the item that made it.
        """
        item = self.outstanding[channel].pop(0)
        if item > self.known.get(channel, -1):
            self.known[channel] = item
            _learn(self.known, self.knew[item], *channel)
        return item

    def unordered(self, work: Work, iterations: Iterations = ()) -> dict[str, int]:
        """
        For each other unit the last item that conflicts with `work` and is not known to be complete.
        """
        needs: dict[str, int] = {}
        for unit, items in self.history.items():
            horizon = self.known.get((unit, work.unit), -1)
            for item, earlier, before in reversed(items) if unit != work.unit else ():
                if item <= horizon:
                    break
                if earlier.conflicts(work, lag_between(before, iterations)):
                    needs[unit] = item
                    break
        return needs

    def perform(self, work: Work, iterations: Iterations = ()) -> int:
        """
        Adds an item, and its posts; its waits have been met. Returns its number.
        """
        item = self.count
        self.count += 1
        self.knew.append(dict(self.known))
        if work.reads or work.writes:
            self.history.setdefault(work.unit, []).append((item, work, iterations))
        for channel in work.posts:
            self.outstanding.setdefault(channel, []).append(item)
        return item


ROUNDS = 3


def rehearse(knowledge: Knowledge, nodes: Sequence[Node], iterations: Iterations) -> set[Channel]:
    """
    Runs synchronized nodes on from `knowledge`; returns the channels on which a wait is missing.
    """
    missing: set[Channel] = set()
    for node in nodes:
        if isinstance(node, Loop):
            missing |= rehearse_loop(knowledge, node, node.body, iterations)
            continue
        for channel in node.waits:
            knowledge.wait(channel)
        missing |= {(unit, node.unit) for unit in knowledge.unordered(node, iterations)}
        knowledge.perform(node, iterations)
    return missing


def rehearse_loop(knowledge: Knowledge, loop: Loop, body: Sequence[Node], iterations: Iterations) -> set[Channel]:
    """
    Runs the rounds of a loop that tell, with a synchronized body.
    """
    missing: set[Channel] = set()
    for iteration in range(min(ROUNDS, loop.count)):
        missing |= rehearse(knowledge, body, (*iterations, (loop, iteration)))
    return missing


class Chain:
    """
    The outermost block: what each item must wait for is read off a run of the program so far, so that nothing is waited
    for twice, and the posts that one loop leaves over serve the next.
    """

    def __init__(self, block: BlockSynchronizer):
        self.block = block
        self.knowledge = Knowledge()
        self.ends: list[int] = []
        """
        For each node the number of items up to its end.
        """

    def run(self) -> None:
        """
        Places the posts and waits of the block.
        """
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
        """
        Lets a work item wait until an item of another unit is complete.
        """
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
        """
        Adds a post by an item that has been: itself, or, from inside a loop, an item behind the loop.
        """
        source = bisect_right(self.ends, item)
        node = self.block.nodes[source]
        self.block.post(source, channel)
        end = item if isinstance(node, Work) else self.ends[source] - 1
        self.knowledge.outstanding[channel].append(end)

    def _loop(self, index: int, loop: Loop, inner: BlockSynchronizer) -> None:
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
        """
        Makes exactly as many posts outstanding as the loop's first iteration waits for.
        """
        posts = self.knowledge.outstanding.setdefault(channel, [])
        while len(posts) > needed:
            self._insert(index, Work(channel[1], waits=[channel]))
        while len(posts) < needed:
            self._insert(index, Work(channel[0], posts=[channel]))

    def _order_all(self, index: int, channel: Channel, needed: int) -> None:
        """
        Lets the waiting unit wait for all that the posting one has done, before the loop.
        """
        self._bring_credit(index, channel, 0)
        self._insert(index, Work(channel[0], posts=[channel]))
        self._insert(index, Work(channel[1], waits=[channel]))
        self._bring_credit(index, channel, needed)

    def _insert(self, index: int, work: Work) -> None:
        """
        Puts a synchronization item in front of a node.
        """
        self.block.before[index].append(work)
        for channel in work.waits:
            self.knowledge.wait(channel)
        self.knowledge.perform(work)


def synchronize(program: Sequence[Node]) -> list[Node]:
    """
    The program with waits and posts, so that every two conflicting items of different units keep program order.

    Work items are changed in place; synchronization items (without reads and writes) are new.
    """
    return BlockSynchronizer(program).run().result()
