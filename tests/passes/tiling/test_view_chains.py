"""Chains of views, permutations and slices: what the plan does is what the steps did."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sta.passes.tiling.view_chains import ChainPlan, ViewChain

Array = NDArray[Any]


def carried_out(plan: ChainPlan, array: Array) -> Array:
    for axis, (start, end) in enumerate(plan.slices):
        array = array.take(range(start, end), axis=axis)
    return array.reshape(plan.split).transpose(plan.order).reshape(plan.sizes)


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
def test_the_plan_is_the_chain(sizes: list[int], data: st.DataObject) -> None:
    source = np.arange(np.prod(sizes)).reshape(sizes)
    chain, result = ViewChain(sizes), source
    for step in data.draw(st.lists(st.sampled_from(["view", "permute", "slice"]), max_size=6)):
        if step == "permute":
            order = data.draw(st.permutations(range(result.ndim)))
            assert chain.permute(order)
            result = result.transpose(order)
        elif step == "view":
            shape = data.draw(factorizations(result.size))
            result = result.reshape(shape) if chain.view(shape) else result
        else:
            axis = data.draw(st.integers(0, result.ndim - 1))
            start = data.draw(st.integers(0, result.shape[axis] - 1))
            end = data.draw(st.integers(start + 1, result.shape[axis]))
            result = result.take(range(start, end), axis=axis) if chain.slice(axis, start, end) else result
        assert chain.sizes == result.shape
        np.testing.assert_array_equal(carried_out(chain.plan(), source), result)


def test_heads_are_split_with_one_permutation() -> None:
    chain = ViewChain((1, 8, 6))
    assert chain.view((1, 8, 2, 3))
    assert chain.permute((0, 2, 1, 3))
    assert chain.plan() == ChainPlan(((0, 1), (0, 8), (0, 6)), (1, 8, 2, 3), (0, 2, 1, 3), (1, 2, 8, 3))


def test_going_there_and_back_is_nothing() -> None:
    chain = ViewChain((2, 6, 4))
    for step in (chain.permute((1, 0, 2)), chain.view((3, 2, 8)), chain.view((6, 2, 4)), chain.permute((1, 0, 2))):
        assert step
    plan = chain.plan()
    assert plan.order == tuple(range(len(plan.order)))
    assert plan.sizes == (2, 6, 4)


def test_a_part_of_a_packed_projection_is_a_slice_of_the_source() -> None:
    chain = ViewChain((10, 2, 156))
    assert chain.view((10, 2, 3, 52))
    assert chain.permute((2, 0, 1, 3))
    assert chain.slice(0, 1, 2)
    assert chain.view((10, 4, 26))
    plan = chain.plan()
    assert plan.slices == ((0, 10), (0, 2), (52, 104))
    assert plan.order == tuple(range(len(plan.order)))


def test_a_view_that_mixes_axes_after_a_permutation_is_refused() -> None:
    chain = ViewChain((2, 3))
    assert chain.permute((1, 0))
    assert not chain.view((2, 3))
    assert chain.sizes == (3, 2)
