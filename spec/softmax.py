"""Attention's softmax: un-normalized exponentials with their sum, and the reciprocal of that sum in the drain."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sta.spec.integers import Int64Array, IntegerArray, apply_scale_32, as_int64, check_scale
from sta.spec.tables import exp2

_LARGEST_SHIFT = 62
_SUM_LIMIT = 1 << 31


def softmax_row(
    scores: IntegerArray,
    admissible: npt.NDArray[np.bool_],
    multiplier: int,
    shift: int,
    bits: int = 8,
) -> tuple[npt.NDArray[Any], Int64Array]:
    """
    Return the exponentials of whole rows of scores, and their sums.

    `scores` is int32 ``[..., m, n]``; `admissible` broadcasts against it; `multiplier` and `shift` take a difference of
    scores to log2 units with 10 fraction bits. With ``d = score - maximum over the admissible keys`` an exponential is
    ``exp2(apply_scale_32(d, multiplier, shift), bits)``, and zero for keys that are not admissible. The exponentials
    are uint8 or uint16 ``[..., m, n]`` for `bits` 8 or 16, the sums int64 ``[..., m]``. A row without an admissible key
    is all zero with sum zero. Differences have up to 33 bits and are exact.

    Raises `ValueError` for a bad multiplier, shift or number of bits.
    """
    wide = as_int64(scores)
    allowed = np.broadcast_to(np.asarray(admissible, dtype=np.bool_), wide.shape)
    lowest = -(1 << 31)
    maximum = wide.max(axis=-1, keepdims=True, initial=lowest, where=allowed)
    differences = np.where(allowed, wide - maximum, 0)
    exponentials = np.where(allowed, exp2(apply_scale_32(differences, multiplier, shift), bits), 0)
    dtype = np.uint8 if bits == 8 else np.uint16
    return exponentials.astype(dtype), exponentials.sum(axis=-1, dtype=np.int64)


def normalize(values: IntegerArray, sums: IntegerArray, multiplier: int, shift: int) -> Int64Array:
    """
    Return ``values / sum * multiplier / 2^shift``, rounded once: the drain of the product with the values.

    `values` is ``[..., m, d]``, `sums` ``[..., m]`` (0 <= sum < 2^31); int64 result of the values' shape, neither
    saturated nor with a zero point. Rows whose sum is zero are zero. With b the bit length of a sum,
    ``r = min(round_half_up(2^(30+b) / sum), 2^31 - 1)``, ``m' = (multiplier * r + 2^30) >> 31`` and
    ``s' = shift + b - 1`` the result is ``apply_scale_32(value, m', s')``. All intermediates are below 2^63: b <= 31,
    so that the dividend, doubled for rounding, is at most 2^62 plus the sum.

    Raises `ValueError` if a sum, the multiplier (0..2^31-1) or the shift (2..62) is out of range, or an s' above 62.
    """
    check_scale(multiplier, shift)
    totals = as_int64(sums)
    if totals.size and not 0 <= int(totals.min()) <= int(totals.max()) < _SUM_LIMIT:
        raise ValueError("the sum of a row of exponentials must be in 0..2^31-1")
    empty = totals == 0
    divisors = np.where(empty, 1, totals)
    # Exact for numbers below 2^53.
    lengths = np.frexp(divisors.astype(np.float64))[1].astype(np.int64)
    reciprocals = ((np.int64(1) << (31 + lengths)) + divisors) // (2 * divisors)
    reciprocals = np.minimum(reciprocals, (1 << 31) - 1)
    multipliers = (multiplier * reciprocals + (1 << 30)) >> 31
    shifts = shift + lengths - 1
    if shifts.size and int(shifts.max()) > _LARGEST_SHIFT:
        raise ValueError(f"shift {shift} is too large for a sum of {int(totals.max())}: together above 62")
    results = apply_scale_32(values, multipliers[..., np.newaxis], shifts[..., np.newaxis])
    return np.where(empty[..., np.newaxis], 0, results) if empty.any() else results
