"""Operators on two values, element by element: sums and products, comparisons, selections."""

from typing import Any

import numpy as np

from sta.spec.operators.functions import power
from sta.spec.operators.operator import Form, Onnx, Operator, Reference, Role
from sta.spec.tables import Float64Array


def add(x: Float64Array, other: Float64Array | float, alpha: float = 1) -> Float64Array:
    """``x + alpha * other``, broadcast."""
    return np.add(x, np.multiply(alpha, other))


def divide(x: Float64Array, other: Float64Array | float) -> Float64Array:
    """``x / other``, broadcast."""
    return np.divide(x, other)


def multiply(x: Float64Array, other: Float64Array | float) -> Float64Array:
    """``x * other``, broadcast."""
    return np.multiply(x, other)


def masked_fill(x: Float64Array, mask: np.ndarray, value: Float64Array | float) -> Float64Array:
    """`value` where `mask` is true, x elsewhere."""
    return np.where(mask, value, x)


def where(condition: np.ndarray, x: Float64Array | float, other: Float64Array | float) -> Float64Array:
    """x where `condition` is true, `other` elsewhere."""
    return np.where(condition, x, other)


def subtract(x: Float64Array, other: Float64Array | float, alpha: float = 1) -> Float64Array:
    """``x - alpha * other``, broadcast."""
    return np.subtract(x, np.multiply(alpha, other))


def subtract_from(x: Float64Array, other: Float64Array | float, alpha: float = 1) -> Float64Array:
    """``other - alpha * x``, broadcast."""
    return np.subtract(other, np.multiply(alpha, x))


def quotient(x: Float64Array, other: Float64Array | float, rounding_mode: str | None = None) -> Float64Array:
    """``x / other``, rounded towards zero ("trunc"), downwards ("floor"), or not (None)."""
    exact = np.divide(x, other)
    return exact if rounding_mode is None else {"trunc": np.trunc, "floor": np.floor}[rounding_mode](exact)


def floor_divide(x: Float64Array, other: Float64Array | float) -> Float64Array:
    """``floor(x / other)``, broadcast."""
    return np.floor(np.divide(x, other))


def _arithmetic(
    name: str,
    reference: Reference,
    summary: str,
    *,
    spelling: str = "",
    neutral: float | None = None,
    kept: bool = False,
) -> Operator:
    return Operator(
        f"aten.{name}",
        Role.ARITHMETIC,
        summary,
        reference=reference,
        spelling=spelling,
        neutral=neutral,
        kept=kept,
    )


def _combination(
    name: str, reference: Reference, summary: str, onnx: Onnx | None = None, spelling: str = ""
) -> Operator:
    return Operator(
        f"aten.{name}",
        Role.COMBINATION,
        summary,
        takes=(Form.STREAM, Form.STREAM),
        reference=reference,
        onnx=onnx,
        spelling=spelling,
    )


def _comparison(name: str, reference: Any, onnx: str | None = None, spelling: str = "") -> Operator:
    form = None if onnx is None else Onnx(onnx, truth=True)
    return Operator(f"aten.{name}", Role.COMPARISON, reference=reference, onnx=form, spelling=spelling, kept=False)


_COMPARED = {
    "eq": (np.equal, "Equal"),
    "ge": (np.greater_equal, "GreaterOrEqual"),
    "gt": (np.greater, "Greater"),
    "le": (np.less_equal, "LessOrEqual"),
    "lt": (np.less, "Less"),
    "ne": (np.not_equal, None),
}
_LOGIC = (
    ("logical_and", np.logical_and, "And", "conjunction"),
    ("logical_or", np.logical_or, "Or", "disjunction"),
    ("logical_xor", np.logical_xor, "Xor", "exclusion"),
    ("__and__.Tensor", np.bitwise_and, None, "conjunction"),
    ("__or__.Tensor", np.bitwise_or, None, "disjunction"),
    ("__xor__.Tensor", np.bitwise_xor, None, "exclusion"),
    ("bitwise_and.Tensor", np.bitwise_and, None, "conjunction"),
    ("bitwise_or.Tensor", np.bitwise_or, None, "disjunction"),
    ("bitwise_xor.Tensor", np.bitwise_xor, None, "exclusion"),
    ("bitwise_not", np.bitwise_not, None, ""),
)


def _triangle(name: str, spelling: str, summary: str, reference: Reference) -> Operator:
    return Operator(f"aten.{name}", Role.SPELLED, summary, reference=reference, spelling=spelling, kept=False)


_SELECTION = "supported inside attention, to put float('-inf') or a number far below the scores in their place"

OPERATORS = (
    Operator(
        "aten.add.Tensor",
        Role.ADDITION,
        "input + alpha * other, broadcast",
        takes=(Form.STREAM, Form.STREAM),
        reference=add,
        spelling="sum",
        onnx=Onnx("Add", (1,)),
    ),
    _combination("sub.Tensor", subtract, "input - alpha * other, broadcast", Onnx("Sub", (1,)), "difference"),
    _combination("maximum", np.maximum, "the larger of input and other, broadcast"),
    _combination("minimum", np.minimum, "the smaller of input and other, broadcast"),
    Operator(
        "aten.mul.Tensor",
        Role.MULTIPLICATION,
        "input * other, broadcast",
        takes=(Form.STREAM, Form.STREAM),
        reference=multiply,
        onnx=Onnx("Mul"),
    ),
    Operator(
        "aten.div.Tensor",
        Role.SCALING,
        "input / other, broadcast",
        reference=divide,
        spelling="quotient",
        onnx=Onnx("Div"),
    ),
    _arithmetic("add.Scalar", add, "input + alpha * other, a number", spelling="sum", neutral=0),
    _arithmetic("sub.Scalar", subtract, "input - alpha * other, a number", spelling="sum", neutral=0),
    _arithmetic("rsub.Scalar", subtract_from, "other - alpha * input, a number", spelling="difference from", kept=True),
    _arithmetic("rsub.Tensor", subtract_from, "other - alpha * input, broadcast", spelling="difference from"),
    _arithmetic("pow.Tensor_Tensor", power, "input to the power of exponent, broadcast", spelling="power"),
    _arithmetic("pow.Scalar", power, "a number to the power of exponent"),
    _arithmetic("div.Tensor_mode", quotient, "input / other, rounded, broadcast", spelling="quotient"),
    _arithmetic("div.Scalar_mode", quotient, "input / a number, rounded"),
    _arithmetic("floor_divide", floor_divide, "floor(input / other), broadcast"),
    _arithmetic("floor_divide.Scalar", floor_divide, "floor(input / other), a number"),
    _arithmetic("remainder.Tensor", np.mod, "what input leaves divided by other, of its sign"),
    _arithmetic("fmod.Tensor", np.fmod, "what input leaves divided by other, of the sign of input"),
    *(_comparison(f"{name}.Tensor", function, onnx) for name, (function, onnx) in _COMPARED.items()),
    *(_comparison(f"{name}.Scalar", function) for name, (function, _) in _COMPARED.items()),
    *(_comparison(*logic) for logic in _LOGIC),
    Operator("aten.mul.Scalar", Role.SCALING, "input * other, a Python number", reference=multiply, neutral=1),
    Operator("aten.div.Scalar", Role.SCALING, "input / other, a Python number", reference=divide, neutral=1),
    Operator("aten.masked_fill.Scalar", Role.SELECTION, remedy=_SELECTION, reference=masked_fill),
    Operator("aten.masked_fill.Tensor", Role.SELECTION, remedy=_SELECTION, reference=masked_fill),
    Operator("aten.where.self", Role.SELECTION, remedy=_SELECTION, reference=where, onnx=Onnx("Where")),
    Operator("aten.where.ScalarOther", Role.SELECTION, remedy=_SELECTION, reference=where, kept=False),
    Operator("aten.where.ScalarSelf", Role.SELECTION, remedy=_SELECTION, reference=where, kept=False),
    Operator("aten.where.Scalar", Role.SELECTION, remedy=_SELECTION, reference=where, kept=False),
    Operator(
        "aten.logical_not",
        Role.MASK,
        "whether each element is zero, or false",
        reference=np.logical_not,
        onnx=Onnx("Not", truth=True),
    ),
    _triangle("tril", "lower triangle", "zeros above a diagonal of the last two axes", np.tril),
    _triangle("triu", "upper triangle", "zeros below a diagonal of the last two axes", np.triu),
)
