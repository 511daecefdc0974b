"""Movement: concatenation, padding, repetition, and positions of axes in other orders."""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import SSAValue

from sta.dialect.torch import numpy_dtype, sizes_of, tensor_type
from sta.frontend.errors import ModelError
from sta.frontend.onnx.file import label
from sta.frontend.onnx.graph import OnnxGraph, UnsupportedForm
from sta.frontend.onnx.operands import constant_operand, joined
from sta.frontend.onnx.rule import Attributes, Rule

if TYPE_CHECKING:
    from onnx import NodeProto

Array = NDArray[Any]


def taken(graph: OnnxGraph, x: SSAValue, axis: int, positions: Array) -> SSAValue:
    """The constant `positions` of an axis of `x`."""
    sizes = list(sizes_of(x))
    sizes[axis] = len(positions)
    literal = graph.literal(np.asarray(positions, np.int64), "positions")
    return graph.call("index_select", [x, axis, literal], sizes, tensor_type(x).element_type)


def zero_padded(graph: OnnxGraph, x: SSAValue, widths: list[tuple[int, int]], number: float = 0.0) -> SSAValue:
    """`x` with `number` around the ends of its axes; negative widths cut."""
    if not any(any(pair) for pair in widths):
        return x
    sizes = [size + before + after for size, (before, after) in zip(sizes_of(x), widths, strict=True)]
    if min(sizes) < 1:
        raise UnsupportedForm(f"its result is empty, of shape {sizes}")
    flat = [width for pair in reversed(widths) for width in pair]
    given = float(number) if tensor_type(x).is_float else int(number)
    return graph.call("constant_pad_nd", [x, flat, given], sizes, tensor_type(x).element_type)


def _concat(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """Values one after the other."""
    constants = [graph.constant(name) for name in node.input]
    parts = [
        graph.value(name) for name, array in zip(node.input, constants, strict=True) if array is None or array.size
    ]
    graph.set(node.output[0], joined(graph, node, parts, attributes["axis"]))


def _pad(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """Numbers or other positions around the ends of axes."""
    x, mode = graph.value(node.input[0]), attributes["mode"]
    pads, number, axes = (constant_operand(graph, node, index) for index in range(1, 4))
    assert pads is not None
    rank = tensor_type(x).rank
    listed = list(range(rank)) if axes is None else [axis % rank for axis in axes.tolist()]
    given = pads.reshape(2, len(listed)).T.tolist()
    widths = [(0, 0)] * rank
    for axis, (before, after) in zip(listed, given, strict=True):
        widths[axis] = (before, after)
    if mode == "constant":
        filler = 0.0 if number is None else number.reshape(-1)[0].item()
        graph.set(node.output[0], zero_padded(graph, x, widths, filler))
        return
    for axis, (before, after) in enumerate(widths):
        if before or after:
            inside = np.arange(sizes_of(x)[axis])[max(-before, 0) : min(after, 0) or None]
            spread = np.pad(inside, (max(before, 0), max(after, 0)), mode=mode)
            x = taken(graph, x, axis, spread)
    graph.set(node.output[0], x)


def _tile(graph: OnnxGraph, node: NodeProto, _attributes: Attributes) -> None:
    """The whole several times along each axis."""
    x, times = graph.value(node.input[0]), constant_operand(graph, node, 1)
    assert times is not None
    sizes = [size * count for size, count in zip(sizes_of(x), times.tolist(), strict=True)]
    if 0 in sizes:
        raise UnsupportedForm(f"its result is empty, of shape {sizes}")
    graph.set(node.output[0], graph.call("repeat", [x, times.tolist()], sizes, tensor_type(x).element_type))


def _slice(graph: OnnxGraph, node: NodeProto, _attributes: Attributes) -> None:
    """Positions of axes, forwards or backwards."""
    x = graph.value(node.input[0])
    starts, ends, axes, steps = (constant_operand(graph, node, index) for index in range(1, 5))
    assert starts is not None
    assert ends is not None
    axes = np.arange(starts.size) if axes is None else axes
    steps = np.ones(starts.size, np.int64) if steps is None else steps
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes.tolist(), steps.tolist(), strict=True):
        if not step:
            raise ModelError(f"{label(node)}: its step is 0")
        low, high, _ = slice(start, end, step).indices(sizes_of(x)[axis])
        positions = np.arange(low, high, step)
        if not positions.size:
            raise UnsupportedForm(f"it takes nothing of axis {axis}, from {start} to {end} of {sizes_of(x)[axis]}")
        x = graph.part(x, axis, low, high, step) if step > 0 else taken(graph, x, axis % len(sizes_of(x)), positions)
    graph.set(node.output[0], x)


def _depth_to_space(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """Blocks of channels as patches of the image."""
    x, block = graph.value(node.input[0]), attributes["blocksize"]
    batch, depth, height, width = sizes_of(x)
    channels = depth // block**2
    column_first = attributes["mode"] == "CRD"
    parted = (channels, block, block) if column_first else (block, block, channels)
    order = [0, 1, 4, 2, 5, 3] if column_first else [0, 3, 4, 1, 5, 2]
    moved = graph.permuted(graph.view(x, (batch, *parted, height, width)), order)
    graph.set(node.output[0], graph.view(moved, (batch, channels, height * block, width * block)))


def _space_to_depth(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """Patches of the image as blocks of channels."""
    x, block = graph.value(node.input[0]), attributes["blocksize"]
    batch, depth, height, width = sizes_of(x)
    parted = graph.view(x, (batch, depth, height // block, block, width // block, block))
    sizes = (batch, depth * block**2, height // block, width // block)
    graph.set(node.output[0], graph.view(graph.permuted(parted, [0, 3, 5, 1, 2, 4]), sizes))


def _triangle(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """Zeros above or below a diagonal of the last two axes."""
    x, offset = graph.value(node.input[0]), constant_operand(graph, node, 1)
    kind = tensor_type(x)
    part = np.triu if attributes["upper"] else np.tril
    kept = part(np.ones(kind.sizes, bool), 0 if offset is None else int(offset.reshape(-1)[0]))
    zero = graph.literal(np.zeros((), numpy_dtype(kind.element_type)), "zero")
    result = graph.call("where.self", [graph.literal(kept, "triangle"), x, zero], kind.sizes, kind.element_type)
    graph.set(node.output[0], result)


RULES = {
    "Concat": Rule(_concat, ("axis",)),
    "DepthToSpace": Rule(_depth_to_space, ("blocksize", "mode")),
    "Pad": Rule(_pad, ("mode",)),
    "Slice": Rule(_slice),
    "SpaceToDepth": Rule(_space_to_depth, ("blocksize",)),
    "Tile": Rule(_tile),
    "Trilu": Rule(_triangle, ("upper",)),
}
