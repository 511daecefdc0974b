"""
Attention on integer tensors: the operations of `sta.spec`, head by head and some rows at a time, so that the scores of
a long sequence are never held as a whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.dialect import nm
from sta.spec.integers import matrix_product
from sta.spec.softmax import Bias, RowState, normalize, shift_rows, softmax_online, softmax_row
from sta.spec.wide_product import wide_accumulators, wide_product

Array = NDArray[Any]

SCORES_LIMIT = 1 << 21
"""Number of scores held at a time."""


def attend(
    op: nm.AttentionOp, q: Array, k: Array, v: Array, mask: Array | None, bias: Array | None = None
) -> NDArray[np.int64]:
    """
    The result of `op` before its zero point, on `[B, H, S, D]`; of any size, since results do not depend on the
    grouping of rows.
    """
    batch, heads, queries, _ = q.shape
    keys = k.shape[2]
    group = heads // k.shape[1]
    rows = max(1, SCORES_LIMIT // keys)
    full = (batch, heads, queries, keys)
    result = np.empty((batch, heads, queries, v.shape[3]), np.int64)
    allowed = np.broadcast_to(np.array(True) if mask is None else mask != 0, full)
    added = None if bias is None else np.broadcast_to(bias, full)
    for b, h, start in ((b, h, start) for b in range(batch) for h in range(heads) for start in range(0, queries, rows)):
        part = slice(start, min(start + rows, queries))
        admissible = allowed[b, h, part]
        if op.causal is not None:
            admissible = admissible & np.tri(part.stop - start, keys, k=start, dtype=bool)
        scores = matrix_product(q[b, h, part], k[b, h // group])
        rows_bias = None if added is None else added[b, h, part]
        result[b, h, part] = _attend_rows(op, scores, admissible, v[b, h // group], rows_bias)
    return result


def _attend_rows(
    op: nm.AttentionOp, scores: NDArray[np.int64], admissible: NDArray[np.bool_], v: Array, bias: Array | None
) -> NDArray[np.int64]:
    """Rows of one head: scores and their bias `[m, n]`, values `[n, d]`."""

    def bias_of(keys: slice) -> Bias | None:
        if bias is None or op.bias_scale is None:
            return None
        return Bias(bias[:, keys], *op.bias_scale.pair)

    multiplier, shift = op.score_scale.pair
    chunk = op.chunk_keys
    if chunk is None:
        exponentials, sums = softmax_row(scores, admissible, multiplier, shift, op.bits, bias_of(slice(None)))
        return _normalized(op, _products(exponentials, v), sums)
    state = RowState.empty((len(scores),))
    products: Array = np.zeros((len(scores), v.shape[1] * op.bits // 8), np.int64)
    for start in range(0, scores.shape[1], chunk):
        part = slice(start, start + chunk)
        exponentials, state = softmax_online(
            scores[:, part], admissible[:, part], multiplier, shift, state, op.bits, bias_of(part)
        )
        products = shift_rows(products, state.shifts) + _products(exponentials, v[part])
    return _normalized(op, products, state.sums)


def _products(exponentials: Array, v: Array) -> NDArray[np.int64]:
    """
    P.V in the form of the accumulators: with 16-bit exponentials the sums over their high bytes, then over the low
    bytes.
    """
    transposed = np.ascontiguousarray(v.T)
    product = matrix_product if exponentials.dtype == np.uint8 else wide_product
    return product(exponentials, transposed)


def _normalized(op: nm.AttentionOp, products: NDArray[np.int64], sums: NDArray[np.int64]) -> NDArray[np.int64]:
    values = wide_accumulators(products) if op.bits == 16 else products
    return normalize(values, sums, *op.output_scale.pair)
