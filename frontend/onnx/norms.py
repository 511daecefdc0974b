"""Normalizations over the last axis, ONNX's own and those that onnxruntime fuses additions into."""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.dialect.torch import sizes_of, tensor_type
from sta.frontend.onnx.graph import OnnxGraph, UnsupportedForm
from sta.frontend.onnx.operands import added, broadcast_operand, constant_operand, expect_unused, operand, row_of
from sta.frontend.onnx.rule import Attributes, Rule

if TYPE_CHECKING:
    from onnx import NodeProto

_STATISTICS = {1: "the mean", 2: "the deviation"}


def _layer_norm(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """A layer normalization over the last axis."""
    x = graph.value(node.input[0])
    _expect_last_axis(x, attributes)
    expect_unused(graph, node, _STATISTICS)
    graph.set(node.output[0], _normalized(graph, node, x, attributes["epsilon"], scale=1, offset=2))


def _rms_norm(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """A normalization by the root of the mean square, over the last axis."""
    x = graph.value(node.input[0])
    _expect_last_axis(x, attributes)
    expect_unused(graph, node, {1: "the deviation"})
    result = _normalized(graph, node, x, attributes["epsilon"], scale=1, with_mean=False)
    graph.set(node.output[0], result)


def _skip_norm(graph: OnnxGraph, node: NodeProto, attributes: Attributes, *, with_mean: bool) -> None:
    """A sum of two values and a bias, normalized."""
    expect_unused(graph, node, _STATISTICS)
    bias = 4 if with_mean else 3
    total = graph.value(node.input[0])
    for index in (1, bias):
        if operand(node, index):
            total = added(graph, node, total, graph.value(node.input[index]))
    offset = 3 if with_mean else None
    result = _normalized(graph, node, total, attributes["epsilon"], scale=2, offset=offset, with_mean=with_mean)
    graph.set(node.output[0], result)
    if len(node.output) > 3:
        graph.set(node.output[3], total)


def _expect_last_axis(x: SSAValue, attributes: Attributes) -> None:
    rank = tensor_type(x).rank
    if attributes["axis"] % rank != rank - 1:
        raise UnsupportedForm("only the last axis can be normalized over")


def _normalized(
    graph: OnnxGraph,
    node: NodeProto,
    x: SSAValue,
    epsilon: float,
    *,
    scale: int,
    offset: int | None = None,
    with_mean: bool = True,
) -> SSAValue:
    """`x` normalized over its last axis; `scale` and `offset` are the indices of constant operands."""
    sizes = sizes_of(x)
    indices = (scale, len(node.input) if offset is None else offset)
    factor, addend = (broadcast_operand(graph, node, index, sizes) for index in indices)
    rows = [row_of(graph, one, sizes[-1]) for one in (factor, addend)]
    if rows[0] is None and factor is not None:
        # An addend comes behind the factor.
        rows[1] = None
    number = graph.number(float(np.float32(epsilon)))
    parameters = [graph.none() if row is None else row for row in rows]
    width = graph.integers([sizes[-1]])
    if with_mean:
        result = graph.aten(torch.LayerNormOp, [x, width, *parameters, number, graph.boolean(False)], sizes)
    else:
        result = graph.aten(torch.RmsNormOp, [x, width, parameters[0], number], sizes)
    if factor is not None and rows[0] is None:
        result = graph.aten(torch.MulTensorOp, [result, factor.literal(graph)], sizes)
    if addend is not None and (rows[1] is None or not with_mean):
        result = graph.aten(torch.AddTensorOp, [result, addend.literal(graph), graph.integer(1)], sizes)
    return result


def _batch_norm(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """A normalization by constant statistics."""
    expect_unused(graph, node, _STATISTICS)
    for index in range(1, 5):
        constant_operand(graph, node, index)
    x, scale, offset, mean, variance = (graph.value(name) for name in node.input)
    arguments = [x, scale, offset, mean, variance, False, 0.1, float(np.float32(attributes["epsilon"])), False]
    graph.set(node.output[0], graph.call("batch_norm", arguments, sizes_of(x)))


def _instance_norm(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """A normalization of each channel of each sample."""
    x, scale, offset = (graph.value(name) for name in node.input)
    arguments = [x, scale, offset, None, None, True, 0.1, float(np.float32(attributes["epsilon"])), False]
    graph.set(node.output[0], graph.call("instance_norm", arguments, sizes_of(x)))


def _vector_norm(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """A value divided by its norm over an axis; zeros stay."""
    x = graph.value(node.input[0])
    sizes, axis = list(sizes_of(x)), attributes["axis"] % tensor_type(x).rank
    if attributes["p"] not in (1, 2):
        raise UnsupportedForm("only norms of order 1 and 2 are supported")
    kept = [1 if index == axis else size for index, size in enumerate(sizes)]
    length = graph.call("linalg_vector_norm", [x, float(attributes["p"]), [axis], True, None], kept)
    divisor = graph.call("clamp_min", [length, 1e-12], kept)
    graph.set(node.output[0], graph.call("div.Tensor", [x, divisor], sizes))


RULES = {
    "BatchNormalization": Rule(_batch_norm, ("epsilon", "momentum")),
    "InstanceNormalization": Rule(_instance_norm, ("epsilon",)),
    "LpNormalization": Rule(_vector_norm, ("axis", "p")),
    "LayerNormalization": Rule(_layer_norm, ("axis", "epsilon")),
    "RMSNormalization": Rule(_rms_norm, ("axis", "epsilon")),
}

_SKIP_EPSILON = 1e-12

ONNXRUNTIME_RULES = {
    "SimplifiedLayerNormalization": Rule(
        _rms_norm, ("axis", "epsilon"), {"axis": -1, "epsilon": 1e-5, "stash_type": 1}
    ),
    "SkipLayerNormalization": Rule(partial(_skip_norm, with_mean=True), ("epsilon",), {"epsilon": _SKIP_EPSILON}),
    "SkipSimplifiedLayerNormalization": Rule(
        partial(_skip_norm, with_mean=False), ("epsilon",), {"epsilon": _SKIP_EPSILON}
    ),
}
"""Of the domain com.microsoft."""
