"""
`nm.attention` as a pipeline on the chip: scores into accumulators, softmax, P.V, normalizing drain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xdsl.ir import SSAValue

from sta.dialect import nm, sta
from sta.dialect.nm_interpreter import scalar_map_parameters
from sta.passes.strided_view import Axis, StridedView, iteration_space, merge
from sta.passes.tile_builder import Operand, Position, TileBuilder
from sta.spec.nm_format import DENSE
from sta.spec.parameters import SoftmaxParameters
from sta.spec.target import Target

DENSE_OPERAND = nm.PatternAttr(DENSE, "dense")
HEADS = slice(0, 2)
"""
The axes of `[B, H, S, D]` whose steps are heads.
"""


def score_rows(target: Target, rows: int, keys: int, columns: int) -> int:
    """
    Rows of scores in a tile: two tiles in an eighth of the chip's memory, of about equal size and whole array rows
    where that is possible, or at least one row each.
    """
    most = max(1, min(rows, target.tile_rows, target.sram_bytes // 8 // (2 * 4 * (keys + columns))))
    even = -(-rows // -(-rows // most))
    whole = -(-even // target.array_rows) * target.array_rows
    return whole if whole <= most else most


Matrix = tuple[SSAValue, Position, int]
"""
A matrix in the scratchpad: buffer, position of its first element, row stride.
"""


@dataclass(frozen=True)
class Buffers:
    """
    What one row tile needs on the chip; there are two sets.
    """

    scores: SSAValue
    acc: SSAValue
    exponentials: SSAValue
    sums: SSAValue


@dataclass(frozen=True)
class Task:
    """
    One row tile of one head: where the head starts in each operand, the tile's first row, and its rows; the head's keys
    and values if they are already on the chip.
    """

    positions: list[Position]
    row: Position
    rows: int
    keys: Matrix | None = None
    values: Matrix | None = None


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
        inverse = [op.axes.index(axis) for axis in range(4)]
        written = Operand(result.buffer, result.view.permuted(inverse), result.element)
        q, k, v = (self._matrices(operand) for operand in operands)
        batch, heads, self.queries, self.depth = q.view.shape
        self.keys = k.view.shape[2]
        masks: list[Operand] = []
        if mask is not None:
            rows = self._matrices(mask)
            full = (batch, heads, self.queries, self.keys)
            masks = [Operand(rows.buffer, rows.view.broadcast(full), rows.element)]
        self.q, self.k, self.v, *masks, self.result = builder.walkable([q, k, v, *masks, written], HEADS)
        self.mask = masks[0] if masks else None
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
        self.buffers = [self._buffers(slot) for slot in (0, 1)]
        operands = [self.q, self.k, self.v, self.result] + ([self.mask] if self.mask else [])
        heads = iteration_space([operand.view.axes[HEADS] for operand in operands])
        offsets = [operand.view.offset for operand in operands]
        on_chip = self.k.space == self.v.space == "spad"
        if not heads or (self.queries > self.tile and not on_chip):
            builder.space(heads, offsets, 1, self._head)
            return
        *outer, inner = heads
        builder.space(outer, offsets, 1, lambda positions, _rows, _strides: self._all_heads(inner, positions))

    def _buffers(self, slot: int) -> Buffers:
        builder, path = self.builder, self.builder.path
        return Buffers(
            builder.allocate(f"{path}:scores{slot}", (self.tile, self.keys), nm.si32, "acc"),
            builder.allocate(f"{path}:acc{slot}", (self.tile, self.columns), nm.si32, "acc"),
            builder.allocate(f"{path}:exponentials{slot}", (self.tile, self.keys), nm.ui8, "spad"),
            builder.allocate(f"{path}:sums{slot}", (self.tile,), nm.si32, "spad"),
        )

    def _all_heads(self, axis: Axis, starts: list[Position]) -> None:
        """
        Row tiles of all heads in turn: the scores of a head are made while the softmax of the one before it runs.
        """

        def row_tile(row: Position, rows: int) -> None:
            def task(head: Position, _: int) -> Task:
                positions = [start + head.scaled(stride) for start, stride in zip(starts, axis.strides, strict=True)]
                return Task(positions, row, rows)

            self._pipeline(axis.size, 1, task)

        self.builder.loop(self.queries, self.tile, row_tile)

    def _head(self, positions: list[Position], _rows: int, _strides: list[int]) -> None:
        """
        One head in several row tiles, pipelined likewise; its keys and values are loaded once.
        """
        keys, values = self._key_matrix(positions), self._value_matrix(positions)
        self._pipeline(self.queries, self.tile, lambda row, rows: Task(positions, row, rows, keys, values))

    def _key_matrix(self, positions: list[Position]) -> Matrix:
        return self.builder.matrix("keys", self.k, positions[1], (self.keys, self.depth), _row_stride(self.k.view))

    def _value_matrix(self, positions: list[Position]) -> Matrix:
        return self.builder.matrix("values", self.v, positions[2], (self.keys, self.depth), _row_stride(self.v.view))

    def _pipeline(self, size: int, tile: int, task: Callable[[Position, int], Task]) -> None:
        def first(position: Position, count: int) -> None:
            self._weigh(task(position, count))

        def second(position: Position, count: int) -> None:
            self._combine(task(position, count))

        self.builder.pipeline(size, tile, first, second)

    def _weigh(self, task: Task) -> None:
        """
        Scores and their exponentials.
        """
        builder, rows = self.builder, task.rows
        buffers = self.buffers[builder.slot]
        keys = task.keys or self._key_matrix(task.positions)
        stride = _row_stride(self.q.view)
        limit = (self.tile, self.depth)
        position = task.positions[0] + task.row.scaled(stride)
        q = builder.read("queries", self.q, position, (rows, self.depth), stride, limit)

        def scores(key: Position, count: int) -> None:
            buffer, start, key_stride = keys
            k = builder.view(buffer, start + key.scaled(key_stride), (count, self.depth), (key_stride, 1))
            acc = builder.view(buffers.scores, key, (rows, count), (self.keys, 1))
            builder.emit(sta.ProductOp(acc, q, k, DENSE_OPERAND, scores=True))

        builder.loop(self.keys, builder.target.tile_columns, scores)
        causal = self.op.causal is not None
        first_row = task.row if causal else Position()
        builder.emit(
            sta.SoftmaxOp(
                (
                    builder.view(buffers.scores, Position(), (rows, self.keys), (self.keys, 1)),
                    builder.view(buffers.exponentials, Position(), (rows, self.keys), (self.keys, 1)),
                    builder.view(buffers.sums, Position(), (rows,), (1,)),
                    self.softmax_parameters,
                ),
                None if self.mask is None else self._mask(self.mask, task.positions[4], task.row, rows),
                causal,
                (first_row.constant, first_row.terms),
            )
        )

    def _mask(self, mask: Operand, position: Position, row: Position, rows: int) -> SSAValue:
        builder = self.builder
        stride = _row_stride(mask.view)
        count = rows if stride else 1
        start = position + row.scaled(stride)
        buffer, first, row_stride = builder.matrix("mask", mask, start, (count, self.keys), stride)
        return builder.view(buffer, first, (rows, self.keys), (row_stride if stride else 0, 1))

    def _combine(self, task: Task) -> None:
        """
        The product with the values, and its normalizing drain.
        """
        builder, rows = self.builder, task.rows
        buffers = self.buffers[builder.slot]
        buffer, start, stride = task.values or self._value_matrix(task.positions)
        exponentials = builder.view(buffers.exponentials, Position(), (rows, self.keys), (self.keys, 1))
        sums = builder.view(buffers.sums, Position(), (rows,), (1,))
        out_stride = _row_stride(self.result.view)
        out = task.positions[3] + task.row.scaled(out_stride)

        def values(column: Position, count: int) -> None:
            v = builder.view(buffer, start + column, (self.keys, count), (stride, 1))
            acc = builder.view(buffers.acc, Position(), (rows, count), (self.columns, 1))
            builder.emit(sta.ProductOp(acc, exponentials, v, DENSE_OPERAND, transposed=True))

            def drain(destination: SSAValue) -> None:
                builder.emit(sta.MapOp((acc, destination, self.drain_parameters), None, sums, normalize=True))

            limit = (self.tile, self.columns)
            builder.write("result", self.result, out + column, (rows, count), out_stride, limit, drain)

        builder.loop(self.depth, self.columns, values)


def _row_stride(view: StridedView) -> int:
    factors = merge(view.axes[2])
    return factors[0][1] if factors else 0
