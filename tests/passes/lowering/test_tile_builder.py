"""Tile loops: affine positions, loops that cover an axis in order, and copies, run and compared with NumPy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.interpreter import Interpreter
from xdsl.interpreters.func import FuncFunctions
from xdsl.ir import Block, Region, SSAValue

from sta.dialect import nm, sta
from sta.dialect.interpreters.sta import StaFunctions, argument_window
from sta.dialect.ir.addresses import first_element_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.lowering.tile_builder import ROWS, Operand, Position, Stretch, TileBuilder
from sta.passes.tiling.strided_view import NotAView, StridedView, iteration_space
from sta.spec.affine import Affine
from tests.support.nm_builder import PLAIN_TARGET
from tests.support.ordering import unrolled

SIZES = st.integers(1, 40)
TILES = st.integers(1, 12)


def builder_for(types: list[Any] | None = None) -> TileBuilder:
    """Returns a builder of an empty function with arguments of some types."""
    return TileBuilder(PLAIN_TARGET, WeightStore(), Block(arg_types=types or []))


@dataclass
class Recorder:
    """Notes tiles as loads from an argument, so that the loops around them can be unrolled."""

    size: int

    def __post_init__(self) -> None:
        self.builder = builder_for([sta.memref((self.size,), nm.si8, "dram")])
        self.stages = [
            [self.builder.allocate(f"{stage}{slot}", (self.size,), nm.si8, "spad") for slot in (0, 1)]
            for stage in ("first", "second")
        ]

    def note(self, position: Position, count: int, stage: int = 0) -> None:
        """Appends a load of a tile, into the buffer of the stage and the current slot."""
        builder = self.builder
        source = builder.view(builder.function.args[0], position, (count,), (1,))
        builder.emit(sta.LoadOp(source, builder.view(self.stages[stage][builder.slot], Affine(), (count,), (1,))))

    def tiles(self) -> list[tuple[int, int, int, int]]:
        """Returns stage, slot, start and size of each tile in the order of a run."""
        found: list[tuple[int, int, int, int]] = []
        for op, counters in unrolled(self.builder.function):
            if isinstance(op, sta.LoadOp):
                start = first_element_of(op.source).position.at(counters)
                buffer = first_element_of(op.destination).buffer
                stage = next(index for index, slots in enumerate(self.stages) if buffer in slots)
                slot = self.stages[stage].index(buffer)
                found.append((stage, slot, start, sta.memref_of(op.source).get_shape()[0]))
        return found

    def static_tiles(self) -> int:
        """Returns how many loads there are in the IR."""
        return sum(isinstance(op, sta.LoadOp) for op in self.builder.function.walk())


def cut(size: int, tile: int) -> list[tuple[int, int]]:
    """Start and size of the tiles of an axis."""
    return [(start, min(tile, size - start)) for start in range(0, size, tile)]


@settings(deadline=None)
@given(SIZES, TILES)
def test_a_loop_covers_its_axis_once_and_in_order(size: int, tile: int) -> None:
    recorder = Recorder(size)
    recorder.builder.loop(size, tile, recorder.note)
    assert [(start, count) for _, _, start, count in recorder.tiles()] == cut(size, tile)
    assert recorder.static_tiles() <= 2
    assert recorder.builder.block is recorder.builder.function


@settings(deadline=None)
@given(SIZES, TILES)
def test_rotation_alternates_between_slots(size: int, tile: int) -> None:
    recorder = Recorder(size)
    recorder.builder.rotate(size, tile, recorder.note)
    tiles = recorder.tiles()
    assert [(start, count) for _, _, start, count in tiles] == cut(size, tile)
    assert [slot for _, slot, _, _ in tiles] == [index % 2 for index in range(len(tiles))]
    assert recorder.static_tiles() <= 4
    assert recorder.builder.slot == 0


@settings(deadline=None)
@given(SIZES, TILES, st.integers(2, 7))
def test_rotation_alternates_across_the_rounds_of_one_around_it(size: int, tile: int, rounds: int) -> None:
    recorder = Recorder(rounds * size)

    def inner(start: Position, _: int) -> None:
        recorder.builder.rotate(size, tile, lambda position, count: recorder.note(start * size + position, count))

    recorder.builder.rotate(rounds, 1, inner)
    tiles = recorder.tiles()
    assert [(start, count) for _, _, start, count in tiles] == [
        (index * size + start, count) for index in range(rounds) for start, count in cut(size, tile)
    ]
    assert [slot for _, slot, _, _ in tiles] == [index % 2 for index in range(len(tiles))]


@settings(deadline=None)
@given(st.lists(st.tuples(SIZES, TILES), min_size=1, max_size=4))
def test_pipeline_runs_one_stage_ahead(axes: list[tuple[int, int]]) -> None:
    recorder = Recorder(sum(size for size, _ in axes))
    starts: list[tuple[int, int]] = []
    stretches: list[Stretch] = []
    for size, tile in axes:
        first = sum(size for size, _ in axes[: len(stretches)])
        starts += [(first + start, count) for start, count in cut(size, tile)]

        def note(position: Position, count: int, first: int = first, stage: int = 0) -> None:
            recorder.note(position + first, count, stage)

        stretches.append(Stretch(size, tile, note, partial(note, stage=1)))
    recorder.builder.pipeline(stretches)
    tiles = recorder.tiles()
    for stage in (0, 1):
        own = [(slot, (start, count)) for which, slot, start, count in tiles if which == stage]
        assert own == [(index % 2, part) for index, part in enumerate(starts)]
    # A tile is begun, then the one before it is finished, across the ends of stretches; so of each stage two are begun
    # at most, and the buffers of a tile are free again before the one after the next is begun.
    order = [(stage, start) for stage, _, start, _ in tiles]
    expected = [(0, starts[0][0])]
    for (earlier, _), (later, _) in pairwise(starts):
        expected += [(0, later), (1, earlier)]
    assert order == [*expected, (1, starts[-1][0])]
    assert recorder.static_tiles() <= 12 * len(axes)
    assert recorder.builder.slot == 0


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


def run(builder: TileBuilder, result: SSAValue, values: NDArray[Any]) -> NDArray[Any]:
    """Runs what was built on an argument, and returns a buffer of it: the second argument."""
    block = builder.function
    block.add_op(func.ReturnOp())
    function = func.FuncOp("main", ([argument.type for argument in block.args], []), Region(block))
    module = ModuleOp([function])
    module.verify()
    interpreter = Interpreter(module)
    interpreter.register_implementations(FuncFunctions())
    interpreter.register_implementations(StaFunctions(builder.weights))
    windows = (argument_window(block.args[0], values, 0xA5), argument_window(result, None, 0xA5))
    interpreter.call_op(function, windows)
    return windows[1].array()


def span(view: StridedView) -> int:
    """Elements of the smallest buffer that a view fits."""
    return view.offset + sum((size - 1) * stride for axis in view.axes for size, stride in axis) + 1


@settings(deadline=None)
@given(layouts(), st.booleans(), st.sampled_from([(nm.si8, np.int8), (nm.si16, np.int16), (nm.si32, np.int32)]))
def test_copies_hold_the_elements_in_order(view: StridedView, on_chip: bool, kind: tuple[Any, type[Any]]) -> None:
    element, dtype = kind
    size, shape = span(view), view.shape
    builder = builder_for([sta.memref((size,), element, "dram"), sta.memref((prod(shape),), element, "dram")])
    values = np.random.default_rng(size).integers(-100, 100, size).astype(dtype)
    source = builder.function.args[0]
    if on_chip:
        source = builder.allocate("source", (size,), element, "spad")
        builder.emit(sta.LoadOp(builder.function.args[0], source))
    copy = builder.copied(Operand(source, view, element))
    assert copy.view == StridedView.contiguous(shape)
    assert copy.space == "spad"
    builder.emit(sta.StoreOp(copy.buffer, builder.function.args[1]))
    found = run(builder, builder.function.args[1], values)
    assert np.array_equal(found.reshape(shape), elements(view, values))


@settings(deadline=None)
@given(layouts(), st.sampled_from([1 << 10, 1 << 16]))
def test_copies_from_dram_to_dram(view: StridedView, sram: int) -> None:
    size, shape = span(view), view.shape
    builder = builder_for([sta.memref((size,), nm.si16, "dram"), sta.memref((prod(shape),), nm.si16, "dram")])
    builder.target = replace(PLAIN_TARGET, sram_bytes=sram)
    values = np.random.default_rng(size).integers(-100, 100, size).astype(np.int16)
    source, destination = builder.function.args
    builder.through_tiles(Operand(source, view, nm.si16), Operand(destination, StridedView.contiguous(shape), nm.si16))
    staged = sum(sta.buffer_bytes(op.result) for op in builder.function.ops if isinstance(op, sta.AllocOp))
    assert staged <= sram // 4
    found = run(builder, destination, values)
    assert np.array_equal(found.reshape(shape), elements(view, values))


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 2, 3, 7]))
def test_operands_are_copied_until_their_rows_nest(first: int, second: int, width: int) -> None:
    rows = first * second * 2
    shapes = ((rows // first, first, width), (rows // second, second, width))
    builder = builder_for([sta.memref((rows * width,), nm.si8, "dram")] * 3)
    views = [StridedView.contiguous(shape).permuted((1, 0, 2)).reshaped((rows, width)) for shape in shapes]
    operands = [
        Operand(buffer, view, nm.si8)
        for buffer, view in zip(builder.function.args, [*views, StridedView.contiguous((rows, width))], strict=True)
    ]
    walked = builder.walkable(operands, ROWS)
    iteration_space([operand.view.axes[ROWS] for operand in walked])
    assert walked[-1] == operands[-1]
    try:
        iteration_space([operand.view.axes[ROWS] for operand in operands])
    except NotAView:
        assert walked[0] != operands[0]
    else:
        assert walked == operands


@pytest.mark.parametrize(("in_dram", "rows"), [((), 32), ((0,), 16), ((0, 1), 8)])
def test_tiles_are_as_high_as_memory_allows(in_dram: tuple[int, ...], rows: int) -> None:
    # A quarter of 4 KiB holds two tiles of 16 rows of 32 bytes, or two of 8 rows in each of two operands.
    builder = builder_for()
    builder.target = replace(PLAIN_TARGET, sram_bytes=4096)
    operands = [
        Operand(
            builder.allocate("", (100, 32), nm.si8, "dram" if index in in_dram else "spad"),
            StridedView.contiguous((100, 32)),
            nm.si8,
        )
        for index in range(2)
    ]
    assert builder.tile_rows(100, [(operand, 32) for operand in operands]) == rows
    assert builder.tile_rows(5, [(operand, 32) for operand in operands]) == min(rows, 5)


def test_allocations_stand_in_front_of_the_outermost_loop() -> None:
    builder = builder_for()

    def body(_position: Position, _count: int) -> None:
        builder.allocate("x", (4,), nm.si8, "spad")

    builder.loop(12, 3, lambda _position, _count: builder.loop(12, 3, body))
    assert [op.name for op in builder.function.ops] == ["sta.alloc", "sta.loop"]
