"""Operands of nodes, and what is common to the translations of several operators."""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.dialect.torch import sizes_of, tensor_type
from sta.frontend.errors import ModelError
from sta.frontend.onnx.file import label
from sta.frontend.onnx.graph import OnnxGraph, UnsupportedForm

if TYPE_CHECKING:
    from onnx import NodeProto

Array = NDArray[Any]


def operand(node: NodeProto, index: int) -> str:
    """The name of an operand; empty if it is absent."""
    return node.input[index] if index < len(node.input) else ""


def constant_operand(graph: OnnxGraph, node: NodeProto, index: int) -> Array | None:
    """The constant operand at `index`; None if it is absent."""
    name = operand(node, index)
    if not name:
        return None
    array = graph.constant(name)
    if array is None:
        raise UnsupportedForm(f"its operand {name!r} must be a constant")
    return array


@dataclass(frozen=True)
class BroadcastOperand:
    """A constant that is broadcast to a value."""

    name: str
    array: Array

    def literal(self, graph: OnnxGraph) -> SSAValue:
        """Itself, as it is."""
        return graph.literal(self.array, self.name)


def broadcast_operand(graph: OnnxGraph, node: NodeProto, index: int, sizes: tuple[int, ...]) -> BroadcastOperand | None:
    """
    The constant operand at `index`, None if it was left out.

    Raises ModelError for one that does not broadcast to `sizes`, as ONNX asks for ("unidirectional broadcasting").
    """
    array = constant_operand(graph, node, index)
    if array is None:
        return None
    axes = array.shape[::-1]
    if len(axes) > len(sizes) or any(size not in (1, given) for size, given in zip(axes, sizes[::-1], strict=False)):
        raise ModelError(f"{label(node)}: {list(array.shape)} does not broadcast to {list(sizes)}")
    return BroadcastOperand(node.input[index], array)


def row_of(graph: OnnxGraph, operand: BroadcastOperand | None, width: int) -> SSAValue | None:
    """A constant that is the same for all rows, as one of `width` numbers; None if it is another one."""
    if operand is None or any(size != 1 for size in operand.array.shape[:-1]):
        return None
    if operand.array.shape == (width,):
        return graph.value(operand.name)
    row = operand.array.reshape(operand.array.shape[-1:])
    return graph.literal(np.broadcast_to(row, (width,)), operand.name)


def broadcast_sizes(node: NodeProto, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that operands are broadcast to. Raises ModelError, naming the node, for shapes that do not fit."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        texts = " and ".join(str(list(shape)) for shape in shapes)
        raise ModelError(f"{label(node)}: {texts} do not broadcast") from None


def expect_unused(graph: OnnxGraph, node: NodeProto, names: Mapping[int, str]) -> None:
    """Raises UnsupportedForm if anything uses an output of `node`, given by index and name."""
    for index, name in names.items():
        if index < len(node.output) and node.output[index] in graph.used:
            raise UnsupportedForm(f"{name} cannot be an output: leave {node.output[index]!r} out")


def added(graph: OnnxGraph, node: NodeProto, first: SSAValue, second: SSAValue) -> SSAValue:
    """The sum of two values, broadcast."""
    sizes = broadcast_sizes(node, [sizes_of(first), sizes_of(second)])
    return graph.aten(torch.AddTensorOp, [first, second, graph.integer(1)], sizes)


def multiplied(graph: OnnxGraph, x: SSAValue, number: float) -> SSAValue:
    """`x` times a number."""
    return x if number == 1 else graph.aten(torch.MulScalarOp, [x, graph.number(number)], sizes_of(x))


def joined(graph: OnnxGraph, node: NodeProto, parts: Sequence[SSAValue], axis: int) -> SSAValue:
    """`parts` one after the other along an axis. Raises ModelError for shapes that do not fit."""
    sizes, kind = list(sizes_of(parts[0])), tensor_type(parts[0]).element_type
    axis %= len(sizes)
    for part in parts[1:]:
        other = list(sizes_of(part))
        if [*other[:axis], *other[axis + 1 :]] != [*sizes[:axis], *sizes[axis + 1 :]] or len(other) != len(sizes):
            raise ModelError(f"{label(node)}: {sizes} and {other} cannot be one after the other along axis {axis}")
        sizes[axis] += other[axis]
    return parts[0] if len(parts) == 1 else graph.call("cat", [graph.tensors(parts), axis], sizes, kind)
