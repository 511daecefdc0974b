"""`nm.matmul` as tile products of two operands in the scratchpad, the epilogue in the drain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

from sta.dialect import nm, sta
from sta.dialect.ir.parameter_blocks import epilogue_scalars, scalar_map_parameters
from sta.passes.lowering.double_buffering import rotate, walk
from sta.passes.lowering.operand_copies import broadcast_rows, copied, read_residual, walkable, with_rows
from sta.passes.lowering.tile_builder import Operand, Part, Rows, TileBuilder, loaded_bytes, map_op
from sta.passes.lowering.tile_program import Buffer, Position, Tile
from sta.passes.tiling.linear_tiling import SLOTS, LinearTiling, cuts
from sta.passes.tiling.matmul_tiling import MatmulShape
from sta.passes.tiling.strided_view import Axis, StridedView, iteration_space, merge
from sta.spec.affine import Affine
from sta.spec.nm_format import DENSE
from sta.spec.wide_product import PLANES

DENSE_OPERAND = nm.PatternAttr(DENSE, "dense")
BATCHES = slice(None, -2)
"""The axes whose steps are products: all but the last two."""
A, B, RESULT, RESIDUAL = range(4)
"""The operands in the order of their positions."""


@dataclass(frozen=True)
class MatmulOperands:
    """Operands of a product of two values, each a strided matrix a batch, in layouts that can be walked together."""

    a: Operand
    """`[..., M, K]`, contiguous along K."""
    b: Operand
    """`[..., N, K]`, contiguous along K, or along N if `transposed`."""
    transposed: bool
    result: Operand
    residual: Operand | None

    @property
    def walked(self) -> list[Operand]:
        """All of them, in the order of their positions."""
        return [self.a, self.b, self.result] + ([self.residual] if self.residual else [])

    @property
    def batch_axes(self) -> tuple[Axis, ...]:
        """The loops over batches."""
        return iteration_space([operand.view.axes[BATCHES] for operand in self.walked])

    @property
    def row_strides(self) -> list[int]:
        """The strides from one row of each operand to the next; of `b` from one element of the outer axis."""
        views = [operand.view for operand in self.walked]
        outer = [view.axes[-1 if index == B and self.transposed else -2] for index, view in enumerate(views)]
        return [factors[0][1] if (factors := merge(axis)) else 0 for axis in outer]


def matmul_operands(
    builder: TileBuilder, factors: tuple[Operand, Operand], result: Operand, residual: Operand | None
) -> MatmulOperands:
    """The operands of a product, copied if a batch is no strided matrix or the batches do not nest."""
    a = _matrices(builder, with_rows(builder, factors[0]))
    b, transposed = factors[1], False
    if not b.has_contiguous_rows() and _exchanged(b).has_contiguous_rows():
        b, transposed = _exchanged(_matrices(builder, _exchanged(b))), True
    else:
        b = _matrices(builder, with_rows(builder, b))
    leading = result.view.shape[BATCHES]
    a, b = (_repeated(operand, leading) for operand in (a, b))
    added = [] if residual is None else [_matrices(builder, broadcast_rows(builder, residual, result))]
    placed = walkable(builder, [a, b, *added, result], BATCHES)
    # A copy has its last axis contiguous.
    transposed = transposed and placed[1] is b
    return MatmulOperands(placed[0], placed[1], transposed, placed[-1], placed[2] if added else None)


def matmul_shape(op: nm.MatmulOp, operands: MatmulOperands) -> MatmulShape:
    """Parameters that determine the tiles of a product of two values."""
    *_, rows, depth = operands.a.view.shape
    return MatmulShape(
        rows,
        operands.b.view.shape[-2],
        depth,
        prod(operands.result.view.shape[BATCHES]),
        nm.is_wide(op.a),
        *(loaded_bytes(operand) for operand in (operands.a, operands.b, operands.residual, operands.result)),
    )


def lower_matmul(
    builder: TileBuilder, op: nm.MatmulOp, operands: MatmulOperands, shape: MatmulShape, tiling: LinearTiling
) -> None:
    """The loops of a product of two values: batches, tiles of columns, tiles of rows, cuts of the depth."""
    scale = (op.bias.value.data, *op.scale.pair)
    parameters = builder.load_parameters(
        f"{builder.path}@parameters", scalar_map_parameters(*scale, epilogue_scalars(op)).to_bytes()
    )
    table = builder.load_table(op.table)
    accs = builder.pair("acc", (tiling.rows, shape.passes * tiling.columns), nm.si32, "acc")
    layer = _Matmul(builder, op, operands, shape, tiling, parameters, table, accs)
    starts = [Affine(operand.view.offset) for operand in operands.walked]
    walk(builder, operands.batch_axes, starts, 1, 0, layer.batch)


@dataclass(frozen=True)
class _Matmul:
    """A product of two values with its buffers, for its loops."""

    builder: TileBuilder
    op: nm.MatmulOp
    operands: MatmulOperands
    shape: MatmulShape
    tiling: LinearTiling
    parameters: Tile
    table: Tile | None
    accs: Sequence[Buffer]

    def batch(self, batch: Rows) -> None:
        """One product, at the positions of a batch."""
        depths = [depth for count, depth in cuts(self.shape.depth, self.tiling.depth) for _ in range(count)]

        def column_tile(column: Part) -> None:
            whole = self.second(batch, column, 0, depths[0], column.slot) if len(depths) == 1 else None
            rotate(
                self.builder,
                self.shape.rows,
                self.tiling.rows,
                column.slot,
                lambda row: self.tile(batch, row, column, depths, whole),
            )

        rotate(self.builder, self.shape.columns, self.tiling.columns, batch.slot, column_tile)

    def tile(self, batch: Rows, row: Part, column: Part, depths: Sequence[int], whole: Tile | None) -> None:
        """One tile of the result; `whole` is its part of the second factor if the depth is not cut."""
        start = 0
        for index, depth in enumerate(depths):
            slot = row.slot if whole is not None else (row.slot * len(depths) + index) % SLOTS
            a = self.first(batch, row, start, depth, slot)
            b = whole if whole is not None else self.second(batch, column, start, depth, slot)
            self.products(a, b, row, column, accumulate=index > 0)
            start += depth
        self.drain(batch, row, column)

    def first(self, batch: Rows, row: Part, start: int, depth: int, slot: int) -> Tile:
        """Rows of the first factor, over a cut of the depth."""
        stride = self.operands.row_strides[A]
        position = batch.positions[A] + row.start * stride + start
        limit = (self.tiling.rows, self.tiling.depth)
        return self.builder.read("first", self.operands.a, position, (row.size, depth), stride, limit, slot)

    def second(self, batch: Rows, column: Part, start: int, depth: int, slot: int) -> Tile:
        """Columns of the second factor, over a cut of the depth."""
        stride = self.operands.row_strides[B]
        outer, inner = (column.size, self.tiling.columns), (depth, self.tiling.depth)
        offset = column.start * stride + start
        if self.operands.transposed:
            outer, inner, offset = inner, outer, column.start + start * stride
        (rows, most_rows), (width, most) = outer, inner
        position = batch.positions[B] + offset
        return self.builder.read("second", self.operands.b, position, (rows, width), stride, (most_rows, most), slot)

    def products(self, a: Tile, b: Tile, row: Part, column: Part, *, accumulate: bool) -> None:
        """The products of a tile, one for each byte of the first factor."""
        make = partial(sta.ProductOp, pattern=DENSE_OPERAND, transposed=self.operands.transposed, accumulate=accumulate)
        for index, plane in enumerate(PLANES if self.shape.wide else (None,)):
            acc = self.acc(Affine(index * column.size), (row.size, column.size), row.slot)
            self.builder.emit(partial(make, plane=plane), acc, a, b)

    def acc(self, position: Position, shape: tuple[int, int], slot: int) -> Tile:
        """Accumulators; of 16-bit factors each row has some for the high bytes, then for the low bytes."""
        return self.builder.view(self.accs[slot], position, shape, (self.shape.passes * self.tiling.columns, 1))

    def drain(self, batch: Rows, row: Part, column: Part) -> None:
        """Drains a tile into the result."""
        builder, operands, strides = self.builder, self.operands, self.operands.row_strides
        shape, limit = (row.size, column.size), (self.tiling.rows, self.tiling.columns)
        acc = self.acc(Affine(), (row.size, self.shape.passes * column.size), row.slot)
        places = [position + row.start * stride for position, stride in zip(batch.positions, strides, strict=True)]
        residual = None
        if operands.residual is not None:
            rows = (row.size, strides[RESIDUAL])
            residual = read_residual(builder, operands.residual, places[RESIDUAL], column, rows, limit, row.slot)
        make = partial(map_op, wide=self.shape.wide, combine=self.op.combine.data)

        def drain(destination: Tile) -> None:
            builder.emit(make, acc, destination, self.parameters, self.table, residual)

        builder.write(
            "result", operands.result, places[RESULT] + column.start, shape, strides[RESULT], limit, row.slot, drain
        )


def _exchanged(operand: Operand) -> Operand:
    """The operand with its last two axes exchanged."""
    rank = len(operand.view.axes)
    view = operand.view.permuted([*range(rank - 2), rank - 1, rank - 2])
    return Operand(operand.buffer, view, operand.element)


def _matrices(builder: TileBuilder, operand: Operand) -> Operand:
    """The operand, copied if the rows of a batch are more than one stride apart."""
    return operand if len(merge(operand.view.axes[-2])) <= 1 else copied(builder, operand)


def _repeated(operand: Operand, leading: Sequence[int]) -> Operand:
    """The operand with the leading axes of the result, along which it may repeat."""
    view = StridedView((*operand.view.axes[-2:],), operand.view.offset)
    batches = StridedView(operand.view.axes[BATCHES]).broadcast(leading)
    return Operand(operand.buffer, StridedView((*batches.axes, *view.axes), view.offset), operand.element)
