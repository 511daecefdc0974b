"""
`nm.linear` as tile products: packed weights through the weight buffer, the epilogue in the drain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import IntegerType
from xdsl.ir import SSAValue

from sta.dialect import nm, sta
from sta.dialect.nm_interpreter import channel_map_parameters, epilogue_scalars
from sta.passes.lower_vector import NormLowering, broadcast_rows
from sta.passes.tile_builder import ROWS, Operand, Position, TileBuilder
from sta.spec.nm_format import Pattern, pack, packed_size
from sta.spec.parameters import map_parameters_size
from sta.spec.target import Target

DEPTH_LIMIT = (1 << 14) - 1
"""
Largest reduction an `mm` instruction's depth field holds.
"""
BEAT = 64
"""
Bytes that parameter blocks and packed weights are padded to, so that each starts on a beat of the DMA.
"""


@dataclass(frozen=True)
class LinearTiling:
    """
    Tile sizes of a product: rows, columns and depth.
    """

    rows: int
    columns: int
    depth: int


def choose_tiling(target: Target, columns: int, depth: int, pattern: Pattern, encoding: str) -> tuple[int, int]:
    """
    Columns and depth of the largest tile whose packed weights, of which up to four blocks are on the chip at once, take
    at most a sixteenth of its memory; depth is cut only if one group of columns as narrow as the array does not fit
    otherwise.
    """
    budget = target.sram_bytes // 16
    tile_columns = min(columns, target.tile_columns)
    while tile_columns > target.array_columns and packed_size(tile_columns, depth, pattern, encoding) > budget:
        tile_columns = max(target.array_columns, tile_columns // 2)
    tile_depth = min(depth, DEPTH_LIMIT // pattern.m * pattern.m)
    while tile_depth > pattern.m and packed_size(tile_columns, tile_depth, pattern, encoding) > budget:
        tile_depth = max(1, tile_depth // 2 // pattern.m) * pattern.m
    return tile_columns, tile_depth


def _cuts(size: int, tile: int) -> list[int]:
    return [min(tile, size - start) for start in range(0, size, tile)]


class LinearLowering:
    """
    Lowers one `nm.linear`.
    """

    def __init__(self, builder: TileBuilder, op: nm.LinearOp, x: Operand, result: Operand, residual: Operand | None):
        self.builder = builder
        self.op = op
        added = [] if residual is None else [broadcast_rows(builder, residual, result)]
        self.x, *added, self.result = builder.walkable([builder.with_rows(x), *added, result], ROWS)
        self.residual = added[0] if added else None
        self.gather = False
        """
        Whether the drains gather the statistics of the rows they write.
        """
        self.pattern, self.encoding = nm.pattern_of(op.weight)
        self.columns, self.depth = nm.tensor_of(op.weight).get_shape()
        self.tiling = self._tiling()
        self.depths = _cuts(self.depth, self.tiling.depth)

    def _tiling(self) -> LinearTiling:
        columns, depth = choose_tiling(self.builder.target, self.columns, self.depth, self.pattern, self.encoding)
        added = [(self.residual, columns)] if self.residual else []
        rows = self.builder.tile_rows(self.x.rows, [(self.x, depth), (self.result, columns), *added])
        return LinearTiling(rows, columns, depth)

    def lower(self) -> None:
        """
        Emits the loops: columns outermost, so that weights are loaded once if the depth is not cut. Weights and
        accumulators are double-buffered.
        """
        builder, tiling = self.builder, self.tiling
        self.parameters_size = _padded(map_parameters_size(tiling.columns))
        self.packed = self._pack()
        block = _padded(packed_size(tiling.columns, self.depths[0], self.pattern, self.encoding))
        self.whole_depth = len(self.depths) == 1
        if self.whole_depth:
            self.blocks = self._slots("weights", (self.parameters_size + block,), nm.ui8, "wbuf")
        else:
            self.blocks = self._slots("weights", (block,), nm.ui8, "wbuf")
            self.parameters = self._slots("parameters", (self.parameters_size,), nm.ui8, "wbuf")
        self.accs = self._slots("acc", (tiling.rows, tiling.columns), nm.si32, "acc")
        self.table = builder.load_table(self.op.table)
        builder.rotate(self.columns, tiling.columns, self._columns)

    def lower_with_norm(self, norm: NormLowering) -> None:
        """
        Emits rows outermost, with all weights on the chip: a tile of rows is normalized while the products of the next
        one run.
        """
        builder, tiling = self.builder, self.tiling
        self.parameters_size = _padded(map_parameters_size(tiling.columns))
        self.gather = norm.gathered = True
        packed = self._pack()
        size = sta.buffer_bytes(packed)
        resident = builder.allocate(f"{builder.path}:weights", (size,), nm.ui8, "wbuf")
        builder.emit(sta.LoadOp(packed, resident))
        self.packed = resident
        self.accs = self._slots("acc", (tiling.rows, tiling.columns), nm.si32, "acc")
        self.table = builder.load_table(self.op.table)
        with builder.located(norm.op):
            norm.load()
        own = [self.x.view, self.result.view] + ([self.residual.view] if self.residual else [])
        written = [operand.view for operand in norm.written]

        def rows(positions: list[Position], count: int, strides: list[int]) -> None:
            builder.rotate(
                self.columns, tiling.columns, lambda column, columns: group(positions, count, strides, column, columns)
            )
            with builder.located(norm.op):
                norm.tile([positions[1], *positions[len(own) :]], count, [strides[1], *strides[len(own) :]])

        def group(positions: list[Position], count: int, strides: list[int], column: Position, columns: int) -> None:
            start = self._block(column, self._group_bytes(tiling.columns))
            parameters = builder.view(resident, start, (map_parameters_size(columns),), (1,))
            size = packed_size(columns, self.depth, self.pattern, self.encoding)
            weights = builder.view(resident, start + self.parameters_size, (size,), (1,))
            acc = builder.view(self.accs[builder.slot], Position(), (count, columns), (tiling.columns, 1))
            self._products(acc, positions[0], count, strides[0], column, columns, weights)
            self._drain(acc, positions[1 : len(own)], count, strides[1 : len(own)], column, columns, parameters)

        builder.rows([*own, *written], min(self.row_tile(), norm.limit[0]), rows)

    def row_tile(self) -> int:
        """
        Rows of a tile where rows are walked first: a quarter of what a product takes at most, in whole array rows.
        """
        quarter = -(-min(int(np.prod(self.x.view.shape[:-1])), self.tiling.rows) // 4)
        array = self.builder.target.array_rows
        return min(-(-quarter // array) * array, self.tiling.rows)

    def is_one_tile(self) -> bool:
        """
        Whether one tile holds all rows, so that the unit's row statistics are those of whole rows after the last group.
        """
        return int(np.prod(self.x.view.shape[:-1])) <= self.tiling.rows

    def resident_bytes(self) -> int | None:
        """
        Bytes of the weight buffer that the whole layer takes; None if it cannot be on the chip as a whole.
        """
        self.parameters_size = _padded(map_parameters_size(self.tiling.columns))
        groups = _cuts(self.columns, self.tiling.columns)
        return sum(self._group_bytes(columns) for columns in groups) if len(self.depths) == 1 else None

    def _slots(self, what: str, shape: tuple[int, ...], element: IntegerType, space: str) -> list[SSAValue]:
        path = self.builder.path
        return [self.builder.allocate(f"{path}:{what}{slot}", shape, element, space) for slot in (0, 1)]

    def _pack(self) -> SSAValue:
        """
        For each group of columns its parameter block and its packed weights, each padded to a beat of the DMA.
        """
        weight, *scales = (_store_name(v) for v in (self.op.weight, self.op.bias, self.op.multiplier, self.op.shift))
        key = (weight, *scales, self.tiling, self.pattern, self.encoding, str(epilogue_scalars(self.op)))
        if key not in self.builder.packed:
            self.builder.packed[key] = np.concatenate(self._blocks(weight, scales))
        return self.builder.constant(f"{weight}@packed", "weights", self.builder.packed[key], nm.ui8)

    def _blocks(self, weight: str, scales: list[str]) -> list[NDArray[np.uint8]]:
        weights = self.builder.weights.get(weight)
        arrays = [self.builder.weights.get(name) for name in scales]
        scalars = epilogue_scalars(self.op)
        blocks: list[NDArray[np.uint8]] = []
        for n in range(0, self.columns, self.tiling.columns):
            bias, multiplier, shift = (array[n : n + self.tiling.columns] for array in arrays)
            parameters = channel_map_parameters(bias, multiplier, shift, scalars).to_bytes()
            blocks.append(_pad(np.frombuffer(parameters, np.uint8), self.parameters_size))
            for k, depth in zip(self._depth_starts(), self.depths, strict=True):
                tile = np.ascontiguousarray(weights[n : n + self.tiling.columns, k : k + depth])
                packed = pack(tile, self.pattern, self.encoding)
                blocks.append(_pad(packed, _padded(packed.size)))
        return blocks

    def _depth_starts(self) -> list[int]:
        return list(range(0, self.depth, self.tiling.depth))

    def _columns(self, column: Position, columns: int) -> None:
        """
        All rows of one group of columns; `column` is a multiple of the tile's columns.
        """
        builder = self.builder
        size = map_parameters_size(columns)
        weights: SSAValue | None = None
        if self.whole_depth:
            packed = packed_size(columns, self.depth, self.pattern, self.encoding)
            block = self.blocks[builder.slot]
            self._load(column, 0, self.parameters_size + packed, block)
            parameters = builder.view(block, Position(), (size,), (1,))
            weights = builder.view(block, Position(self.parameters_size), (packed,), (1,))
        else:
            parameters = self._load(column, 0, size, self.parameters[builder.slot])
        views = [self.x.view, self.result.view] + ([self.residual.view] if self.residual else [])

        def tile(positions: list[Position], rows: int, strides: list[int]) -> None:
            acc = builder.view(self.accs[builder.slot], Position(), (rows, columns), (self.tiling.columns, 1))
            self._products(acc, positions[0], rows, strides[0], column, columns, weights)
            self._drain(acc, positions[1:], rows, strides[1:], column, columns, parameters)

        builder.rows(views, self.tiling.rows, tile)

    def _load(self, column: Position, start: int, size: int, buffer: SSAValue) -> SSAValue:
        """
        Loads bytes of a group of columns, from `start` of its block on.
        """
        builder = self.builder
        group = self._group_bytes(self.tiling.columns)
        source = builder.view(self.packed, self._block(column, group) + start, (size,), (1,))
        destination = builder.view(buffer, Position(), (size,), (1,))
        builder.emit(sta.LoadOp(source, destination))
        return destination

    def _group_bytes(self, columns: int, depths: int | None = None) -> int:
        """
        Bytes of a group of columns up to its first `depths` cuts of the depth (all when None).
        """
        cuts = self.depths if depths is None else self.depths[:depths]
        sizes = [_padded(packed_size(columns, depth, self.pattern, self.encoding)) for depth in cuts]
        return self.parameters_size + sum(sizes)

    def _block(self, column: Position, block: int) -> Position:
        """
        Byte position of a group of columns in a constant made of equal blocks a tile of columns.
        """
        tile = self.tiling.columns
        terms = tuple((counter, coefficient // tile * block) for counter, coefficient in column.terms)
        return Position(column.constant // tile * block, terms)

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
            packed = weights
            if packed is None:
                size = packed_size(columns, depth, self.pattern, self.encoding)
                packed = self._load(column, self._group_bytes(columns, index), size, self.blocks[index % 2])
            limit = (self.tiling.rows, self.depths[0])
            a = self.builder.read("activations", self.x, position + start, (rows, depth), stride, limit)
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
            residual = builder.read("residual", self.residual, positions[1] + column, shape, strides[1], limit)

        def drain(destination: SSAValue) -> None:
            builder.emit(
                sta.MapOp((acc, destination, parameters), self.table, residual, per_channel=True, gather=self.gather)
            )

        builder.write("result", self.result, positions[0] + column, shape, strides[0], limit, drain)


def _store_name(value: SSAValue) -> str:
    op = value.owner
    assert isinstance(op, nm.WeightOp)
    return op.store_name


def _padded(size: int) -> int:
    return -(-size // BEAT) * BEAT


def _pad(data: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.pad(data, (0, size - data.size))
