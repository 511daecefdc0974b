"""Products with constants and of two values, and the operators that are spelled with them."""

import numpy as np

from sta.spec.operators.operator import Form, Operator, Role
from sta.spec.tables import Float64Array


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
        takes=(Form.STREAM, Form.OPERAND),
        reference=np.matmul,
    ),
    Operator(
        "aten.bmm",
        Role.PRODUCT,
        "a batch of matrix products",
        takes=(Form.STREAM, Form.OPERAND),
        reference=np.matmul,
    ),
    Operator("aten.mm", Role.SPELLED, "a matrix product", spelling="product", reference=np.matmul),
    Operator("aten.mv", Role.SPELLED, "a matrix times a vector", spelling="product", reference=np.matmul, kept=False),
    Operator(
        "aten.dot", Role.SPELLED, "the product of two vectors", spelling="product", reference=np.matmul, kept=False
    ),
    Operator(
        "aten.addmm",
        Role.SPELLED,
        "beta * input + alpha * (mat1 times mat2)",
        spelling="product and sum",
        reference=addmm,
    ),
    Operator(
        "aten.baddbmm",
        Role.SPELLED,
        "beta * input + alpha * (batch1 times batch2)",
        spelling="product and sum",
        reference=addmm,
    ),
)
