"""Normalization, softmax and attention against float64; tables against arithmetic of 60 digits."""

import math
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.attention_error import BITS, CHUNK, LENGTHS, MODES, Case, ita_weights, kinds_of_logits, measure
from benchmarks.operator_accuracy import CLOSER, RANGES, SHORTEST, compare_norms, table_errors
from sta.spec.integers import encode_scale
from sta.spec.operators.operator import Role
from sta.spec.operators.registry import activation, activations, rows_of
from sta.spec.parameters import MapParameters
from sta.spec.softmax import probabilities
from sta.spec.tables import Float64Array, build_table_8, build_table_16, table_8, table_16
from sta.spec.vector import ADD, MULTIPLY, map_tile

mp: Any = import_module("mpmath")
EVERY_INT8 = np.arange(-128, 128).astype(np.int8)


def test_norms_are_within_one_of_the_correctly_rounded_result() -> None:
    compared = compare_norms()
    assert sum(comparison.elements for comparison in compared) > 8_000_000
    for comparison in compared:
        assert comparison.largest <= 1
        assert comparison.different / comparison.elements < 0.002, comparison.operator


EXACTLY_COMBINED: dict[str, Callable[[Float64Array, Float64Array], Float64Array]] = {
    ADD: np.add,
    "subtract": np.subtract,
    "subtract_from": lambda x, y: y - x,
    "maximum": np.maximum,
    "minimum": np.minimum,
    MULTIPLY: np.multiply,
}
"""Combinations of two values in units of the result, in float64."""
NAMED = ("gelu", "gelu_tanh", "relu", "sigmoid", "silu", "tanh")
"""The activations that have a definition here."""


def exact(name: str, x: Any) -> Any:
    """Returns an activation as the literature defines it, to the digits that mpmath works with."""
    match name:
        case "gelu":
            return x * mp.erfc(-x / mp.sqrt(2)) / 2
        case "gelu_tanh":
            return x * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3))) / 2
        case "sigmoid":
            return 1 / (1 + mp.exp(-x))
        case "silu":
            return x / (1 + mp.exp(-x))
        case "tanh":
            return mp.tanh(x)
        case _:
            assert name == "relu"
            return max(x, mp.mpf(0))


NAMES = st.sampled_from(NAMED)
SCALES = st.floats(-30, 6).map(lambda exponent: 2.0**exponent)
"""Of inputs: from values that never leave the neighbourhood of zero to steps of 64."""
OUTPUT_SCALES = st.floats(-24, 8).map(lambda exponent: 2.0**exponent)
ZERO_POINTS = st.integers(-128, 127)


def is_correctly_rounded(
    name: str, inputs: range, scales: tuple[float, float], results: list[int], limits: tuple[int, int]
) -> None:
    """Compares with the function to 60 digits; what float64 cannot tell from a tie may go either way."""
    for integer, result in zip(inputs, results, strict=True):
        with mp.workdps(60):
            real = exact(name, mp.mpf(integer) * mp.mpf(scales[0])) / mp.mpf(scales[1])
            kept = min(max(real, mp.mpf(limits[0])), mp.mpf(limits[1]))
            assert abs(kept - result) <= mp.mpf("0.5000001"), (integer, result, float(real))


@settings(deadline=None, max_examples=60)
@given(NAMES, st.tuples(SCALES, OUTPUT_SCALES), st.tuples(ZERO_POINTS, ZERO_POINTS))
def test_256_entries_are_correctly_rounded(
    name: str, scales: tuple[float, float], zero_points: tuple[int, int]
) -> None:
    results = table_8(EVERY_INT8, build_table_8(activation(name), *scales, *zero_points)).astype(int) - zero_points[1]
    inputs = range(-128 - zero_points[0], 128 - zero_points[0])
    is_correctly_rounded(name, inputs, scales, results.tolist(), (-128 - zero_points[1], 127 - zero_points[1]))


@settings(deadline=None, max_examples=40)
@given(NAMES, st.floats(-38, 0).map(lambda exponent: 2.0**exponent), OUTPUT_SCALES)
def test_513_entries_are_exact(name: str, input_scale: float, output_scale: float) -> None:
    inputs = range(-32768, 32768, 128)
    table = build_table_16(activation(name), input_scale, output_scale)
    looked_up = table_16(np.array(inputs, np.int16), table)
    assert not (looked_up % 128).any()
    results = [*(looked_up // 128).tolist(), int(table[512])]
    is_correctly_rounded(name, range(-32768, 32769, 128), (input_scale, output_scale), results, (-32768, 32767))


def test_lines_between_entries_stay_within_their_bound() -> None:
    errors = table_errors()
    assert len(errors) == len(activations()) * len(RANGES)
    assert [error for error in errors if not error.holds] == []
    # The bound is one of these functions, not just any above them; a bend may lie at an entry, where it costs nothing.
    smooth = {row.table_name(*example) for row in rows_of(Role.ELEMENTWISE) if not row.bend for example in row.examples}
    assert all(error.largest > 0.4 * error.bound for error in errors if error.function in smooth)


@pytest.mark.parametrize("keys", [1, 2, 77, 1000])
@pytest.mark.parametrize("deviation", [0.3, 3.0, 12.0])
def test_probabilities_are_within_one(keys: int, deviation: float) -> None:
    scores = np.random.default_rng(keys).normal(scale=deviation * 512, size=(2000, keys)).round().astype(np.int32)
    multiplier, shift = (int(part) for part in encode_scale(1024 / math.log(2) / 512))
    result = probabilities(scores, multiplier, shift)
    weights = np.exp((scores - scores.max(axis=1, keepdims=True)) / 512)
    weights /= weights.sum(axis=1, keepdims=True)
    bound = weights / 1477 + 0.51 * (1 + keys * weights) / 65535
    assert np.all(np.abs(result - 255 * weights) <= 0.5 + 255 * bound)
    assert np.abs(result - np.rint(255 * weights)).max() <= 1


@cache
def measured(length: int, kind: str, rows: int) -> Case:
    return measure(length, kind, rows)


def check(case: Case) -> None:
    for bits in BITS:
        for mode in MODES:
            error = case.ours[bits, mode]
            assert error.mean <= math.sqrt(error.square) <= error.largest
    # 16 bits are better than 8 by nearly what their width says; at least by ten where rounding is all there is.
    assert case.ours[16, "row"].mean < case.ours[8, "row"].mean / 10
    if case.length >= SHORTEST:
        assert all(case.closer(case.chosen_bits, mode) >= CLOSER for mode in MODES)


@pytest.mark.parametrize("kind", kinds_of_logits())
@pytest.mark.parametrize("length", [length for length in LENGTHS if length <= 512])
def test_attention_is_closer_than_a_streaming_softmax(length: int, kind: str) -> None:
    check(measured(length, kind, 64))


@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds_of_logits())
@pytest.mark.parametrize("length", [length for length in LENGTHS if length > 512])
def test_long_attention_is_closer_than_a_streaming_softmax(length: int, kind: str) -> None:
    check(measured(length, kind, 64))


def test_peaked_rows_get_16_bits() -> None:
    assert measured(512, "one 6.5 above", 64).chosen_bits == 16
    assert measured(512, "σ = 1", 64).chosen_bits == 8


def test_one_chunk_is_like_whole_rows_but_for_a_power_of_two() -> None:
    case = measured(64, "σ = 1", 64)
    assert case.length < CHUNK
    assert case.ours[8, "online"].mean < 2.1 * case.ours[8, "row"].mean


def test_itas_rows_do_not_add_up_to_one() -> None:
    # Unit-normal logits on a grid that does not move with the row: 0.87 and 0.58.
    generator = np.random.default_rng(3)
    for keys, expected in ((64, 0.87), (256, 0.58)):
        weights = ita_weights(generator.normal(size=(4000, keys)))
        assert weights.sum(axis=1).mean() == pytest.approx(expected, abs=0.05)
    assert ita_weights(np.array([[5.0]]))[0, 0] == 1.0


FACTORS = st.floats(-12, -2).map(lambda exponent: 2.0**exponent)
"""From the scales of the operands to that of the result, for which no product is too large to be rescaled."""


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(sorted(EXACTLY_COMBINED)),
    st.tuples(FACTORS, FACTORS),
    st.sampled_from([np.int8, np.int16]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_two_values_are_combined_within_one(
    combine: str, factors: tuple[float, float], dtype: Any, is_column: bool, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    x = generator.integers(limits.min, limits.max + 1, (7, 13)).astype(dtype)
    residual = generator.integers(limits.min, limits.max + 1, (7, 1 if is_column else 13)).astype(dtype)
    # A product has one scale, that of its residual.
    own = 1.0 if combine == MULTIPLY else factors[0]
    first, second = encode_scale(own), encode_scale(factors[1])
    parameters = MapParameters(
        np.zeros(1, np.int32),
        np.array([first[0]], np.int32),
        np.array([first[1]], np.int8),
        residual_multiplier=int(second[0]),
        residual_shift=int(second[1]),
    )
    found = map_tile(x, parameters, np.int32, residual=residual, combine=combine)
    terms = own * x.astype(np.float64), factors[1] * residual.astype(np.float64)
    exact_result = np.clip(EXACTLY_COMBINED[combine](*terms), -(2.0**31), 2.0**31 - 1)
    roundings = 0.5 if combine == MULTIPLY else 1.0
    # Multipliers have 31 bits.
    encoding = 2.0**-30 * (np.abs(exact_result) + sum(np.abs(term) for term in terms))
    assert np.all(np.abs(found - exact_result) <= roundings + encoding)
