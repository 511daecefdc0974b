"""Operators on elements: conversions, powers, means, and activations that onnxruntime fuses sums into."""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from sta.dialect import torch
from sta.dialect.torch import sizes_of, tensor_type
from sta.frontend.onnx.graph import OnnxGraph, UnsupportedForm
from sta.frontend.onnx.operands import added, broadcast_sizes, constant_operand, expect_unused, multiplied, operand
from sta.frontend.onnx.rule import Attributes, Rule

if TYPE_CHECKING:
    from onnx import NodeProto


def _power(graph: OnnxGraph, node: NodeProto, _attributes: Attributes) -> None:
    """A power with a constant number as exponent."""
    x, exponent = graph.value(node.input[0]), constant_operand(graph, node, 1)
    assert exponent is not None
    if exponent.size != 1 or not tensor_type(x).is_float or exponent.ndim > tensor_type(x).rank:
        raise UnsupportedForm("only floats can be raised to a power, and only to that of one number")
    operands = [x, graph.number(float(exponent.reshape(-1)[0]))]
    graph.set(node.output[0], graph.aten(torch.operator_class("aten.pow.Tensor_Scalar"), operands, sizes_of(x)))


def _mean(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """A mean over axes, inside a norm."""
    x = graph.value(node.input[0])
    sizes = sizes_of(x)
    given = constant_operand(graph, node, 1)
    axes = attributes["axes"] if given is None else given.tolist()
    if not axes and attributes["noop_with_empty_axes"]:
        graph.set(node.output[0], x)
        return
    taken = [axis % len(sizes) for axis in axes] if axes else list(range(len(sizes)))
    keeps = bool(attributes["keepdims"])
    result = [1 if axis in taken else size for axis, size in enumerate(sizes) if keeps or axis not in taken]
    operands = [x, graph.integers(taken), graph.boolean(keeps), graph.none()]
    graph.set(node.output[0], graph.aten(torch.operator_class("aten.mean.dim"), operands, result))


def _expand(graph: OnnxGraph, node: NodeProto, _attributes: Attributes) -> None:
    """Axes of size 1 repeated."""
    x, shape = graph.value(node.input[0]), constant_operand(graph, node, 1)
    assert shape is not None
    sizes = broadcast_sizes(node, [sizes_of(x), tuple(shape.tolist())])
    if 0 in sizes:
        raise UnsupportedForm(f"its result is empty, of shape {list(sizes)}")
    operands = [x, graph.integers(sizes), graph.boolean(False)]
    graph.set(node.output[0], graph.aten(torch.ExpandOp, operands, sizes, tensor_type(x).element_type))


_DTYPES = ("float32", "int64", "int32", "bool")
"""Elements that values can be converted to."""


def _cast(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """The same value, converted."""
    from onnx import helper

    _convert(graph, node, np.dtype(helper.tensor_dtype_to_np_dtype(attributes["to"])))


def _cast_like(graph: OnnxGraph, node: NodeProto, _attributes: Attributes) -> None:
    """The first value, converted to the type of the second."""
    array = graph.constant(node.input[1])
    like = torch.numpy_dtype(tensor_type(graph.value(node.input[1])).element_type) if array is None else array.dtype
    _convert(graph, node, like)


def _convert(graph: OnnxGraph, node: NodeProto, dtype: np.dtype) -> None:
    if dtype.name not in _DTYPES:
        raise UnsupportedForm(f"values cannot be converted to {dtype}, only to {', '.join(_DTYPES)}")
    graph.set(node.output[0], graph.converted(graph.value(node.input[0]), dtype))


def _dropout(graph: OnnxGraph, node: NodeProto, _attributes: Attributes) -> None:
    """The same value, as in inference."""
    expect_unused(graph, node, {1: "the mask"})
    ratio, training = constant_operand(graph, node, 1), constant_operand(graph, node, 2)
    if training is not None and training.any() and (ratio is None or ratio.any()):
        raise UnsupportedForm("it drops values, as in training: export the model in evaluation mode")
    graph.set(node.output[0], graph.value(node.input[0]))


# --- Of onnxruntime ---


def _bias_gelu(graph: OnnxGraph, node: NodeProto, _attributes: Attributes, *, approximate: str) -> None:
    """The GELU of a value plus a bias."""
    x = graph.value(node.input[0])
    if operand(node, 1):
        x = added(graph, node, x, graph.value(node.input[1]))
    graph.set(node.output[0], graph.gelu(x, approximate))


def _quick_gelu(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """x * sigmoid(alpha * x)."""
    x = graph.value(node.input[0])
    sizes = sizes_of(x)
    sigmoid = graph.aten(torch.operator_class("aten.sigmoid"), [multiplied(graph, x, attributes["alpha"])], sizes)
    graph.set(node.output[0], graph.aten(torch.MulTensorOp, [x, sigmoid], sizes))


RULES = {
    "Cast": Rule(_cast, ("to", "saturate", "round_mode")),
    "CastLike": Rule(_cast_like, ("saturate", "round_mode")),
    "Dropout": Rule(_dropout, ("seed",)),
    "Expand": Rule(_expand),
    "Pow": Rule(_power),
    "ReduceMean": Rule(_mean, ("axes", "keepdims", "noop_with_empty_axes")),
}

ONNXRUNTIME_RULES = {
    "BiasGelu": Rule(partial(_bias_gelu, approximate="none")),
    "FastGelu": Rule(partial(_bias_gelu, approximate="tanh")),
    "QuickGelu": Rule(_quick_gelu, ("alpha",), {"alpha": 1.702}),
}
"""Of the domain com.microsoft."""
