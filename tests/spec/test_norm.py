"""LayerNorm and RMSNorm, against their definition on Python integers and against float64."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sta.spec.norm import layer_norm, quantize_norm_parameters

KINDS = st.sampled_from(["layer", "rms"])
INT32 = st.one_of(st.integers(-(2**31), 2**31 - 1), st.sampled_from([-(2**31), 2**31 - 1]))


def half_up(value: int, shift: int) -> int:
    """Returns the value shifted right and rounded."""
    return (value + ((1 << shift) >> 1)) >> shift


def row_by_definition(
    row: list[int], gamma: list[int], beta: list[int], epsilon: int, shift: int, kind: str
) -> list[int]:
    """Returns one normalized row, on unbounded integers."""
    n, total = len(row), sum(row) if kind == "layer" else 0
    radicand = n * sum(x * x for x in row) - total * total + epsilon
    half = (radicand.bit_length() + 1) // 2
    root = min(math.isqrt((1 << (60 + 2 * half)) // radicand), 2**31 - 1)
    normalized = [half_up((n * x - total) * root, 10 + half) for x in row]
    parts = zip(normalized, gamma, beta, strict=True)
    results = [half_up(z * g + (b << 20), shift) for z, g, b in parts]
    assert all(abs(z * g) + abs(b << 20) < 2**62 for z, g, b in zip(normalized, gamma, beta, strict=True))
    return [min(max(result, -32768), 32767) for result in results]


@settings(deadline=None)
@given(st.data(), KINDS, st.one_of(st.integers(1, 100), st.integers(1, 2**61 - 1)), st.integers(0, 63))
def test_layer_norm_follows_its_definition(data: st.DataObject, kind: str, epsilon: int, shift: int) -> None:
    n = data.draw(st.integers(1, 40))
    rows = data.draw(hnp.arrays(np.int16, (2, n)))
    gamma = data.draw(hnp.arrays(np.int32, n, elements=INT32))
    beta = data.draw(hnp.arrays(np.int32, n, elements=INT32))
    result = layer_norm(rows, gamma, beta, epsilon, shift, kind)
    assert result.dtype == np.int16
    lists = gamma.tolist(), beta.tolist()
    assert result.tolist() == [row_by_definition(row, *lists, epsilon, shift, kind) for row in rows.tolist()]


@settings(deadline=None)
@given(st.lists(st.integers(-300, 300), min_size=1, max_size=60), st.integers(-32768, 32767), KINDS, st.integers(0, 5))
def test_every_bit_of_the_normalized_values(values: list[int], outlier: int, kind: str, shift: int) -> None:
    # The values next to an outlier are small: with gamma 1 and hardly a shift, their 20 fraction bits are the result.
    row = [*values, outlier]
    ones, zeros = np.ones(len(row), dtype=np.int32), np.zeros(len(row), dtype=np.int32)
    result = layer_norm(np.array([row], dtype=np.int16), ones, zeros, 7, shift, kind)
    assert result[0].tolist() == row_by_definition(row, ones.tolist(), zeros.tolist(), 7, shift, kind)


def test_the_largest_reciprocal_root_is_below_one() -> None:
    # D is 2^42: the exact root 2^31 would give z = 1/2, rounded up; the largest int32 is just below.
    one, zero = np.ones(1, dtype=np.int32), np.zeros(1, dtype=np.int32)
    x = np.array([[1]], dtype=np.int16)
    assert layer_norm(x, one, zero, 2**42 - 1, 0, "rms").item() == 0
    assert layer_norm(x, one, zero, 2**42 - 2, 0, "rms").item() == 1
    assert row_by_definition([1], [1], [0], 2**42 - 2, 0, "rms") == [1]


def extreme_rows(n: int) -> npt.NDArray[np.int16]:
    """Returns rows at the ends of the ranges: constant, two-valued, one value apart from the rest."""
    rows = np.zeros((7, n), dtype=np.int16)
    rows[0], rows[1] = 32767, -32768
    rows[2, ::2], rows[2, 1::2] = 32767, -32768
    rows[3, 0] = 32767
    rows[4], rows[4, -1] = 32767, -32768
    rows[5, n // 2] = 1
    rows[6] = np.random.default_rng(n).integers(-32768, 32768, n)
    return rows


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("n", [1, 2, 768, 8192])
def test_layer_norm_at_the_ends_of_its_ranges(kind: str, n: int) -> None:
    rows = extreme_rows(n)
    gamma = np.where(np.arange(n) % 2, 2**31 - 1, -(2**31)).astype(np.int32)
    beta = np.where(np.arange(n) % 3, 2**31 - 1, -(2**31)).astype(np.int32)
    for epsilon in (1, 2**61 - 1):
        # A shift that keeps the largest result, 2^20 * sqrt(8192) * 2^31, inside int16.
        result = layer_norm(rows, gamma, beta, epsilon, 43, kind)
        lists = gamma.tolist(), beta.tolist()
        assert result.tolist() == [row_by_definition(row, *lists, epsilon, 43, kind) for row in rows.tolist()]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 900),
    KINDS,
    st.floats(0.001, 1000.0),
    st.floats(0.0, 6.0),
    st.floats(-12.0, -3.0),
    st.integers(0, 2**32),
)
def test_layer_norm_is_within_one_of_float64(
    n: int, kind: str, deviation: float, spread: float, eps_exponent: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    input_scale = 10.0 ** generator.uniform(-6, 0)
    rows = np.clip(generator.normal(generator.normal() * 5000, deviation * 10, (4, n)), -32768, 32767).astype(np.int16)
    real_gamma = generator.normal(size=n) * 2.0**spread
    real_beta = generator.normal(size=n) * 2.0**spread
    output_scale = 2.0**spread / 2.0 ** generator.uniform(0, 13)
    gamma, beta, epsilon, shift = quantize_norm_parameters(
        real_gamma, real_beta, input_scale, output_scale, 10.0**eps_exponent, n, kind
    )
    result = layer_norm(rows, gamma, beta, epsilon, shift, kind)
    wide = rows.astype(np.longdouble)
    centred = wide - wide.mean(axis=1, keepdims=True) if kind == "layer" else wide
    variance = (centred * centred).mean(axis=1, keepdims=True) + np.longdouble(epsilon) / n / n
    exact = centred / np.sqrt(variance) * np.ldexp(gamma.astype(np.longdouble), 20 - shift)
    exact = np.clip(np.rint(exact + np.ldexp(beta.astype(np.longdouble), 20 - shift)), -32768, 32767)
    assert np.abs(result - exact).max() <= 1


def test_a_constant_row_gives_beta() -> None:
    gamma = np.full(8, 2**24, dtype=np.int32)
    beta = (np.arange(-4, 4) << 10).astype(np.int32)
    for value in (-32768, 0, 1, 32767):
        row = np.full((1, 8), value, dtype=np.int16)
        assert layer_norm(row, gamma, beta, 1, 30).tolist() == [list(range(-4, 4))]
    assert layer_norm(np.zeros((1, 8), dtype=np.int16), gamma, beta, 1, 30, "rms").tolist() == [list(range(-4, 4))]


def test_layer_norm_keeps_leading_dimensions() -> None:
    ones = np.ones(4, dtype=np.int32)
    assert layer_norm(np.zeros((2, 3, 4), dtype=np.int16), ones, ones, 1, 20).shape == (2, 3, 4)
    assert layer_norm(np.zeros(4, dtype=np.int16), ones, ones, 1, 20).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 0}, "epsilon"),
        ({"epsilon": 2**61}, "epsilon"),
        ({"kind": "batch"}, "unknown kind"),
        ({"shift": 64}, "shift"),
        ({"gamma": np.ones(3, dtype=np.int32)}, r"gamma must be int32\[4\]"),
        ({"beta": np.ones(4, dtype=np.int64)}, r"beta must be int32\[4\]"),
        ({"x": np.zeros((1, 4), dtype=np.int32)}, "rows must be int16"),
        ({"x": np.zeros((1, 8193), dtype=np.int16)}, "8192"),
    ],
)
def test_layer_norm_refuses(change: dict[str, object], message: str) -> None:
    ones = np.ones(4, dtype=np.int32)
    arguments: dict[str, object] = {
        "x": np.zeros((1, 4), dtype=np.int16), "gamma": ones, "beta": ones, "epsilon": 1, "shift": 20
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        layer_norm(**{**arguments, **change})  # pyright: ignore[reportArgumentType]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1), st.floats(1e-3, 1e3))
def test_parameters_get_as_many_bits_as_fit(pairs: list[tuple[float, float]], output_scale: float) -> None:
    real = np.array(pairs).T
    gamma, beta, _, shift = quantize_norm_parameters(real[0], real[1], 0.1, output_scale, 1e-5, len(pairs))
    bits = shift - 20
    assert gamma.dtype == beta.dtype == np.int32
    for quantized, values in ((gamma, real[0]), (beta, real[1])):
        assert np.abs(quantized - np.ldexp(values / output_scale, bits)).max() <= 0.5
    largest = np.abs(real / output_scale).max()
    assert bits == 24 or round(math.ldexp(float(largest), bits + 1)) > 2**31 - 1


@pytest.mark.parametrize("largest", [127.99999999, 128.0, 2.0**31 - 1, 2.0**31 - 0.6])
def test_parameters_round_inside_int32(largest: float) -> None:
    gamma, _, _, shift = quantize_norm_parameters([largest], [0.0], 1.0, 1.0, 0.0, 1)
    assert gamma[0] > 2**29
    assert abs(gamma[0] / 2.0 ** (shift - 20) - largest) <= largest * 2.0**-30


def test_epsilon_is_in_units_of_the_input() -> None:
    assert quantize_norm_parameters([1.0] * 4, [0.0] * 4, 0.5, 1.0, 1.0, 4)[2] == 64
    assert quantize_norm_parameters([1.0] * 4, [0.0] * 4, 0.5, 1.0, 0.0, 4)[2] == 1
    with pytest.raises(ValueError, match="too large for an input scale"):
        quantize_norm_parameters([1.0], [0.0], 2.0**-31, 1.0, 1.0, 1)


@pytest.mark.parametrize(
    ("gamma", "scales", "eps", "message"),
    [
        ([1.0, 2.0], (1.0, 1.0), 0.0, "gamma and beta must be 1"),
        ([math.nan], (1.0, 1.0), 0.0, "finite"),
        ([1.0], (0.0, 1.0), 0.0, "scales"),
        ([1.0], (1.0, math.inf), 0.0, "scales"),
        ([1.0], (1.0, 1.0), -1.0, "eps"),
        ([1e30], (1.0, 1.0), 0.0, "more than int32"),
    ],
)
def test_quantize_norm_parameters_refuses(
    gamma: list[float], scales: tuple[float, float], eps: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        quantize_norm_parameters(gamma, [0.0] * len(gamma), *scales, eps, 1)
    with pytest.raises(ValueError, match="unknown kind"):
        quantize_norm_parameters([1.0], [0.0], 1.0, 1.0, 0.0, 1, kind="group")
