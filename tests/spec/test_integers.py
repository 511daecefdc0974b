"""The shared integer arithmetic, against Python's unbounded integers and rationals."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sta.spec.integers import (
    IDENTITY_SCALE,
    apply_scale_32,
    encode_scale,
    matrix_product,
    rounding_shift,
    saturate,
)

INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
EDGES = [0, 1, -1, 2**31 - 1, -(2**31), 2**32, -(2**32), 2**54, -(2**54)]
VALUES = st.one_of(INT32, st.integers(-(2**54), 2**54), st.sampled_from(EDGES))
MULTIPLIERS = st.one_of(st.integers(0, 2**31 - 1), st.sampled_from([0, 1, 2**30, 2**31 - 1]))
SHIFTS = st.one_of(st.integers(2, 62), st.sampled_from([2, 23, 24, 25, 31, 32, 33, 62]))


def scaled(value: int, multiplier: int, shift: int) -> int:
    """Returns TOSA's apply_scale_32 on unbounded integers, the value saturated first."""
    limit = 1 << (shift - 1)
    return (max(-limit, min(limit - 1, value)) * multiplier + limit) >> shift


@settings(deadline=None)
@given(st.lists(st.tuples(INT64, st.integers(0, 63)), min_size=1))
def test_rounding_shift_rounds_halves_up(cases: list[tuple[int, int]]) -> None:
    x, shift = (np.array(column, dtype=np.int64) for column in zip(*cases, strict=True))
    expected = [math.floor(Fraction(value, 1 << bits) + Fraction(1, 2)) if bits else value for value, bits in cases]
    assert rounding_shift(x, shift).tolist() == expected
    assert [int(rounding_shift(value, bits)) for value, bits in cases] == expected


@pytest.mark.parametrize("shift", [-1, 64])
def test_rounding_shift_refuses_shifts_out_of_range(shift: int) -> None:
    with pytest.raises(ValueError, match=f"0..63, got {shift}"):
        rounding_shift([1], [3, shift])


def test_rounding_shift_refuses_real_numbers() -> None:
    with pytest.raises(TypeError, match="float64"):
        rounding_shift(np.array([1.5]), 1)


@settings(deadline=None)
@given(st.lists(st.tuples(VALUES, MULTIPLIERS, SHIFTS), min_size=1, max_size=20))
def test_apply_scale_is_tosa_on_unbounded_integers(cases: list[tuple[int, int, int]]) -> None:
    values, multipliers, shifts = (np.array(column, dtype=np.int64) for column in zip(*cases, strict=True))
    expected = [scaled(*case) for case in cases]
    assert apply_scale_32(values, multipliers, shifts).tolist() == expected
    assert [int(apply_scale_32(*case)) for case in cases] == expected


@settings(deadline=None)
@given(st.lists(INT32, min_size=1, max_size=6), st.lists(st.tuples(MULTIPLIERS, SHIFTS), min_size=1, max_size=6))
def test_apply_scale_broadcasts(rows: list[int], columns: list[tuple[int, int]]) -> None:
    values = np.array(rows, dtype=np.int32)[:, np.newaxis]
    multipliers = np.array([multiplier for multiplier, _ in columns], dtype=np.int32)
    shifts = np.array([shift for _, shift in columns], dtype=np.int8)
    result = apply_scale_32(values, multipliers, shifts)
    assert result.dtype == np.int64
    assert result.tolist() == [[scaled(row, *column) for column in columns] for row in rows]
    # A result of int32 values is an int32 value.
    assert np.abs(result).max() <= 2**31


def test_apply_scale_leaves_its_arguments_alone() -> None:
    values = np.array([2**40, -7, 5], dtype=np.int64)
    apply_scale_32(values, 2**30, 5)
    apply_scale_32(values, 2**30, 40)
    assert values.tolist() == [2**40, -7, 5]


@settings(deadline=None)
@given(st.integers(-(2**29), 2**29 - 1))
def test_identity_scale(value: int) -> None:
    assert int(apply_scale_32(value, *IDENTITY_SCALE)) == value


@settings(deadline=None)
@given(st.integers(2**55, 2**63 - 1), st.sampled_from([60, 62]))
def test_apply_scale_never_wraps(magnitude: int, shift: int) -> None:
    for value in (magnitude, -magnitude):
        try:
            result = int(apply_scale_32(value, 2**31 - 1, shift))
        except OverflowError:
            continue
        assert result == scaled(value, 2**31 - 1, shift)


@pytest.mark.parametrize(
    ("multiplier", "shift", "message"),
    [(1, 1, "shift .* got 1"), (1, 63, "shift .* got 63"), (-1, 31, "multiplier .* got -1"), (2**31, 31, "multiplier")],
)
def test_apply_scale_refuses_scales_out_of_range(multiplier: int, shift: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        apply_scale_32([5, 6], [multiplier, 3], [shift, 30])


@pytest.mark.parametrize(
    ("scale", "multiplier", "shift"),
    [
        (1.0, 2**30, 30),
        (0.5, 2**30, 31),
        (0.75, 3 * 2**29, 31),
        (float(np.nextafter(1.0, 0.0)), 2**30, 30),
        (float(np.nextafter(2.0**29, 0.0)), None, None),
        (2.0**28, 2**30, 2),
        (2.0**-32, 2**30, 62),
        (2.0**-62, 1, 62),
        (2.0**-63, 0, 62),
        (5e-324, 0, 62),
        # A tie rounds up: the mantissa times 2^31 is 2^30 + 1/2.
        (2.0**-1 + 2.0**-32, 2**30 + 1, 31),
        (2.0**-1 + 3 * 2.0**-32, 2**30 + 2, 31),
    ],
)
def test_encode_scale_examples(scale: float, multiplier: int | None, shift: int | None) -> None:
    if multiplier is None:
        # Rounds up to 2^29, whose shift would be 1.
        with pytest.raises(ValueError, match="too large"):
            encode_scale(scale)
        return
    encoded = encode_scale(scale)
    assert (int(encoded[0]), int(encoded[1])) == (multiplier, shift)
    assert encoded[0].dtype == encoded[1].dtype == np.int32


@settings(deadline=None)
@given(st.lists(st.floats(2.0**-70, 2.0**28), min_size=1))
def test_encode_scale_is_close(scales: list[float]) -> None:
    multipliers, shifts = encode_scale(scales)
    for scale, multiplier, shift in zip(scales, multipliers.tolist(), shifts.tolist(), strict=True):
        error = abs(Fraction(multiplier, 1 << shift) - Fraction(scale))
        assert 2 <= shift <= 62
        assert error <= max(Fraction(scale) / 2**31, Fraction(1, 2**62))
        assert shift == 62 or 2**30 <= multiplier < 2**31


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan, 2.0**29, 1e300])
def test_encode_scale_refuses(scale: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        encode_scale([1.0, scale])


@settings(deadline=None)
@given(
    st.lists(INT64, max_size=8),
    st.sampled_from([np.int8, np.uint8, np.int16, np.int32, np.int64]),
    st.sampled_from([np.int8, np.uint8, np.int16, np.uint16, np.int32]),
)
def test_saturate_clamps(values: list[int], source: type[np.integer[Any]], target: type[np.integer[Any]]) -> None:
    low, high = int(np.iinfo(source).min), int(np.iinfo(source).max)
    array = np.array([min(max(value, low), high) for value in values], dtype=source)
    limits = np.iinfo(target)
    result = saturate(array, target)
    assert result.dtype == target
    assert result.tolist() == [min(max(value, int(limits.min)), int(limits.max)) for value in array.tolist()]


def extreme_or_random(
    generator: np.random.Generator, dtype: type[np.integer[Any]], shape: tuple[int, ...], kind: str
) -> npt.NDArray[Any]:
    """Returns operands that are random, or all at the end of the range where the magnitude is largest."""
    limits = np.iinfo(dtype)
    if kind == "random":
        return generator.integers(int(limits.min), int(limits.max) + 1, shape).astype(dtype)
    end = limits.max if dtype is np.uint8 or kind == "top" else limits.min
    return np.full(shape, end, dtype=dtype)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([np.int8, np.uint8, np.int16]),
    st.sampled_from(["random", "top", "bottom"]),
    st.sampled_from(["random", "top", "bottom"]),
    st.sampled_from([(), (2,), (2, 3)]),
    st.integers(0, 9),
    st.integers(0, 9),
    st.one_of(st.integers(0, 40), st.sampled_from([257, 514, 515, 1023, 1024, 1025, 2049, 3072, 4099])),
    st.integers(0, 2**32),
)
def test_matrix_product_is_exact(
    dtype: type[np.integer[Any]],
    left_kind: str,
    right_kind: str,
    batch: tuple[int, ...],
    m: int,
    n: int,
    depth: int,
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    a = extreme_or_random(generator, dtype, (*batch, m, depth), left_kind)
    b = extreme_or_random(generator, np.int8, (*batch, n, depth), right_kind)
    expected = np.matmul(a.astype(np.int64), np.swapaxes(b.astype(np.int64), -1, -2))
    result = matrix_product(a, b, check=False)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, expected)
    if np.abs(expected).max(initial=0) < 2**31:
        np.testing.assert_array_equal(matrix_product(a, b), expected)


def test_matrix_product_checks_int32() -> None:
    a, b = np.full((1, 512), -32768, dtype=np.int16), np.full((2, 512), -128, dtype=np.int8)
    b[0] = 127
    assert matrix_product(a, b[:1]).item() == -32768 * 127 * 512
    with pytest.raises(OverflowError, match="2147483648 does not fit int32"):
        matrix_product(a, b)
    assert matrix_product(a, b, check=False)[0, 1] == 2**31


def test_matrix_product_refuses_operands() -> None:
    narrow = np.zeros((2, 3), dtype=np.int8)
    with pytest.raises(ValueError, match="do not match"):
        matrix_product(narrow, np.zeros((2, 4), dtype=np.int8))
    with pytest.raises(TypeError, match="int32"):
        matrix_product(narrow, np.zeros((2, 3), dtype=np.int32))
