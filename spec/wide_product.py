"""
Products with 16-bit activations on an array that multiplies bytes.

An activation is ``x = 256 * high + low``, with the signed upper byte high and the unsigned lower byte low. The array
makes two passes, one a byte plane, each into its own int32 accumulators; the drain rescales ``256 * high + low`` of the
two sums once. So the result equals the 16-bit product's, to the bit.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from sta.spec.integers import Int64Array, IntegerArray, as_int64, matrix_product

PLANES = ("high", "low")
"""The byte planes in the order in which a row of accumulators holds their sums."""
PLANE_MAGNITUDES = (128, 255)
"""The largest magnitude of an element of each plane of int16 values."""

LONGEST_SUM = ((1 << 31) - 1) // (max(PLANE_MAGNITUDES) * 128)
"""The longest product of two values, the second of 8 bits, whose sums cannot leave int32 whatever the numbers are."""


def byte_plane(values: IntegerArray, plane: str) -> npt.NDArray[Any]:
    """
    Returns one byte of each 16-bit element: ``high`` as int8 of int16 and as uint8 of uint16, ``low`` as uint8.

    Raises `TypeError` for elements that do not have 16 bits, `ValueError` for another plane.
    """
    if values.dtype.kind not in "iu" or values.dtype.itemsize != 2:
        raise TypeError(f"byte planes are those of 16-bit integers, got {values.dtype}")
    if plane not in PLANES:
        raise ValueError(f"a byte plane is one of {', '.join(PLANES)}, not {plane!r}")
    if plane == "low":
        return (values & 255).astype(np.uint8)
    return (values >> 8).astype(np.dtype(f"{values.dtype.kind}1"))


def wide_product(a: IntegerArray, b: IntegerArray) -> Int64Array:
    """
    Accumulators of ``a @ b^T``: of `a` ``[..., m, k]`` (int16 or uint16) and `b` ``[..., n, k]`` (int8) an int64 array
    ``[..., m, 2n]``, each row n sums over the high bytes of `a` and then n over the low ones. Leading axes broadcast.

    Raises `OverflowError` if a sum leaves int32, `TypeError` for other dtypes, `ValueError` if the depths differ.
    """
    return np.concatenate([matrix_product(byte_plane(a, plane), b) for plane in PLANES], axis=-1)


def wide_accumulators(source: IntegerArray) -> Int64Array:
    """
    Returns ``256 * high + low`` (int64 ``[m, n]``) of rows ``[m, 2n]`` with n high accumulators and then n low ones.

    Raises `ValueError` for a source that is not two-dimensional, or of an odd number of columns.
    """
    if source.ndim != 2 or source.shape[1] % 2:
        raise ValueError(f"wide accumulators come in pairs, got shape {source.shape}")
    high, low = np.split(as_int64(source), 2, axis=1)
    return 256 * high + low
