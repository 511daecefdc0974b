"""
`nm.linear` as tile products: packed weights through the weight buffer, the epilogue in the drain.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import IntegerType
from xdsl.ir import SSAValue

from sta.dialect import nm, sta
from sta.dialect.ir.parameter_blocks import channel_map_parameters, epilogue_scalars
from sta.passes.lowering.lower_vector import NormLowering, broadcast_rows
from sta.passes.lowering.tile_builder import ROWS, Operand, Position, TileBuilder
from sta.passes.tiling.linear_tiling import SLOTS, STREAMED, LinearShape, choose, cuts, smaller_budget
from sta.passes.tiling.strided_view import Axis, StridedView, row_space
from sta.passes.tiling.tile_choice import TileChoice
from sta.spec.affine import Affine
from sta.spec.alignment import aligned
from sta.spec.nm_format import packed_size
from sta.spec.packing import Packing
from sta.spec.parameters import map_parameters_size
from sta.spec.wide_product import PLANES


class LinearLowering:
    """
    Lowers one `nm.linear`.
    """

    def __init__(
        self,
        builder: TileBuilder,
        op: nm.LinearOp,
        x: Operand,
        result: Operand,
        residual: Operand | None,
        budgets: Mapping[Hashable, int],
        *,
        normalized: bool,
    ):
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
        self.shape = self.key = self._shape(normalized)
        target, policy = builder.target, builder.policy
        usual = int(target.sram_bytes * policy.layer_share)
        self.choice = choose(target, policy, self.shape, budgets.get(self.key, usual))
        self.tiling = self.choice.tiling
        self.depths = [depth for count, depth in cuts(self.depth, self.tiling.depth) for _ in range(count)]

    def _shape(self, normalized: bool) -> LinearShape:
        axes = self._axes()
        size = axes[-1].size if axes else 1
        return LinearShape(
            size,
            self.columns,
            self.depth,
            self.pattern,
            self.encoding,
            x_bytes=_loaded_bytes(self.x),
            residual_bytes=_loaded_bytes(self.residual),
            result_bytes=_loaded_bytes(self.result),
            batches=prod(axis.size for axis in axes[:-1]),
            norm=normalized,
            wide=nm.is_wide(self.op.x),
        )

    def _views(self) -> list[StridedView]:
        return [self.x.view, self.result.view] + ([self.residual.view] if self.residual else [])

    def _axes(self) -> tuple[Axis, ...]:
        return row_space(self._views())

    def lower(self) -> None:
        """
        Emits the loops with columns outermost, so that weights are loaded once if the depth is not cut. Weights and
        accumulators are double-buffered.
        """
        self._begin()
        self._make_blocks()
        self.builder.rotate(self.columns, self.tiling.columns, self._columns)

    def lower_by_rows(self, norm: NormLowering | None) -> None:
        """
        Emits the loops with rows outermost. Weights stay on the chip or are streamed; a tile of rows is normalized
        while the products of the next one run.
        """
        builder = self.builder
        if norm is not None:
            self.gather = norm.gathered = True
        self._begin()
        if norm is not None:
            with builder.located(norm.op):
                norm.load()
        written = [] if norm is None else [operand.view for operand in norm.written]
        views = [*self._views(), *written]
        axes = row_space(views)
        starts = [Affine(view.offset) for view in views]
        loading = self.tiling.order == STREAMED
        # Groups of columns alternate between the accumulators. Tiles of rows have to as well if these are an odd
        # number, or if they have something of their own.
        staged = [self.x, *([] if norm is None else norm.written)]
        groups = -(-self.columns // self.tiling.columns)
        alternate = groups % SLOTS == 1 or any(operand.space == "dram" for operand in staged)

        def tile(positions: list[Position], rows: int, strides: list[int]) -> None:
            self._row_tile(norm, positions, rows, strides, loading)

        if loading:
            self._make_blocks()
            builder.space_from(axes, starts, self.tiling.rows, tile)
            return
        self.resident = builder.allocate(f"{builder.path}:weights", (sta.buffer_bytes(self.packed),), nm.ui8, "wbuf")
        if len(axes) != 1:
            builder.emit(sta.LoadOp(self.packed, self.resident))
            builder.space_from(axes, starts, self.tiling.rows, tile, alternate=alternate)
            return
        # The first tile of rows loads each block of weights just before it is used.
        (axis,) = axes
        first = min(self.tiling.rows, axis.size)
        loading, builder.slot = True, 1
        tile(starts, first, list(axis.strides))
        loading, builder.slot = False, 0
        if axis.size > first:
            rest = [start + first * stride for start, stride in zip(starts, axis.strides, strict=True)]
            axes = [Axis(axis.size - first, axis.strides)]
            builder.space_from(axes, rest, self.tiling.rows, tile, alternate=alternate)

    def _make_blocks(self) -> None:
        block = aligned(packed_size(self.tiling.columns, self.depths[0], self.pattern, self.encoding))
        self.blocks = self._slots("weights", (block,), nm.ui8, "wbuf")

    def _begin(self) -> None:
        """
        The constants and buffers that both orders of the loops need; parameters and table are loaded at once.
        """
        builder, tiling = self.builder, self.tiling
        self.packed = self._pack()
        blocks = self._parameter_blocks()
        name = f"{builder.path}@parameters"
        self.keeps_parameters = blocks.size <= builder.target.sram_bytes * builder.policy.parameters_share
        if self.keeps_parameters:
            self.parameters = [builder.load_constant(name, "parameters", blocks, nm.ui8, "parameters")]
        else:
            self.all_parameters = builder.constant(name, "parameters", blocks, nm.ui8)
            self.parameters = self._slots("parameters", (self._parameter_bytes(),), nm.ui8, "wbuf")
        self.table = builder.load_table(self.op.table)
        self.accs = self._slots("acc", (tiling.rows, self.shape.passes * tiling.columns), nm.si32, "acc")

    def _row_tile(
        self, norm: NormLowering | None, positions: list[Position], rows: int, strides: list[int], loading: bool
    ) -> None:
        """
        All columns of a tile of rows, and their norm.
        """
        builder = self.builder
        own = len(self._views())
        limit = (self.tiling.rows, self.depth)
        x = builder.matrix("activations", self.x, positions[0], (rows, self.depth), strides[0], limit)

        def group(column: Position, columns: int) -> None:
            weights = self._row_weights(column, columns, loading)
            parameters = self._parameters_of(column, columns)
            acc = self._acc(rows, columns)
            self._products(acc, lambda start, depth: self._window(x, rows, start, depth), column, columns, weights)
            self._drain(acc, positions[1:own], rows, strides[1:own], column, columns, parameters)

        builder.rotate(self.columns, self.tiling.columns, group)
        if norm is not None:
            with builder.located(norm.op):
                norm.tile([positions[1], *positions[own:]], rows, [strides[1], *strides[own:]])

    def _window(self, x: tuple[SSAValue, Position, int], rows: int, start: int, depth: int) -> SSAValue:
        buffer, position, stride = x
        return self.builder.view(buffer, position + start, (rows, depth), (stride, 1))

    def _row_weights(self, column: Position, columns: int, loading: bool) -> SSAValue | None:
        """
        The weights of a group of columns where rows are walked first; None where they are loaded cut by cut.
        """
        if self.tiling.order == STREAMED:
            blocks = self.blocks[self.builder.slot]
            return self._load(column, columns, 0, blocks) if len(self.depths) == 1 else None
        place = self._block(column, self._group_bytes(self.tiling.columns))
        size = packed_size(columns, self.depth, self.pattern, self.encoding)
        weights = self.builder.view(self.resident, place, (size,), (1,))
        if loading:
            self.builder.emit(sta.LoadOp(self.builder.view(self.packed, place, (size,), (1,)), weights))
        return weights

    @property
    def size(self) -> int:
        """
        Bytes on the chip that the tiles take.
        """
        return self.choice.estimate.size

    def smaller_budget(self) -> int | None:
        """
        A budget under which the tiles take less; None if there is nothing smaller.
        """
        return smaller_budget(self.builder.target, self.builder.policy, self.shape, self.size)

    def extra_cycles(self, budget: int) -> int:
        """
        The cycles, by the estimate, that the layer takes more if its tiles have that many bytes.
        """
        target, policy = self.builder.target, self.builder.policy
        return choose(target, policy, self.shape, budget).estimate.cycles - self.choice.estimate.cycles

    def explain(self) -> TileChoice:
        """
        What was chosen and why.
        """
        choice = self.choice
        other = {}
        if choice.other is not None and choice.other_estimate is not None:
            other = {**vars(choice.other), "cycles": choice.other_estimate.cycles}
        cost = choice.estimate
        return TileChoice(self.builder.path, "linear", vars(choice.tiling), cost.bound, cost.cycles, cost.size, other)

    def is_one_tile(self) -> bool:
        """
        Whether one tile holds all rows, so that the unit's row statistics are those of whole rows after the last group.
        """
        return self.shape.batches == 1 and self.shape.rows <= self.tiling.rows

    def _slots(self, what: str, shape: tuple[int, ...], element: IntegerType, space: str) -> list[SSAValue]:
        path = self.builder.path
        return [self.builder.allocate(f"{path}:{what}{slot}", shape, element, space) for slot in (0, 1)]

    def _pack(self) -> SSAValue:
        """
        The packed weights of each group of columns and cut of the depth, each padded to a beat of the DMA.
        """
        name = self.builder.store_name(self.op.weight)
        key = (name, self.tiling.columns, self.tiling.depth, self.pattern, self.encoding)
        packing = Packing(self.columns, tuple(self.depths), self.tiling.columns, self.pattern, self.encoding)
        if key not in self.builder.packed:
            self.builder.packed[key] = packing.pack(self.builder.weights.get(name))
        packed = self.builder.constant(f"{name}@packed", "weights", self.builder.packed[key], nm.ui8)
        sta.record_packing(packed, packing)
        return packed

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
        return aligned(map_parameters_size(self.tiling.columns))

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
        destination = builder.view(self.parameters[builder.slot], Affine(), (size,), (1,))
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
        limit = (self.tiling.rows, self.depths[0])

        def window(start: int, depth: int) -> SSAValue:
            return self.builder.read("activations", self.x, positions[0] + start, (rows, depth), strides[0], limit)

        acc = self._acc(rows, columns)
        self._products(acc, window, column, columns, weights)
        self._drain(acc, positions[1:], rows, strides[1:], column, columns, parameters)

    def _acc(self, rows: int, columns: int) -> SSAValue:
        """
        The accumulators of a tile: with 16-bit activations each row has those of the high bytes, then those of the low.
        """
        passes = self.shape.passes
        stride = passes * self.tiling.columns
        return self.builder.view(self.accs[self.builder.slot], Affine(), (rows, passes * columns), (stride, 1))

    def _load(self, column: Position, columns: int, depth_index: int, buffer: SSAValue) -> SSAValue:
        """
        Loads the weights of a group of columns and a cut of the depth.
        """
        builder = self.builder
        size = packed_size(columns, self.depths[depth_index], self.pattern, self.encoding)
        group = self._block(column, self._group_bytes(self.tiling.columns))
        source = builder.view(self.packed, group + self._group_bytes(columns, depth_index), (size,), (1,))
        destination = builder.view(buffer, Affine(), (size,), (1,))
        builder.emit(sta.LoadOp(source, destination))
        return destination

    def _group_bytes(self, columns: int, depths: int | None = None) -> int:
        """
        Bytes of a group of columns up to its first `depths` cuts of the depth (all when None).
        """
        cuts = self.depths if depths is None else self.depths[:depths]
        return sum(aligned(packed_size(columns, depth, self.pattern, self.encoding)) for depth in cuts)

    def _block(self, column: Position, block: int) -> Position:
        """
        Byte position of a group of columns in a constant made of equal blocks a tile of columns.
        """
        tile = self.tiling.columns
        return column.divided(tile) * block

    def _products(
        self,
        acc: SSAValue,
        window: Callable[[int, int], SSAValue],
        column: Position,
        columns: int,
        weights: SSAValue | None,
    ) -> None:
        """
        The products of a tile; `window` gives the activations of a cut of the depth, by its start and length.
        """
        pattern = nm.PatternAttr(self.pattern, self.encoding)
        cut_before = self.builder.slot * len(self.depths)
        for index, (start, depth) in enumerate(zip(self._depth_starts(), self.depths, strict=True)):
            if weights is not None:
                packed, activations = weights, window(start, depth)
            else:
                with self.builder.using_slot((cut_before + index) % SLOTS) as slot:
                    packed = self._load(column, columns, index, self.blocks[slot])
                    activations = window(start, depth)
            for plane, target in self._planes(acc, columns):
                self.builder.emit(
                    sta.ProductOp(target, activations, packed, pattern, accumulate=index > 0, plane=plane)
                )

    def _planes(self, acc: SSAValue, columns: int) -> list[tuple[str | None, SSAValue]]:
        """
        The accumulators of each pass, with the byte plane of the activations that it takes; None: they are bytes.
        """
        if not self.shape.wide:
            return [(None, acc)]
        rows, stride = sta.memref_of(acc).get_shape()[0], 2 * self.tiling.columns
        return [
            (
                plane,
                self.builder.view(self.accs[self.builder.slot], Affine(index * columns), (rows, columns), (stride, 1)),
            )
            for index, plane in enumerate(PLANES)
        ]

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
            operands, multiply = (acc, destination, parameters), self.op.multiply is not None
            flags = {"per_channel": True, "gather": self.gather, "wide": self.shape.wide, "multiply": multiply}
            builder.emit(sta.MapOp(operands, self.table, residual, **flags))

        builder.write("result", self.result, positions[0] + column, shape, strides[0], limit, drain)


def _pad(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(data, (0, aligned(data.size) - data.size))


def _loaded_bytes(operand: Operand | None) -> int:
    """
    Bytes of an element that has to cross between the chip and DRAM.
    """
    return 0 if operand is None or operand.space == "spad" else operand.element.width.data // 8
