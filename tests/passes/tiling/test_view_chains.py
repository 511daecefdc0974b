"""Chains of views, permutations and slices have the effect of their steps."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sta.passes.tiling.strided_view import NotAView, StridedView
from sta.passes.tiling.view_chains import ViewChain, view_chain

Array = NDArray[Any]


def carried_out(chain: ViewChain, array: Array) -> Array:
    for axis, (start, end) in enumerate(chain.slices):
        array = array.take(range(start, end), axis=axis)
    return array.reshape(chain.split).transpose(chain.order).reshape(chain.sizes)


@st.composite
def factorizations(draw: st.DrawFn, count: int) -> tuple[int, ...]:
    sizes: list[int] = []
    while count > 1:
        size = draw(st.sampled_from([size for size in range(1, count + 1) if count % size == 0]))
        sizes.append(size)
        count //= size
    return tuple(sizes) or (1,)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4), st.data())
def test_the_chain_makes_the_view(sizes: list[int], data: st.DataObject) -> None:
    source = np.arange(np.prod(sizes)).reshape(sizes)
    view, result = StridedView.contiguous(sizes), source
    for _ in range(data.draw(st.integers(0, 6))):
        after = data.draw(steps(view, result))
        if view_chain(after[0], sizes) is not None:
            view, result = after
    chain = view_chain(view, sizes)
    assert chain is not None
    assert chain.sizes == result.shape
    np.testing.assert_array_equal(carried_out(chain, source), result)


@st.composite
def steps(draw: st.DrawFn, view: StridedView, array: Array) -> tuple[StridedView, Array]:
    """A view and an array after a step; as they are if strides cannot express it."""
    kind = draw(st.sampled_from(["view", "permute", "slice"]))
    if kind == "permute":
        order = draw(st.permutations(range(array.ndim)))
        return view.permuted(order), array.transpose(order)
    try:
        if kind == "view":
            shape = draw(factorizations(array.size))
            return view.reshaped(shape), array.reshape(shape)
        axis = draw(st.integers(0, array.ndim - 1))
        start = draw(st.integers(0, array.shape[axis] - 1))
        end = draw(st.integers(start + 1, array.shape[axis]))
        return view.sliced(axis, start, end), array.take(range(start, end), axis=axis)
    except NotAView:
        return view, array


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4), st.data())
def test_slices_a_view_a_permutation_and_a_view_are_a_chain(sizes: list[int], data: st.DataObject) -> None:
    view = StridedView.contiguous(sizes)
    for axis, size in enumerate(sizes):
        start = data.draw(st.integers(0, size - 1))
        view = view.sliced(axis, start, data.draw(st.integers(start + 1, size)))
    split = [part for size in view.shape for part in data.draw(factorizations(size))]
    order = data.draw(st.permutations(range(len(split))))
    view = view.reshaped(split).permuted(order)
    assert view_chain(view, sizes) is not None


def test_heads_are_split_with_one_permutation() -> None:
    view = StridedView.contiguous((1, 8, 6)).reshaped((1, 8, 2, 3)).permuted((0, 2, 1, 3))
    chain = view_chain(view, (1, 8, 6))
    assert chain == ViewChain(((0, 1), (0, 8), (0, 6)), (1, 8, 2, 3), (0, 2, 1, 3), (1, 2, 8, 3))


def test_going_there_and_back_is_nothing() -> None:
    view = StridedView.contiguous((2, 6, 4)).permuted((1, 0, 2)).reshaped((3, 2, 8)).reshaped((6, 2, 4))
    chain = view_chain(view.permuted((1, 0, 2)), (2, 6, 4))
    assert chain is not None
    assert chain.order == tuple(range(len(chain.order)))
    assert chain.sizes == (2, 6, 4)


def test_a_part_of_a_packed_projection_is_a_slice_of_the_source() -> None:
    view = StridedView.contiguous((10, 2, 156)).reshaped((10, 2, 3, 52)).permuted((2, 0, 1, 3)).sliced(0, 1, 2)
    chain = view_chain(view.reshaped((10, 4, 26)), (10, 2, 156))
    assert chain is not None
    assert chain.slices == ((0, 10), (0, 2), (52, 104))
    assert chain.order == tuple(range(len(chain.order)))


@pytest.mark.parametrize(
    "view",
    [
        # The first two columns of each of four heads: no range of the source's columns.
        StridedView.contiguous((5, 16)).reshaped((5, 4, 4)).sliced(2, 0, 2),
        # Rows and columns mix.
        StridedView.contiguous((5, 16)).reshaped((16, 5)),
        # Elements 8 to 24 begin in one row and end in the next.
        StridedView.contiguous((5, 16)).reshaped((10, 8)).sliced(0, 1, 3),
        StridedView.contiguous((1, 16)).broadcast((5, 16)),
    ],
)
def test_other_views_are_no_chain(view: StridedView) -> None:
    assert view_chain(view, (5, 16)) is None
