"""
`nm.linear` as tile products: packed weights through the weight buffer, the epilogue in the drain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import SSAValue

from sta.dialect import nm, sta
from sta.dialect.nm_interpreter import channel_map_parameters, epilogue_scalars
from sta.passes.lower_vector import broadcast_rows
from sta.passes.tile_builder import Operand, Position, TileBuilder
from sta.spec.nm_format import Pattern, pack, packed_size
from sta.spec.parameters import map_parameters_size
from sta.spec.target import Target

DEPTH_LIMIT = (1 << 14) - 1
"""
Largest reduction an `mm` instruction's depth field holds.
"""


@dataclass(frozen=True)
class LinearTiling:
    """
    Tile sizes of a product: rows, columns and depth.
    """

    rows: int
    columns: int
    depth: int


def choose_tiling(target: Target, rows: int, columns: int, depth: int, pattern: Pattern, encoding: str) -> LinearTiling:
    """
    The largest tile whose packed weights take at most a quarter of the chip's memory; depth is cut only if one group of
    columns as narrow as the array does not fit otherwise.
    """
    budget = target.sram_bytes // 4
    tile_columns = min(columns, target.tile_columns)
    while tile_columns > target.array_columns and packed_size(tile_columns, depth, pattern, encoding) > budget:
        tile_columns = max(target.array_columns, tile_columns // 2)
    tile_depth = min(depth, DEPTH_LIMIT // pattern.m * pattern.m)
    while tile_depth > pattern.m and packed_size(tile_columns, tile_depth, pattern, encoding) > budget:
        tile_depth = max(1, tile_depth // 2 // pattern.m) * pattern.m
    return LinearTiling(min(rows, target.tile_rows), tile_columns, tile_depth)


def _cuts(size: int, tile: int) -> list[int]:
    return [min(tile, size - start) for start in range(0, size, tile)]


class LinearLowering:
    """
    Lowers one `nm.linear`.
    """

    def __init__(self, builder: TileBuilder, op: nm.LinearOp, x: Operand, result: Operand, residual: Operand | None):
        self.builder = builder
        self.op = op
        self.x = builder.with_rows(x)
        self.result = result
        self.residual = None if residual is None else broadcast_rows(builder, residual, result)
        self.pattern, self.encoding = nm.pattern_of(op.weight)
        self.columns, self.depth = nm.tensor_of(op.weight).get_shape()
        rows = int(np.prod(self.x.view.shape[:-1]))
        self.tiling = choose_tiling(builder.target, rows, self.columns, self.depth, self.pattern, self.encoding)
        self.depths = _cuts(self.depth, self.tiling.depth)

    def lower(self) -> None:
        """
        Emits the loops: columns outermost, so that weights are loaded once if the depth is not cut.
        """
        builder, tiling = self.builder, self.tiling
        self.packed = self._pack()
        self.parameters = self._parameters()
        block = packed_size(tiling.columns, self.depths[0], self.pattern, self.encoding)
        self.weight_buffer = builder.allocate(f"{builder.path}:weights", (block,), nm.ui8, "wbuf")
        parameters_size = map_parameters_size(tiling.columns)
        self.parameter_buffer = builder.allocate(f"{builder.path}:parameters", (parameters_size,), nm.ui8, "wbuf")
        self.acc = builder.allocate(f"{builder.path}:acc", (tiling.rows, tiling.columns), nm.si32, "acc")
        self.table = builder.load_table(self.op.table)
        builder.loop(self.columns, tiling.columns, self._columns)

    def _pack(self) -> SSAValue:
        op = self.op.weight.owner
        assert isinstance(op, nm.WeightOp)
        weights = self.builder.weights.get(op.store_name)
        key = (op.store_name, self.tiling, self.pattern, self.encoding)
        if key not in self.builder.packed:
            self.builder.packed[key] = np.concatenate(self._blocks(weights))
        return self.builder.constant(f"{op.store_name}@packed", "weights", self.builder.packed[key], nm.ui8)

    def _blocks(self, weights: NDArray[np.int8]) -> list[NDArray[np.uint8]]:
        return [
            pack(np.ascontiguousarray(weights[n : n + self.tiling.columns, k : k + depth]), self.pattern, self.encoding)
            for n in range(0, self.columns, self.tiling.columns)
            for k, depth in zip(self._depth_starts(), self.depths, strict=True)
        ]

    def _depth_starts(self) -> list[int]:
        return list(range(0, self.depth, self.tiling.depth))

    def _parameters(self) -> SSAValue:
        arrays = [self._vector(value) for value in (self.op.bias, self.op.multiplier, self.op.shift)]
        scalars = epilogue_scalars(self.op)
        blocks: list[bytes] = []
        for n in range(0, self.columns, self.tiling.columns):
            bias, multiplier, shift = (array[n : n + self.tiling.columns] for array in arrays)
            blocks.append(channel_map_parameters(bias, multiplier, shift, scalars).to_bytes())
        values = np.frombuffer(b"".join(blocks), np.uint8)
        return self.builder.constant(f"{self.builder.path}@parameters", "parameters", values, nm.ui8)

    def _vector(self, value: SSAValue) -> NDArray[Any]:
        op = value.owner
        assert isinstance(op, nm.WeightOp)
        return self.builder.weights.get(op.store_name)

    def _columns(self, column: Position, columns: int) -> None:
        """
        All rows of one group of columns; `column` is a multiple of the tile's columns.
        """
        builder = self.builder
        size = map_parameters_size(columns)
        source = builder.view(
            self.parameters, self._block(column, map_parameters_size(self.tiling.columns)), (size,), (1,)
        )
        parameters = builder.view(self.parameter_buffer, Position(), (size,), (1,))
        builder.emit(sta.LoadOp(source, parameters))
        weights = self._load_weights(column, columns, 0) if len(self.depths) == 1 else None
        views = [self.x.view, self.result.view] + ([self.residual.view] if self.residual else [])

        def tile(positions: list[Position], rows: int, strides: list[int]) -> None:
            acc = builder.view(self.acc, Position(), (rows, columns), (self.tiling.columns, 1))
            self._products(acc, positions[0], rows, strides[0], column, columns, weights)
            self._drain(acc, positions[1:], rows, strides[1:], column, columns, parameters)

        builder.rows(views, self.tiling.rows, tile)

    def _block(self, column: Position, block: int) -> Position:
        """
        Byte position of a group of columns in a constant made of equal blocks a tile of columns.
        """
        tile = self.tiling.columns
        terms = tuple((counter, coefficient // tile * block) for counter, coefficient in column.terms)
        return Position(column.constant // tile * block, terms)

    def _load_weights(self, column: Position, columns: int, depth_index: int) -> SSAValue:
        builder = self.builder
        whole = sum(packed_size(self.tiling.columns, depth, self.pattern, self.encoding) for depth in self.depths)
        before = sum(packed_size(columns, depth, self.pattern, self.encoding) for depth in self.depths[:depth_index])
        size = packed_size(columns, self.depths[depth_index], self.pattern, self.encoding)
        source = builder.view(self.packed, self._block(column, whole) + before, (size,), (1,))
        destination = builder.view(self.weight_buffer, Position(), (size,), (1,))
        builder.emit(sta.LoadOp(source, destination))
        return destination

    def _products(
        self,
        acc: SSAValue,
        position: Position,
        rows: int,
        stride: int,
        column: Position,
        columns: int,
        weights: SSAValue | None,
    ) -> None:
        pattern = nm.PatternAttr(self.pattern, self.encoding)
        for index, (start, depth) in enumerate(zip(self._depth_starts(), self.depths, strict=True)):
            packed = weights or self._load_weights(column, columns, index)
            limit = (self.tiling.rows, self.depths[0])
            a = self.builder.read(self.x, position + start, (rows, depth), stride, limit)
            self.builder.emit(sta.ProductOp(acc, a, packed, pattern, accumulate=index > 0))

    def _drain(
        self,
        acc: SSAValue,
        positions: list[Position],
        rows: int,
        strides: list[int],
        column: Position,
        columns: int,
        parameters: SSAValue,
    ) -> None:
        builder = self.builder
        shape, limit = (rows, columns), (self.tiling.rows, self.tiling.columns)
        residual = None
        if self.residual is not None:
            residual = builder.read(self.residual, positions[1] + column, shape, strides[1], limit)

        def drain(destination: SSAValue) -> None:
            builder.emit(sta.MapOp((acc, destination, parameters), self.table, residual, per_channel=True))

        builder.write(self.result, positions[0] + column, shape, strides[0], limit, drain)
