"""
Translation of each ONNX operator into the `torch` dialect.

An operator that accepts the same tensors as one of PyTorch is named in that operator's row (`sta.spec.operators`). Each
other operator has a function, called with the import, the node, and the attributes that its rule reads; it raises
UnsupportedForm, with the reason, for a form without translation. An attribute that no rule reads is refused unless it
has ONNX's own default.
"""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import f32, i1
from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.dialect.torch import element_type_of, sizes_of, tensor_type
from sta.frontend.errors import ModelError
from sta.frontend.onnx import (
    attention,
    elementwise,
    lookups,
    movement,
    norms,
    products,
    reductions,
    resampling,
    windows,
)
from sta.frontend.onnx.file import attributes_of, default_attributes, label
from sta.frontend.onnx.folding import FROM_SHAPE
from sta.frontend.onnx.graph import OnnxGraph, UnsupportedForm
from sta.frontend.onnx.notes import ONNXRUNTIME, note_of
from sta.frontend.onnx.operands import broadcast_sizes, constant_operand, operand
from sta.frontend.onnx.rule import Attributes, Rule
from sta.frontend.onnx.weight import QuantizedConstant, integer_range
from sta.spec.operators.operator import Attribute, Constant, Onnx, Operator, Role
from sta.spec.operators.registry import operators
from sta.spec.outside import OPERATORS, find_addition, warn_once

if TYPE_CHECKING:
    from onnx import NodeProto


Array = NDArray[Any]


def translate(graph: OnnxGraph, node: NodeProto) -> None:
    """Adds to `graph` what `node` computes. Raises UnsupportedForm if it has no translation."""
    rule = _rule(node)
    if rule is None:
        raise UnsupportedForm(note_of(node))
    rule.function(graph, node, _attributes(graph, node, rule))


def _rule(node: NodeProto) -> Rule | None:
    """The rule of the operator of `node`; None if it has none."""
    if node.domain == ONNXRUNTIME and node.op_type in _ONNXRUNTIME:
        return _ONNXRUNTIME[node.op_type]
    shared = not node.domain or (node.domain == ONNXRUNTIME and node.op_type in _IN_BOTH)
    return _rules().get(node.op_type) if shared else None


def _attributes(graph: OnnxGraph, node: NodeProto, rule: Rule) -> Attributes:
    """
    The attributes that `rule` reads, absent ones as they are by default, or None.

    Raises UnsupportedForm for others that are not what they are by default.
    """
    given = attributes_of(node)
    defaults = rule.defaults or default_attributes(node, graph.opset)
    for name, value in given.items():
        if name not in rule.reads and value != defaults.get(name):
            raise UnsupportedForm(f"its attribute {name} = {value!r} is not supported")
    return {name: given.get(name, defaults.get(name)) for name in rule.reads}


def is_known(node: NodeProto) -> bool:
    """True if there is a translation for nodes of this kind, alone or as a part of another operator."""
    return _rule(node) is not None or (not node.domain and node.op_type in FROM_SHAPE)


_IN_BOTH = ("Gelu", "QuantizeLinear", "DequantizeLinear")
"""ONNX's operators that onnxruntime has, too."""


# --- Arithmetic ---


def _translate_row(row: Operator, form: Onnx, graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """The operator of `row`, which accepts the same tensors as the ONNX operator."""
    values = [graph.value(name) for name in node.input]
    if row.role is Role.SCALING and not all(tensor_type(value).is_float for value in values):
        raise UnsupportedForm("only floats are supported: of integers PyTorch's quotient is another one")
    sizes = broadcast_sizes(node, [sizes_of(value) for value in values])
    arguments = [graph.python(_argument(one, attributes)) for one in form.arguments]
    kind = torch.operator_class(row.name)
    element = i1 if form.truth else tensor_type(values[-1]).element_type
    graph.set(node.output[0], graph.aten(kind, [*values, *arguments], sizes, element))


def _argument(one: Attribute | Constant, attributes: Attributes) -> Constant:
    """An argument after the tensors."""
    if not isinstance(one, Attribute):
        return one
    return one.default if attributes[one.name] is None else attributes[one.name]


# --- Rearrangements ---


def _transpose(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """The axes in another order."""
    x = graph.value(node.input[0])
    order = attributes["perm"] or list(reversed(range(tensor_type(x).rank)))
    graph.set(node.output[0], graph.permuted(x, order))


def _reshape(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """The same elements in another shape."""
    x, shape = graph.value(node.input[0]), constant_operand(graph, node, 1)
    assert shape is not None
    given, count = sizes_of(x), math.prod(sizes_of(x))
    sizes = [int(size) for size in shape.reshape(-1)]
    if not attributes["allowzero"]:
        sizes = [given[axis] if size == 0 and axis < len(given) else size for axis, size in enumerate(sizes)]
    rest = math.prod(size for size in sizes if size != -1)
    sizes = [count // rest if size == -1 and rest else size for size in sizes]
    if math.prod(sizes) != count:
        raise ModelError(f"{label(node)}: {list(given)} cannot have the shape {shape.tolist()}")
    graph.set(node.output[0], graph.view(x, sizes))


def _flatten(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """The same elements in two axes."""
    x = graph.value(node.input[0])
    sizes = sizes_of(x)
    axis = attributes["axis"]
    axis = axis + len(sizes) if axis < 0 else axis
    graph.set(node.output[0], graph.view(x, (math.prod(sizes[:axis]), math.prod(sizes[axis:]))))


def _unsqueeze(graph: OnnxGraph, node: NodeProto, _attributes: Attributes) -> None:
    """Additional axes of size 1."""
    x, axes = graph.value(node.input[0]), constant_operand(graph, node, 1)
    assert axes is not None
    graph.set(node.output[0], graph.view(x, np.expand_dims(np.empty(sizes_of(x), bool), tuple(axes.tolist())).shape))


def _squeeze(graph: OnnxGraph, node: NodeProto, _attributes: Attributes) -> None:
    """Removal of axes of size 1."""
    x, axes = graph.value(node.input[0]), constant_operand(graph, node, 1)
    sizes = sizes_of(x)
    ones = [axis for axis, size in enumerate(sizes) if size == 1]
    taken = ones if axes is None else [int(axis) % len(sizes) for axis in axes.reshape(-1)]
    if any(axis not in ones for axis in taken):
        raise ModelError(f"{label(node)}: of {list(sizes)}, axes {taken} are to be left out, and not all of them are 1")
    graph.set(node.output[0], graph.view(x, [size for axis, size in enumerate(sizes) if axis not in taken]))


def _split(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """Parts of an axis."""
    x, lengths = graph.value(node.input[0]), constant_operand(graph, node, 1)
    axis = attributes["axis"] % tensor_type(x).rank
    size, count = sizes_of(x)[axis], len(node.output)
    if attributes["num_outputs"] not in (None, count):
        raise ModelError(f"{label(node)}: its attribute num_outputs = {attributes['num_outputs']}, and it has {count}")
    if lengths is None:
        length = -(-size // count)
        lengths = np.array([min(length, size - index * length) for index in range(count)])
    if lengths.min() < 0 or lengths.sum() != size:
        raise ModelError(f"{label(node)}: parts of {lengths.tolist()} are not the {size} positions that there are")
    start = 0
    for name, length in zip(node.output, lengths.tolist(), strict=True):
        if length:
            graph.set(name, graph.part(x, axis, start, start + length, 1))
        else:
            graph.constants[name] = _nothing(x, axis)
        start += length


def _nothing(x: SSAValue, axis: int) -> Array:
    """An empty part of `x`, which has no elements to compute."""
    kind = tensor_type(x)
    return np.zeros((*kind.sizes[:axis], 0, *kind.sizes[axis + 1 :]), torch.numpy_dtype(kind.element_type))


def _same(graph: OnnxGraph, node: NodeProto, _attributes: Attributes) -> None:
    """The same value."""
    graph.set(node.output[0], graph.value(node.input[0]))


# --- Quantization ---


_QUANTIZED_DTYPES = ("uint8", "int8", "int16")
"""The integers of values and weights."""


def _scales(graph: OnnxGraph, node: NodeProto, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Scales and zero points of a pair's node. Raises ModelError, naming the node, for invalid scales."""
    scales, zero_points = (graph.constant(name) if name else None for name in (node.input[1], operand(node, 2)))
    if scales is None or (zero_points is None and operand(node, 2)):
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
        zero_points = np.zeros(scales.shape, dtype)
    elif zero_points.dtype != dtype:
        raise ModelError(
            f"{label(node)}: values of {dtype} have a zero point of {zero_points.dtype}: both must be the same"
        )
    # Biases have 32 bits.
    if dtype.name not in (*_QUANTIZED_DTYPES, *(["int32"] if node.input[0] in graph.constants else [])):
        raise ModelError(
            f"{label(node)}: values of {dtype} are not supported, only those of {', '.join(_QUANTIZED_DTYPES)}"
        )
    return numbers, np.broadcast_to(zero_points, scales.shape)


def _pair_operands(graph: OnnxGraph, node: NodeProto, scales: Array, zero_points: Array) -> list[SSAValue]:
    operands = [graph.number(float(scales.reshape(-1)[0])), graph.integer(int(zero_points.reshape(-1)[0]))]
    limits = (graph.integer(number) for number in integer_range(zero_points.dtype))
    return [*operands, *limits, graph.integer(torch.dtype_number(zero_points.dtype))]


def _quantize(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """The first half of a quantize-dequantize pair."""
    scales, zero_points = _scales(graph, node, _quantized_dtype(graph, node, attributes))
    if scales.size != 1:
        raise UnsupportedForm("values that depend on an input have one scale, not one for each channel")
    x = graph.value(node.input[0])
    if not tensor_type(x).is_float:
        raise UnsupportedForm("only float values can be quantized")
    operands = [x, *_pair_operands(graph, node, scales, zero_points)]
    element = element_type_of(zero_points.dtype)
    graph.set(node.output[0], graph.pairs("quantize_per_tensor", operands, sizes_of(x), element))


def _quantized_dtype(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> np.dtype[Any]:
    """The integers of a quantization: those of its zero point, those that it names, or uint8."""
    from onnx import helper

    named = attributes["output_dtype"]
    if named:
        return np.dtype(helper.tensor_dtype_to_np_dtype(named))
    zero_points = graph.constant(operand(node, 2))
    return np.dtype(np.uint8) if zero_points is None else zero_points.dtype


def _dequantize(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """The second half of a quantize-dequantize pair, or a quantized weight."""
    from onnx import TensorProto

    if attributes["output_dtype"] not in (None, 0, TensorProto.FLOAT):
        raise UnsupportedForm("only float32 values are supported")
    integers = graph.constants.get(node.input[0])
    if integers is not None:
        scales, zero_points = _scales(graph, node, integers.dtype)
        _check_axis(integers, scales, attributes["axis"])
        constant = QuantizedConstant(node.input[0], integers, scales, zero_points, attributes["axis"])
        graph.quantized[node.output[0]] = constant
        return
    x = graph.value(node.input[0])
    scales, zero_points = _scales(graph, node, torch.numpy_dtype(tensor_type(x).element_type))
    if scales.size != 1:
        raise UnsupportedForm("values that depend on an input have one scale, not one for each channel")
    operands = [x, *_pair_operands(graph, node, scales, zero_points), graph.none()]
    graph.set(node.output[0], graph.pairs("dequantize_per_tensor", operands, sizes_of(x), f32))


def _check_axis(integers: Array, scales: Array, axis: int) -> None:
    if scales.size == 1:
        return
    if scales.ndim != 1 or not -integers.ndim <= axis < integers.ndim or integers.shape[axis] != scales.size:
        raise UnsupportedForm(f"{list(scales.shape)} scales do not fit a constant of shape {list(integers.shape)}")


def _rule_of_row(row: Operator, form: Onnx) -> Rule:
    reads = tuple(one.name for one in form.arguments if isinstance(one, Attribute))
    return Rule(partial(_translate_row, row, form), reads)


_STRUCTURED: dict[str, Rule] = {
    **attention.RULES,
    **elementwise.RULES,
    **lookups.RULES,
    **movement.RULES,
    **norms.RULES,
    **products.RULES,
    **reductions.RULES,
    **resampling.RULES,
    **windows.RULES,
    "Transpose": Rule(_transpose, ("perm",)),
    "Reshape": Rule(_reshape, ("allowzero",)),
    "Flatten": Rule(_flatten, ("axis",)),
    "Squeeze": Rule(_squeeze),
    "Unsqueeze": Rule(_unsqueeze),
    "Split": Rule(_split, ("axis", "num_outputs")),
    "Identity": Rule(_same),
    # The axis of scales matters where there are several, which only constants have.
    "QuantizeLinear": Rule(_quantize, ("axis", "output_dtype")),
    "DequantizeLinear": Rule(_dequantize, ("axis", "output_dtype")),
}
"""Rules of operators that have a form other than ours, a function each."""

_ONNXRUNTIME: dict[str, Rule] = {
    **attention.ONNXRUNTIME_RULES,
    **elementwise.ONNXRUNTIME_RULES,
    **norms.ONNXRUNTIME_RULES,
    **products.ONNXRUNTIME_RULES,
}
"""Rules of operators of onnxruntime's, which ONNX does not have, or with another meaning."""


@cache
def _rules() -> Mapping[str, Rule]:
    """All rules: those of rows by themselves, of other packages as far as there is no rule already."""
    rows = {row.onnx.name: row for row in operators().values() if row.onnx is not None}
    for name in rows.keys() & _STRUCTURED.keys():
        refusal = find_addition(OPERATORS, rows[name].name).refusal(f"ONNX operator {name!r} has another translation")
        warn_once(f"{refusal}, which is used")
    found = {name: _rule_of_row(row, row.onnx) for name, row in rows.items() if row.onnx is not None}
    return {**found, **_STRUCTURED}


def onnx_operators() -> list[tuple[str, str]]:
    """The translatable operators, sorted, each with the operator of PyTorch or the title of its rule."""
    rows = {row.onnx.name: row.name for row in operators().values() if row.onnx is not None}
    same = {name: row for name, row in rows.items() if name not in _STRUCTURED}
    own = [(name, f"`{same[name]}`" if name in same else _title(rule)) for name, rule in sorted(_rules().items())]
    return [*own, *((f"{ONNXRUNTIME}.{name}", _title(rule)) for name, rule in sorted(_ONNXRUNTIME.items()))]


def _title(rule: Rule) -> str:
    if rule.title:
        return rule.title
    function: Any = rule.function
    documented = function.func if isinstance(function, partial) else function
    return (documented.__doc__ or "").strip()


def translated_operators() -> str:
    """The ONNX operators that have a translation, as messages list them."""
    own, others = ", ".join(sorted(_rules())), ", ".join(sorted(_ONNXRUNTIME))
    return f"{own}, {others} of {ONNXRUNTIME}, attention made of them, and whatever depends on no input"
