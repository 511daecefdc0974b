"""Copies of operands, run and compared with NumPy."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sta.dialect import nm, sta
from sta.passes.lowering.operand_copies import ROWS, copied, copy_in_dram, walkable
from sta.passes.lowering.tile_builder import Operand
from sta.passes.lowering.tile_program import Allocation
from sta.passes.tiling.strided_view import NotAView, StridedView, iteration_space
from tests.support.nm_builder import PLAIN_TARGET
from tests.support.tile_programs import builder_for, run


@st.composite
def layouts(draw: st.DrawFn) -> StridedView:
    """Draws the view of a tensor in its buffer: split, permuted, sliced, perhaps broadcast."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    view = StridedView.contiguous(shape).permuted(draw(st.permutations(range(len(shape)))))
    if draw(st.booleans()):
        axis = draw(st.integers(0, len(shape) - 1))
        start = draw(st.integers(0, view.shape[axis] - 1))
        view = view.sliced(axis, start, draw(st.integers(start + 1, view.shape[axis])))
    if draw(st.booleans()):
        view = view.broadcast(tuple(3 if size == 1 else size for size in view.shape))
    return view


def elements(view: StridedView, values: NDArray[Any]) -> NDArray[Any]:
    """Returns the elements that a view shows of a buffer, by NumPy's strides."""
    factors = [factor for axis in view.axes for factor in axis]
    strides = [stride * values.itemsize for _, stride in factors]
    start = values[view.offset :]
    return np.lib.stride_tricks.as_strided(start, [size for size, _ in factors], strides).reshape(view.shape).copy()


def span(view: StridedView) -> int:
    """Elements of the smallest buffer that a view fits."""
    return view.offset + sum((size - 1) * stride for axis in view.axes for size, stride in axis) + 1


@settings(deadline=None)
@given(layouts(), st.booleans(), st.sampled_from([(nm.si8, np.int8), (nm.si16, np.int16), (nm.si32, np.int32)]))
def test_copies_hold_the_elements_in_order(view: StridedView, on_chip: bool, kind: tuple[Any, type[Any]]) -> None:
    element, dtype = kind
    size, shape = span(view), view.shape
    builder = builder_for([(size, element), (prod(shape), element)])
    values = np.random.default_rng(size).integers(-100, 100, size).astype(dtype)
    argument, destination = builder.program.arguments
    source = argument
    if on_chip:
        source = builder.allocate("source", (size,), element, "spad")
        builder.emit(sta.LoadOp, argument, source)
    copy = copied(builder, Operand(source, view, element))
    assert copy.view == StridedView.contiguous(shape)
    assert copy.space == "spad"
    builder.emit(sta.StoreOp, copy.buffer, destination)
    found = run(builder, values)
    assert np.array_equal(found.reshape(shape), elements(view, values))


@settings(deadline=None)
@given(layouts(), st.sampled_from([1 << 10, 1 << 16]))
def test_copies_from_dram_to_dram(view: StridedView, sram: int) -> None:
    size, shape = span(view), view.shape
    builder = builder_for([(size, nm.si16), (prod(shape), nm.si16)], replace(PLAIN_TARGET, sram_bytes=sram))
    values = np.random.default_rng(size).integers(-100, 100, size).astype(np.int16)
    source, destination = builder.program.arguments
    view_of_all = StridedView.contiguous(shape)
    copy_in_dram(builder, Operand(source, view, nm.si16), Operand(destination, view_of_all, nm.si16))
    staged = sum(node.size for node in builder.program.nodes if isinstance(node, Allocation))
    assert staged <= sram // 4
    found = run(builder, values)
    assert np.array_equal(found.reshape(shape), elements(view, values))


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 2, 3, 7]))
def test_operands_are_copied_until_their_rows_nest(first: int, second: int, width: int) -> None:
    rows = first * second * 2
    shapes = ((rows // first, first, width), (rows // second, second, width))
    builder = builder_for([(rows * width, nm.si8)] * 3)
    views = [StridedView.contiguous(shape).permuted((1, 0, 2)).reshaped((rows, width)) for shape in shapes]
    buffers = builder.program.arguments
    operands = [
        Operand(buffer, view, nm.si8)
        for buffer, view in zip(buffers, [*views, StridedView.contiguous((rows, width))], strict=True)
    ]
    walked = walkable(builder, operands, ROWS)
    iteration_space([operand.view.axes[ROWS] for operand in walked])
    assert walked[-1] == operands[-1]
    try:
        iteration_space([operand.view.axes[ROWS] for operand in operands])
    except NotAView:
        assert walked[0] != operands[0]
    else:
        assert walked == operands
