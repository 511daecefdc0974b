"""Tile programs: views, buffers outside of loops, and lifetimes for memory planning."""

from __future__ import annotations

from dataclasses import replace

import pytest
from xdsl.dialects import func
from xdsl.ir import Region

from sta.dialect import nm, sta
from sta.passes.lowering.program_ir import to_ir
from sta.passes.lowering.tile_builder import Operand, Part
from sta.passes.lowering.tile_program import Allocation, Loop, Tile, View
from sta.passes.memory.memory_plan import MemoryPlan, place, plan_memory
from sta.passes.tiling.strided_view import StridedView
from sta.spec.affine import Affine
from sta.spec.tiling_policy import TilingPolicy
from tests.support.nm_builder import PLAIN_TARGET
from tests.support.tile_programs import builder_for


@pytest.mark.parametrize(("in_dram", "rows"), [((), 32), ((0,), 16), ((0, 1), 8)])
def test_tiles_are_as_high_as_memory_allows(in_dram: tuple[int, ...], rows: int) -> None:
    # A quarter of 4 KiB holds two tiles of 16 rows of 32 bytes, or two of 8 rows in each of two operands.
    builder = builder_for(target=replace(PLAIN_TARGET, sram_bytes=4096))
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

    def body(_: Part) -> None:
        builder.allocate("x", (4,), nm.si8, "spad")

    builder.loop(12, 3, 0, lambda _: builder.loop(12, 3, 0, body))
    assert [type(node) for node in builder.program.nodes] == [Allocation, Loop]


def test_a_window_of_a_window_is_one_of_the_buffer_and_made_once_a_loop() -> None:
    builder = builder_for([(60, nm.si8)])
    buffer = builder.program.arguments[0]
    outer = builder.view(buffer, Affine(6), (4, 5), (6, 1))
    assert builder.view(outer, Affine(), (4, 5), (6, 1)) is outer
    inner = builder.view(outer, Affine(7), (2, 2), (6, 1))
    assert isinstance(inner, View)
    assert (inner.buffer, inner.position) == (buffer, Affine(13))
    assert builder.view(buffer, Affine(13), (2, 2), (6, 1)) is inner
    assert builder.view(buffer, Affine(), (60,), (1,)) is buffer
    found: list[Tile] = []
    builder.rolled(2, lambda _: found.append(builder.view(buffer, Affine(13), (2, 2), (6, 1))))
    assert found[0] is not inner


def test_the_timeline_of_a_program_is_that_of_its_ir() -> None:
    # Of both, planning of memory makes the same plan: unused buffers take no place.
    builder = builder_for([(60, nm.si8), (60, nm.si8)])
    source, destination = builder.program.arguments
    first, second = builder.pair("tile", (20,), nm.si8, "spad")
    other = builder.allocate("other", (20,), nm.si8, "spad")
    builder.allocate("unused", (4000,), nm.si8, "spad")
    for position, buffer in enumerate((first, other)):
        builder.emit(sta.LoadOp, builder.view(source, Affine(20 * position), (20,), (1,)), buffer)
        builder.emit(sta.StoreOp, buffer, builder.view(destination, Affine(20 * position), (20,), (1,)))
    builder.rolled(2, lambda counter: builder.view(first, Affine(0, ((counter, 5),)), (5,), (1,)))
    program = place(builder.program.timeline(), PLAIN_TARGET, TilingPolicy())
    made = to_ir(builder.program, builder.weights)
    function = func.FuncOp("main", ([one.type for one in made.block.args], []), Region(made.block))
    assert isinstance(program, MemoryPlan)
    expected = plan_memory(function, PLAIN_TARGET, TilingPolicy())
    assert {made.values[buffer]: offset for buffer, offset in program.offsets.items()} == expected.offsets
    assert program.sizes == expected.sizes
    assert second not in program.offsets
