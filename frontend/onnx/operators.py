"""
Translation of each ONNX operator into the `torch` dialect.

An operator that accepts the same tensors as one of PyTorch is named in that operator's row (`sta.spec.operators`). Each
other operator has a function, called with the import and the node; it raises UnsupportedForm, with the reason, for a
form without translation.
"""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import f32
from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.dialect.torch import element_type_of, sizes_of, tensor_type
from sta.frontend.errors import ModelError
from sta.frontend.onnx.file import attributes_of, label
from sta.frontend.onnx.graph import OnnxGraph, UnsupportedForm
from sta.frontend.onnx.weight import QuantizedConstant
from sta.spec.operators.operator import Attribute, Onnx, Operator
from sta.spec.operators.registry import operators
from sta.spec.outside import OPERATORS, find_addition, warn_once

if TYPE_CHECKING:
    from onnx import NodeProto


Array = NDArray[Any]


_NOTES = {
    "Conv": "convolutions cannot be compiled: let the host compute them, and cut the model behind them with "
    "onnx.utils.extract_model",
    "ReduceSum": "leave pooling to the host, and cut the model before it with onnx.utils.extract_model",
    "ReduceMean": "leave pooling to the host, and cut the model before it with onnx.utils.extract_model",
    "QLinearMatMul": "quantize with quantize-dequantize pairs: quant_format=QuantFormat.QDQ",
    "MatMulInteger": "quantize statically: onnxruntime.quantization.quantize_static with QuantFormat.QDQ",
    "DynamicQuantizeLinear": "quantize statically: onnxruntime.quantization.quantize_static with QuantFormat.QDQ",
    "Erf": "error functions are supported inside GELU: x * 0.5 * (1 + erf(x / sqrt(2)))",
}


def translate(graph: OnnxGraph, node: NodeProto) -> None:
    """Adds to `graph` what `node` computes. Raises UnsupportedForm if it has no translation."""
    rule = _rules().get(node.op_type) if node.domain in _DOMAINS else None
    if rule is None:
        raise UnsupportedForm(_NOTES.get(node.op_type, ""))
    rule(graph, node)


def is_known(node: NodeProto) -> bool:
    """True if there is a translation for nodes of this kind, alone or as a part of another operator."""
    return (node.op_type in _rules() or node.op_type in ("Shape", "Erf", "Constant")) and node.domain in _DOMAINS


_DOMAINS = ("", "ai.onnx", "com.microsoft")


def _operand(node: NodeProto, index: int) -> str:
    """The name of an operand; empty if it is absent."""
    return node.input[index] if index < len(node.input) else ""


def _constant(graph: OnnxGraph, node: NodeProto, index: int) -> Array | None:
    """The constant operand at `index`; None if it is absent."""
    name = _operand(node, index)
    if not name:
        return None
    array = graph.constant(name)
    if array is None:
        raise UnsupportedForm(f"its operand {name!r} must be a constant")
    return array


# --- Arithmetic ---


def _translate_row(row: Operator, form: Onnx, graph: OnnxGraph, node: NodeProto) -> None:
    """The operator of `row`, which accepts the same tensors as the ONNX operator."""
    values = [graph.value(name) for name in node.input]
    shapes = [sizes_of(value) for value in values]
    try:
        sizes = np.broadcast_shapes(*shapes)
    except ValueError:
        raise ModelError(
            f"{label(node)}: {' and '.join(str(list(shape)) for shape in shapes)} do not broadcast"
        ) from None
    given = attributes_of(node)
    arguments = [
        graph.python(given.get(one.name, one.default) if isinstance(one, Attribute) else one) for one in form.arguments
    ]
    kind = torch.operator_class(row.name)
    graph.set(node.output[0], graph.aten(kind, [*values, *arguments], sizes, tensor_type(values[0]).element_type))


def _layer_norm(graph: OnnxGraph, node: NodeProto) -> None:
    """A layer normalization over the last axis."""
    x = graph.value(node.input[0])
    attributes, rank = attributes_of(node), tensor_type(x).rank
    if attributes.get("axis", -1) % rank != rank - 1:
        raise UnsupportedForm("only the last axis can be normalized over")
    if len([name for name in node.output if name]) > 1:
        raise UnsupportedForm("only the normalized value is computed, not its mean and deviation")
    parameters = [graph.value(name) if name else graph.none() for name in (_operand(node, 1), _operand(node, 2))]
    epsilon = float(np.float32(attributes.get("epsilon", 1e-5)))
    operands = [x, graph.integers([sizes_of(x)[-1]]), *parameters, graph.number(epsilon), graph.boolean(False)]
    graph.set(node.output[0], graph.aten(torch.LayerNormOp, operands, sizes_of(x)))


# --- Products ---


def _matmul(graph: OnnxGraph, node: NodeProto) -> None:
    """A linear layer if one factor is a constant matrix, else a product inside attention."""
    left, right = node.input
    if (weight := _weight(graph, right, transposed=True)) is not None:
        graph.set(node.output[0], _linear(graph, node, graph.value(left), weight, None))
        return
    a, b = graph.value(left), graph.value(right)
    first, second = sizes_of(a), sizes_of(b)
    if min(len(first), len(second)) < 2:
        raise UnsupportedForm("products with a vector are not supported")
    if first[-1] != second[-2]:
        raise ModelError(f"{label(node)}: {list(first)} cannot be multiplied with {list(second)}")
    sizes = (*np.broadcast_shapes(first[:-2], second[:-2]), first[-2], second[-1])
    graph.set(node.output[0], graph.aten(torch.MatmulOp, [a, b], sizes))


def _gemm(graph: OnnxGraph, node: NodeProto) -> None:
    """A linear layer with a constant weight."""
    attributes = attributes_of(node)
    if attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
        raise UnsupportedForm("only alpha = beta = 1 and transA = 0 are supported")
    weight = _weight(graph, node.input[1], transposed=not attributes.get("transB", 0))
    if weight is None:
        raise UnsupportedForm("its weight must be a constant")
    bias = _constant(graph, node, 2)
    offsets = None
    if bias is not None:
        rows = sizes_of(weight)[0]
        if bias.size not in (1, rows):
            raise UnsupportedForm(f"its bias must have {rows} numbers, not shape {list(bias.shape)}")
        flat = bias.reshape(-1)
        offsets = graph.literal(flat if bias.size == rows else np.repeat(flat, rows), node.input[2])
    graph.set(node.output[0], _linear(graph, node, graph.value(node.input[0]), weight, offsets))


def _linear(graph: OnnxGraph, node: NodeProto, x: SSAValue, weight: SSAValue, bias: SSAValue | None) -> SSAValue:
    rows, width = sizes_of(weight)
    if sizes_of(x)[-1] != width:
        raise ModelError(f"{label(node)}: {list(sizes_of(x))} cannot be multiplied with a weight of {width} rows")
    operands = [x, weight, graph.none() if bias is None else bias]
    return graph.aten(torch.LinearOp, operands, (*sizes_of(x)[:-1], rows))


def _weight(graph: OnnxGraph, name: str, *, transposed: bool) -> SSAValue | None:
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
    operands += [graph.integer(number) for number in (0, *_range(array.dtype))]
    operands += [graph.integer(torch.dtype_number(array.dtype)), graph.none()]
    return graph.pairs("dequantize_per_channel", operands, sizes_of(integers), f32)


# --- Rearrangements ---


def _transpose(graph: OnnxGraph, node: NodeProto) -> None:
    """The axes in another order."""
    x = graph.value(node.input[0])
    sizes = sizes_of(x)
    order = attributes_of(node).get("perm", list(reversed(range(len(sizes)))))
    operands = [x, graph.integers(order)]
    result = graph.aten(torch.PermuteOp, operands, [sizes[axis] for axis in order], tensor_type(x).element_type)
    graph.set(node.output[0], result)


def _reshape(graph: OnnxGraph, node: NodeProto) -> None:
    """The same elements in another shape."""
    x, shape = graph.value(node.input[0]), _constant(graph, node, 1)
    assert shape is not None
    given, count = sizes_of(x), math.prod(sizes_of(x))
    sizes = [int(size) for size in shape.reshape(-1)]
    if not attributes_of(node).get("allowzero", 0):
        sizes = [given[axis] if size == 0 and axis < len(given) else size for axis, size in enumerate(sizes)]
    rest = math.prod(size for size in sizes if size != -1)
    sizes = [count // rest if size == -1 and rest else size for size in sizes]
    if math.prod(sizes) != count:
        raise ModelError(f"{label(node)}: {list(given)} cannot have the shape {shape.tolist()}")
    graph.set(node.output[0], graph.view(x, sizes))


def _flatten(graph: OnnxGraph, node: NodeProto) -> None:
    """The same elements in two axes."""
    x = graph.value(node.input[0])
    sizes = sizes_of(x)
    axis = attributes_of(node).get("axis", 1)
    axis = axis + len(sizes) if axis < 0 else axis
    graph.set(node.output[0], graph.view(x, (math.prod(sizes[:axis]), math.prod(sizes[axis:]))))


def _unsqueeze(graph: OnnxGraph, node: NodeProto) -> None:
    """Additional axes of size 1."""
    x, axes = graph.value(node.input[0]), _constant(graph, node, 1)
    assert axes is not None
    graph.set(node.output[0], graph.view(x, np.expand_dims(np.empty(sizes_of(x), bool), tuple(axes.tolist())).shape))


def _squeeze(graph: OnnxGraph, node: NodeProto) -> None:
    """Removal of axes of size 1."""
    x, axes = graph.value(node.input[0]), _constant(graph, node, 1)
    sizes = sizes_of(x)
    taken = range(len(sizes)) if axes is None else [int(axis) % len(sizes) for axis in axes.reshape(-1)]
    graph.set(
        node.output[0],
        graph.view(x, [size for axis, size in enumerate(sizes) if axis not in taken or size != 1]),
    )


def _slice(graph: OnnxGraph, node: NodeProto) -> None:
    """Positions of axes, forwards."""
    x = graph.value(node.input[0])
    starts, ends, axes, steps = (_constant(graph, node, index) for index in range(1, 5))
    assert starts is not None
    assert ends is not None
    axes = np.arange(starts.size) if axes is None else axes
    steps = np.ones(starts.size, np.int64) if steps is None else steps
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes.tolist(), steps.tolist(), strict=True):
        if step < 1:
            raise UnsupportedForm("positions can only be taken forwards")
        low, high, _ = slice(start, end, step).indices(sizes_of(x)[axis])
        x = _part(graph, x, axis, low, max(low, high), step)
    graph.set(node.output[0], x)


def _split(graph: OnnxGraph, node: NodeProto) -> None:
    """Parts of an axis."""
    x, lengths = graph.value(node.input[0]), _constant(graph, node, 1)
    axis = attributes_of(node).get("axis", 0) % tensor_type(x).rank
    size, count = sizes_of(x)[axis], len(node.output)
    if lengths is None:
        length = -(-size // count)
        lengths = np.array([min(length, size - index * length) for index in range(count)])
    start = 0
    for name, length in zip(node.output, lengths.tolist(), strict=True):
        graph.set(name, _part(graph, x, axis, start, start + length, 1))
        start += length


def _part(graph: OnnxGraph, x: SSAValue, axis: int, start: int, end: int, step: int) -> SSAValue:
    sizes = list(sizes_of(x))
    axis %= len(sizes)
    sizes[axis] = len(range(start, end, step))
    operands = [x, *(graph.integer(number) for number in (axis, start, end, step))]
    return graph.aten(torch.SliceTensorOp, operands, sizes, tensor_type(x).element_type)


def _gather(graph: OnnxGraph, node: NodeProto) -> None:
    """Rows of a constant table, or one position along an axis."""
    table, indices = graph.constant(node.input[0]), graph.constant(node.input[1])
    axis = attributes_of(node).get("axis", 0)
    if table is not None and table.ndim == 2 and axis == 0:
        weight, rows = graph.value(node.input[0]), graph.value(node.input[1])
        operands = [weight, rows, graph.integer(-1), graph.boolean(False), graph.boolean(False)]
        sizes = (*sizes_of(rows), table.shape[1])
        graph.set(node.output[0], graph.aten(torch.EmbeddingOp, operands, sizes))
        return
    if indices is None or indices.size != 1:
        raise UnsupportedForm("only rows of a constant table, or a single position, can be gathered")
    x = graph.value(node.input[0])
    sizes = sizes_of(x)
    axis %= len(sizes)
    index = int(indices.reshape(-1)[0]) % sizes[axis]
    part = _part(graph, x, axis, index, index + 1, 1)
    graph.set(node.output[0], graph.view(part, (*sizes[:axis], *indices.shape, *sizes[axis + 1 :])))


def _same(graph: OnnxGraph, node: NodeProto) -> None:
    """The same value."""
    graph.set(node.output[0], graph.value(node.input[0]))


def _cast(graph: OnnxGraph, node: NodeProto) -> None:
    """The same value, if it already has the type; constants are converted."""
    from onnx import helper

    x = graph.value(node.input[0])
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(attributes_of(node)["to"]))
    if torch.numpy_dtype(tensor_type(x).element_type) != dtype:
        raise UnsupportedForm(f"a value that depends on an input cannot be converted to {dtype}")
    graph.set(node.output[0], x)


# --- Quantization ---


_QUANTIZED_DTYPES = ("uint8", "int8", "int16")
"""The integers of values and weights."""


def _range(dtype: np.dtype[Any]) -> tuple[int, int]:
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def _scales(graph: OnnxGraph, node: NodeProto) -> tuple[Array, Array]:
    """Scales and zero points of a pair's node. Raises ModelError, naming the node, for invalid scales."""
    scales, zero_points = (graph.constant(name) if name else None for name in (node.input[1], _operand(node, 2)))
    if scales is None or (zero_points is None and _operand(node, 2)):
        raise ModelError(
            f"{label(node)}: its scale or zero point is computed when the model runs, and only constants can be "
            "compiled: quantize the model statically"
        )
    numbers = scales.astype(np.float32)
    wrong = ~(np.isfinite(numbers) & (numbers >= np.finfo(np.float32).tiny))
    if wrong.any():
        raise ModelError(
            f"{label(node)}: its scale {numbers.reshape(-1)[int(wrong.reshape(-1).argmax())]} is not a positive number"
        )
    if zero_points is None:
        zero_points = np.zeros(scales.shape, np.uint8)
    integers = graph.constants.get(node.input[0])
    dtype = zero_points.dtype if integers is None else integers.dtype
    # Biases have 32 bits.
    if dtype.name not in (*_QUANTIZED_DTYPES, "int32") or (dtype.name == "int32" and integers is None):
        raise ModelError(
            f"{label(node)}: values of {dtype} are not supported, only those of {', '.join(_QUANTIZED_DTYPES)}"
        )
    return numbers, np.broadcast_to(zero_points, scales.shape)


def _pair_operands(graph: OnnxGraph, node: NodeProto, scales: Array, zero_points: Array) -> list[SSAValue]:
    operands = [graph.number(float(scales.reshape(-1)[0])), graph.integer(int(zero_points.reshape(-1)[0]))]
    limits = (graph.integer(number) for number in _range(zero_points.dtype))
    return [*operands, *limits, graph.integer(torch.dtype_number(zero_points.dtype))]


def _quantize(graph: OnnxGraph, node: NodeProto) -> None:
    """The first half of a quantize-dequantize pair."""
    scales, zero_points = _scales(graph, node)
    if scales.size != 1:
        raise UnsupportedForm("values that depend on an input have one scale, not one for each channel")
    x = graph.value(node.input[0])
    if not tensor_type(x).is_float:
        raise UnsupportedForm("only float values can be quantized")
    operands = [x, *_pair_operands(graph, node, scales, zero_points)]
    element = element_type_of(zero_points.dtype)
    graph.set(node.output[0], graph.pairs("quantize_per_tensor", operands, sizes_of(x), element))


def _dequantize(graph: OnnxGraph, node: NodeProto) -> None:
    """The second half of a quantize-dequantize pair, or a quantized weight."""
    scales, zero_points = _scales(graph, node)
    integers = graph.constants.get(node.input[0])
    axis = attributes_of(node).get("axis", 1)
    if integers is not None:
        _check_axis(integers, scales, axis)
        graph.quantized[node.output[0]] = QuantizedConstant(node.input[0], integers, scales, zero_points, axis)
        return
    if scales.size != 1:
        raise UnsupportedForm("values that depend on an input have one scale, not one for each channel")
    x = graph.value(node.input[0])
    dtype = torch.numpy_dtype(tensor_type(x).element_type)
    if _operand(node, 2) and dtype != zero_points.dtype:
        raise ModelError(
            f"{label(node)}: values of {dtype} have a zero point of {zero_points.dtype}: both must be the same"
        )
    operands = [x, *_pair_operands(graph, node, scales, zero_points.astype(dtype)), graph.none()]
    graph.set(node.output[0], graph.pairs("dequantize_per_tensor", operands, sizes_of(x), f32))


def _check_axis(integers: Array, scales: Array, axis: int) -> None:
    if scales.size == 1:
        return
    if scales.ndim != 1 or not -integers.ndim <= axis < integers.ndim or integers.shape[axis] != scales.size:
        raise UnsupportedForm(f"{list(scales.shape)} scales do not fit a constant of shape {list(integers.shape)}")


Rule = Callable[["OnnxGraph", "NodeProto"], None]

_STRUCTURED: dict[str, Rule] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "LayerNormalization": _layer_norm,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Identity": _same,
    "Cast": _cast,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
}
"""Rules of operators that have a form other than ours, a function each."""


@cache
def _rules() -> Mapping[str, Rule]:
    """All rules: those of rows by themselves, of other packages as far as there is no rule already."""
    rows = {row.onnx.name: row for row in operators().values() if row.onnx is not None}
    for name in rows.keys() & _STRUCTURED.keys():
        refusal = find_addition(OPERATORS, rows[name].name).refusal(f"ONNX operator {name!r} has another translation")
        warn_once(f"{refusal}, which is used")
    found = {name: partial(_translate_row, row, row.onnx) for name, row in rows.items() if row.onnx is not None}
    return {**found, **_STRUCTURED}


def onnx_operators() -> list[tuple[str, str]]:
    """The translatable ONNX operators, sorted, each with the operator of PyTorch or the title of its rule."""
    rows = {row.onnx.name: row.name for row in operators().values() if row.onnx is not None}
    return [
        (name, rule.__doc__ or "" if name in _STRUCTURED else f"`{rows[name]}`")
        for name, rule in sorted(_rules().items())
    ]


def supported_operators() -> str:
    """The ONNX operators that have a translation, as messages list them."""
    return f"{', '.join(sorted(_rules()))}, attention made of them, and whatever depends on no input"
