"""
Look-up tables: TOSA TABLE for 8-bit and 16-bit values, and the powers of two of the softmax.

Elementwise functions (`sta.spec.operators.elementwise`) are tables. A value of 8 bits is looked up exactly; between the
entries of a 16-bit table lie straight lines, whose error `sta.spec.operators.registry.interpolation_bound` states.
"""

import math
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from functools import lru_cache
from itertools import accumulate, repeat
from operator import mul
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sta.spec.integers import Int64Array, as_int64, rounding_shift

Float64Array: TypeAlias = npt.NDArray[np.float64]
RealFunction: TypeAlias = Callable[[Float64Array], Float64Array]

TABLE_ENTRIES = 513
"""Entries of a 16-bit table: one every 128 values, and one past the end to interpolate to."""
TABLE_FRACTION_BITS = 7
"""Fraction bits of a 16-bit table's result."""
NARROW_TABLE_ENTRIES = 256
"""Entries of an 8-bit table: one for every value."""
EXPONENTIAL_BITS = (8, 16)
"""The widths that exponentials of a softmax may have."""
EXPONENT_FRACTION_BITS = 10
"""Fraction bits of the logarithms (base two) that `exp2` takes."""

_LARGEST_EXP2_SHIFT = 40


def table_16(x: npt.NDArray[np.int16], table: npt.NDArray[np.int16]) -> npt.NDArray[np.int32]:
    """
    Looks up int16 values in a table of 513 int16 entries with linear interpolation: TOSA TABLE on int16.

    ``i = (x + 32768) >> 7``, ``f = x & 127``, result ``(table[i] << 7) + (table[i + 1] - table[i]) * f``: int32 with 7
    fraction bits, between -2^22 and 2^22. TOSA asks for neighbours whose difference fits int16; here any are defined.

    Raises `ValueError` for other dtypes or a table of another size.
    """
    if x.dtype != np.int16:
        raise ValueError(f"a 16-bit table takes int16 values, got {x.dtype}")
    if table.dtype != np.int16 or table.shape != (TABLE_ENTRIES,):
        raise ValueError(f"a 16-bit table is int16[{TABLE_ENTRIES}], got {table.dtype} of shape {table.shape}")
    return _interpolated(table.tobytes())[x.astype(np.intp) + 32768]


@lru_cache(maxsize=64)
def _interpolated(table: bytes) -> npt.NDArray[np.int32]:
    """Returns the result of a table for every int16 value in ascending order: one gather serves a whole tile."""
    entries = np.frombuffer(table, dtype=np.int16).astype(np.int32)
    fractions = np.arange(1 << TABLE_FRACTION_BITS, dtype=np.int32)
    slopes = np.diff(entries)
    results = (entries[:-1, np.newaxis] << TABLE_FRACTION_BITS) + slopes[:, np.newaxis] * fractions
    results = results.reshape(-1)
    results.flags.writeable = False
    return results


def build_table_16(function: RealFunction, input_scale: float, output_scale: float) -> npt.NDArray[np.int16]:
    """
    Returns the table (int16[513]) of a real function between quantized values.

    Entry i is ``f((i - 256) * 128 * input_scale) / output_scale``, rounded half to even and saturated to int16: the
    correctly rounded value at every 128th input; the inputs between lie on straight lines.

    Raises `ValueError` for scales that are not finite and positive, or where the function is not a number.
    """
    _check_table_scales(input_scale, output_scale)
    points = (np.arange(TABLE_ENTRIES, dtype=np.float64) - 256) * 128 * input_scale
    return np.clip(np.rint(_sampled(function, points, output_scale)), -32768, 32767).astype(np.int16)


def table_8(x: npt.NDArray[np.int8], table: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """
    Looks up int8 values in a table of 256 int8 entries: TOSA TABLE on int8, ``table[x + 128]``; the shape of `x`.

    Raises `ValueError` for other dtypes or a table of another size.
    """
    if x.dtype != np.int8:
        raise ValueError(f"an 8-bit table takes int8 values, got {x.dtype}")
    _check_table_8(table)
    return table[x.astype(np.intp) + 128]


def build_table_8(
    function: RealFunction, input_scale: float, output_scale: float, input_zero_point: int = 0, zero_point: int = 0
) -> npt.NDArray[np.int8]:
    """
    Returns the table (int8[256]) of a real function between quantized values.

    Entry i is ``f((i - 128 - input_zero_point) * input_scale) / output_scale + zero_point``, rounded half to even
    before the zero point is added, and saturated to int8: the correctly rounded result for every input.

    Raises `ValueError` for scales that are not finite and positive, or where the function is not a number.
    """
    _check_table_scales(input_scale, output_scale)
    points = (np.arange(NARROW_TABLE_ENTRIES, dtype=np.float64) - 128 - input_zero_point) * input_scale
    results = np.rint(_sampled(function, points, output_scale)) + zero_point
    return np.clip(results, -128, 127).astype(np.int8)


def widened_table(table: npt.NDArray[np.int8]) -> npt.NDArray[np.int16]:
    """
    Returns the 16-bit table (int16[513]) that gives the results of an 8-bit one: how the machine looks up int8 values.

    Entry 2i is entry i, so that ``table_16(256 * x, widened_table(t)) == 128 * table_8(x, t)`` for every int8 x: it is
    looked up at an entry, and nothing is interpolated. Raises `ValueError` for what is not an 8-bit table.
    """
    _check_table_8(table)
    return np.append(np.repeat(table, 2), table[-1]).astype(np.int16)


def _check_table_8(table: npt.NDArray[np.int8]) -> None:
    if table.dtype != np.int8 or table.shape != (NARROW_TABLE_ENTRIES,):
        raise ValueError(f"an 8-bit table is int8[{NARROW_TABLE_ENTRIES}], got {table.dtype} of shape {table.shape}")


def _check_table_scales(input_scale: float, output_scale: float) -> None:
    for name, scale in (("input", input_scale), ("output", output_scale)):
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"the {name} scale of a table must be finite and positive, got {scale}")


def _sampled(function: RealFunction, points: Float64Array, output_scale: float) -> Float64Array:
    """Returns a function at some points in units of the output; raises `ValueError` where it is not a number."""
    with np.errstate(over="ignore"):
        results = function(points) / output_scale
    if np.any(np.isnan(results)):
        raise ValueError(f"the function of a table is not a number at {points[np.isnan(results)][0]}")
    return results


@lru_cache(maxsize=2)
def exp2_table(bits: int) -> Int64Array:
    """
    Returns ``round((2^bits - 1) * 2^7 * 2^(f / 1024))`` for f in 0..1023, exactly rounded (int64, read-only).

    `bits` is 8 or 16. Computed with 60 decimal digits, each entry from the one before: the products lose four of them.
    The powers are irrational, so that no tie can occur.
    """
    if bits not in EXPONENTIAL_BITS:
        raise ValueError(f"exponentials have {' or '.join(map(str, EXPONENTIAL_BITS))} bits, not {bits}")
    count = 1 << EXPONENT_FRACTION_BITS
    with localcontext() as context:
        context.prec = 60
        root = Decimal(2) ** (Decimal(1) / count)
        scale = Decimal(((1 << bits) - 1) << TABLE_FRACTION_BITS)
        powers = accumulate(repeat(root, count - 1), mul, initial=scale)
        entries = [int(power.to_integral_value(ROUND_HALF_EVEN)) for power in powers]
    table = np.array(entries, dtype=np.int64)
    table.flags.writeable = False
    return table


@lru_cache(maxsize=2)
def exp2_results(bits: int) -> Int64Array:
    """Returns `exp2` of 0, -1, -2, ... down to the first octave where everything is zero (int64)."""
    octaves = bits + 3
    t = -np.arange(octaves << EXPONENT_FRACTION_BITS, dtype=np.int64)
    fraction = t & ((1 << EXPONENT_FRACTION_BITS) - 1)
    octave = t >> EXPONENT_FRACTION_BITS
    return rounding_shift(exp2_table(bits)[fraction], np.minimum(TABLE_FRACTION_BITS - octave, _LARGEST_EXP2_SHIFT))


def exp2(t: npt.ArrayLike, bits: int) -> Int64Array:
    """
    Returns ``(2^bits - 1) * 2^(t / 1024)`` as the softmax unit computes it; t <= 0, int64 result of the same shape.

    With ``f = t & 1023`` and ``i = t >> 10``: ``rounding_shift(exp2_table(bits)[f], min(7 - i, 40))``. Every int64 t
    is allowed; below about -(bits + 1) octaves the result is zero.

    Raises `ValueError` for positive t.
    """
    exponents = as_int64(t)
    if exponents.size and int(exponents.max()) > 0:
        raise ValueError(f"the exponent of a softmax cannot be positive, got {int(exponents.max())}")
    results = exp2_results(bits)
    return results[-np.maximum(exponents, 1 - results.size)]
