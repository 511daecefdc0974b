"""
Softmax: un-normalized exponentials with their sum, and the reciprocal of that sum, which attention applies in the drain
of its product with the values (`normalize`), and a softmax that stands alone to the exponentials (`probabilities`).
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sta.spec.integers import (
    NARROW_STEPS,
    Int64Array,
    IntegerArray,
    apply_scale_32,
    as_int64,
    check_scale,
    encode_scale,
    extremes,
    rounding_shift,
    saturate,
)
from sta.spec.tables import EXPONENT_FRACTION_BITS, exp2

_LARGEST_SHIFT = 62
_SUM_LIMIT = 1 << 31

NO_MAXIMUM = -(1 << 31)
"""The maximum of a row without an admissible key so far."""
LARGEST_ROW_SHIFT = 31
"""The largest shift of a row's accumulators: beyond it nothing is left of an int32."""


def most_keys(bits: int) -> int:
    """
    Returns the length of the longest row whose sums stay in int32: the sum of its exponentials, of 8 or 16 `bits`, and
    those of its products of a byte, of an exponential, and a value of 8 bits.
    """
    return (_SUM_LIMIT - 1) // max((1 << bits) - 1, NARROW_STEPS * 128)


class Bias(NamedTuple):
    """An addend of scores, with its own scale to log2 units with 10 fraction bits."""

    values: IntegerArray
    """int16, broadcastable to the scores."""
    multiplier: int
    shift: int


def softmax_row(
    scores: IntegerArray,
    admissible: npt.NDArray[np.bool_],
    multiplier: int,
    shift: int,
    bits: int = 8,
    bias: Bias | None = None,
) -> tuple[npt.NDArray[Any], Int64Array]:
    """
    Returns the exponentials of whole rows of scores, and their sums.

    `scores` is int32 ``[..., m, n]``; `admissible` broadcasts against it; `multiplier` and `shift` take a difference of
    scores to log2 units with 10 fraction bits. With ``d = score - maximum over the admissible keys`` an exponential is
    ``exp2(apply_scale_32(d, multiplier, shift), bits)``, and zero for keys that are not admissible. The exponentials
    are uint8 or uint16 ``[..., m, n]`` for `bits` 8 or 16, the sums int64 ``[..., m]``. A row without an admissible key
    is all zero with sum zero. Differences have up to 33 bits and are exact.

    With a `bias` scores and bias are scaled first and added: with ``t = apply_scale_32(score, multiplier, shift) +
    apply_scale_32(bias, ...)`` an exponential is ``exp2(t - maximum of t over the admissible keys, bits)``. Both terms
    are within 2^30, so that t fits int32.

    Relative to the largest, an exponential is off by at most ``0.51 / (2^bits - 1)`` from its own rounding, and by a
    part in 2954 of itself from that of its logarithm (half of 2^-10 log2 units), with a bias by a part in 738 (half of
    a unit for each term, of the key's and of the maximum, which all keys have in common); below 2^-(bits + 1) it is
    zero.

    Raises `ValueError` for a bad multiplier, shift or number of bits.
    """
    values = as_int64(scores) if bias is None else _exponents(scores, multiplier, shift, bias)
    allowed = np.broadcast_to(np.asarray(admissible, dtype=np.bool_), values.shape)
    lowest = -(1 << 31)
    maximum = values.max(axis=-1, keepdims=True, initial=lowest, where=allowed)
    differences = np.where(allowed, values - maximum, 0)
    exponents = apply_scale_32(differences, multiplier, shift) if bias is None else differences
    exponentials = np.where(allowed, exp2(exponents, bits), 0)
    dtype = np.uint8 if bits == 8 else np.uint16
    return exponentials.astype(dtype), exponentials.sum(axis=-1, dtype=np.int64)


def _exponents(scores: IntegerArray, multiplier: int, shift: int, bias: Bias | None) -> Int64Array:
    """Returns scores and their bias in log2 units with 10 fraction bits."""
    exponents = apply_scale_32(scores, multiplier, shift)
    if bias is None:
        return exponents
    return exponents + apply_scale_32(bias.values, bias.multiplier, bias.shift)


class RowState(NamedTuple):
    """State of rows that `softmax_online` carries from one chunk of keys to the next; three arrays ``[..., m]``."""

    sums: Int64Array
    """The exponentials' sums relative to the maxima, 0..2^31-1."""
    maxima: Int64Array
    """The largest score so far in log2 units, rounded up to an integer; `NO_MAXIMUM` if there is none."""
    shifts: Int64Array
    """Right shift of the sums accumulated before the last chunk, 0..31."""

    @staticmethod
    def empty(shape: tuple[int, ...]) -> "RowState":
        """Returns the state of rows before the first chunk."""
        return RowState(np.zeros(shape, np.int64), np.full(shape, NO_MAXIMUM, np.int64), np.zeros(shape, np.int64))


STATE_ARRAYS = len(RowState._fields)
"""Arrays of the rows' state between chunks."""


def softmax_online(
    scores: IntegerArray,
    admissible: npt.NDArray[np.bool_],
    multiplier: int,
    shift: int,
    state: RowState,
    bits: int = 8,
    bias: Bias | None = None,
) -> tuple[npt.NDArray[Any], RowState]:
    """
    Returns the exponentials of one chunk of the keys of rows of scores, and the state of the rows after it.

    `scores` is int32 ``[..., m, n]``; `admissible` broadcasts against it; `multiplier` and `shift` take a score to log2
    units with 10 fraction bits; the shifts of `state` are not read. With ``t = apply_scale_32(score, multiplier,
    shift)``, to which the scaled `bias` of these keys is added as in `softmax_row`, and c the largest t of an
    admissible key, rounded up to a whole log2 unit, the new maximum is ``m' = max(m, c)``, the shift
    ``s = min(m' - m, 31)``, an exponential ``exp2(t - 1024 * m', bits)``, zero for keys that are not admissible, and
    the new sum ``rounding_shift(sum, s) + sum of the exponentials``. What was accumulated from earlier chunks has to be
    shifted likewise (`shift_rows`). A chunk without admissible keys changes nothing, and neither it nor the first chunk
    with some shifts anything. Keys in chunks of other lengths give other bits. It is the online softmax of Milakov and
    Gimelshein (2018), with whole powers of two as maxima as in ITA's.

    Beside the errors of `softmax_row`, the largest exponential is anything from half of the range on, so that the
    others' own rounding counts up to twice; and each shift of the sums rounds by half a unit.

    The exponentials are uint8 or uint16 ``[..., m, n]`` for `bits` 8 or 16. All intermediates are below 2^33.

    Raises `ValueError` for a bad multiplier, shift or number of bits, and for a sum outside 0..2^31-1.
    """
    allowed = np.broadcast_to(np.asarray(admissible, dtype=np.bool_), scores.shape)
    _check_sums(state.sums)
    exponents = _exponents(scores, multiplier, shift, bias)
    unit = 1 << EXPONENT_FRACTION_BITS
    # What stands for no admissible key rounds to NO_MAXIMUM itself.
    largest = exponents.max(axis=-1, initial=NO_MAXIMUM * unit, where=allowed)
    maxima = np.maximum(state.maxima, (largest + (unit - 1)) >> EXPONENT_FRACTION_BITS)
    shifts = np.where(state.maxima == NO_MAXIMUM, 0, np.minimum(maxima - state.maxima, LARGEST_ROW_SHIFT))
    differences = np.where(allowed, exponents - maxima[..., np.newaxis] * unit, 0)
    exponentials = np.where(allowed, exp2(differences, bits), 0)
    sums = rounding_shift(state.sums, shifts) + exponentials.sum(axis=-1, dtype=np.int64)
    _check_sums(sums)
    dtype = np.uint8 if bits == 8 else np.uint16
    return exponentials.astype(dtype), RowState(sums, maxima, shifts)


def shift_rows(values: IntegerArray, shifts: IntegerArray) -> Int64Array:
    """
    Returns the rows of `values` ``[..., m, n]`` shifted right by `shifts` ``[..., m]``, rounded: int64, the same shape.

    It brings what was accumulated before a chunk to the maximum after it. Raises `ValueError` for a shift outside
    0..31.
    """
    low, high = extremes(shifts)
    if low < 0 or high > LARGEST_ROW_SHIFT:
        raise ValueError(f"the shift of a row must be in 0..{LARGEST_ROW_SHIFT}, got {low if low < 0 else high}")
    return rounding_shift(values, as_int64(shifts)[..., np.newaxis])


def _check_sums(sums: Int64Array) -> None:
    """Raises `ValueError` unless all sums of exponentials are in 0..2^31-1."""
    low, high = extremes(sums)
    if not 0 <= low <= high < _SUM_LIMIT:
        raise ValueError("the sum of a row of exponentials must be in 0..2^31-1")


def normalize(values: IntegerArray, sums: IntegerArray, multiplier: int, shift: int) -> Int64Array:
    """
    Returns ``values / sum * multiplier / 2^shift``, rounded once: the drain of the product with the values.

    `values` is ``[..., m, d]``, `sums` ``[..., m]`` (0 <= sum < 2^31); int64 result of the values' shape, neither
    saturated nor with a zero point. Rows whose sum is zero are zero. With b the bit length of a sum,
    ``r = min(round_half_up(2^(30+b) / sum), 2^31 - 1)``, ``m' = (multiplier * r + 2^30) >> 31`` and
    ``s' = shift + b - 1`` the result is ``apply_scale_32(value, m', s')``. All intermediates are below 2^63: b <= 31,
    so that the dividend, doubled for rounding, is at most 2^62 plus the sum.

    Raises `ValueError` if a sum, the multiplier (0..2^31-1) or the shift (2..62) is out of range, or an s' above 62.
    """
    check_scale(multiplier, shift)
    totals = as_int64(sums)
    _check_sums(totals)
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


def probabilities(
    scores: IntegerArray, multiplier: int, shift: int, output_scale: float = 1 / NARROW_STEPS, zero_point: int = 0
) -> npt.NDArray[np.uint8]:
    """
    Returns the softmax of rows of `scores`, int ``[..., m, n]``, as uint8 of the same shape.

    `multiplier` and `shift` take a difference of scores to log2 units with 10 fraction bits. With the 16-bit
    exponentials and sums of `softmax_row`: ``saturate(normalize(exponentials, sums, ...) + zero_point)``, scaled so
    that ``real = (integer - zero_point) * output_scale``. At the scale of 1/255 a probability of one is exact.

    Before it is rounded to the output a probability p is off by at most ``p / 1477`` for the rounding of logarithms, in
    the exponential and in the sum, and by ``0.51 * (1 + n * p) / 65535`` for that of the exponentials.

    Raises `ValueError` for a bad multiplier, shift or scale, and for rows of more than 32768 scores.
    """
    if scores.shape[-1] > most_keys(16):
        raise ValueError(f"a softmax takes rows of up to {most_keys(16)} scores, got {scores.shape[-1]}")
    exponentials, sums = softmax_row(scores, np.array(True), multiplier, shift, bits=16)
    scale = (int(part) for part in encode_scale(1 / output_scale))
    return saturate(normalize(exponentials, sums, *scale) + zero_point, np.uint8)
