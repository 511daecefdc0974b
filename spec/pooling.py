"""Mean pooling over tokens."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sta.spec.integers import Int64Array, IntegerArray
from sta.spec.softmax import normalize

LARGEST_LENGTH = 1 << 15
"""The most tokens whose sum of int16 values always fits int32."""


def mean_tokens(x: IntegerArray, admissible: npt.NDArray[np.bool_], multiplier: int, shift: int) -> Int64Array:
    """
    Returns the mean over the admissible tokens: int64 ``[..., n]`` of ``x`` int8 or int16 ``[..., m, n]``.

    `admissible` is bool ``[..., m]`` or broadcasts to it; `multiplier` and `shift` take the scale of `x` to that of the
    result, which is neither saturated nor has a zero point. With s the sum over the admissible tokens and c their
    number it is ``normalize(s, c, multiplier, shift)``, ``s / c`` rounded once, as attention drains: mean pooling is
    attention with equal scores, and a sequence without admissible token gives zero like it. It is the definition of
    sentence-transformers' `mean` pooling.

    The reciprocal of c has 31 bits and multiplier and reciprocal are rounded once more, so that the result is within
    ``0.5 + |result| / 2^29`` of the exact one: at most 1 from the correctly rounded one.

    Raises `ValueError` for other dtypes, more than 32768 tokens, or a multiplier or shift out of range.
    """
    values: npt.NDArray[Any] = np.asarray(x)
    if values.dtype.name not in ("int8", "int16") or values.ndim < 2 or values.shape[-2] > LARGEST_LENGTH:
        expected = f"int8 or int16 [..., m, n] of m <= {LARGEST_LENGTH}"
        raise ValueError(f"tokens must be {expected}, got {values.dtype} of shape {values.shape}")
    counted = np.broadcast_to(np.asarray(admissible, dtype=np.bool_), values.shape[:-1])
    sums = np.where(counted[..., np.newaxis], values, 0).sum(axis=-2, keepdims=True, dtype=np.int64)
    counts = counted.sum(axis=-1, keepdims=True, dtype=np.int64)
    return normalize(sums, counts, multiplier, shift)[..., 0, :]
