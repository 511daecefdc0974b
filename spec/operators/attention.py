"""Attention, and the softmax of spelled-out attention."""

import math
from typing import Any

import numpy as np

from sta.spec.operators.operator import Attribute, Form, Onnx, Operator, Role
from sta.spec.tables import Float64Array

REMEDY = "softmax is supported inside attention: matmul, scale, mask, softmax over the keys, matmul"


def softmax(x: Float64Array, dim: int, dtype: Any = None) -> Float64Array:
    """``exp(x) / sum(exp(x))`` over axis `dim`; a completely masked row (-inf) is not a number."""
    with np.errstate(invalid="ignore"):
        weights = np.exp(x - x.max(axis=dim, keepdims=True))
        return weights / weights.sum(axis=dim, keepdims=True)


def scaled_dot_product_attention(
    query: Float64Array,
    key: Float64Array,
    value: Float64Array,
    attn_mask: np.ndarray | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    bias: Float64Array | None = None,
) -> Float64Array:
    """
    ``softmax(query @ key^T * scale + bias, over the admissible keys) @ value`` (Vaswani et al. 2017).

    query [..., m, d], key [..., n, d], value [..., n, e]. `attn_mask` is true where a key is admissible, or is added to
    the scores; with `is_causal` key j is admissible for query i iff j <= i. A query without admissible key gives 0.
    `enable_gqa`: several heads (the third axis from the end) of queries for each of keys.
    """
    if enable_gqa:
        shared = query.shape[-3] // key.shape[-3]
        key, value = (np.repeat(part, shared, axis=-3) for part in (key, value))
    scores = query @ np.swapaxes(key, -1, -2) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    scores = scores if bias is None else scores + bias
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == np.bool_ else scores + attn_mask
    if is_causal:
        scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    return np.nan_to_num(softmax(scores, -1), nan=0.0) @ value


OPERATORS = (
    Operator(
        "aten.scaled_dot_product_attention",
        Role.ATTENTION,
        "softmax(query times key, over the admissible keys) times value",
        takes=(Form.OPERAND, Form.OPERAND, Form.OPERAND, *(Form.STREAM,) * 6),
        reference=scaled_dot_product_attention,
    ),
    Operator(
        "aten.softmax.int",
        Role.SOFTMAX,
        "the softmax over an axis",
        remedy=REMEDY,
        reference=softmax,
        spelling="softmax",
        onnx=Onnx("Softmax", (Attribute("axis", -1), None)),
    ),
    Operator(
        "aten._softmax",
        Role.SOFTMAX,
        "the softmax over an axis, as decompositions leave it",
        remedy=REMEDY,
        reference=softmax,
        spelling="softmax",
    ),
)
