"""
Integer arithmetic that every level of the toolchain shares.

The rescaling operation is TOSA's ``apply_scale_32`` with a single rounding: a half rounds toward plus infinity.
All functions are exact. Where an intermediate value could leave int64 the evaluation order avoids it, and where
even that is impossible an ``OverflowError`` is raised; nothing ever wraps.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

IntegerArray: TypeAlias = npt.NDArray[np.integer[Any]]
"""An array of any integer dtype."""
Int64Array: TypeAlias = npt.NDArray[np.int64]
Int32Array: TypeAlias = npt.NDArray[np.int32]

MULTIPLIER_LIMIT = 1 << 31
"""Multipliers are below this: they are int32 and not negative."""
SHIFT_RANGE = (2, 62)
"""The smallest and the largest shift of a rescaling, both allowed (TOSA RESCALE)."""
IDENTITY_SCALE = (1 << 30, 30)
"""Multiplier and shift of a rescaling that returns every value in [-2^29, 2^29) unchanged."""
STREAM_LIMIT = 32767
"""The largest integer of a symmetric 16-bit value."""
HEADROOM = 2.0
"""
Headroom of a 16-bit value over any calibration sample: one bit. The other bits suffice, and an
outlier of the residual stream that saturates would spoil all rows that attend to it. 8 bits have none to spare.
"""

SMALLEST_RANGE = 2.0**-20
"""
Least assumed range of a value on calibration samples: the ratio of two scales must stay within the range of a
multiplier and a shift.
"""
DEAD_RANGE = 1.0
"""
Assumed range of a value that was zero on every calibration sample: any scale holds zero exactly, and at this one later
biases fit, and probably other samples.
"""

_INT32_MIN, _INT32_MAX = -(1 << 31), (1 << 31) - 1
_INT64_LIMIT = 1 << 63
_FLOAT32_EXACT = 1 << 24
_FLOAT64_EXACT = 1 << 53
# Below this many terms a chunk is too short for float32 to beat one product in float64.
_SHORTEST_FLOAT32_CHUNK = 256
# Where a wide value is cut in two, so that each half times a multiplier stays in int64.
_SPLIT = 24


def as_int64(values: npt.ArrayLike) -> Int64Array:
    """
    Returns integers of any dtype as int64, without a copy where they already are.

    Raises `TypeError` for values that are not integers and `OverflowError` for uint64 values beyond int64.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"expected integers, got {array.dtype}")
    if array.dtype == np.uint64 and array.size and int(array.max()) >= _INT64_LIMIT:
        raise OverflowError(f"{int(array.max())} does not fit int64")
    return array.astype(np.int64, copy=False)


def extremes(values: npt.NDArray[Any]) -> tuple[int, int]:
    """Returns the smallest and the largest element as Python integers; (0, 0) for an empty array."""
    if not values.size:
        return 0, 0
    return int(values.min()), int(values.max())


def rounding_shift(x: npt.ArrayLike, shift: npt.ArrayLike) -> Int64Array:
    """
    Divides by a power of two and rounds, a half toward plus infinity: ``(x + ((1 << shift) >> 1)) >> shift``.

    `x` holds any int64 values and `shift` (0..63) broadcasts against it; the result is int64. The sum of the formula
    is never formed, so that it cannot overflow: ``x >> shift`` plus the bit below the cut is the same number.

    Raises `ValueError` for a shift outside 0..63.
    """
    values, shifts = as_int64(x), as_int64(shift)
    lowest, highest = extremes(shifts)
    if lowest < 0 or highest > 63:
        raise ValueError(f"shift must be in 0..63, got {lowest if lowest < 0 else highest}")
    if lowest > 0:
        halves = values >> (shifts - 1)
        return (halves >> 1) + (halves & 1)
    # A shift of zero has no bit below the cut.
    halves = values >> np.maximum(shifts - 1, 0)
    return np.where(shifts == 0, values, (halves >> 1) + (halves & 1))


def apply_scale_32(value: npt.ArrayLike, multiplier: npt.ArrayLike, shift: npt.ArrayLike) -> Int64Array:
    """
    Returns ``value * multiplier / 2^shift``, rounded once: TOSA ``apply_scale_32`` with ``double_round = false``.

    The value is first saturated to ``[-2^(shift-1), 2^(shift-1) - 1]``, the range in which TOSA defines the operation;
    the result is ``(value * multiplier + (1 << (shift - 1))) >> shift``. The three arguments broadcast; the result is
    int64 and fits int32 whenever the value does.

    Values wider than int32 (a 16-bit product's ``256 * high + low``, a difference of two scores) are exact too, up to
    magnitudes of 2^55: the value is then cut into ``high * 2^24 + low``, and
    ``((high * 2^24 + low) * m + half) >> s = (high * m + ((low * m + half) >> 24)) >> (s - 24)``.

    Raises `ValueError` for a shift outside 2..62 or a multiplier outside 0..2^31 - 1, `OverflowError` for values beyond
    2^55 that the saturation leaves.
    """
    multipliers, shifts = as_int64(multiplier), as_int64(shift)
    lowest_shift, highest_shift = _checked_scales(multipliers, shifts)
    values = np.asarray(value)
    low, high = extremes(values)
    if not -(1 << (lowest_shift - 1)) <= low <= high < 1 << (lowest_shift - 1):
        limits = np.int64(1) << (shifts - 1)
        values = np.clip(as_int64(values), -limits, limits - 1)
        low, high = extremes(values)
    magnitude, largest = max(-low, high), int(multipliers.max(initial=0))
    if magnitude * largest + (1 << (highest_shift - 1)) >= _INT64_LIMIT:
        return _apply_scale_wide(as_int64(values), multipliers, shifts, magnitude * largest)
    # The cast happens inside the multiplication: one buffer less to fill.
    result = np.multiply(values, multipliers, dtype=np.int64, casting="same_kind")
    if result.ndim == 0 or np.broadcast_shapes(result.shape, shifts.shape) != result.shape:
        return np.asarray((result + (np.int64(1) << (shifts - 1))) >> shifts)
    result += np.int64(1) << (shifts - 1)
    result >>= shifts
    return result


def check_scale(multiplier: int, shift: int, what: str = "") -> None:
    """Raises `ValueError` unless a rescaling's multiplier is in 0..2^31-1 and its shift in 2..62."""
    if not 0 <= multiplier < MULTIPLIER_LIMIT:
        raise ValueError(f"{what}multiplier must be in 0..2^31-1, got {multiplier}")
    if not SHIFT_RANGE[0] <= shift <= SHIFT_RANGE[1]:
        raise ValueError(f"{what}shift must be in 2..62, got {shift}")


def _checked_scales(multipliers: Int64Array, shifts: Int64Array) -> tuple[int, int]:
    """Returns the smallest and largest shift; raises `ValueError` for multipliers or shifts out of range."""
    lowest, highest = extremes(shifts) if shifts.size else SHIFT_RANGE
    for multiplier, shift in zip(extremes(multipliers), (lowest, highest), strict=True):
        check_scale(multiplier, shift)
    return lowest, highest


def _apply_scale_wide(values: Int64Array, multipliers: Int64Array, shifts: Int64Array, product: int) -> Int64Array:
    """Rescales saturated values whose product with the multiplier may leave int64; see `apply_scale_32`."""
    # Leaves room for one more multiplier (the cut rounds down) and for the low half with its rounding term.
    if (product >> _SPLIT) + (1 << 32) + (1 << 38) >= _INT64_LIMIT:
        raise OverflowError("the product of value and multiplier does not fit 87 bits; values must stay below 2^55")
    half = np.int64(1) << (shifts - 1)
    low = values & ((1 << _SPLIT) - 1)
    wide = ((values >> _SPLIT) * multipliers + ((low * multipliers + half) >> _SPLIT)) >> np.maximum(shifts - _SPLIT, 0)
    # Values whose shift is below the cut were saturated to 24 bits: the plain formula serves them.
    narrow_values = np.where(shifts < _SPLIT, values, 0)
    narrow = (narrow_values * multipliers + half) >> shifts
    return np.asarray(np.where(shifts < _SPLIT, narrow, wide))


def encode_scale(scale: npt.ArrayLike) -> tuple[Int32Array, Int32Array]:
    """
    Encode positive real scales as ``multiplier / 2^shift`` (both int32, shaped like `scale`), as TOSA's lowering does.

    ``mantissa, exponent = frexp(scale)``; ``multiplier = round(mantissa * 2^31)``, half up; if that is 2^31 it is
    halved and the exponent raised; ``shift = 31 - exponent``. A shift above 62 becomes 62 and the multiplier is shifted
    right by ``min(31, shift - 62)``, so that scales below 2^-62 become zero.

    Raises `ValueError` for scales that are not finite, not positive, or too large (2^29 and more: shift below 2).
    """
    scales = np.asarray(scale, dtype=np.float64)
    if not np.all(np.isfinite(scales) & (scales > 0)):
        raise ValueError(f"scales must be finite and positive, got {_first_where(scales, ~(scales > 0))}")
    mantissa, exponent = np.frexp(scales)
    # The mantissa has 53 bits, so both the scaling by 2^31 and the added half are exact.
    multiplier = np.floor(mantissa * 2.0**31 + 0.5).astype(np.int64)
    carried = multiplier == MULTIPLIER_LIMIT
    multiplier = np.where(carried, multiplier >> 1, multiplier)
    shift = 31 - (exponent.astype(np.int64) + carried)
    if np.any(shift < SHIFT_RANGE[0]):
        raise ValueError(f"scale {_first_where(scales, shift < SHIFT_RANGE[0])} is too large: it must be below 2^29")
    excess = np.clip(shift - SHIFT_RANGE[1], 0, 31)
    multiplier = multiplier >> excess
    return np.asarray(multiplier, dtype=np.int32), np.asarray(np.minimum(shift, SHIFT_RANGE[1]), dtype=np.int32)


def _first_where(values: npt.NDArray[np.float64], condition: npt.NDArray[np.bool_]) -> float:
    """Returns the first offending value, or the first that is not finite, for an error message."""
    offending = values[condition | ~np.isfinite(values)]
    return float(offending.flat[0])


def saturate(values: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Clamps integers to the range of the integer `dtype` and returns them in it, same shape."""
    array = np.asarray(values)
    lowest, highest = dtype_range(array.dtype)
    lower, upper = dtype_range(np.dtype(dtype))
    if lower <= lowest and highest <= upper:
        return array.astype(dtype)
    # Both bounds must be representable in the array's own dtype.
    return np.clip(array, max(lower, lowest), min(upper, highest)).astype(dtype)


def dtype_range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Returns the smallest and the largest value of an integer dtype; raises `TypeError` for other dtypes."""
    if dtype.kind not in "iu":
        raise TypeError(f"expected an integer dtype, got {dtype}")
    bits = 8 * dtype.itemsize
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if dtype.kind == "i" else (0, (1 << bits) - 1)


def check_int32(values: Int64Array, what: str) -> None:
    """Raises `OverflowError` naming `what` and the first bad value unless all values fit int32."""
    low, high = extremes(values)
    if low < _INT32_MIN or high > _INT32_MAX:
        raise OverflowError(f"{what} {low if low < _INT32_MIN else high} does not fit int32")


def matrix_product(a: IntegerArray, b: IntegerArray, check: bool = True) -> Int64Array:
    """
    Returns the exact product ``a @ b^T``: ``result[..., i, j] = sum over k of a[..., i, k] * b[..., j, k]``.

    `a` is int8, uint8 or int16 ``[..., m, k]``, `b` is int8, uint8 or int16 ``[..., n, k]``; the result is int64
    ``[..., m, n]``. The work is done by BLAS in floating point, on chunks of k so short that every partial sum is an
    integer the format represents exactly (2^24 for float32, 2^53 for float64), whatever the order of summation.

    Raises `OverflowError` if `check` is set and a result leaves int32, `ValueError` if the depths differ, `TypeError`
    for wider dtypes.
    """
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-1]:
        raise ValueError(f"shapes {a.shape} and {b.shape} do not match: both end in the same depth")
    depth = a.shape[-1]
    largest_product = _dtype_magnitude(a.dtype) * _dtype_magnitude(b.dtype)
    dtype, chunk = np.dtype(np.float32), _FLOAT32_EXACT // largest_product
    if chunk < min(depth, _SHORTEST_FLOAT32_CHUNK):
        dtype, chunk = np.dtype(np.float64), _FLOAT64_EXACT // largest_product
    left, right = a.astype(dtype), np.swapaxes(b.astype(dtype), -1, -2)
    # Kernels of BLAS also compute with the data beside a matrix: that raises flags now and then, and reaches no result.
    with np.errstate(all="ignore"):
        result = np.matmul(left[..., :chunk], right[..., :chunk, :]).astype(np.int64)
        for start in range(chunk, depth, chunk):
            part = np.matmul(left[..., start : start + chunk], right[..., start : start + chunk, :])
            result += part.astype(np.int64)
    if check and depth * largest_product > _INT32_MAX:
        check_int32(result, "a sum of products is out of range:")
    return result


def _dtype_magnitude(dtype: np.dtype[Any]) -> int:
    """Returns the largest magnitude of an 8- or 16-bit integer dtype."""
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        raise TypeError(f"operands of a product are 8- or 16-bit integers, got {dtype}")
    lowest, highest = dtype_range(dtype)
    return max(-lowest, highest)
