"""Operators on two values, element by element, and operators on scores inside attention."""

import numpy as np

from sta.spec.operators.operator import Form, Onnx, Operator, Role
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


OPERATORS = (
    Operator(
        "aten.add.Tensor",
        Role.ADDITION,
        "input + alpha * other, broadcast",
        takes=(Form.STREAM, Form.STREAM),
        reference=add,
        onnx=Onnx("Add", (1,)),
    ),
    Operator(
        "aten.mul.Tensor",
        Role.MULTIPLICATION,
        "input * other, broadcast",
        takes=(Form.STREAM, Form.STREAM),
        reference=multiply,
        onnx=Onnx("Mul"),
    ),
    Operator("aten.div.Tensor", Role.SCALING, "input / other, broadcast", reference=divide, onnx=Onnx("Div")),
    Operator("aten.mul.Scalar", Role.SCALING, "input * other, a Python number", reference=multiply, neutral=1),
    Operator("aten.div.Scalar", Role.SCALING, "input / other, a Python number", reference=divide, neutral=1),
    Operator("aten.masked_fill.Scalar", Role.SELECTION, reference=masked_fill),
    Operator("aten.masked_fill.Tensor", Role.SELECTION, reference=masked_fill),
    Operator("aten.where.self", Role.SELECTION, reference=where, onnx=Onnx("Where")),
    Operator("aten.where.ScalarOther", Role.SELECTION, reference=where, kept=False),
    Operator("aten.where.ScalarSelf", Role.SELECTION, reference=where, kept=False),
    Operator("aten.where.Scalar", Role.SELECTION, reference=where, kept=False),
    Operator(
        "aten.logical_not",
        Role.MASK,
        "whether each element is zero, or false",
        reference=np.logical_not,
        onnx=Onnx("Not", truth=True),
    ),
)
