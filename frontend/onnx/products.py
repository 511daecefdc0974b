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
from sta.frontend.onnx.operands import broadcast_operand, broadcast_sizes, multiplied, operand, row_of
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
    """A product of two values; a vector is a row on the left, a column on the right."""
    vectors = [tensor_type(one).rank == 1 for one in (a, b)]
    a = graph.view(a, (1, *sizes_of(a))) if vectors[0] else a
    b = graph.view(b, (*sizes_of(b), 1)) if vectors[1] else b
    first, second = sizes_of(a), sizes_of(b)
    if first[-1] != second[-2]:
        raise ModelError(f"{label(node)}: {list(first)} cannot be multiplied with {list(second)}")
    leading = broadcast_sizes(node, [first[:-2], second[:-2]])
    result = graph.aten(torch.MatmulOp, [a, b], (*leading, first[-2], second[-1]))
    if not any(vectors):
        return result
    kept = [size for size, is_vector in zip((first[-2], second[-1]), vectors, strict=True) if not is_vector]
    return graph.view(result, (*leading, *kept))


def _gemm(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """alpha * (a times b) + beta * c: a linear layer where b is a constant, and c a constant row."""
    x = graph.value(node.input[0])
    if tensor_type(x).rank != 2:
        raise ModelError(f"{label(node)}: its operands are matrices, and not of shape {list(sizes_of(x))}")
    x = _transposed(graph, x) if attributes["transA"] else x
    alpha, beta = attributes["alpha"], attributes["beta"]
    weight = constant_matrix(graph, node.input[1], transposed=not attributes["transB"])
    rows = sizes_of(x)[0]
    if weight is None:
        other = graph.value(node.input[1])
        product = _product(graph, node, x, _transposed(graph, other) if attributes["transB"] else other)
        result, row = multiplied(graph, product, alpha), None
    else:
        plain = alpha == 1 and beta == 1
        columns = sizes_of(weight)[0]
        constant = not operand(node, 2) or graph.constant(node.input[2]) is not None
        bias = broadcast_operand(graph, node, 2, (rows, columns)) if constant else None
        row = row_of(graph, bias, columns) if plain else None
        result = multiplied(graph, linear(graph, node, x, weight, row), alpha)
    if operand(node, 2) and row is None:
        sizes = sizes_of(result)
        addend = graph.value(node.input[2])
        if broadcast_sizes(node, [sizes, sizes_of(addend)]) != sizes:
            raise ModelError(f"{label(node)}: {list(sizes_of(addend))} does not broadcast to {list(sizes)}")
        result = graph.aten(torch.AddTensorOp, [result, multiplied(graph, addend, beta), graph.integer(1)], sizes)
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


RULES = {"MatMul": Rule(_matmul), "Gemm": Rule(_gemm, ("alpha", "beta", "transA", "transB"))}

ONNXRUNTIME_RULES = {
    "FusedMatMul": Rule(
        _fused_matmul,
        ("alpha", "transA", "transB"),
        {"alpha": 1.0, "transA": 0, "transB": 0, "transBatchA": 0, "transBatchB": 0},
    )
}
"""Of the domain com.microsoft."""
