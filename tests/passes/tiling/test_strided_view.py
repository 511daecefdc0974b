"""Strided views against NumPy arrays that hold their own positions, and against a search for factors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sta.passes.tiling.strided_view import Factor, NotAView, StridedView, element_offset, iteration_space, merge, split

Positions = NDArray[np.int64]

LARGEST = 96
"""Most elements of a generated array: the search below is exhaustive."""


FACTORS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 30)), max_size=4).filter(
    lambda factors: prod(size for size, _ in factors) <= LARGEST
)


def positions(view: StridedView) -> Positions:
    """Returns the buffer position of every element, in the view's shape."""
    flat = [factor for axis in view.axes for factor in axis]
    return (walk(flat) + view.offset).reshape(view.shape)


def walk(factors: Sequence[Factor]) -> Positions:
    """Returns the positions that factors visit, in row-major order."""
    start = np.zeros(1, np.int64)
    return reduce(
        lambda outer, factor: np.add.outer(outer, np.arange(factor[0]) * factor[1]).reshape(-1), factors, start
    )


def fewest_factors(sequence: NDArray[Any]) -> int | None:
    """
    Returns the fewest factors that visit a sequence of positions, None if no factors do.

    `sequence` is ``[n]``, or ``[n, views]`` for factors that several views share. Tries every chain of divisors.
    """
    count = len(sequence)
    if count == 1:
        return 0
    found: list[int] = []
    for inner in (d for d in range(2, count + 1) if count % d == 0):
        blocks = sequence.reshape(count // inner, inner, -1)
        steps = np.diff(blocks, axis=1)
        if (steps == steps[:1, :1]).all():
            rest = fewest_factors(sequence[::inner])
            found += [] if rest is None else [rest + 1]
    return min(found, default=None)


def expressible(array: Positions) -> bool:
    """True if factors reach the positions in `array`: the axes must be independent, and each made of factors."""
    lines = [
        array[(0,) * axis + (slice(None),) + (0,) * (array.ndim - axis - 1)] - array.flat[0]
        for axis in range(array.ndim)
    ]
    total = reduce(np.add.outer, lines, array.flat[0]) if lines else array
    return bool(np.array_equal(total, array)) and all(fewest_factors(line) is not None for line in lines)


@st.composite
def shapes(draw: st.DrawFn, count: int) -> tuple[int, ...]:
    """Draws a shape of `count` elements."""
    shape: list[int] = []
    rest = count
    while rest > 1:
        shape.append(draw(st.sampled_from([d for d in range(1, rest + 1) if rest % d == 0])))
        rest //= shape[-1]
    shape += [1] * draw(st.integers(0, 1))
    return tuple(draw(st.permutations(shape)))


@st.composite
def reached(draw: st.DrawFn) -> tuple[StridedView, Positions]:
    """Draws a view, made by a few operations on a contiguous one, and the positions it should have."""
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4).filter(lambda sizes: prod(sizes) <= LARGEST))
    view, array = StridedView.contiguous(shape), np.arange(prod(shape)).reshape(shape)
    for _ in range(draw(st.integers(0, 5))):
        view, array = draw(steps(view, array))
    return view, array


@st.composite
def steps(draw: st.DrawFn, view: StridedView, array: Positions) -> tuple[StridedView, Positions]:
    """Applies one operation to a view and to its positions; leaves both where the operation is none of strides."""
    kind = draw(st.sampled_from(["permute", "reshape", "slice", "broadcast"]))
    try:
        if kind == "permute":
            order = draw(st.permutations(range(array.ndim)))
            return view.permuted(order), array.transpose(order)
        if kind == "slice" and array.ndim:
            axis = draw(st.integers(0, array.ndim - 1))
            start = draw(st.integers(0, array.shape[axis] - 1))
            stop, step = draw(st.integers(start + 1, array.shape[axis])), draw(st.integers(1, 4))
            return view.sliced(axis, start, stop, step), np.take(array, np.arange(start, stop, step), axis)
        if kind == "broadcast" and array.size * 3 <= LARGEST:
            full = (*draw(st.lists(st.integers(1, 3), max_size=1)), *(3 if size == 1 else size for size in array.shape))
            if prod(full) <= LARGEST:
                return view.broadcast(full), np.broadcast_to(array, full)
        if kind == "reshape":
            shape = draw(shapes(array.size))
            return view.reshaped(shape), array.reshape(shape)
    except NotAView:
        return view, array
    return view, array


@settings(deadline=None)
@given(reached())
def test_every_element_is_reached(case: tuple[StridedView, Positions]) -> None:
    view, array = case
    assert view.shape == array.shape
    assert np.array_equal(positions(view), array)


@settings(deadline=None)
@given(reached(), st.data())
def test_reshape_fails_only_where_no_factors_do_it(case: tuple[StridedView, Positions], data: st.DataObject) -> None:
    view, array = case
    shape = data.draw(shapes(array.size))
    wanted = array.reshape(shape)
    if not expressible(wanted):
        with pytest.raises(NotAView):
            view.reshaped(shape)
        return
    assert np.array_equal(positions(view.reshaped(shape)), wanted)


def is_run(factors: Sequence[Factor], start: int, stop: int) -> bool:
    """True if elements `start:stop` are whole steps of one factor."""
    inner = 1
    for size, _ in reversed(merge(factors)):
        block = inner * size
        if start % inner == 0 and stop % inner == 0 and start // block == (stop - 1) // block:
            return True
        inner = block
    return stop - start == 1


@settings(deadline=None)
@given(FACTORS, st.data())
def test_slice_fails_only_where_it_cuts_two_factors(factors: list[Factor], data: st.DataObject) -> None:
    view = StridedView(((), tuple(factors)), 7)
    line = walk(factors) + 7
    start = data.draw(st.integers(0, len(line) - 1))
    stop = data.draw(st.integers(start + 1, len(line)))
    if not is_run(factors, start, stop):
        with pytest.raises(NotAView):
            view.sliced(1, start, stop)
        return
    assert np.array_equal(positions(view.sliced(1, start, stop)), line[np.newaxis, start:stop])


def test_sequence_first_heads_are_a_view() -> None:
    # [S, B, H*D] as [B*H, S, D] and as [S, B*H, D]: what sequence-first attention does.
    sequence, batch, heads, depth = 5, 3, 2, 4
    flat = StridedView.contiguous((sequence, batch, heads * depth))
    array = np.arange(sequence * batch * heads * depth).reshape(sequence, batch, heads * depth)
    by_head = flat.reshaped((sequence, batch * heads, depth)).permuted((1, 0, 2))
    expected = array.reshape(sequence, batch * heads, depth).transpose(1, 0, 2)
    assert np.array_equal(positions(by_head), expected)
    four = by_head.reshaped((batch, heads, sequence, depth))
    assert np.array_equal(positions(four), expected.reshape(batch, heads, sequence, depth))


def test_transposed_rows_cannot_be_joined_into_other_rows() -> None:
    with pytest.raises(NotAView, match="cuts an axis of"):
        StridedView.contiguous((4, 3)).permuted((1, 0)).reshaped((2, 6))


def test_reshape_to_more_elements_is_refused() -> None:
    with pytest.raises(NotAView, match="too many"):
        StridedView.contiguous((4, 3)).reshaped((4, 6))


@settings(deadline=None)
@given(FACTORS)
def test_merge_keeps_the_order_with_the_fewest_factors(factors: list[Factor]) -> None:
    merged = merge(factors)
    assert np.array_equal(walk(merged), walk(factors))
    assert len(merged) == fewest_factors(walk(factors))


@settings(deadline=None)
@given(FACTORS, st.data())
def test_split_gives_groups_of_the_sizes_asked_for(factors: list[Factor], data: st.DataObject) -> None:
    sizes = data.draw(shapes(prod(size for size, _ in factors)))
    try:
        groups = split(merge(factors), sizes)
    except NotAView:
        return
    assert [prod(size for size, _ in group) for group in groups] == list(sizes)
    assert np.array_equal(walk([factor for group in groups for factor in group]), walk(factors))


@st.composite
def several_views(draw: st.DrawFn) -> list[StridedView]:
    """Draws views of equally many elements."""
    count = draw(st.sampled_from([1, 4, 6, 8, 12, 24, 30, 36, 48, 60]))
    views: list[StridedView] = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(shapes(count))
        order = draw(st.permutations(range(len(shape))))
        view = StridedView.contiguous([1 if draw(st.booleans()) and i == 0 else n for i, n in enumerate(shape)])
        views.append(view.broadcast(shape).permuted(order))
    return views


@settings(deadline=None)
@given(several_views())
def test_iteration_space_is_the_coarsest_common_one(views: list[StridedView]) -> None:
    together = np.stack([positions(view).reshape(-1) for view in views], axis=1)
    fewest = fewest_factors(together)
    if fewest is None:
        with pytest.raises(NotAView, match="do not nest"):
            iteration_space([view.axes for view in views])
        return
    axes = iteration_space([view.axes for view in views])
    assert prod(axis.size for axis in axes) == len(together)
    for index in range(len(views)):
        assert np.array_equal(walk([(axis.size, axis.strides[index]) for axis in axes]), together[:, index])
    assert len(axes) == fewest


def test_iteration_space_of_layouts_that_do_not_nest() -> None:
    first = StridedView.contiguous((4, 3)).permuted((1, 0))
    second = StridedView.contiguous((6, 2)).permuted((1, 0))
    with pytest.raises(NotAView, match=r"boundaries at \[1, 4, 6, 12\]"):
        iteration_space([first.axes, second.axes])


def test_iteration_space_of_one_element() -> None:
    assert iteration_space([((), ()), (((1, 7),),)]) == ()


def test_axes_of_an_iteration_space_are_not_worth_merging() -> None:
    # The second view repeats its rows, so that the rows stay an axis of their own.
    full, row = StridedView.contiguous((5, 4)), StridedView.contiguous((1, 4)).broadcast((5, 4))
    axes = iteration_space([full.axes, row.axes])
    assert [(axis.size, axis.strides) for axis in axes] == [(5, (4, 0)), (4, (1, 1))]
    assert all(first.strides[0] == second.size * second.strides[0] for first, second in pairwise(axes))


@pytest.mark.parametrize(
    ("factors", "positions_taken"),
    [
        ([(12, 1)], range(1, 12, 5)),
        ([(3, 8), (4, 1)], range(1, 12, 2)),
        ([(3, 8), (4, 1)], range(4, 8, 3)),
        ([(3, 8), (4, 1)], range(3, 4, 7)),
    ],
)
def test_steps_along_one_factor_are_a_view(factors: list[Factor], positions_taken: range) -> None:
    taken = positions_taken
    found = StridedView(((), tuple(factors)), 7).sliced(1, taken.start, taken.stop, taken.step)
    assert positions(found).tolist() == [(walk(factors) + 7)[taken.start : taken.stop : taken.step].tolist()]


def test_steps_across_factors_that_they_do_not_divide_are_no_view() -> None:
    with pytest.raises(NotAView, match="steps of 3"):
        StridedView((((3, 8), (4, 1)),)).sliced(0, 0, 12, 3)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.data())
def test_windows_overlap_where_they_are_closer_than_they_are_long(shape: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    size, step = data.draw(st.integers(1, shape[axis])), data.draw(st.integers(1, 4))
    view = StridedView.contiguous(shape)
    every = np.lib.stride_tricks.sliding_window_view(positions(view), size, axis)
    kept = every.take(range(0, every.shape[axis], step), axis)
    np.testing.assert_array_equal(positions(view.windowed(axis, size, step)), kept)


def test_windows_of_an_axis_of_several_factors_have_to_be_copied() -> None:
    joined = StridedView.contiguous((4, 3, 2)).permuted((1, 0, 2)).reshaped((12, 2))
    with pytest.raises(NotAView, match="windows of an axis"):
        joined.windowed(0, 3, 1)


@given(FACTORS)
def test_an_element_of_an_axis_is_where_the_walk_finds_it(factors: list[Factor]) -> None:
    found = [element_offset(factors, index) for index in range(prod(size for size, _ in factors))]
    np.testing.assert_array_equal(found, walk(factors))
