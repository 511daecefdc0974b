"""Products: linear layers, and the matrix products inside attention."""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from xdsl.dialects.builtin import f32
from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.dialect.torch import sizes_of, tensor_type
from sta.frontend.errors import ModelError
from sta.frontend.onnx.file import label
from sta.frontend.onnx.graph import OnnxGraph, UnsupportedForm
from sta.frontend.onnx.operands import broadcast_operand, broadcast_sizes, multiplied, row_of
from sta.frontend.onnx.rule import Attributes, Rule
from sta.frontend.onnx.weight import integer_range

if TYPE_CHECKING:
    from onnx import NodeProto


def _matmul(graph: OnnxGraph, node: NodeProto, _attributes: Attributes) -> None:
    """A linear layer if one factor is a constant matrix, else a product inside attention."""
    left, right = node.input
    weight = constant_matrix(graph, right, transposed=True)
    if weight is None:
        result = _product(graph, node, graph.value(left), graph.value(right))
    else:
        result = linear(graph, node, graph.value(left), weight, None)
    graph.set(node.output[0], result)


def _fused_matmul(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """A product with a number, and of transposed operands."""
    left, right = graph.value(node.input[0]), node.input[1]
    if attributes["transA"]:
        left = _transposed(graph, left)
    weight = constant_matrix(graph, right, transposed=not attributes["transB"])
    if weight is None:
        other = graph.value(right)
        result = _product(graph, node, left, _transposed(graph, other) if attributes["transB"] else other)
    else:
        result = linear(graph, node, left, weight, None)
    graph.set(node.output[0], multiplied(graph, result, attributes["alpha"]))


def _transposed(graph: OnnxGraph, x: SSAValue) -> SSAValue:
    rank = tensor_type(x).rank
    return graph.permuted(x, [*range(rank - 2), rank - 1, rank - 2])


def _product(graph: OnnxGraph, node: NodeProto, a: SSAValue, b: SSAValue) -> SSAValue:
    first, second = sizes_of(a), sizes_of(b)
    if min(len(first), len(second)) < 2:
        raise UnsupportedForm("products with a vector are not supported")
    if first[-1] != second[-2]:
        raise ModelError(f"{label(node)}: {list(first)} cannot be multiplied with {list(second)}")
    sizes = (*broadcast_sizes(node, [first[:-2], second[:-2]]), first[-2], second[-1])
    return graph.aten(torch.MatmulOp, [a, b], sizes)


def _gemm(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """A linear layer with a constant weight."""
    x = graph.value(node.input[0])
    if tensor_type(x).rank != 2:
        raise ModelError(f"{label(node)}: its operands are matrices, and not of shape {list(sizes_of(x))}")
    weight = constant_matrix(graph, node.input[1], transposed=not attributes["transB"])
    if weight is None:
        raise UnsupportedForm("its weight must be a constant")
    sizes = (sizes_of(x)[0], sizes_of(weight)[0])
    bias = broadcast_operand(graph, node, 2, sizes)
    row = row_of(graph, bias, sizes[1])
    result = linear(graph, node, x, weight, row)
    if bias is not None and row is None:
        result = graph.aten(torch.AddTensorOp, [result, bias.literal(graph), graph.integer(1)], sizes)
    graph.set(node.output[0], result)


def linear(graph: OnnxGraph, node: NodeProto, x: SSAValue, weight: SSAValue, bias: SSAValue | None) -> SSAValue:
    """`x` times a weight [outputs, inputs], plus a bias [outputs]. Raises ModelError for another number of inputs."""
    rows, width = sizes_of(weight)
    if sizes_of(x)[-1] != width:
        raise ModelError(f"{label(node)}: {list(sizes_of(x))} cannot be multiplied with a weight of {width} rows")
    operands = [x, weight, graph.none() if bias is None else bias]
    return graph.aten(torch.LinearOp, operands, (*sizes_of(x)[:-1], rows))


def constant_matrix(graph: OnnxGraph, name: str, *, transposed: bool) -> SSAValue | None:
    """The constant matrix `name` as [outputs, inputs], dequantized if it comes as integers; None if it is no matrix."""
    quantized = graph.quantized.get(name)
    array = graph.constants.get(name) if quantized is None else quantized.integers
    if array is None or array.ndim != 2:
        return None
    if quantized is None:
        return graph.literal(array.T if transposed else array, name)
    rows = 1 if transposed else 0
    many = quantized.scales.size > 1
    if many and quantized.axis % 2 != rows:
        raise UnsupportedForm(
            f"its weight {quantized.name!r} has a scale for each input channel: give it one for each output channel"
        )
    count = array.shape[rows]
    scales = np.broadcast_to(quantized.scales.reshape(-1), count).astype(np.float32)
    zero_points = np.broadcast_to(quantized.zero_points.reshape(-1), count).astype(np.int64)
    integers = graph.literal(array.T if transposed else array, quantized.name)
    operands = [integers, graph.literal(scales, f"{quantized.name}.scale")]
    operands.append(graph.literal(zero_points, f"{quantized.name}.zero_point"))
    operands += [graph.integer(number) for number in (0, *integer_range(array.dtype))]
    operands += [graph.integer(torch.dtype_number(array.dtype)), graph.none()]
    return graph.pairs("dequantize_per_channel", operands, sizes_of(integers), f32)


RULES = {"MatMul": Rule(_matmul), "Gemm": Rule(_gemm, ("transB",))}

ONNXRUNTIME_RULES = {
    "FusedMatMul": Rule(
        _fused_matmul,
        ("alpha", "transA", "transB"),
        {"alpha": 1.0, "transA": 0, "transB": 0, "transBatchA": 0, "transBatchB": 0},
    )
}
"""Of the domain com.microsoft."""
