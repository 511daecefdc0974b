"""Float layers as integers: the proof that accumulators stay in int32, rounding, and the folded zero point."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sta.passes.quantization.integer_weights import (
    EMPTY_CHANNEL_SCALE,
    PART,
    quantize_linear,
    quantize_symmetric,
    requantization,
    row_scales,
)
from sta.spec.integers import apply_scale_32

Array = NDArray[Any]

REALS = st.floats(-8, 8, width=32)
ZERO_POINTS = st.integers(-128, 127)
SCALES = st.floats(2.0**-16, 2.0**4)


@st.composite
def layers(draw: st.DrawFn) -> tuple[Array, Array | None]:
    """Draws weights [N, K] and perhaps a bias [N]; some rows are zero, some far smaller than their bias."""
    rows, depth = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    weights = np.array(draw(st.lists(REALS, min_size=rows * depth, max_size=rows * depth)), np.float32)
    factors = np.array(draw(st.lists(st.sampled_from([1.0, 0.0, 1e-9]), min_size=rows, max_size=rows)))
    bias = None
    if draw(st.booleans()):
        bias = np.array(draw(st.lists(REALS, min_size=rows, max_size=rows)), np.float32) * 1000
    return weights.reshape(rows, depth) * factors[:, np.newaxis], bias


@settings(deadline=None)
@given(layers(), SCALES, ZERO_POINTS, st.integers(0, 2**32))
def test_folding_the_zero_point_changes_nothing(
    layer: tuple[Array, Array | None], scale: float, zero_point: int, seed: int
) -> None:
    weights, bias = layer
    result = quantize_linear(weights, bias, scale, zero_point)
    x = np.random.default_rng(seed).integers(-128, 128, (3, weights.shape[1]))
    with_zero_point = (x - zero_point) @ result.weights.T.astype(np.int64)
    own = np.zeros(len(weights)) if bias is None else np.rint(bias.astype(np.float64) / result.scales)
    assert np.array_equal(x @ result.weights.T.astype(np.int64) + result.bias, with_zero_point + own.astype(np.int64))
    assert result.weights.dtype == np.int8
    assert result.bias.dtype == np.int32


@settings(deadline=None)
@given(layers(), SCALES, ZERO_POINTS)
def test_every_weight_is_the_nearest_one(layer: tuple[Array, Array | None], scale: float, zero_point: int) -> None:
    weights, bias = layer
    result = quantize_linear(weights, bias, scale, zero_point)
    assert np.abs(result.weights.astype(int)).max() <= 127
    for row, integers, unit in zip(weights.tolist(), result.weights.tolist(), result.scales.tolist(), strict=True):
        assert unit > 0
        for real, integer in zip(row, integers, strict=True):
            # Half a step, and what float64 loses on the way.
            assert abs(Fraction(real) / (Fraction(unit) / Fraction(scale)) - integer) <= Fraction(1, 2) + Fraction(
                1, 2**40
            )


@settings(deadline=None)
@given(layers(), SCALES)
def test_a_row_uses_all_of_its_range_unless_its_bias_needs_more(
    layer: tuple[Array, Array | None], scale: float
) -> None:
    weights, bias = layer
    result = quantize_linear(weights, bias, scale, 0)
    assert np.abs(result.bias.astype(np.int64)).max() <= 1 << 30
    bias_rules = np.zeros(len(weights)) if bias is None else np.abs(bias) / result.scales
    for row, integers, bias_units in zip(weights, result.weights, bias_rules, strict=True):
        largest = np.abs(integers.astype(int)).max()
        assert largest == 127 or not row.any() or bias_units >= (1 << 30) * (1 - 2**-40)


@settings(deadline=None)
@given(layers(), st.sampled_from([np.float32, np.float64]))
def test_the_scale_of_a_row_is_one_of_its_largest_weight_by_127(layer: tuple[Array, Array | None], dtype: Any) -> None:
    weights = layer[0].astype(dtype)
    scales = row_scales(weights)
    assert scales.dtype == dtype
    for row, scale in zip(weights, scales, strict=True):
        own = np.abs(row).max() / dtype(127)
        assert scale == (own if own > 0 else EMPTY_CHANNEL_SCALE)
    # What a layer without bias is stored with.
    exact = weights.astype(np.float64)
    np.testing.assert_array_equal(quantize_linear(exact, None, 0.5, 0).scales, row_scales(exact) * 0.5)


def worst_accumulator(weights: NDArray[np.int8], bias: NDArray[np.int32]) -> int:
    """Returns the largest magnitude an accumulator takes for any int8 input, before or after its bias is added."""
    wide = weights.astype(object)
    high = (np.where(wide > 0, wide * 127, wide * -128)).sum(axis=1)
    low = (np.where(wide > 0, wide * -128, wide * 127)).sum(axis=1)
    ends = [abs(end + part) for end in (high, low) for part in (0, bias.astype(object))]
    return int(np.max(np.array(ends)))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 140_000), st.integers(1, 127), st.floats(-(2.0**31), 2.0**31), ZERO_POINTS)
def test_what_is_accepted_cannot_overflow(depth: int, weight: int, bias: float, zero_point: int) -> None:
    weights = np.full((2, depth), weight / 127.0)
    weights[:, 0] = 1.0
    weights[1, ::2] = -weights[1, ::2]
    try:
        result = quantize_linear(weights, np.array([bias, -bias]) / 127, 1.0, zero_point)
    except OverflowError:
        # Nothing is refused that has a quarter of the range to spare.
        assert depth * 128 * (weight + 1) + abs(bias) + abs(zero_point) * depth * (weight + 1) > 1.5 * 2**30
        return
    assert worst_accumulator(result.weights, result.bias) < 2**31


def test_overflow_names_channel_depth_and_reach() -> None:
    weights = np.ones((3, 140_000))
    weights[:2] *= np.arange(140_000) < 1000
    with pytest.raises(OverflowError, match=r"2,275,840,000 in output channel 2 \(K = 140000\)"):
        quantize_linear(weights, None, 1.0, 0)


def test_the_deepest_product_that_fits() -> None:
    # 127 * 128 a weight: int32 holds 132,104 of them.
    assert quantize_linear(np.ones((1, 132_104)), None, 1.0, 0).weights.sum(dtype=np.int64) == 132_104 * 127
    with pytest.raises(OverflowError):
        quantize_linear(np.ones((1, 132_105)), None, 1.0, 0)


def test_the_deepest_16_bit_product_that_fits() -> None:
    # 127 * 255 a weight in the pass over the low bytes: int32 holds 66,311 of them.
    assert quantize_linear(np.ones((1, 66_311)), None, 1.0, 0, wide=True).weights.sum(dtype=np.int64) == 66_311 * 127
    with pytest.raises(OverflowError, match=r"2,147,514,120 in output channel 0 \(K = 66312\)"):
        quantize_linear(np.ones((1, 66_312)), None, 1.0, 0, wide=True)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 70_000), st.integers(1, 127), st.floats(-(2.0**31), 2.0**31), st.integers(-(2**15), 2**15 - 1))
def test_what_is_accepted_of_16_bits_cannot_overflow(depth: int, weight: int, bias: float, zero_point: int) -> None:
    weights = np.full((2, depth), weight / 127.0)
    weights[1, ::2] = -weights[1, ::2]
    try:
        result = quantize_linear(weights, np.array([bias, -bias]) / 127, 1.0, zero_point, wide=True)
    except OverflowError:
        # Whatever the weights are as floats, the largest of a channel is 127 as an integer.
        assert depth * 255 * 127 >= 2**31 or abs(zero_point) * depth * 128 + abs(bias) > 2**30
        return
    positive, negative = (np.where(sign * result.weights > 0, result.weights, 0) for sign in (1, -1))
    for low, high in ((-128, 127), (0, 255)):
        for most, least in ((high, low), (low, high)):
            sums = positive.sum(axis=1, dtype=np.int64) * most + negative.sum(axis=1, dtype=np.int64) * least
            assert np.abs(sums).max() < 2**31
    own = np.rint(np.array([bias, -bias]) / 127 / result.scales).astype(np.int64)
    np.testing.assert_array_equal(result.bias, own - zero_point * result.weights.sum(axis=1, dtype=np.int64))


def test_a_bias_that_dwarfs_its_weights() -> None:
    result = quantize_linear(np.array([[1e-6, -1e-6]]), np.array([5000.0]), 0.01, -7)
    assert result.bias.tolist() == [1 << 30]
    assert result.scales[0] * result.bias[0] == pytest.approx(5000.0)


def test_a_layer_of_zeros_can_be_requantized_to_any_output() -> None:
    # What a zero-initialized layer gives: its output never leaves zero, and its scale is the smallest there is.
    result = quantize_linear(np.zeros((2, 3)), np.array([0.0, 0.0]), 3.0, 5)
    assert not result.weights.any()
    assert not result.bias.any()
    multiplier, shift = requantization(result.scales, 2.0**-20 / 32767)
    assert not apply_scale_32(result.bias, multiplier, shift).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["weight", "bias"])
def test_numbers_that_are_not_finite_are_refused(bad: float, place: str) -> None:
    weights, bias = np.ones((2, 3)), np.ones(2)
    (weights[1] if place == "weight" else bias)[1] = bad
    with pytest.raises(ValueError, match="output channel 1"):
        quantize_linear(weights, bias, 0.1, 0)


@settings(deadline=None)
@given(st.lists(st.floats(2.0**-30, 2.0**10), min_size=1, max_size=5), st.floats(2.0**-16, 1.0))
def test_requantization_takes_accumulators_to_the_output(scales: list[float], output_scale: float) -> None:
    multiplier, shift = requantization(np.array(scales), output_scale)
    assert multiplier.dtype == np.int32
    assert shift.dtype == np.int8
    for one, m, s in zip(scales, multiplier.tolist(), shift.tolist(), strict=True):
        exact = Fraction(one) / Fraction(output_scale)
        assert abs(Fraction(m, 1 << s) / exact - 1) <= Fraction(1, 1 << 30)


@given(st.floats(-1e6, 1e6), st.sampled_from([2.0**-8, 0.5, 1.0, 2.0**5]))
def test_symmetric_quantization_rounds_ties_to_even(value: float, scale: float) -> None:
    expected = max(-32768, min(32767, round(Fraction(value) / Fraction(scale))))
    assert quantize_symmetric(np.array([value]), scale).tolist() == [expected]


def test_a_large_table_is_rounded_in_parts_and_keeps_its_shape() -> None:
    table = np.random.default_rng(0).standard_normal((3, PART)).astype(np.float32)[:, : PART // 2 + 1]
    expected = np.clip(np.rint(table.astype(np.float64) / 0.01), -128, 127).astype(np.int8)
    np.testing.assert_array_equal(quantize_symmetric(table, 0.01, bits=8), expected)
    assert quantize_symmetric(np.array(0.04), 0.01).shape == ()
