"""Copies of operands: into the order that an instruction requires, and from one place in DRAM to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from sta.dialect import nm, sta
from sta.dialect.ir.parameter_blocks import scalar_map_parameters
from sta.passes.lowering.double_buffering import walk
from sta.passes.lowering.tile_builder import Operand, Part, Rows, TileBuilder, map_op
from sta.passes.lowering.tile_program import Buffer, Position, Tile
from sta.passes.tiling.strided_view import Axis, Factor, NotAView, StridedView, iteration_space, longest_last
from sta.spec.affine import Affine
from sta.spec.instructions.table import definition_of

ROWS = slice(None, -1)
"""The axes whose steps are rows: all but the last."""
RUN_LIMIT = definition_of("map").field("columns").largest_power
"""Elements of the longest row of a copy: within the column field of every instruction that copies."""


def copied(builder: TileBuilder, operand: Operand) -> Operand:
    """The operand with its elements copied into a contiguous buffer, in the scratchpad or where that has no room."""
    shape = operand.view.shape
    return _copied_to(builder, operand, builder.allocate_copy((prod(shape),), operand.element))


def resident(builder: TileBuilder, operand: Operand) -> Operand:
    """The operand itself if it is a contiguous buffer in the scratchpad, else a copy there."""
    shape = operand.view.shape
    if operand.space == "spad" and operand.view == StridedView.contiguous(shape):
        return operand
    return _copied_to(
        builder, operand, builder.allocate(f"{builder.path}:copy", (prod(shape),), operand.element, "spad")
    )


def _copied_to(builder: TileBuilder, operand: Operand, buffer: Buffer) -> Operand:
    result = Operand(buffer, StridedView.contiguous(operand.view.shape), operand.element)
    copy_elements(builder, operand, result)
    return result


def copy_elements(builder: TileBuilder, source: Operand, destination: Operand) -> None:
    """
    Copies an operand to another place, of the same shape: by DMA if one of them is in DRAM, through the scratchpad if
    both are, else by the vector unit.
    """
    if source.space == destination.space == "dram":
        copy_in_dram(builder, source, destination)
        return
    make: Callable[..., sta.UnitOp] = sta.LoadOp if source.space == "dram" else sta.StoreOp
    operands: tuple[Tile, ...] = ()
    if source.space == destination.space:
        parameters = scalar_map_parameters(0, *nm.IDENTITY_SCALE).to_bytes()
        make, operands = map_op, (builder.load_parameters("identity", parameters),)
    walk_runs(builder, source, destination, lambda tile, place, _: builder.emit(make, tile, place, *operands))


def copy_in_dram(builder: TileBuilder, source: Operand, destination: Operand) -> None:
    """
    Copies an operand from one place in DRAM to another, through tiles in the scratchpad: two of them occupy at most the
    policy's share of the chip's memory.
    """
    rows = builder.target.tile_rows
    share = int(builder.target.sram_bytes * builder.policy.staging_share / 2)
    longest = share // (rows * source.element.width.data // 8)

    def move(tile: Tile, place: Tile, slot: int) -> None:
        count, columns = tile.shape
        staged = builder.staged("copy", source, (rows, columns), (count, columns), slot)
        builder.emit(sta.LoadOp, tile, staged)
        builder.emit(sta.StoreOp, staged, place)

    walk_runs(builder, source, destination, move, max(1, min(longest, RUN_LIMIT)))


def walk_runs(
    builder: TileBuilder,
    source: Operand,
    destination: Operand,
    body: Callable[[Tile, Tile, int], None],
    longest: int = RUN_LIMIT,
) -> None:
    """
    Walks two operands of one shape in tiles of the longest runs, of at most `longest` elements, that are contiguous in
    both. `body` is called with a tile of each and their slot.
    """
    axes = iteration_space([source.view.axes, destination.view.axes])
    columns = 1
    if axes and axes[-1].strides == (1, 1):
        columns = _largest_divisor(axes[-1].size, longest)
        axes = _cut(axes, columns)

    def tile(rows: Rows) -> None:
        first, second = (
            builder.view(operand.buffer, position, (rows.count, columns), (stride, 1))
            for operand, position, stride in zip((source, destination), rows.positions, rows.strides, strict=True)
        )
        body(first, second, rows.slot)

    starts = [Affine(source.view.offset), Affine(destination.view.offset)]
    walk(builder, longest_last(axes), starts, builder.target.tile_rows, 0, tile)


def with_rows(builder: TileBuilder, operand: Operand) -> Operand:
    """The operand itself if its last axis is contiguous, else a copy."""
    return operand if operand.has_contiguous_rows() else copied(builder, operand)


def walkable(builder: TileBuilder, operands: Sequence[Operand], axes: slice) -> list[Operand]:
    """
    Operands that share their leading `axes`, copied one by one until all of them can be walked together. The last is
    written and never copied.
    """
    result = list(operands)
    for index in range(len(result) - 1):
        if _nest([operand.view.axes[axes] for operand in result]):
            break
        result[index] = copied(builder, result[index])
    return result


def broadcast_rows(builder: TileBuilder, residual: Operand, result: Operand) -> Operand:
    """
    A residual that moves along with the result, and repeats where its rows broadcast. One with a single column keeps
    it.
    """
    rows = with_rows(builder, residual)
    shape = (*result.view.shape[:-1], rows.columns)
    return Operand(rows.buffer, rows.view.broadcast(shape), rows.element)


def read_residual(
    builder: TileBuilder,
    residual: Operand,
    position: Position,
    columns: Part,
    rows: tuple[int, int],
    limit: tuple[int, int],
    slot: int,
) -> Tile:
    """
    A tile of a residual: the `columns` of the result's tile, or its only one. `rows` are the number of rows and their
    stride.
    """
    count, stride = rows
    if residual.columns == 1:
        return builder.read("residual", residual, position, (count, 1), stride, (limit[0], 1), slot)
    return builder.read("residual", residual, position + columns.start, (count, columns.size), stride, limit, slot)


def _largest_divisor(size: int, limit: int) -> int:
    return next(divisor for divisor in range(min(size, limit), 0, -1) if size % divisor == 0)


def _cut(axes: Sequence[Axis], columns: int) -> tuple[Axis, ...]:
    """The axes with the innermost `columns` elements, which one row of a copy covers, taken off."""
    last = axes[-1]
    if last.size == columns:
        return tuple(axes[:-1])
    return (*axes[:-1], Axis(last.size // columns, tuple(stride * columns for stride in last.strides)))


def _nest(views: Sequence[Sequence[Sequence[Factor]]]) -> bool:
    try:
        iteration_space(views)
    except NotAView:
        return False
    return True
