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
    """A power; of a value to a value, for a base above zero."""
    x, exponent = graph.value(node.input[0]), graph.constant(node.input[1])
    if not tensor_type(x).is_float:
        raise UnsupportedForm("only floats can be raised to a power")
    if exponent is None or exponent.size != 1 or exponent.ndim > tensor_type(x).rank:
        other = graph.converted(graph.value(node.input[1]), np.dtype(np.float32))
        sizes = broadcast_sizes(node, [sizes_of(x), sizes_of(other)])
        graph.set(node.output[0], graph.call("pow.Tensor_Tensor", [x, other], sizes))
        return
    operands = [x, graph.number(float(exponent.reshape(-1)[0]))]
    graph.set(node.output[0], graph.aten(torch.operator_class("aten.pow.Tensor_Scalar"), operands, sizes_of(x)))


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


def _several(graph: OnnxGraph, node: NodeProto, _attributes: Attributes, *, name: str, is_mean: bool = False) -> None:
    """The sum, mean, maximum or minimum of several values, broadcast."""
    values = [graph.value(name) for name in node.input]
    arguments = [1] if name == "add.Tensor" else []
    result = values[0]
    for value in values[1:]:
        sizes = broadcast_sizes(node, [sizes_of(result), sizes_of(value)])
        result = graph.call(name, [result, value, *arguments], sizes, tensor_type(value).element_type)
    graph.set(node.output[0], multiplied(graph, result, 1 / len(values)) if is_mean else result)


def _clip(graph: OnnxGraph, node: NodeProto, _attributes: Attributes) -> None:
    """A value within two limits, constants or values."""
    x = graph.value(node.input[0])
    kind = tensor_type(x)
    for index, name in ((1, "maximum"), (2, "minimum")):
        if operand(node, index):
            limit = graph.value(node.input[index])
            x = graph.call(name, [x, limit], kind.sizes, kind.element_type)
    graph.set(node.output[0], x)


def _prelu(graph: OnnxGraph, node: NodeProto, _attributes: Attributes) -> None:
    """max(x, 0) + slope * min(x, 0), the slope broadcast."""
    x, slope = graph.value(node.input[0]), graph.value(node.input[1])
    sizes = sizes_of(x)
    if not tensor_type(x).is_float or broadcast_sizes(node, [sizes, sizes_of(slope)]) != sizes:
        raise UnsupportedForm("its slope must broadcast to its operand, of floats")
    below = graph.call("mul.Tensor", [graph.call("clamp_max", [x, 0.0], sizes), slope], sizes)
    graph.set(node.output[0], graph.call("add.Tensor", [graph.call("relu", [x], sizes), below, 1], sizes))


def _hard_sigmoid(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """min(max(alpha * x + beta, 0), 1)."""
    x = graph.value(node.input[0])
    sizes = sizes_of(x)
    line = graph.call("add.Scalar", [multiplied(graph, x, attributes["alpha"]), attributes["beta"], 1], sizes)
    graph.set(node.output[0], graph.call("clamp", [line, 0.0, 1.0], sizes))


def _selu(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """gamma * (x if x > 0 else alpha * (exp(x) - 1))."""
    x = graph.value(node.input[0])
    arguments = [x, attributes["alpha"], attributes["gamma"], 1.0]
    graph.set(node.output[0], graph.call("elu", arguments, sizes_of(x)))


def _softsign(graph: OnnxGraph, node: NodeProto, _attributes: Attributes) -> None:
    """x / (1 + |x|)."""
    x = graph.value(node.input[0])
    sizes = sizes_of(x)
    divisor = graph.call("add.Scalar", [graph.call("abs", [x], sizes), 1.0, 1], sizes)
    graph.set(node.output[0], graph.call("div.Tensor", [x, divisor], sizes))


def _thresholded(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """x if x > alpha else 0."""
    x = graph.value(node.input[0])
    graph.set(node.output[0], graph.call("threshold", [x, attributes["alpha"], 0.0], sizes_of(x)))


def _remainder(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """A remainder, of the sign of the divisor, or with `fmod` of that of the dividend."""
    x, divisor = (graph.value(name) for name in node.input)
    name = "fmod.Tensor" if attributes["fmod"] else "remainder.Tensor"
    sizes = broadcast_sizes(node, [sizes_of(x), sizes_of(divisor)])
    graph.set(node.output[0], graph.call(name, [x, divisor], sizes, tensor_type(x).element_type))


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
    "Clip": Rule(_clip),
    "HardSigmoid": Rule(_hard_sigmoid, ("alpha", "beta")),
    "Max": Rule(partial(_several, name="maximum")),
    "Mean": Rule(partial(_several, name="add.Tensor", is_mean=True)),
    "Min": Rule(partial(_several, name="minimum")),
    "Mod": Rule(_remainder, ("fmod",)),
    "PRelu": Rule(_prelu),
    "Pow": Rule(_power),
    "Selu": Rule(_selu, ("alpha", "gamma")),
    "Softsign": Rule(_softsign),
    "Sum": Rule(partial(_several, name="add.Tensor")),
    "ThresholdedRelu": Rule(_thresholded, ("alpha",)),
}

ONNXRUNTIME_RULES = {
    "BiasGelu": Rule(partial(_bias_gelu, approximate="none")),
    "FastGelu": Rule(partial(_bias_gelu, approximate="tanh")),
    "QuickGelu": Rule(_quick_gelu, ("alpha",), {"alpha": 1.702}),
}
"""Of the domain com.microsoft."""
