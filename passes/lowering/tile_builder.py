"""
Building rolled tile loops in the `sta` dialect: affine positions, loops with their remainders, tiles of operands.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import IntegerType
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.irdl import IRDLOperation

from sta.dialect import nm, sta
from sta.dialect.ir.location import module_path
from sta.dialect.ir.parameter_blocks import scalar_map_parameters
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.tiling.linear_tiling import SLOTS, is_rolled
from sta.passes.tiling.strided_view import Axis, Factor, NotAView, StridedView, iteration_space, merge, row_space
from sta.passes.tiling.tile_choice import TileChoice
from sta.spec.affine import Affine
from sta.spec.instructions.table import definition_of
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy

RUN_LIMIT = definition_of("map").field("columns").largest_power
"""
Elements of the longest row of a copy: within the column field of every instruction that copies.
"""


Position = Affine[SSAValue]
"""
An element index that is affine in loop counters.
"""


@dataclass(frozen=True)
class Operand:
    """
    A tensor in memory: its buffer and how its elements lie in it.
    """

    buffer: SSAValue
    view: StridedView
    element: IntegerType

    @property
    def space(self) -> str:
        """
        The memory the buffer is in: spad or dram.
        """
        return sta.space_of(self.buffer)

    @property
    def columns(self) -> int:
        """
        Elements of the last axis.
        """
        return self.view.shape[-1]

    @property
    def rows(self) -> int:
        """
        Rows in all: the elements of all axes but the last.
        """
        return prod(self.view.shape[:-1])

    def has_contiguous_rows(self) -> bool:
        """
        Whether the last axis is contiguous: what every instruction asks of its operands.
        """
        factors = merge(self.view.axes[-1])
        return not factors or (len(factors) == 1 and factors[0][1] == 1)


ROWS = slice(None, -1)
"""
The axes whose steps are rows: all but the last.
"""
RowBody = Callable[[list[Position], int, list[int]], None]
"""
Called for a tile of rows with the position of its first row in each operand, the number of rows, and the operands'
row strides (in elements).
"""


@dataclass(frozen=True)
class Stretch:
    """
    An axis that a pipeline of two stages walks: its size, that of a tile, and what is called for each tile.
    """

    size: int
    tile: int
    first: Callable[[Position, int], None]
    second: Callable[[Position, int], None]


TileLoop = Callable[[int, int, Callable[[Position, int], None]], None]
"""
Calls a body for each tile of an axis, by its size and the tile's: `TileBuilder.loop` or `TileBuilder.rotate`.
"""


@dataclass
class TileBuilder:
    """
    Appends `sta` operations to the block it is in; `location` is that of the operation being lowered.
    """

    target: Target
    weights: WeightStore
    function: Block
    packed: dict[Hashable, NDArray[Any]] = field(default_factory=dict[Hashable, NDArray[Any]])
    """
    Packed weights by what they were packed from; shared by the attempts of one lowering.
    """
    source: Operation | None = None
    staging: dict[Hashable, SSAValue] = field(default_factory=dict[Hashable, SSAValue])
    """
    Tile buffers of the operation being lowered, by role, size and slot.
    """
    choices: list[TileChoice] = field(default_factory=list[TileChoice])
    """
    What was chosen for the layers so far.
    """
    policy: TilingPolicy = field(default_factory=TilingPolicy)
    sources: dict[SSAValue, Operation | None] = field(default_factory=dict[SSAValue, Operation | None])
    """
    The operation that each buffer was allocated for.
    """

    def __post_init__(self) -> None:
        self.block = self.function
        self.slot = 0
        """
        Which of two buffers the tile being built uses: it alternates from tile to tile of a rotating loop.
        """
        self._views: dict[Hashable, SSAValue] = {}

    @property
    def path(self) -> str:
        """
        Module path of the operation being lowered.
        """
        return "" if self.source is None else module_path(self.source)

    def begin(self, op: Operation) -> None:
        """
        Starts the lowering of `op`: what follows carries its location, and tile buffers are its own.
        """
        self.source = op
        self.staging = {}
        self._views = {}

    @contextmanager
    def located(self, op: Operation) -> Generator[None]:
        """
        What is emitted inside carries the location of `op`.
        """
        outer, self.source = self.source, op
        yield
        self.source = outer

    @contextmanager
    def using_slot(self, slot: int) -> Generator[int]:
        """
        What is staged inside uses the buffers of a slot.
        """
        outer, self.slot = self.slot, slot
        yield slot
        self.slot = outer

    def emit(self, op: IRDLOperation) -> None:
        """
        Appends an operation.
        """
        if self.source is not None:
            op.location = self.source.location
        self.block.add_op(op)

    def allocate(self, label: str, shape: Sequence[int], element: Attribute, space: str) -> SSAValue:
        """
        A buffer of the program; allocations stand in the function's own block, whatever loop asks for them.
        """
        op = sta.AllocOp(label, sta.memref(shape, element, space))
        if self.source is not None:
            op.location = self.source.location
        self._at_top(op)
        self.sources[op.result] = self.source
        return op.result

    def _at_top(self, op: Operation) -> None:
        outermost = self.block
        anchor: Operation | None = None
        while outermost is not self.function:
            anchor = outermost.parent_op()
            assert anchor is not None
            parent = anchor.parent_block()
            assert parent is not None
            outermost = parent
        if anchor is None:
            self.function.add_op(op)
        else:
            self.function.insert_op_before(op, anchor)

    def store_name(self, value: SSAValue) -> str:
        """
        Name in the weight store of an operand that has to be a constant.

        Raises ValueError, naming the layer, if it is none.
        """
        if not isinstance(value.owner, nm.WeightOp):
            kind = "" if self.source is None else self.source.name
            raise ValueError(
                f"{self.path}: {kind} takes weights, scales and tables that are constants of the model only"
            )
        return value.owner.store_name

    def constant(self, name: str, kind: str, values: NDArray[Any], element: Attribute) -> SSAValue:
        """
        Constant data in DRAM under a name in the weight store.
        """
        op = sta.ConstantOp(self.weights.put_unique(name, values), kind, sta.memref(values.shape, element, "dram"))
        if self.source is not None:
            op.location = self.source.location
        self._at_top(op)
        return op.result

    def view(self, buffer: SSAValue, position: Position, shape: Sequence[int], strides: Sequence[int]) -> SSAValue:
        """
        A strided window of a buffer, its first element at `position` (in elements): the buffer itself if that is all
        of it; a window that the block already has is used again.
        """
        whole = (sta.memref_of(buffer).get_shape(), sta.strides_of(buffer))
        if position == Affine() and whole == (tuple(shape), tuple(strides)):
            return buffer
        key = (self.block, buffer, position, tuple(shape), tuple(strides))
        if key in self._views:
            return self._views[key]
        reference = sta.memref_of(buffer)
        type_ = sta.memref(shape, reference.element_type, sta.space_of(buffer), strides)
        op = sta.ViewOp(buffer, position.terms, position.base, type_)
        self.emit(op)
        self._views[key] = op.result
        return op.result

    def tile_rows(self, rows: int, staged: Sequence[tuple[Operand, int]]) -> int:
        """
        Rows of a tile, of `rows` in all. `staged` are the operands with the columns of their tiles: of those in DRAM,
        two tiles each take at most a quarter of the chip's memory, or one row each.
        """
        most = min(rows, self.target.tile_rows)
        row_bytes = sum(columns * o.element.width.data // 8 for o, columns in staged if o.space == "dram")
        if not row_bytes:
            return most
        fit = int(self.target.sram_bytes * self.policy.staging_share) // (2 * row_bytes)
        whole = fit // self.target.array_rows * self.target.array_rows
        return max(1, min(most, whole or fit))

    def loop(self, size: int, tile: int, body: Callable[[Position, int], None]) -> None:
        """
        Runs `body` over tiles of an axis: full tiles in a rolled loop, the remainder after it.
        """
        full, rest = divmod(size, tile)
        if full == 1:
            body(Affine(), tile)
        if full > 1:
            self.rolled(full, lambda counter: body(Affine(0, ((counter, tile),)), tile))
        if rest:
            body(Affine(full * tile), rest)

    def rotate(self, size: int, tile: int, body: Callable[[Position, int], None]) -> None:
        """
        Like `loop`, with the slot alternating from tile to tile, so that one tile's buffers are filled while the other
        tile's are in use. An axis of one tile leaves the slot to the loop around it. An odd number of tiles inside of a
        loop that rotates as well goes on with the slot that the round before has not ended with.
        """
        full, rest = divmod(size, tile)
        if size <= tile:
            self.loop(size, tile, body)
            return
        outer = self.slot
        slots = [(outer * -(-size // tile) + index) % SLOTS for index in range(SLOTS)]

        def both(start: Position) -> None:
            for index, self.slot in enumerate(slots):
                body(start + index * tile, tile)

        pairs = full // SLOTS
        if self.block is self.function or is_rolled(self.policy, size, tile):
            self.loop(pairs, 1, lambda pair, _: both(pair * (SLOTS * tile)))
        else:
            for pair in range(pairs):
                both(Affine(pair * SLOTS * tile))
        self.slot = slots[0]
        if full % SLOTS:
            body(Affine((full - 1) * tile), tile)
            self.slot = slots[1]
        if rest:
            body(Affine(full * tile), rest)
        self.slot = outer

    def pipeline(self, stretches: Sequence[Stretch]) -> None:
        """
        Runs two stages over the tiles of one stretch after the other, the first stage of a tile before the second of
        the tile before it, with the slot alternating from tile to tile. The last tile of a stretch is not waited for:
        its second stage follows the first of the next stretch.
        """
        begun = 0
        finish: Callable[[], None] | None = None
        for stretch in stretches:
            full, rest = divmod(stretch.size, stretch.tile)
            if full:
                self._stage(stretch.first, begun, Affine(), stretch.tile)
                if finish is not None:
                    finish()
                self._steps(stretch, full, begun)
                begun += full
                finish = partial(
                    self._stage, stretch.second, begun - 1, Affine((full - 1) * stretch.tile), stretch.tile
                )
            if rest:
                position = Affine(full * stretch.tile)
                self._stage(stretch.first, begun, position, rest)
                if finish is not None:
                    finish()
                begun += 1
                finish = partial(self._stage, stretch.second, begun - 1, position, rest)
        if finish is not None:
            finish()

    def _stage(self, body: Callable[[Position, int], None], tile: int, position: Position, count: int) -> None:
        """
        One stage of a tile, in the slot of a tile of that number.
        """
        with self.using_slot(tile % SLOTS):
            body(position, count)

    def _steps(self, stretch: Stretch, full: int, begun: int) -> None:
        """
        For each of the `full` tiles of a stretch but the last: the first stage of the tile after it, then its second.
        """
        tile = stretch.tile

        def step(start: Position, index: int) -> None:
            self._stage(stretch.first, begun + index + 1, start + (index + 1) * tile, tile)
            self._stage(stretch.second, begun + index, start + index * tile, tile)

        pairs = (full - 1) // SLOTS
        if pairs == 1:
            step(Affine(), 0)
            step(Affine(), 1)
        if pairs > 1:
            starts: Callable[[SSAValue], Position] = lambda counter: Affine(0, ((counter, SLOTS * tile),))  # noqa: E731
            self.rolled(pairs, lambda counter: [step(starts(counter), index) for index in range(SLOTS)])
        for index in range(SLOTS * pairs, full - 1):
            step(Affine(), index)

    def rolled(self, count: int, body: Callable[[SSAValue], object]) -> None:
        """
        A loop; `body` is called once, with its counter.
        """
        loop = sta.LoopOp(count)
        self.emit(loop)
        outer, self.block = self.block, loop.body.block
        body(loop.counter)
        self.block = outer

    def rows(self, operands: Sequence[StridedView], tile: int, body: RowBody) -> None:
        """
        Rotates over tiles of the rows (all axes but the last) that several operands share.

        Raises NotAView if the operands' rows do not nest.
        """
        self.space(row_space(operands), [view.offset for view in operands], tile, body)

    def space(self, axes: Sequence[Axis], offsets: Sequence[int], tile: int, body: RowBody) -> None:
        """
        Loops over an iteration space; its innermost axis is the one cut into tiles.
        """
        self.space_from(axes, [Affine(offset) for offset in offsets], tile, body)

    def space_from(
        self, axes: Sequence[Axis], starts: list[Position], tile: int, body: RowBody, *, alternate: bool = True
    ) -> None:
        """
        The same from positions on; unless `alternate`, the slot stays as it is and loops hold one tile instead of two.
        """
        if not axes:
            body(starts, 1, [0] * len(starts))
            return
        self._space(axes, starts, tile, body, self.rotate if alternate else self.loop)

    def _space(self, axes: Sequence[Axis], starts: list[Position], tile: int, body: RowBody, loop: TileLoop) -> None:
        axis, *inner = axes

        def moved(position: Position) -> list[Position]:
            return [start + position * stride for start, stride in zip(starts, axis.strides, strict=True)]

        if inner:
            loop(axis.size, 1, lambda position, _: self._space(inner, moved(position), tile, body, loop))
            return
        loop(axis.size, tile, lambda position, rows: body(moved(position), rows, list(axis.strides)))

    def read(
        self,
        role: str,
        operand: Operand,
        position: Position,
        shape: tuple[int, int],
        stride: int,
        limit: tuple[int, int],
    ) -> SSAValue:
        """
        A tile of rows in the scratchpad: a window of the operand, or a copy loaded from DRAM into the buffer of `limit`
        that `role` has in the operation.
        """
        tile = self.view(operand.buffer, position, shape, (stride, 1))
        if operand.space == "spad":
            return tile
        staged = self.staged(role, operand, limit, shape)
        self.emit(sta.LoadOp(tile, staged))
        return staged

    def matrix(
        self,
        role: str,
        operand: Operand,
        position: Position,
        shape: tuple[int, int],
        stride: int,
        limit: tuple[int, int] | None = None,
    ) -> tuple[SSAValue, Position, int]:
        """
        A whole matrix in the scratchpad as buffer, position and row stride: the operand's own, or a copy loaded into
        the buffer of `limit`.
        """
        if operand.space == "spad":
            return operand.buffer, position, stride
        limit = limit or shape
        self.read(role, operand, position, shape, stride, limit)
        return self.staging[role, limit, self.slot], Affine(), limit[1]

    def staged(self, role: str, operand: Operand, limit: tuple[int, int], shape: tuple[int, int]) -> SSAValue:
        """
        A window of `shape` into the tile buffer of an operand that lives in DRAM. Each role has its own: an operation
        may read one tensor in several roles, at several places.
        """
        key = (role, limit, self.slot)
        if key not in self.staging:
            self.staging[key] = self.allocate(f"{self.path}:{role}", limit, operand.element, "spad")
        return self.view(self.staging[key], Affine(), shape, (limit[1], 1))

    def write(
        self,
        role: str,
        operand: Operand,
        position: Position,
        shape: tuple[int, int],
        stride: int,
        limit: tuple[int, int],
        body: Callable[[SSAValue], None],
    ) -> None:
        """
        Lets `body` write a tile of rows: in place, or in a buffer of `limit` that is then stored to DRAM.
        """
        tile = self.view(operand.buffer, position, shape, (stride, 1))
        if operand.space == "spad":
            body(tile)
            return
        staged = self.staged(role, operand, limit, shape)
        body(staged)
        self.emit(sta.StoreOp(staged, tile))

    def load_constant(self, name: str, kind: str, values: NDArray[Any], element: Attribute, label: str) -> SSAValue:
        """
        A whole constant vector, loaded into the weight buffer.
        """
        source = self.constant(name, kind, values, element)
        buffer = self.allocate(f"{self.path}:{label}", values.shape, element, "wbuf")
        self.emit(sta.LoadOp(source, buffer))
        return buffer

    def load_parameters(self, name: str, parameters: bytes) -> SSAValue:
        """
        A parameter block, loaded into the weight buffer.
        """
        values = np.frombuffer(parameters, np.uint8)
        return self.load_constant(name, "parameters", values, nm.ui8, "parameters")

    def load_table(self, table: SSAValue | None) -> SSAValue | None:
        """
        The activation table of an epilogue, loaded into the weight buffer.
        """
        if table is None:
            return None
        name = self.store_name(table)
        return self.load_constant(f"{name}@table", "tables", self.weights.get(name), nm.si16, "table")

    def copied(self, operand: Operand) -> Operand:
        """
        The operand with its elements copied into a contiguous buffer in the scratchpad.
        """
        shape = operand.view.shape
        buffer = self.allocate(f"{self.path}:copy", (prod(shape),), operand.element, "spad")
        result = Operand(buffer, StridedView.contiguous(shape), operand.element)
        parameters = None
        if operand.space == "spad":
            parameters = self.load_parameters("identity", scalar_map_parameters(0, *nm.IDENTITY_SCALE).to_bytes())

        def copy(source: SSAValue, destination: SSAValue) -> None:
            if parameters is None:
                self.emit(sta.LoadOp(source, destination))
            else:
                self.emit(sta.MapOp((source, destination, parameters)))

        self.runs(operand, result, copy)
        return result

    def through_tiles(self, source: Operand, destination: Operand) -> None:
        """
        Copies an operand from one place in DRAM to another, by way of tiles in the scratchpad: two of them take no
        more than the policy's share of the chip's memory.
        """
        rows = self.target.tile_rows
        longest = int(self.target.sram_bytes * self.policy.staging_share / 2) // (rows * source.element.width.data // 8)

        def move(tile: SSAValue, place: SSAValue) -> None:
            count, columns = sta.memref_of(tile).get_shape()
            staged = self.staged("copy", source, (rows, columns), (count, columns))
            self.emit(sta.LoadOp(tile, staged))
            self.emit(sta.StoreOp(staged, place))

        self.runs(source, destination, move, max(1, min(longest, RUN_LIMIT)))

    def runs(
        self,
        source: Operand,
        destination: Operand,
        body: Callable[[SSAValue, SSAValue], None],
        longest: int = RUN_LIMIT,
    ) -> None:
        """
        Walks two operands of one shape in tiles of the longest runs, of at most `longest` elements, that are contiguous
        in both.
        """
        axes = iteration_space([source.view.axes, destination.view.axes])
        columns = 1
        if axes and axes[-1].strides == (1, 1):
            columns = _largest_divisor(axes[-1].size, longest)
            axes = _cut(axes, columns)

        def tile(positions: list[Position], rows: int, strides: list[int]) -> None:
            first, second = (
                self.view(operand.buffer, position, (rows, columns), (stride, 1))
                for operand, position, stride in zip((source, destination), positions, strides, strict=True)
            )
            body(first, second)

        self.space(axes, [source.view.offset, destination.view.offset], self.target.tile_rows, tile)

    def with_rows(self, operand: Operand) -> Operand:
        """
        The operand itself if its last axis is contiguous, else a copy.
        """
        return operand if operand.has_contiguous_rows() else self.copied(operand)

    def walkable(self, operands: Sequence[Operand], axes: slice) -> list[Operand]:
        """
        Operands that share their leading `axes`, each copied in turn until all of them can be walked together; the
        last, which is written, is never copied.
        """
        result = list(operands)
        for index in range(len(result) - 1):
            if _nest([operand.view.axes[axes] for operand in result]):
                break
            result[index] = self.copied(result[index])
        return result


def _largest_divisor(size: int, limit: int) -> int:
    return next(divisor for divisor in range(min(size, limit), 0, -1) if size % divisor == 0)


def _cut(axes: Sequence[Axis], columns: int) -> tuple[Axis, ...]:
    """
    The axes with the innermost `columns` elements, which one row of a copy covers, taken off.
    """
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
