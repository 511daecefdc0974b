"""
`nm.attention` as a pipeline on the chip: scores into accumulators, softmax, P.V, normalizing drain.
"""

from __future__ import annotations

from xdsl.ir import SSAValue

from sta.dialect import nm, sta
from sta.dialect.nm_interpreter import scalar_map_parameters
from sta.passes.strided_view import StridedView, iteration_space, merge
from sta.passes.tile_builder import Operand, Position, TileBuilder
from sta.spec.nm_format import DENSE
from sta.spec.parameters import SoftmaxParameters
from sta.spec.target import Target

DENSE_OPERAND = nm.PatternAttr(DENSE, "dense")


def score_rows(target: Target, rows: int, keys: int, columns: int) -> int:
    """
    Rows of scores held at once: a quarter of the chip's memory for accumulators, or at least one row.
    """
    bytes_a_row = 4 * (keys + columns)
    return max(1, min(rows, target.tile_rows, target.sram_bytes // 4 // bytes_a_row))


class AttentionLowering:
    """
    Lowers one `nm.attention`: every batch and head in turn, rows of scores in tiles.
    """

    def __init__(
        self,
        builder: TileBuilder,
        op: nm.AttentionOp,
        operands: tuple[Operand, Operand, Operand],
        mask: Operand | None,
        result: Operand,
    ):
        self.builder = builder
        self.op = op
        self.q, self.k, self.v = (self._matrices(operand) for operand in operands)
        inverse = [op.axes.index(axis) for axis in range(4)]
        self.result = Operand(result.buffer, result.view.permuted(inverse), result.element)
        batch, heads, self.queries, self.depth = self.q.view.shape
        self.keys = self.k.view.shape[2]
        self.mask = None
        if mask is not None:
            full = (batch, heads, self.queries, self.keys)
            self.mask = Operand(mask.buffer, builder.with_rows(mask).view.broadcast(full), mask.element)
        self.columns = min(self.depth, builder.target.tile_columns)
        self.tile = score_rows(builder.target, self.queries, self.keys, self.columns)

    def _matrices(self, operand: Operand) -> Operand:
        """
        The operand, copied if the rows of a head are not a strided matrix.
        """
        rows = self.builder.with_rows(operand)
        return rows if len(merge(rows.view.axes[2])) <= 1 else self.builder.copied(rows)

    def lower(self) -> None:
        """
        Emits the loops over heads and row tiles.
        """
        builder, path = self.builder, self.builder.path
        softmax = SoftmaxParameters(self.op.score_multiplier.value.data, self.op.score_shift.value.data)
        self.softmax_parameters = builder.load_parameters(f"{path}.scores@parameters", softmax.to_bytes())
        drain = scalar_map_parameters(
            0,
            self.op.output_multiplier.value.data,
            self.op.output_shift.value.data,
            {"zero_point": self.op.zero_point.value.data},
        )
        self.drain_parameters = builder.load_parameters(f"{path}.output@parameters", drain.to_bytes())
        self.scores = builder.allocate(f"{path}:scores", (self.tile, self.keys), nm.si32, "acc")
        self.acc = builder.allocate(f"{path}:acc", (self.tile, self.columns), nm.si32, "acc")
        self.exponentials = builder.allocate(f"{path}:exponentials", (self.tile, self.keys), nm.ui8, "spad")
        self.sums = builder.allocate(f"{path}:sums", (self.tile,), nm.si32, "spad")
        operands = [self.q, self.k, self.v, self.result] + ([self.mask] if self.mask else [])
        heads = iteration_space([operand.view.axes[:2] for operand in operands])
        builder.space(heads, [operand.view.offset for operand in operands], 1, self._head)

    def _head(self, positions: list[Position], _rows: int, _strides: list[int]) -> None:
        shape = (self.keys, self.depth)
        self.key_matrix = self.builder.matrix(self.k, positions[1], shape, _row_stride(self.k.view))
        self.value_matrix = self.builder.matrix(self.v, positions[2], shape, _row_stride(self.v.view))
        self.builder.loop(self.queries, self.tile, lambda row, rows: self._rows(positions, row, rows))

    def _rows(self, positions: list[Position], row: Position, rows: int) -> None:
        builder = self.builder
        stride = _row_stride(self.q.view)
        limit = (self.tile, self.depth)
        q = builder.read(self.q, positions[0] + row.scaled(stride), (rows, self.depth), stride, limit)
        builder.loop(self.keys, builder.target.tile_columns, lambda key, count: self._scores(q, rows, key, count))
        scores = builder.view(self.scores, Position(), (rows, self.keys), (self.keys, 1))
        exponentials = builder.view(self.exponentials, Position(), (rows, self.keys), (self.keys, 1))
        sums = builder.view(self.sums, Position(), (rows,), (1,))
        mask = None if self.mask is None else self._mask(self.mask, positions[4], row, rows)
        causal = self.op.causal is not None
        first_row = row if causal else Position()
        builder.emit(
            sta.SoftmaxOp(
                (scores, exponentials, sums, self.softmax_parameters),
                mask,
                causal,
                first_row.constant,
                first_row.terms,
            )
        )

        def values(column: Position, count: int) -> None:
            self._values(exponentials, sums, positions[3], row, rows, column, count)

        builder.loop(self.depth, self.columns, values)

    def _scores(self, q: SSAValue, rows: int, key: Position, count: int) -> None:
        builder = self.builder
        buffer, position, stride = self.key_matrix
        k = builder.view(buffer, position + key.scaled(stride), (count, self.depth), (stride, 1))
        acc = builder.view(self.scores, key, (rows, count), (self.keys, 1))
        builder.emit(sta.ProductOp(acc, q, k, DENSE_OPERAND, scores=True))

    def _mask(self, mask: Operand, position: Position, row: Position, rows: int) -> SSAValue:
        builder = self.builder
        stride = _row_stride(mask.view)
        count = rows if stride else 1
        start = position + row.scaled(stride)
        buffer, first, row_stride = builder.matrix(mask, start, (count, self.keys), stride)
        return builder.view(buffer, first, (rows, self.keys), (row_stride if stride else 0, 1))

    def _values(
        self,
        exponentials: SSAValue,
        sums: SSAValue,
        position: Position,
        row: Position,
        rows: int,
        column: Position,
        count: int,
    ) -> None:
        builder = self.builder
        buffer, start, stride = self.value_matrix
        v = builder.view(buffer, start + column, (self.keys, count), (stride, 1))
        acc = builder.view(self.acc, Position(), (rows, count), (self.columns, 1))
        builder.emit(sta.ProductOp(acc, exponentials, v, DENSE_OPERAND, transposed=True))
        out_stride = _row_stride(self.result.view)
        place = position + row.scaled(out_stride) + column

        def drain(destination: SSAValue) -> None:
            builder.emit(sta.MapOp((acc, destination, self.drain_parameters), None, sums, normalize=True))

        builder.write(self.result, place, (rows, count), out_stride, (self.tile, self.columns), drain)


def _row_stride(view: StridedView) -> int:
    factors = merge(view.axes[2])
    return factors[0][1] if factors else 0
