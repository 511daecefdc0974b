"""Synchronization on plain trees of work: random programs, unrolled, keep their order byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sta.passes.scheduling.conflicts import Lag
from sta.passes.scheduling.synchronization import synchronize
from sta.passes.scheduling.work import Loop, Node, Range, Work
from sta.spec.affine import Affine, affine

UNITS = ("ld", "st", "mm", "sm", "vp")
Counters = dict[Loop, int]


@dataclass
class Program:
    """Draws a tree whose ranges move with the counters of the loops around them, forwards and backwards."""

    draw: st.DrawFn

    def nodes(self, loops: tuple[Loop, ...] = ()) -> list[Node]:
        """Draws a block."""
        nodes: list[Node] = []
        for _ in range(self.draw(st.integers(1, 5))):
            if len(loops) == 3 or self.draw(st.integers(0, 2)):
                reads = tuple(self.range(loops) for _ in range(self.draw(st.integers(0, 2))))
                nodes.append(Work(self.draw(st.sampled_from(UNITS)), reads, (self.range(loops),)))
                continue
            loop = Loop([], self.draw(st.integers(1, 6)))
            loop.body = self.nodes((*loops, loop))
            nodes.append(loop)
        return nodes

    def range(self, loops: tuple[Loop, ...]) -> Range:
        """Draws bytes of a small memory."""
        start = self.draw(st.integers(0, 60))
        moving = [loop for loop in loops if self.draw(st.booleans())]
        steps = tuple((loop, self.draw(st.sampled_from([-8, -4, 3, 4, 8, 16]))) for loop in moving)
        return Range("spad", Affine(start, steps), self.draw(st.sampled_from([1, 4, 8])))


@st.composite
def programs(draw: st.DrawFn) -> list[Node]:
    """Draws a program."""
    return Program(draw).nodes()


def unrolled(nodes: list[Node], counters: Counters) -> Iterator[tuple[Work, Counters]]:
    """Iterates over the executions of a program."""
    for node in nodes:
        if isinstance(node, Work):
            yield node, counters
            continue
        for iteration in range(node.count):
            yield from unrolled(node.body, {**counters, node: iteration})


def touched(ranges: tuple[Range, ...], counters: Counters) -> set[tuple[str, int]]:
    """Returns the bytes of some ranges in one execution."""
    found: set[tuple[str, int]] = set()
    for one in ranges:
        start = one.start.at(counters)
        found |= {(one.space, address) for address in range(start, start + one.size)}
    return found


@dataclass
class Execution:
    """One execution of a work item: its bytes, and for each unit how many items are known to be complete by then."""

    unit: str
    place: int
    reads: set[tuple[str, int]]
    writes: set[tuple[str, int]]
    clock: dict[str, int]

    def conflicts(self, later: Execution) -> bool:
        """True if the order of the two matters."""
        return bool(self.writes & later.writes or self.writes & later.reads or self.reads & later.writes)


def violations(program: list[Node]) -> list[str]:
    """Returns what a run of a synchronized program does not order, and posts that are left over or missing."""
    queues: dict[str, list[Execution]] = {unit: [] for unit in UNITS}
    posts: dict[tuple[str, str], list[Execution]] = {}
    taken: dict[tuple[str, str], int] = {}
    problems: list[str] = []
    for work, counters in unrolled(program, {}):
        queue = queues[work.unit]
        clock = dict(queue[-1].clock) if queue else {}
        now = Execution(work.unit, len(queue), touched(work.reads, counters), touched(work.writes, counters), clock)
        for channel in work.waits:
            number = taken.get(channel, 0)
            taken[channel] = number + 1
            if channel[1] != work.unit or number >= len(posts.get(channel, [])):
                return [f"{channel} is waited for without a post"]
            source = posts[channel][number]
            for unit, count in [*source.clock.items(), (source.unit, source.place + 1)]:
                clock[unit] = max(clock.get(unit, 0), count)
        for unit in UNITS:
            missed = queues[unit][clock.get(unit, 0) :] if unit != work.unit else []
            problems += [f"{unit} {one.place} and {work.unit} {now.place}" for one in missed if one.conflicts(now)]
        queue.append(now)
        for channel in work.posts:
            posts.setdefault(channel, []).append(now)
    return problems


@settings(deadline=None, max_examples=150)
@given(programs())
def test_random_programs_keep_their_order(program: list[Node]) -> None:
    assert violations(synchronize(program)) == []


@pytest.mark.slow
@settings(deadline=None, max_examples=4000)
@given(programs())
def test_many_random_programs_keep_their_order(program: list[Node]) -> None:
    assert violations(synchronize(program)) == []


def waits(nodes: list[Node]) -> int:
    """Counts the executions that wait."""
    return sum(len(work.waits) for work, _ in unrolled(nodes, {}))


def test_blocks_that_are_loaded_one_by_one_are_not_waited_for_twice() -> None:
    loop = Loop([], 5)
    block = Range("wbuf", Affine(0, ((loop, 8),)), 8)
    loop.body = [Work("ld", (), (block,)), Work("mm", (block,), ())]
    program = synchronize([loop])
    assert violations(program) == []
    assert waits(program) == 5
    assert not any(work.waits for work, _ in unrolled(program, {}) if work.unit == "ld")


def test_double_buffers_are_kept_going_from_one_round_of_an_outer_loop_to_the_next() -> None:
    """Weights are loaded while the products of the round before still run: no load waits for more than its slot."""
    outer = Loop([], 3)
    for slot in (0, 8):
        weights = Range("wbuf", Affine(slot), 8)
        inner = Loop([], 4)
        for start in (0, 8):
            rows = Range("spad", Affine(start), 8)
            inner.body += [Work("ld", (), (rows,)), Work("mm", (rows, weights), ())]
        outer.body += [Work("ld", (), (weights,)), inner]
    program = synchronize([outer])
    assert violations(program) == []
    (loop,) = [node for node in program if isinstance(node, Loop)]
    loads = [work for work, _ in unrolled(loop.body, {}) if work.unit == "ld"]
    assert all(len(work.waits) == (work.writes[0].space == "spad") for work in loads)


@pytest.mark.parametrize("step", [-8, -5, -3, 3, 5, 8, 0])
@pytest.mark.parametrize("least", [0, 1, 2])
def test_overlaps_at_a_distance_are_those_of_all_iterations(step: int, least: int) -> None:
    loop = Loop([], 5)
    for start in range(-50, 50):
        first, second = Range("spad", affine(0, [(loop, step)]), 4), Range("spad", affine(start, [(loop, step)]), 6)
        expected = any(start + step * ahead < 4 and start + step * ahead + 6 > 0 for ahead in range(least, 5))
        assert Lag((), loop, least).overlap(first, second) == expected
