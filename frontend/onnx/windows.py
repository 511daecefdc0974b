"""Operators over windows of axes: convolutions and pooling."""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sta.dialect.torch import sizes_of
from sta.frontend.errors import ModelError
from sta.frontend.onnx.file import label
from sta.frontend.onnx.graph import OnnxGraph, UnsupportedForm
from sta.frontend.onnx.movement import taken, zero_padded
from sta.frontend.onnx.operands import constant_operand, expect_unused, operand
from sta.frontend.onnx.reductions import Reduce, largest, mean
from sta.frontend.onnx.rule import Attributes, Rule

if TYPE_CHECKING:
    from onnx import NodeProto

Widths = list[tuple[int, int]]


def _numbers(given: Any, count: int, default: int) -> list[int]:
    return list(given) if given else [default] * count


def _padding(attributes: Attributes, spatial: Sequence[int], kernel: Sequence[int]) -> Widths:
    """The padding of each spatial axis, before and after."""
    count = len(spatial)
    mode = attributes["auto_pad"]
    if mode in (None, "", "NOTSET"):
        pads = _numbers(attributes["pads"], 2 * count, 0)
        return list(zip(pads[:count], pads[count:], strict=True))
    if mode == "VALID":
        return [(0, 0)] * count
    strides, dilations = (_numbers(attributes[name], count, 1) for name in ("strides", "dilations"))
    widths: Widths = []
    for size, width, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True):
        missing = max((-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size, 0)
        less, more = missing // 2, missing - missing // 2
        widths.append((less, more) if mode == "SAME_UPPER" else (more, less))
    return widths


def _counts(
    spatial: Sequence[int], widths: Widths, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """The number of windows along each spatial axis."""
    rows = zip(spatial, widths, kernel, strides, dilations, strict=True)
    return [
        (size + before + after - (width - 1) * dilation - 1) // stride + 1
        for size, (before, after), width, stride, dilation in rows
    ]


def _constant_kernel(graph: OnnxGraph, node: NodeProto) -> None:
    for index in (1, 2):
        constant_operand(graph, node, index)


def _conv(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """A convolution with a constant kernel."""
    _constant_kernel(graph, node)
    x, weight = graph.value(node.input[0]), graph.value(node.input[1])
    batch, depth, *spatial = sizes_of(x)
    columns, inner, *kernel = sizes_of(weight)
    if inner * attributes["group"] != depth or len(kernel) != len(spatial):
        raise ModelError(f"{label(node)}: its kernel {list(sizes_of(weight))} does not fit {list(sizes_of(x))}")
    count = len(kernel)
    strides, dilations = (_numbers(attributes[name], count, 1) for name in ("strides", "dilations"))
    widths = _padding(attributes, spatial, kernel)
    sizes = (batch, columns, *_counts(spatial, widths, kernel, strides, dilations))
    padding = [before for before, _ in widths]
    if any(before != after for before, after in widths):
        x, padding = zero_padded(graph, x, [(0, 0), (0, 0), *widths]), [0] * count
    bias = graph.value(node.input[2]) if operand(node, 2) else None
    arguments = [x, weight, bias, strides, padding, dilations, False, [0] * count, attributes["group"]]
    graph.set(node.output[0], graph.call("convolution", arguments, sizes))


def _conv_transpose(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """A transposed convolution with a constant kernel: all that it gives, and the part between the padding."""
    _constant_kernel(graph, node)
    x, weight = graph.value(node.input[0]), graph.value(node.input[1])
    batch, depth, *spatial = sizes_of(x)
    rows, columns, *kernel = sizes_of(weight)
    if rows != depth or len(kernel) != len(spatial):
        raise ModelError(f"{label(node)}: its kernel {list(sizes_of(weight))} does not fit {list(sizes_of(x))}")
    count, groups = len(kernel), attributes["group"]
    strides, dilations = (_numbers(attributes[name], count, 1) for name in ("strides", "dilations"))
    extra = _numbers(attributes["output_padding"], count, 0)
    steps = zip(spatial, strides, dilations, kernel, strict=True)
    whole = [(size - 1) * stride + dilation * (width - 1) + 1 for size, stride, dilation, width in steps]
    wanted, widths = _cut(attributes, spatial, strides, [a + b for a, b in zip(whole, extra, strict=True)])
    bias = graph.value(node.input[2]) if operand(node, 2) else None
    arguments = [x, weight, bias, strides, [0] * count, dilations, True, [0] * count, groups]
    result = graph.call("convolution", arguments, (batch, columns * groups, *whole))
    for axis, (size, (before, _), length) in enumerate(zip(wanted, widths, whole, strict=True), start=2):
        if before < 0 or before + size > length:
            raise UnsupportedForm("its output may not reach beyond its input's windows")
        result = graph.part(result, axis, before, before + size)
    graph.set(node.output[0], result)


def _cut(
    attributes: Attributes, spatial: Sequence[int], strides: Sequence[int], whole: Sequence[int]
) -> tuple[list[int], Widths]:
    """The sizes of the result of a transposed convolution, and what is cut from each end of `whole`."""
    mode, wanted, count = attributes["auto_pad"], attributes["output_shape"], len(spatial)
    if not wanted and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [size * stride for size, stride in zip(spatial, strides, strict=True)]
    if wanted:
        totals = [length - size for length, size in zip(whole, wanted[-count:], strict=True)]
        halves = [(total // 2, total - total // 2) for total in totals]
        return list(wanted[-count:]), halves if mode == "SAME_UPPER" else [(more, less) for less, more in halves]
    pads = _numbers(attributes["pads"] if mode in (None, "", "NOTSET") else None, 2 * count, 0)
    widths = list(zip(pads[:count], pads[count:], strict=True))
    return [length - sum(pair) for length, pair in zip(whole, widths, strict=True)], widths


def _windows(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> tuple[Any, ...]:
    """The value, padding, strides, dilations and the result's sizes of a pooling."""
    x = graph.value(node.input[0])
    batch, depth, *spatial = sizes_of(x)
    kernel, count = attributes["kernel_shape"], len(spatial)
    if not 1 <= count <= 3:
        raise UnsupportedForm("windows have one to three axes")
    strides, dilations = (_numbers(attributes[name], count, 1) for name in ("strides", "dilations"))
    widths = _padding(attributes, spatial, kernel)
    sizes = _counts(spatial, widths, kernel, strides, dilations)
    rounded = [
        -(-(size + sum(pair) - (width - 1) * dilation - 1) // stride) + 1
        for size, pair, width, stride, dilation in zip(spatial, widths, kernel, strides, dilations, strict=True)
    ]
    if attributes["ceil_mode"] and rounded != sizes:
        raise UnsupportedForm("its windows reach beyond the padding (ceil_mode): pad the value before it")
    return x, widths, strides, dilations, (batch, depth, *sizes)


def _average_pool(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """The means of windows."""
    x, widths, strides, dilations, sizes = _windows(graph, node, attributes)
    counts_padding = bool(attributes["count_include_pad"])
    padding = [before for before, _ in widths]
    if set(dilations) != {1}:
        raise UnsupportedForm("dilated windows are not averaged")
    if any(before != after for before, after in widths):
        if not counts_padding:
            raise UnsupportedForm("padding that differs at both ends is supported if it counts (count_include_pad)")
        x, padding = zero_padded(graph, x, [(0, 0), (0, 0), *widths]), [0] * len(widths)
    name = f"avg_pool{len(padding)}d"
    arguments = [x, attributes["kernel_shape"], strides, padding, False, counts_padding]
    graph.set(node.output[0], graph.call(name, arguments if len(padding) == 1 else [*arguments, None], sizes))


def _max_pool(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """The maxima of windows."""
    expect_unused(graph, node, {1: "the positions of maxima"})
    x, widths, strides, dilations, sizes = _windows(graph, node, attributes)
    for axis, ((before, after), width) in enumerate(zip(widths, attributes["kernel_shape"], strict=True), start=2):
        if not before and not after:
            continue
        if dilations[axis - 2] != 1 or max(before, after) >= width:
            raise UnsupportedForm("padding must be shorter than a window, and windows over it without dilation")
        # Every window that reaches into the padding has the position at the end, too.
        positions = np.arange(-before, sizes_of(x)[axis] + after)
        x = taken(graph, x, axis, np.clip(positions, 0, sizes_of(x)[axis] - 1))
    count = len(widths)
    arguments = [x, attributes["kernel_shape"], strides, [0] * count, dilations, False]
    graph.set(node.output[0], graph.call(f"max_pool{count}d", arguments, sizes))


def _global_pool(graph: OnnxGraph, node: NodeProto, _attributes: Attributes, *, reduce: Reduce) -> None:
    x = graph.value(node.input[0])
    batch, depth, *spatial = sizes_of(x)
    sizes = [batch, depth, *(1 for _ in spatial)]
    graph.set(node.output[0], reduce(graph, x, list(range(2, len(sizes))), True, sizes))


_GEOMETRY = ("auto_pad", "dilations", "kernel_shape", "pads", "strides")
_POOLS = (*_GEOMETRY, "ceil_mode")

RULES = {
    "AveragePool": Rule(_average_pool, (*_POOLS, "count_include_pad")),
    "Conv": Rule(_conv, (*_GEOMETRY, "group")),
    "ConvTranspose": Rule(_conv_transpose, (*_GEOMETRY, "group", "output_padding", "output_shape")),
    "GlobalAveragePool": Rule(partial(_global_pool, reduce=mean), title="The mean of each channel."),
    "GlobalMaxPool": Rule(partial(_global_pool, reduce=largest), title="The maximum of each channel."),
    "MaxPool": Rule(_max_pool, (*_POOLS, "storage_order")),
}
