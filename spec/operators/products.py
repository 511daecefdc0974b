"""Products with constants, and the matrix products of spelled-out attention."""

import numpy as np

from sta.spec.operators.operator import Form, Operator, Role
from sta.spec.tables import Float64Array

REMEDY = "products are supported with a constant weight, or inside attention"


def linear(x: Float64Array, weight: Float64Array, bias: Float64Array | None = None) -> Float64Array:
    """``x @ weight.T + bias`` for x [..., k], weight [n, k] and bias [n]."""
    y = x @ weight.T
    return y if bias is None else y + bias


def embedding(
    weight: Float64Array,
    indices: np.ndarray,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Float64Array:
    """The rows of `weight` [rows, n] named by `indices`; the other arguments concern training."""
    return weight[indices]


def addmm(x: Float64Array, mat1: Float64Array, mat2: Float64Array, beta: float = 1, alpha: float = 1) -> Float64Array:
    """``beta * x + alpha * (mat1 @ mat2)``."""
    return beta * x + alpha * (mat1 @ mat2)


OPERATORS = (
    Operator(
        "aten.linear",
        Role.LINEAR,
        "input times the transpose of weight, plus bias",
        takes=(Form.INPUT,),
        reference=linear,
    ),
    Operator(
        "aten.embedding",
        Role.EMBEDDING,
        "the rows of a table that indices name",
        reference=embedding,
    ),
    Operator(
        "aten.matmul",
        Role.PRODUCT,
        "a matrix product, broadcast over leading axes",
        takes=(Form.OPERAND, Form.OPERAND),
        remedy=REMEDY,
        reference=np.matmul,
    ),
    Operator(
        "aten.bmm",
        Role.PRODUCT,
        "a batch of matrix products",
        takes=(Form.OPERAND, Form.OPERAND),
        remedy=REMEDY,
        reference=np.matmul,
    ),
    Operator("aten.mm", Role.CONSTANT, "a matrix product", remedy=REMEDY, reference=np.matmul),
    Operator(
        "aten.addmm",
        Role.CONSTANT,
        "beta * input + alpha * (mat1 times mat2)",
        remedy="products are supported with a constant weight and bias, or inside attention",
        reference=addmm,
    ),
)
