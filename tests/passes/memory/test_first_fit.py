"""Placing buffers: nothing overlaps, everything is aligned and fits, and no room is wasted that a buffer needed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sta.passes.memory.first_fit import Lifetime, first_fit
from sta.spec.alignment import ALIGNMENT, aligned

POSITIONS = 13
SIZES = st.integers(1, 700)


@st.composite
def buffers(draw: st.DrawFn) -> Lifetime:
    """Draws a buffer with some lifetime."""
    first, last = sorted(draw(st.tuples(st.integers(0, POSITIONS - 1), st.integers(0, POSITIONS - 1))))
    return Lifetime(draw(SIZES), first, last)


LIFETIMES = st.lists(buffers(), max_size=12)
CAPACITIES = st.one_of(st.none(), st.integers(0, 3000))


@given(st.integers(0, 10**6))
def test_aligned_rounds_up(size: int) -> None:
    assert aligned(size) % ALIGNMENT == 0
    assert size <= aligned(size) < size + ALIGNMENT


def share_a_position(a: Lifetime, b: Lifetime) -> bool:
    """True if some position of the program lies in both lifetimes, tried one by one."""
    return any(a.first <= position <= a.last and b.first <= position <= b.last for position in range(POSITIONS))


@given(LIFETIMES)
def test_overlap_means_live_at_once(lifetimes: list[Lifetime]) -> None:
    for a in lifetimes:
        for b in lifetimes:
            assert a.overlaps(b) == share_a_position(a, b)


@settings(deadline=None, max_examples=300)
@given(LIFETIMES, CAPACITIES)
def test_buffers_that_are_live_at_once_do_not_overlap(lifetimes: list[Lifetime], capacity: int | None) -> None:
    offsets, extent = first_fit(lifetimes, capacity)
    placed = [(offset, life) for offset, life in zip(offsets, lifetimes, strict=True) if offset is not None]
    for index, (offset, life) in enumerate(placed):
        assert offset % ALIGNMENT == 0
        for other, another in placed[:index]:
            apart = offset + life.size <= other or other + another.size <= offset
            assert apart or not share_a_position(life, another)
    assert extent == max((offset + aligned(life.size) for offset, life in placed), default=0)
    assert capacity is None or extent <= capacity
    assert capacity is not None or None not in offsets


@settings(deadline=None, max_examples=300)
@given(LIFETIMES, st.integers(0, 3000))
def test_a_buffer_is_left_out_only_if_it_has_no_gap(lifetimes: list[Lifetime], capacity: int) -> None:
    offsets, _ = first_fit(lifetimes, capacity)
    for life, offset in zip(lifetimes, offsets, strict=True):
        if offset is not None:
            continue
        rivals = [
            (place, place + aligned(other.size))
            for other, place in zip(lifetimes, offsets, strict=True)
            if place is not None and share_a_position(life, other)
        ]
        for start in range(0, capacity - aligned(life.size) + 1, ALIGNMENT):
            assert any(low < start + aligned(life.size) and start < high for low, high in rivals)


def test_a_gap_between_two_buffers_is_used() -> None:
    # The middle one of three ends early: what follows takes its place, at its offset.
    lifetimes = [Lifetime(640, 0, 9), Lifetime(576, 0, 4), Lifetime(512, 0, 9), Lifetime(448, 5, 9)]
    offsets, extent = first_fit(lifetimes, None)
    assert offsets == [0, 640, 1216, 640]
    assert extent == 1728


def test_same_order_whatever_the_names() -> None:
    lifetimes = [Lifetime(64, 0, 1)] * 3
    assert first_fit(lifetimes, None) == ([0, 64, 128], 192)
