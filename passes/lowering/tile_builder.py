"""Building tile programs: buffers, views, loops with their remainders, and tiles of operands in DRAM."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import IntegerType
from xdsl.ir import Operation, SSAValue

from sta.dialect import nm, sta
from sta.dialect.ir.location import module_path
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.lowering.tile_program import (
    Allocation,
    Buffer,
    Constant,
    Counter,
    Instruction,
    Loop,
    Node,
    Position,
    Tile,
    TileProgram,
    View,
)
from sta.passes.tiling.strided_view import StridedView, merge
from sta.spec.affine import Affine
from sta.spec.packing import Packing
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy
from sta.spec.vector import ADD

Copy = tuple[Operation, int]
"""A copy of an operand: the operation that reads it, and a number among its copies."""


@dataclass(frozen=True)
class Operand:
    """A tensor in memory: its buffer, and the layout of its elements there."""

    buffer: Buffer
    view: StridedView
    element: IntegerType

    @property
    def space(self) -> str:
        """The memory of the buffer: spad or dram."""
        return self.buffer.space

    @property
    def columns(self) -> int:
        """Elements of the last axis."""
        return self.view.shape[-1]

    @property
    def rows(self) -> int:
        """Number of rows: the elements of all axes but the last."""
        return prod(self.view.shape[:-1])

    def has_contiguous_rows(self) -> bool:
        """True if the last axis is contiguous, as every instruction requires of its operands."""
        factors = merge(self.view.axes[-1])
        return not factors or (len(factors) == 1 and factors[0][1] == 1)


def contiguous(buffer: Buffer) -> Operand:
    """A whole buffer as an operand."""
    return Operand(buffer, StridedView.contiguous(buffer.shape), buffer.element)


def loaded_bytes(operand: Operand | None) -> int:
    """Bytes of an element of an operand that crosses between the chip and DRAM; 0 for others, and for none."""
    return 0 if operand is None or operand.space == "spad" else operand.element.width.data // 8


@dataclass(frozen=True)
class Part:
    """A tile of an axis: its first element, its size, and the slot, 0 or 1, of its buffers."""

    start: Position
    size: int
    slot: int


@dataclass(frozen=True)
class Rows:
    """
    A tile of rows: the position of its first row in each operand, the number of rows, the operands' row strides (in
    elements), and the slot of its buffers.
    """

    positions: Sequence[Position]
    count: int
    strides: Sequence[int]
    slot: int


def map_op(
    source: SSAValue,
    destination: SSAValue,
    parameters: SSAValue,
    table: SSAValue | None = None,
    residual: SSAValue | None = None,
    *,
    combine: str = ADD,
    **flags: bool,
) -> sta.MapOp:
    """`sta.map` with its operands one by one."""
    return sta.MapOp((source, destination, parameters), table, residual, combine=combine, **flags)


@dataclass
class TileBuilder:
    """Appends nodes to the innermost open loop, with the location of the operation being lowered."""

    target: Target
    policy: TilingPolicy
    weights: WeightStore
    program: TileProgram
    source: Operation | None = None
    copies_in_dram: Set[Copy] = frozenset()
    """Copies of operands that have no room in the scratchpad."""
    copies: dict[Copy, Allocation] = field(default_factory=dict["Copy", Allocation])
    """Buffers of the copies so far."""
    staging: dict[Hashable, Allocation] = field(default_factory=dict[Hashable, Allocation])
    """Tile buffers of the operation being lowered, by role, size and slot."""

    def __post_init__(self) -> None:
        self._open: list[Loop] = []
        self._copied = 0
        self._views: dict[Hashable, View] = {}

    @property
    def path(self) -> str:
        """Module path of the operation being lowered."""
        return "" if self.source is None else module_path(self.source)

    def is_top(self) -> bool:
        """True if no loop is open."""
        return not self._open

    def begin(self, op: Operation) -> None:
        """Starts the lowering of `op`: later nodes carry its location, and tile buffers are its own."""
        self.source = op
        self._copied = 0
        self.staging = {}
        self._views = {}

    @contextmanager
    def located(self, op: Operation) -> Generator[None]:
        """Gives operations emitted inside the location of `op`."""
        outer, self.source = self.source, op
        yield
        self.source = outer

    def emit(self, make: Callable[..., sta.UnitOp], *operands: Tile | Position | None) -> None:
        """Appends an instruction; `make` gets the operands as values of the IR."""
        self._append(Instruction(make, operands, self.source))

    def _append(self, node: Node) -> None:
        (self._open[-1].body if self._open else self.program.nodes).append(node)

    def _append_outside(self, node: Node) -> None:
        """Appends a node in front of all open loops."""
        nodes = self.program.nodes
        nodes.insert(len(nodes) - 1 if self._open else len(nodes), node)

    def allocate(self, label: str, shape: Sequence[int], element: IntegerType, space: str) -> Allocation:
        """A buffer of the program; allocations stand outside of all loops."""
        buffer = Allocation(tuple(shape), element, space, self.source, label=label)
        self._append_outside(buffer)
        return buffer

    def allocate_copy(self, shape: Sequence[int], element: IntegerType) -> Allocation:
        """A buffer for a copy of an operand of the operation being lowered, in the memory that is planned for it."""
        assert self.source is not None
        copy, self._copied = (self.source, self._copied), self._copied + 1
        space = "dram" if copy in self.copies_in_dram else "spad"
        self.copies[copy] = self.allocate(f"{self.path}:copy", shape, element, space)
        return self.copies[copy]

    def pair(self, what: str, shape: Sequence[int], element: IntegerType, space: str) -> tuple[Allocation, Allocation]:
        """Two buffers of the operation being lowered, one a slot."""
        first, second = (self.allocate(f"{self.path}:{what}{slot}", shape, element, space) for slot in (0, 1))
        return first, second

    def store_name(self, value: SSAValue) -> str:
        """
        Name in the weight store of an operand that has to be a constant.

        Raises ValueError, naming the layer, for any other operand.
        """
        if not isinstance(value.owner, nm.WeightOp):
            kind = "" if self.source is None else self.source.name
            raise ValueError(
                f"{self.path}: {kind} takes weights, scales and tables that are constants of the model only"
            )
        return value.owner.store_name

    def constant(
        self,
        name: str,
        kind: str,
        shape: Sequence[int],
        element: IntegerType,
        values: Callable[[], NDArray[Any]],
        packing: Packing | None = None,
    ) -> Constant:
        """Constant data in DRAM, under a name in the weight store; it stands outside of loops."""
        constant = Constant(
            tuple(shape), element, "dram", self.source, name=name, kind=kind, values=values, packing=packing
        )
        self._append_outside(constant)
        return constant

    def stored(self, name: str, kind: str, element: IntegerType, suffix: str = "") -> Constant:
        """An array of the weight store as constant data."""
        values = self.weights.get(name)
        return self.constant(name + suffix, kind, values.shape, element, lambda: values)

    def view(self, tile: Tile, position: Position, shape: Sequence[int], strides: Sequence[int]) -> Tile:
        """
        A strided view of a buffer or of another view, with its first element at `position` (in elements); the tile
        itself if that covers it. A view that the innermost loop already has is reused.
        """
        shape, strides = tuple(shape), tuple(strides)
        if shape == tile.shape and strides == tile.strides and position == Affine():
            return tile
        buffer = tile.buffer
        position = tile.position + position if isinstance(tile, View) else position
        key = (self._open[-1] if self._open else None, buffer, position, shape, strides)
        if key not in self._views:
            self._views[key] = View(buffer, position, shape, strides, self.source)
            self._append(self._views[key])
        return self._views[key]

    def tile_rows(self, rows: int, staged: Sequence[tuple[Operand, int]]) -> int:
        """
        Rows of a tile, of `rows` rows. `staged` are the operands with the columns of their tiles: two tiles of each
        operand in DRAM occupy at most the policy's share of the chip's memory, or one row each.
        """
        most = min(rows, self.target.tile_rows)
        row_bytes = sum(columns * o.element.width.data // 8 for o, columns in staged if o.space == "dram")
        if not row_bytes:
            return most
        fit = int(self.target.sram_bytes * self.policy.staging_share) // (2 * row_bytes)
        whole = fit // self.target.array_rows * self.target.array_rows
        return max(1, min(most, whole or fit))

    def loop(self, size: int, tile: int, slot: int, body: Callable[[Part], None]) -> None:
        """Runs `body` over tiles of an axis, all in one slot: full tiles in a rolled loop, the remainder after it."""
        full, rest = divmod(size, tile)
        if full == 1:
            body(Part(Affine(), tile, slot))
        if full > 1:
            self.rolled(full, lambda counter: body(Part(Affine(0, ((counter, tile),)), tile, slot)))
        if rest:
            body(Part(Affine(full * tile), rest, slot))

    def rolled(self, count: int, body: Callable[[Counter], object]) -> None:
        """A loop; `body` is called once, with its counter."""
        loop = Loop(count, Counter(), [], self.source)
        self._append(loop)
        self._open.append(loop)
        body(loop.counter)
        self._open.pop()

    def read(
        self,
        role: str,
        operand: Operand,
        position: Position,
        shape: tuple[int, int],
        stride: int,
        limit: tuple[int, int],
        slot: int,
    ) -> Tile:
        """
        A tile of rows in the scratchpad: a view of the operand, or a copy loaded from DRAM into the operation's
        buffer of `limit` for `role` and slot.
        """
        tile = self.view(operand.buffer, position, shape, (stride, 1))
        if operand.space == "spad":
            return tile
        staged = self.staged(role, operand, limit, shape, slot)
        self.emit(sta.LoadOp, tile, staged)
        return staged

    def matrix(
        self,
        role: str,
        operand: Operand,
        position: Position,
        shape: tuple[int, int],
        stride: int,
        limit: tuple[int, int],
        slot: int,
    ) -> tuple[Buffer, Position, int]:
        """
        A whole matrix in the scratchpad as buffer, position and row stride: the operand's own, or a copy loaded into
        the buffer of `limit`.
        """
        if operand.space == "spad":
            return operand.buffer, position, stride
        self.read(role, operand, position, shape, stride, limit, slot)
        return self.staging[role, limit, slot], Affine(), limit[1]

    def staged(self, role: str, operand: Operand, limit: tuple[int, int], shape: tuple[int, int], slot: int) -> Tile:
        """
        A view of `shape` into the tile buffer of an operand in DRAM. Each role has its own: an operation may read one
        tensor in several roles, at several places.
        """
        key = (role, limit, slot)
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
        slot: int,
        body: Callable[[Tile], None],
    ) -> None:
        """Lets `body` write a tile of rows: in place, or in a buffer of `limit` that is then stored to DRAM."""
        tile = self.view(operand.buffer, position, shape, (stride, 1))
        if operand.space == "spad":
            body(tile)
            return
        staged = self.staged(role, operand, limit, shape, slot)
        body(staged)
        self.emit(sta.StoreOp, staged, tile)

    def load(self, constant: Constant, label: str) -> Allocation:
        """A whole constant vector, loaded into the weight buffer."""
        buffer = self.allocate(f"{self.path}:{label}", constant.shape, constant.element, "wbuf")
        self.emit(sta.LoadOp, constant, buffer)
        return buffer

    def load_parameters(self, name: str, parameters: bytes) -> Allocation:
        """A parameter block, loaded into the weight buffer."""
        values = np.frombuffer(parameters, np.uint8)
        return self.load(self.constant(name, "parameters", values.shape, nm.ui8, lambda: values), "parameters")

    def load_table(self, table: SSAValue | None) -> Allocation | None:
        """The activation table of an epilogue, loaded into the weight buffer."""
        if table is None:
            return None
        return self.load(self.stored(self.store_name(table), "tables", nm.si16, "@table"), "table")
