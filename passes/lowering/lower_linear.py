"""`nm.linear` as tile products: packed weights through the weight buffer, the epilogue in the drain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
from numpy.typing import NDArray

from sta.dialect import nm, sta
from sta.dialect.ir.parameter_blocks import channel_map_parameters, epilogue_scalars
from sta.passes.lowering.double_buffering import rotate, rotate_rows, walk
from sta.passes.lowering.lower_vector import NormTiles, load_norm, lower_norm_tile
from sta.passes.lowering.operand_copies import ROWS, broadcast_rows, read_residual, walkable, with_rows
from sta.passes.lowering.tile_builder import Operand, Part, Rows, TileBuilder, loaded_bytes, map_op
from sta.passes.lowering.tile_program import Buffer, Constant, Position, Tile
from sta.passes.tiling.linear_tiling import (
    COLUMNS,
    RELOADED,
    SLOTS,
    LinearShape,
    LinearTiling,
    cuts,
    group_bytes,
)
from sta.passes.tiling.strided_view import Axis, StridedView, element_offset, merge, row_space
from sta.spec.affine import Affine
from sta.spec.alignment import aligned
from sta.spec.nm_format import Pattern, packed_size
from sta.spec.packing import Packing
from sta.spec.parameters import map_parameters_size
from sta.spec.wide_product import PLANES

MOST_RUNS = 128
"""Runs that a row of activations may be made of: each is a product of its own in the program."""


@dataclass(frozen=True)
class LinearOperands:
    """Operands of a linear layer in layouts whose rows can be walked together."""

    x: Operand
    result: Operand
    residual: Operand | None

    @property
    def views(self) -> list[StridedView]:
        """Views of the operands in memory: the activations, the result, the residual if there is one."""
        return [self.x.view, self.result.view] + ([self.residual.view] if self.residual else [])

    @property
    def row_axes(self) -> tuple[Axis, ...]:
        """The axes along which the rows of all operands move together."""
        return row_space(self.views)


def linear_operands(
    builder: TileBuilder, op: nm.LinearOp, x: Operand, result: Operand, residual: Operand | None
) -> LinearOperands:
    """
    The operands of a linear layer, copied if their rows do not nest or are not contiguous. Rows of activations may be
    made of runs, each whole groups of the weight's pattern.
    """
    added = [] if residual is None else [broadcast_rows(builder, residual, result)]
    x = x if _has_runs(x, nm.pattern_of(op.weight)[0]) else with_rows(builder, x)
    x, *added, result = walkable(builder, [x, *added, result], ROWS)
    return LinearOperands(x, result, added[0] if added else None)


def linear_shape(op: nm.LinearOp, operands: LinearOperands, *, norm: bool) -> LinearShape:
    """Parameters that determine the tiles of a linear layer. `norm`: a norm of each tile of rows can follow."""
    pattern, encoding = nm.pattern_of(op.weight)
    columns, depth = nm.tensor_of(op.weight).get_shape()
    axes = operands.row_axes
    return LinearShape(
        axes[-1].size if axes else 1,
        columns,
        depth,
        pattern,
        encoding,
        x_bytes=loaded_bytes(operands.x),
        residual_bytes=loaded_bytes(operands.residual),
        residual_column=operands.residual is not None and operands.residual.columns == 1,
        result_bytes=loaded_bytes(operands.result),
        batches=prod(axis.size for axis in axes[:-1]),
        norm=norm,
        wide=nm.is_wide(op.x),
        run=0 if operands.x.has_contiguous_rows() else merge(operands.x.view.axes[-1])[-1][0],
    )


def _has_runs(x: Operand, pattern: Pattern) -> bool:
    """True if the rows of activations are few runs of elements, each whole groups of the pattern."""
    factors = merge(x.view.axes[-1])
    if len(factors) < 2 or factors[-1][1] != 1:
        return False
    run = factors[-1][0]
    return run % pattern.m == 0 and x.columns // run <= MOST_RUNS


def lower_linear(
    builder: TileBuilder,
    op: nm.LinearOp,
    operands: LinearOperands,
    shape: LinearShape,
    tiling: LinearTiling,
    norm: NormTiles | None,
    *,
    statistics: bool,
) -> None:
    """
    The loops of a linear layer, in the order of its tiling.

    Columns outermost: weights are loaded once if the depth is not cut; `statistics`: the drains add the rows they write
    to the row statistics. Rows outermost: weights stay on the chip or are reloaded, and a tile of rows is normalized
    while the products of the next one run, if a `norm` follows.
    """
    layer = _begin(builder, op, operands, shape, tiling, statistics=statistics or norm is not None)
    if tiling.order == COLUMNS:
        blocks = layer.blocks()
        rotate(builder, shape.columns, tiling.columns, 0, partial(_column_tile, layer, blocks))
        return
    _lower_by_rows(layer, norm)


def _begin(
    builder: TileBuilder,
    op: nm.LinearOp,
    operands: LinearOperands,
    shape: LinearShape,
    tiling: LinearTiling,
    *,
    statistics: bool,
) -> _Linear:
    """Constants and buffers that all loop orders need; parameters and table are loaded at once."""
    depths = tuple(depth for count, depth in cuts(shape.depth, tiling.depth) for _ in range(count))
    packed = _pack(builder, op, Packing(shape.columns, depths, tiling.columns, shape.pattern, shape.encoding))
    parameters = _parameters(builder, op, shape.columns, tiling.columns)
    in_dram = None
    if parameters.size <= builder.target.sram_bytes * builder.policy.parameters_share:
        loaded = (builder.load(parameters, "parameters"),)
    else:
        in_dram = parameters
        loaded = builder.pair("parameters", (aligned(map_parameters_size(tiling.columns)),), nm.ui8, "wbuf")
    table = builder.load_table(op.table)
    accs = builder.pair("acc", (tiling.rows, shape.passes * tiling.columns), nm.si32, "acc")
    return _Linear(builder, op, operands, shape, tiling, depths, packed, loaded, in_dram, table, accs, statistics)


@dataclass(frozen=True)
class _Linear:
    """A linear layer with its buffers, for its loops."""

    builder: TileBuilder
    op: nm.LinearOp
    operands: LinearOperands
    shape: LinearShape
    tiling: LinearTiling
    depths: tuple[int, ...]
    """The cuts of the depth."""
    packed: Constant
    loaded_parameters: Sequence[Buffer]
    """The parameters of all columns, or two buffers for the parameters of a tile of columns."""
    parameters_in_dram: Constant | None
    """The parameters in DRAM, if they are loaded for each tile of columns."""
    table: Tile | None
    accs: Sequence[Buffer]
    statistics: bool
    """True if the drains add the rows they write to the row statistics."""

    def blocks(self) -> Sequence[Buffer]:
        """Two buffers for the weights of a tile of columns: of a cut of the depth, or of all cuts if rows have runs."""
        return self.builder.pair("weights", (group_bytes(self.shape, self.tiling),), nm.ui8, "wbuf")

    def load_group(self, column: Part, buffer: Buffer) -> Callable[[int], Tile]:
        """Loads the weights of a tile of columns and all cuts of the depth; returns those of each cut."""
        builder, size = self.builder, self.group_bytes(column.size)
        source = builder.view(self.packed, self.place(column, self.group_bytes(self.tiling.columns)), (size,), (1,))
        builder.emit(sta.LoadOp, source, builder.view(buffer, Affine(), (size,), (1,)))

        def of_cut(index: int) -> Tile:
            cut = packed_size(column.size, self.depths[index], self.shape.pattern, self.shape.encoding)
            return builder.view(buffer, Affine(self.group_bytes(column.size, index)), (cut,), (1,))

        return of_cut

    def load(self, column: Part, index: int, buffer: Buffer) -> Tile:
        """Loads the weights of a tile of columns and a cut of the depth."""
        size = packed_size(column.size, self.depths[index], self.shape.pattern, self.shape.encoding)
        place = self.place(column, self.group_bytes(self.tiling.columns)) + self.group_bytes(column.size, index)
        source = self.builder.view(self.packed, place, (size,), (1,))
        destination = self.builder.view(buffer, Affine(), (size,), (1,))
        self.builder.emit(sta.LoadOp, source, destination)
        return destination

    def group_bytes(self, columns: int, depths: int | None = None) -> int:
        """Bytes of a tile of columns up to its first `depths` cuts of the depth (all when None)."""
        pattern, encoding = self.shape.pattern, self.shape.encoding
        return sum(aligned(packed_size(columns, depth, pattern, encoding)) for depth in self.depths[:depths])

    def place(self, column: Part, block: int) -> Position:
        """Byte position of a tile of columns in a constant made of equal blocks a tile."""
        return column.start.divided(self.tiling.columns) * block

    def parameters(self, column: Part) -> Tile:
        """The parameter block of a tile of columns: a view of the whole layer's block, or loaded."""
        builder = self.builder
        place = self.place(column, aligned(map_parameters_size(self.tiling.columns)))
        size = map_parameters_size(column.size)
        if self.parameters_in_dram is None:
            return builder.view(self.loaded_parameters[0], place, (size,), (1,))
        source = builder.view(self.parameters_in_dram, place, (size,), (1,))
        destination = builder.view(self.loaded_parameters[column.slot], Affine(), (size,), (1,))
        builder.emit(sta.LoadOp, source, destination)
        return destination

    def acc(self, rows: int, column: Part, slot: int) -> Tile:
        """
        The accumulators of a tile; with 16-bit activations each row has accumulators for the high bytes, then for the
        low bytes.
        """
        passes = self.shape.passes
        stride = passes * self.tiling.columns
        return self.builder.view(self.accs[slot], Affine(), (rows, passes * column.size), (stride, 1))

    def planes(self, acc: Tile, column: Part, slot: int) -> list[tuple[str | None, Tile]]:
        """The accumulators of each pass, with the byte plane of its activations; None for 8-bit activations."""
        if not self.shape.wide:
            return [(None, acc)]
        shape, strides = (acc.shape[0], column.size), (2 * self.tiling.columns, 1)
        return [
            (plane, self.builder.view(self.accs[slot], Affine(index * column.size), shape, strides))
            for index, plane in enumerate(PLANES)
        ]

    def products(
        self,
        acc: Tile,
        activations_of: Callable[[int, int, int], Tile],
        column: Part,
        slot: int,
        weights: Callable[[int], Tile] | None,
        blocks: Sequence[Buffer],
    ) -> None:
        """
        The products of a tile. `activations_of` gives the activations of a cut of the depth, by its start, length and
        slot. Without `weights`, which gives those of each cut, they are loaded into the alternating `blocks`.
        """
        pattern = nm.PatternAttr(self.shape.pattern, self.shape.encoding)
        starts = range(0, self.shape.depth, self.tiling.depth)
        for index, (start, depth) in enumerate(zip(starts, self.depths, strict=True)):
            own = (slot * len(self.depths) + index) % SLOTS
            packed = self.load(column, index, blocks[own]) if weights is None else weights(index)
            activations = activations_of(start, depth, own)
            for plane, target in self.planes(acc, column, slot):
                make = partial(sta.ProductOp, pattern=pattern, accumulate=index > 0, plane=plane)
                self.builder.emit(make, target, activations, packed)

    def drain(self, acc: Tile, rows: Rows, column: Part, parameters: Tile) -> None:
        """Drains a tile into the result; `rows` has the positions of all operands."""
        builder, operands = self.builder, self.operands
        shape, limit = (rows.count, column.size), (self.tiling.rows, self.tiling.columns)
        residual = None
        if operands.residual is not None:
            where = (rows.count, rows.strides[2])
            residual = read_residual(builder, operands.residual, rows.positions[2], column, where, limit, rows.slot)
        combine = self.op.combine.data
        make = partial(map_op, per_channel=True, statistics=self.statistics, wide=self.shape.wide, combine=combine)

        def drain(destination: Tile) -> None:
            builder.emit(make, acc, destination, parameters, self.table, residual)

        position = rows.positions[1] + column.start
        builder.write("result", operands.result, position, shape, rows.strides[1], limit, rows.slot, drain)


def _column_tile(layer: _Linear, blocks: Sequence[Buffer], column: Part) -> None:
    """All rows of one tile of columns."""
    weights = None
    if layer.shape.run:
        weights = layer.load_group(column, blocks[column.slot])
    elif len(layer.depths) == 1:
        weights = _always(layer.load(column, 0, blocks[column.slot]))
    parameters = layer.parameters(column)
    limit = (layer.tiling.rows, layer.depths[0])
    view = layer.operands.x.view

    def tile(rows: Rows) -> None:
        def activations_of(start: int, depth: int, slot: int) -> Tile:
            position, stride = rows.positions[0] + element_offset(view.axes[-1], start), rows.strides[0]
            shape = (rows.count, depth)
            return layer.builder.read("activations", layer.operands.x, position, shape, stride, limit, slot)

        acc = layer.acc(rows.count, column, rows.slot)
        layer.products(acc, activations_of, column, rows.slot, weights, blocks)
        layer.drain(acc, rows, column, parameters)

    rotate_rows(layer.builder, layer.operands.views, layer.tiling.rows, column.slot, tile)


def _always(weights: Tile) -> Callable[[int], Tile]:
    return lambda _: weights


def _lower_by_rows(layer: _Linear, norm: NormTiles | None) -> None:
    """The loops with rows outermost."""
    builder, operands, shape, tiling = layer.builder, layer.operands, layer.shape, layer.tiling
    norm_parameters = None
    if norm is not None:
        with builder.located(norm.op):
            norm_parameters = load_norm(builder, norm.op)
    written = [] if norm is None else norm.written
    views = [*operands.views, *(operand.view for operand in written)]
    axes, starts = row_space(views), [Affine(view.offset) for view in views]
    # Tiles of columns alternate between the accumulators. Tiles of rows have to as well if these are an odd number, or
    # if they have something of their own.
    column_tiles = -(-shape.columns // tiling.columns)
    alternate = column_tiles % SLOTS == 1 or any(operand.space == "dram" for operand in (operands.x, *written))
    loop = rotate if alternate else TileBuilder.loop

    def tile(rows: Rows, weights: Callable[[Part], Tile | None], blocks: Sequence[Buffer]) -> None:
        _row_tile(layer, rows, weights, blocks)
        if norm is not None and norm_parameters is not None:
            own = len(operands.views)
            positions = [rows.positions[1], *rows.positions[own:]]
            normalized = Rows(positions, rows.count, [rows.strides[1], *rows.strides[own:]], rows.slot)
            with builder.located(norm.op):
                lower_norm_tile(builder, norm, norm_parameters, normalized, statistics=True)

    if tiling.order == RELOADED:
        blocks = layer.blocks()

        def reloaded(column: Part) -> Tile | None:
            return layer.load(column, 0, blocks[column.slot]) if len(layer.depths) == 1 else None

        walk(builder, axes, starts, tiling.rows, 0, lambda rows: tile(rows, reloaded, blocks))
        return
    resident = builder.allocate(f"{builder.path}:weights", (layer.packed.size,), nm.ui8, "wbuf")
    kept = partial(_kept_weights, layer, resident, loading=False)
    if len(axes) != 1:
        builder.emit(sta.LoadOp, layer.packed, resident)
        walk(builder, axes, starts, tiling.rows, 0, lambda rows: tile(rows, kept, ()), loop)
        return
    # The first tile of rows loads each block of weights just before its use.
    (axis,) = axes
    first = min(tiling.rows, axis.size)
    tile(Rows(starts, first, axis.strides, 1), partial(_kept_weights, layer, resident, loading=True), ())
    if axis.size > first:
        rest = [start + first * stride for start, stride in zip(starts, axis.strides, strict=True)]
        others = [Axis(axis.size - first, axis.strides)]
        walk(builder, others, rest, tiling.rows, 0, lambda rows: tile(rows, kept, ()), loop)


def _kept_weights(layer: _Linear, resident: Buffer, column: Part, *, loading: bool) -> Tile:
    """The weights of a tile of columns if all of them stay on the chip; `loading` loads them."""
    builder = layer.builder
    place = layer.place(column, layer.group_bytes(layer.tiling.columns))
    size = packed_size(column.size, layer.shape.depth, layer.shape.pattern, layer.shape.encoding)
    weights = builder.view(resident, place, (size,), (1,))
    if loading:
        builder.emit(sta.LoadOp, builder.view(layer.packed, place, (size,), (1,)), weights)
    return weights


def _row_tile(layer: _Linear, rows: Rows, weights: Callable[[Part], Tile | None], blocks: Sequence[Buffer]) -> None:
    """All columns of a tile of rows."""
    builder, operands, depth = layer.builder, layer.operands, layer.shape.depth
    limit = (layer.tiling.rows, depth)
    position, stride = rows.positions[0], rows.strides[0]
    buffer, first, row_stride = builder.matrix(
        "activations", operands.x, position, (rows.count, depth), stride, limit, rows.slot
    )

    def activations_of(start: int, depth: int, _: int) -> Tile:
        return builder.view(buffer, first + start, (rows.count, depth), (row_stride, 1))

    def column_tile(column: Part) -> None:
        own = weights(column)
        parameters = layer.parameters(column)
        acc = layer.acc(rows.count, column, column.slot)
        layer.products(acc, activations_of, column, column.slot, None if own is None else _always(own), blocks)
        layer.drain(acc, Rows(rows.positions, rows.count, rows.strides, column.slot), column, parameters)

    rotate(builder, layer.shape.columns, layer.tiling.columns, rows.slot, column_tile)


def _pack(builder: TileBuilder, op: nm.LinearOp, packing: Packing) -> Constant:
    """The packed weights of each tile of columns and cut of the depth, each padded to a beat of the DMA."""
    name = builder.store_name(op.weight)
    return builder.constant(
        f"{name}@packed",
        "weights",
        (packing.size,),
        nm.ui8,
        lambda: packing.pack(builder.weights.get(name)),
        packing,
    )


def _parameters(builder: TileBuilder, op: nm.LinearOp, columns: int, tile: int) -> Constant:
    """The parameter blocks of all tiles of columns, each padded to a beat of the DMA."""
    size = sum(count * aligned(map_parameters_size(part)) for count, part in cuts(columns, tile))
    return builder.constant(
        f"{builder.path}@parameters", "parameters", (size,), nm.ui8, lambda: _parameter_blocks(builder, op, tile)
    )


def _parameter_blocks(builder: TileBuilder, op: nm.LinearOp, columns: int) -> NDArray[np.uint8]:
    bias, multiplier, shift = (
        builder.weights.get(builder.store_name(operand)) for operand in (op.bias, op.multiplier, op.shift)
    )
    blocks = channel_map_parameters(bias, multiplier, shift, epilogue_scalars(op)).blocks(columns)
    return np.frombuffer(b"".join(block.ljust(aligned(len(block)), b"\0") for block in blocks), np.uint8)
