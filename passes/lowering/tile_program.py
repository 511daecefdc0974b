"""
A lowered function as plain data: loops, views and instructions, before there is IR.

Lowering writes a tile program, and `sta.passes.memory.placement` reads the lifetimes of buffers from it. Only a program
whose buffers fit becomes IR (`sta.passes.lowering.program_ir`): an operation of xDSL costs as much time as a hundred of
these nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from numpy.typing import NDArray
from xdsl.dialects.builtin import IntegerType
from xdsl.ir import Operation

from sta.dialect import sta
from sta.dialect.ir.location import module_path
from sta.passes.memory.timeline import Resident, Timeline, starts_of
from sta.spec.affine import Affine
from sta.spec.packing import Packing


@dataclass(eq=False, slots=True)
class Counter:
    """The counter of a loop: its iterations are numbered from 0."""


Position = Affine[Counter]
"""An element index that is affine in loop counters."""


@dataclass(eq=False)
class Buffer:
    """Contiguous memory of the machine; each object is a buffer of its own. This one is an argument of the function."""

    shape: tuple[int, ...]
    element: IntegerType
    space: str
    source: Operation | None = None
    """The operation of the model for which it exists."""

    @property
    def buffer(self) -> Buffer:
        """The buffer itself, for symmetry with views."""
        return self

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides in elements."""
        return tuple(prod(self.shape[axis + 1 :]) for axis in range(len(self.shape)))

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * self.element.width.data // 8


@dataclass(eq=False, kw_only=True)
class Allocation(Buffer):
    """A buffer of the program, by its label."""

    label: str


@dataclass(eq=False, kw_only=True)
class Constant(Buffer):
    """Constant data in DRAM, by a name in the weight store. `values` produces the data, once there is IR."""

    name: str
    kind: str
    values: Callable[[], NDArray[Any]]
    packing: Packing | None = None
    """Packing of the data, if it is weights."""


@dataclass(eq=False, slots=True)
class View:
    """A strided part of a buffer: its first element is at `position`, in elements."""

    buffer: Buffer
    position: Position
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    source: Operation | None = None

    @property
    def space(self) -> str:
        """The memory of the buffer."""
        return self.buffer.space


Tile = Buffer | View
"""Operand of an instruction."""


@dataclass(eq=False, slots=True)
class Instruction:
    """
    One operation of the `sta` dialect: `make` gets the values of the operands, in their order.

    An operand is a tile, None if absent, or a position: its constant and its (counter, coefficient) pairs.
    """

    make: Callable[..., sta.UnitOp]
    operands: tuple[Tile | Position | None, ...]
    source: Operation | None = None


@dataclass(eq=False, slots=True)
class Loop:
    """A loop of `count` iterations."""

    count: int
    counter: Counter
    body: list[Node]
    source: Operation | None = None


Node = Allocation | Constant | View | Instruction | Loop


@dataclass(eq=False)
class TileProgram:
    """A function: its arguments, and its nodes in order. Allocations and constants stand outside of loops."""

    arguments: Sequence[Buffer]
    nodes: list[Node] = field(default_factory=list["Node"])

    def used_nodes(self) -> list[Node]:
        """The nodes without unused allocations, such as the second buffer of a pair whose loop has one iteration."""
        used = {buffer for node in self.nodes for buffer in buffers_of(node)}
        return [node for node in self.nodes if not isinstance(node, Allocation) or node in used]

    def timeline(self) -> Timeline[Buffer]:
        """Lifetimes of buffers for memory planning; a loop is one point of time."""
        nodes = self.used_nodes()
        uses: dict[Buffer, tuple[int, int]] = {}
        for index, node in enumerate(nodes):
            for buffer in buffers_of(node):
                uses[buffer] = (uses.get(buffer, (index, index))[0], index)
        constants: list[Buffer] = [node for node in nodes if isinstance(node, Constant)]
        allocations = [node for node in nodes if isinstance(node, Allocation)]
        residents = [
            Resident[Buffer](one, one.space, one.size, *uses[one], one.label, _path(one)) for one in allocations
        ]
        starts = starts_of(isinstance(node, Allocation | Constant) for node in nodes)
        return Timeline([(one, one.size) for one in (*constants, *self.arguments)], residents, starts)


def _path(allocation: Allocation) -> str:
    return "" if allocation.source is None else module_path(allocation.source)


def buffers_of(node: Node) -> Iterator[Buffer]:
    """The buffers that a node uses, those in the body of a loop included."""
    match node:
        case View():
            yield node.buffer
        case Instruction():
            yield from (operand.buffer for operand in node.operands if isinstance(operand, Buffer | View))
        case Loop():
            for inner in node.body:
                yield from buffers_of(inner)
        case _:
            return
