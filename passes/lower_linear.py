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
from sta.passes.strided_view import StridedView, iteration_space
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
        self._begin()
        block = _padded(packed_size(tiling.columns, self.depths[0], self.pattern, self.encoding))
        self.blocks = self._slots("weights", (block,), nm.ui8, "wbuf")
        builder.rotate(self.columns, tiling.columns, self._columns)

    def lower_with_norm(self, norm: NormLowering) -> None:
        """
        Emits rows outermost, with all weights on the chip: a tile of rows is normalized while the products of the next
        one run.
        """
        builder = self.builder
        self.gather = norm.gathered = True
        self._begin()
        with builder.located(norm.op):
            norm.load()
        self.resident = builder.allocate(f"{builder.path}:weights", (sta.buffer_bytes(self.packed),), nm.ui8, "wbuf")
        builder.emit(sta.LoadOp(self.packed, self.resident))
        views = [*self._views(), *(operand.view for operand in norm.written)]

        def tile(positions: list[Position], rows: int, strides: list[int]) -> None:
            self._row_tile(norm, positions, rows, strides)

        builder.rows(views, min(self.row_tile(), norm.limit[0]), tile)

    def _views(self) -> list[StridedView]:
        return [self.x.view, self.result.view] + ([self.residual.view] if self.residual else [])

    def _begin(self) -> None:
        """
        The constants and buffers that both orders of the loops need; parameters and table are loaded at once.
        """
        builder, tiling = self.builder, self.tiling
        self.packed = self._pack()
        blocks = self._parameter_blocks()
        name = f"{builder.path}@parameters"
        self.keeps_parameters = blocks.size <= builder.target.sram_bytes // 16
        if self.keeps_parameters:
            self.parameters = [builder.load_constant(name, "parameters", blocks, nm.ui8, "parameters")]
        else:
            self.all_parameters = builder.constant(name, "parameters", blocks, nm.ui8)
            self.parameters = self._slots("parameters", (self._parameter_bytes(),), nm.ui8, "wbuf")
        self.table = builder.load_table(self.op.table)
        self.accs = self._slots("acc", (tiling.rows, tiling.columns), nm.si32, "acc")

    def _row_tile(self, norm: NormLowering, positions: list[Position], rows: int, strides: list[int]) -> None:
        """
        All columns of a tile of rows, and their norm.
        """
        builder = self.builder
        own = len(self._views())

        def group(column: Position, columns: int) -> None:
            size = packed_size(columns, self.depth, self.pattern, self.encoding)
            place = self._block(column, self._group_bytes(self.tiling.columns))
            weights = builder.view(self.resident, place, (size,), (1,))
            parameters = self._parameters_of(column, columns)
            self._tile(positions[:own], rows, strides[:own], column, columns, weights, parameters)

        builder.rotate(self.columns, self.tiling.columns, group)
        with builder.located(norm.op):
            norm.tile([positions[1], *positions[own:]], rows, [strides[1], *strides[own:]])

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
        axes = iteration_space([view.axes[ROWS] for view in self._views()])
        return not axes or (len(axes) == 1 and axes[0].size <= self.tiling.rows)

    def resident_bytes(self) -> int | None:
        """
        Bytes of the weight buffer that the whole layer takes; None if it cannot be on the chip as a whole.
        """
        groups = _cuts(self.columns, self.tiling.columns)
        return sum(self._group_bytes(columns) for columns in groups) if len(self.depths) == 1 else None

    def _slots(self, what: str, shape: tuple[int, ...], element: IntegerType, space: str) -> list[SSAValue]:
        path = self.builder.path
        return [self.builder.allocate(f"{path}:{what}{slot}", shape, element, space) for slot in (0, 1)]

    def _pack(self) -> SSAValue:
        """
        The packed weights of each group of columns and cut of the depth, each padded to a beat of the DMA.
        """
        name = self.builder.store_name(self.op.weight)
        key = (name, self.tiling.columns, self.tiling.depth, self.pattern, self.encoding)
        if key not in self.builder.packed:
            self.builder.packed[key] = np.concatenate(self._blocks(self.builder.weights.get(name)))
        return self.builder.constant(f"{name}@packed", "weights", self.builder.packed[key], nm.ui8)

    def _blocks(self, weights: NDArray[np.int8]) -> list[NDArray[np.uint8]]:
        tiles = (
            np.ascontiguousarray(weights[n : n + self.tiling.columns, k : k + depth])
            for n in range(0, self.columns, self.tiling.columns)
            for k, depth in zip(self._depth_starts(), self.depths, strict=True)
        )
        return [_pad(pack(tile, self.pattern, self.encoding)) for tile in tiles]

    def _parameter_blocks(self) -> NDArray[np.uint8]:
        """
        The parameter blocks of all groups of columns, each padded to a beat of the DMA.
        """
        operands = (self.op.bias, self.op.multiplier, self.op.shift)
        arrays = [self.builder.weights.get(self.builder.store_name(operand)) for operand in operands]
        scalars = epilogue_scalars(self.op)
        blocks: list[NDArray[np.uint8]] = []
        for n in range(0, self.columns, self.tiling.columns):
            bias, multiplier, shift = (array[n : n + self.tiling.columns] for array in arrays)
            block = channel_map_parameters(bias, multiplier, shift, scalars).to_bytes()
            blocks.append(_pad(np.frombuffer(block, np.uint8)))
        return np.concatenate(blocks)

    def _depth_starts(self) -> list[int]:
        return list(range(0, self.depth, self.tiling.depth))

    def _columns(self, column: Position, columns: int) -> None:
        """
        All rows of one group of columns; `column` is a multiple of the tile's columns.
        """
        weights = self._load(column, columns, 0, self.blocks[self.builder.slot]) if len(self.depths) == 1 else None
        parameters = self._parameters_of(column, columns)
        self.builder.rows(
            self._views(),
            self.tiling.rows,
            lambda positions, rows, strides: self._tile(positions, rows, strides, column, columns, weights, parameters),
        )

    def _parameter_bytes(self) -> int:
        return _padded(map_parameters_size(self.tiling.columns))

    def _parameters_of(self, column: Position, columns: int) -> SSAValue:
        """
        The parameter block of a group of columns: a window of the whole layer's, or loaded.
        """
        builder = self.builder
        place = self._block(column, self._parameter_bytes())
        size = map_parameters_size(columns)
        if self.keeps_parameters:
            return builder.view(self.parameters[0], place, (size,), (1,))
        source = builder.view(self.all_parameters, place, (size,), (1,))
        destination = builder.view(self.parameters[builder.slot], Position(), (size,), (1,))
        builder.emit(sta.LoadOp(source, destination))
        return destination

    def _tile(
        self,
        positions: list[Position],
        rows: int,
        strides: list[int],
        column: Position,
        columns: int,
        weights: SSAValue | None,
        parameters: SSAValue,
    ) -> None:
        """
        One tile: its products and its drain.
        """
        acc = self.builder.view(self.accs[self.builder.slot], Position(), (rows, columns), (self.tiling.columns, 1))
        self._products(acc, positions[0], rows, strides[0], column, columns, weights)
        self._drain(acc, positions[1:], rows, strides[1:], column, columns, parameters)

    def _load(self, column: Position, columns: int, depth_index: int, buffer: SSAValue) -> SSAValue:
        """
        Loads the weights of a group of columns and a cut of the depth.
        """
        builder = self.builder
        size = packed_size(columns, self.depths[depth_index], self.pattern, self.encoding)
        group = self._block(column, self._group_bytes(self.tiling.columns))
        source = builder.view(self.packed, group + self._group_bytes(columns, depth_index), (size,), (1,))
        destination = builder.view(buffer, Position(), (size,), (1,))
        builder.emit(sta.LoadOp(source, destination))
        return destination

    def _group_bytes(self, columns: int, depths: int | None = None) -> int:
        """
        Bytes of a group of columns up to its first `depths` cuts of the depth (all when None).
        """
        cuts = self.depths if depths is None else self.depths[:depths]
        return sum(_padded(packed_size(columns, depth, self.pattern, self.encoding)) for depth in cuts)

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
            packed = self._load(column, columns, index, self.blocks[index % 2]) if weights is None else weights
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


def _padded(size: int) -> int:
    return -(-size // BEAT) * BEAT


def _pad(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(data, (0, _padded(data.size) - data.size))
