"""The figures that follow from shapes, counted by hand and by brute force."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.shapes import ENCODERS, PATTERNS, Encoder, Product, pattern_name
from sta.spec.nm_format import DENSE, Pattern
from tests.support.nm_builder import PLAIN_TARGET

BERT = Encoder("bert", layers=1, width=6, heads=2, hidden=10, sequence=5, vocabulary=7)
PLAIN = replace(BERT, name="plain", vocabulary=0)
MACHINE = replace(PLAIN_TARGET, array_rows=4, array_columns=4, multipliers=2)


def test_macs_are_those_counted_by_hand() -> None:
    weights = 4 * 5 * 6 * 6 + 5 * 10 * 6 + 5 * 6 * 10
    attention = 2 * 5 * 5 * 3 + 2 * 5 * 3 * 5
    assert PLAIN.macs() == weights + attention
    assert BERT.macs() == weights + 6 * 6 + attention
    assert BERT.macs(Pattern(1, 2)) == (weights + 6 * 6) // 2 + attention
    assert BERT.macs(Pattern(1, 5)) == Fraction(weights + 6 * 6, 5) + attention
    assert BERT.ideal_speed_up(Pattern(1, 2)) == Fraction(1656, 978)


def test_padded_macs_are_those_counted_by_hand() -> None:
    attention = 2 * (8 * 8 * 4) + 2 * (8 * 4 * 6)
    assert BERT.padded_macs(DENSE, MACHINE) == 4 * (8 * 8 * 6) + 8 * 12 * 6 + 8 * 8 * 10 + 4 * 8 * 6 + attention
    # Of 6 weights 2 are kept, of 10 three.
    assert BERT.padded_macs(Pattern(1, 4), MACHINE) == 4 * (8 * 8 * 2) + 8 * 12 * 2 + 8 * 8 * 4 + 4 * 8 * 2 + attention


def test_the_least_traffic_is_that_counted_by_hand() -> None:
    # A row of 6 weights keeps 4 and has 8 bits of bitmap; one of 10 keeps 6 and has 12 bits.
    weights = 4 * 6 * (4 + 1) + 10 * (4 + 1) + 6 * (6 + 2)
    scales = 5 * (32 + 8 * 6 + 8) + (32 + 8 * 10 + 12)
    norm, stream = 32 + 8 * 6, 2 * 5 * 6
    assert PLAIN.least_dram_bytes(Pattern(2, 4)) == {
        "weights": weights,
        "biases and scales": scales,
        "norms": 2 * norm,
        "tables": 0,
        "embedding rows": 0,
        "inputs": stream,
        "outputs": stream,
    }
    assert BERT.least_dram_bytes(Pattern(2, 4)) == {
        "weights": weights + 6 * (4 + 1),
        "biases and scales": scales + (32 + 8 * 6 + 8),
        "norms": 3 * norm,
        "tables": 2 * 513 * 2,
        "embedding rows": 2 * stream,
        "inputs": 5 * (4 + 1),
        "outputs": stream + 2 * 6,
    }


def test_dense_weights_have_no_metadata() -> None:
    assert PLAIN.least_dram_bytes(DENSE)["weights"] == 4 * 36 + 2 * 60


@given(st.tuples(*[st.integers(1, 9)] * 4), st.tuples(*[st.integers(1, 5)] * 3), st.sampled_from(PATTERNS))
def test_padding_is_the_least_that_the_array_can_work_on(
    shape: tuple[int, int, int, int], array: tuple[int, int, int], pattern: Pattern
) -> None:
    m, n, k, count = shape
    rows, columns, multipliers = array
    machine = replace(MACHINE, array_rows=rows, array_columns=columns, multipliers=multipliers)
    product = Product("any", m, n, k, count)
    groups = [range(start, min(start + pattern.m, k)) for start in range(0, k, pattern.m)]
    stored = k if pattern.is_dense else pattern.n * len(groups)
    steps = len(range(0, m, rows)) * len(range(0, n, columns)) * len(range(0, stored, multipliers))
    assert product.padded_macs(pattern, machine) == count * steps * machine.macs_per_cycle
    assert product.padded_macs(pattern, machine) >= product.macs(pattern)
    assert replace(product, weights=False).padded_macs(pattern, machine) == product.padded_macs(DENSE, machine)


@pytest.mark.parametrize(
    ("name", "billions", "speed_ups"),
    [
        ("BERT-base", 11.2, {"2:4": 1.95, "1:4": 3.70, "1:8": 6.7, "1:16": 11.4}),
        ("TinyBERT-6", 5.6, {"2:4": 1.95, "1:4": 3.70, "1:8": 6.7, "1:16": 11.4}),
        ("TinyBERT-4", 0.62, {"2:4": 1.88, "1:4": 3.3, "1:8": 5.5}),
        ("Transformer-base", 2.5, {}),
    ],
)
def test_the_encoders_are_as_large_as_published(name: str, billions: float, speed_ups: dict[str, float]) -> None:
    (encoder,) = [encoder for encoder in ENCODERS if encoder.name == name]
    assert round(float(encoder.macs()) / 1e9, 1 if billions > 1 else 2) == billions
    for pattern, expected in speed_ups.items():
        digits = len(str(expected).partition(".")[2])
        assert round(float(encoder.ideal_speed_up(Pattern.parse(pattern))), digits) == expected


def test_patterns_have_the_names_that_people_use() -> None:
    assert [pattern_name(pattern) for pattern in PATTERNS] == ["dense", "2:4", "1:4", "2:8", "1:8", "1:16"]
