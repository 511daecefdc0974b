"""Look-up tables, against TOSA's definition, big integers and float64."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sta.spec.integers import apply_scale_32
from sta.spec.operators.registry import activation
from sta.spec.tables import (
    build_table_8,
    build_table_16,
    exp2,
    exp2_table,
    table_8,
    table_16,
    widened_table,
)

EVERY_INT16 = np.arange(-32768, 32768).astype(np.int16)


def looked_up(value: int, table: list[int]) -> int:
    """Returns TOSA's apply_lookup for one int16 value."""
    index, fraction = (value + 32768) >> 7, value & 0x7F
    return (table[index] << 7) + (table[index + 1] - table[index]) * fraction


@settings(deadline=None)
@given(hnp.arrays(np.int16, 513), hnp.arrays(np.int16, (3, 4)))
def test_table_16_is_tosa(table: np.ndarray, x: np.ndarray) -> None:
    entries: list[int] = table.tolist()
    result = table_16(x, table)
    assert result.dtype == np.int32
    assert result.shape == x.shape
    assert result.reshape(-1).tolist() == [looked_up(value, entries) for value in x.reshape(-1).tolist()]


def test_table_16_on_every_value_of_the_steepest_table() -> None:
    table = np.where(np.arange(513) % 2, 32767, -32768).astype(np.int16)
    entries: list[int] = table.tolist()
    assert table_16(EVERY_INT16, table).tolist() == [looked_up(value, entries) for value in range(-32768, 32768)]


def test_table_16_results_cannot_change_later_results() -> None:
    table = np.arange(513).astype(np.int16)
    x = np.zeros(2, dtype=np.int16)
    table_16(x, table)[:] = 99
    assert table_16(x, table).tolist() == [256 * 128, 256 * 128]
    table[256] = 5
    assert table_16(x, table).tolist() == [5 * 128, 5 * 128]


def test_table_16_refuses() -> None:
    table = np.zeros(513, dtype=np.int16)
    with pytest.raises(ValueError, match="takes int16 values, got int32"):
        table_16(np.zeros(2, dtype=np.int32), table)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"int16\[513\]"):
        table_16(np.zeros(2, dtype=np.int16), table[:512])


def test_build_table_16_entries() -> None:
    table = build_table_16(lambda x: x, 0.5, 64.0)
    assert table.dtype == np.int16
    # Entry i is (i - 256) exactly; a wider output saturates, and halves go to the even neighbour.
    assert table.tolist() == list(range(-256, 257))
    steep = build_table_16(lambda x: x, 1.0, 0.5)
    assert steep[[0, 128, 256, 257, 384, 512]].tolist() == [-32768, -32768, 0, 256, 32767, 32767]
    halves = build_table_16(lambda x: x, 1.0 / 128, 2.0)
    assert halves[[255, 257, 259, 261]].tolist() == [0, 0, 2, 2]


def test_build_table_16_handles_infinite_results() -> None:
    assert build_table_16(lambda x: x, 1e300, 1e-300)[[0, 256, 512]].tolist() == [-32768, 0, 32767]


def test_build_table_16_refuses() -> None:
    with pytest.raises(ValueError, match="not a number at"):
        build_table_16(lambda x: np.where(x < 0, np.nan, x), 1.0, 1.0)
    with pytest.raises(ValueError, match="output scale"):
        build_table_16(lambda x: x, 1.0, 0.0)
    with pytest.raises(ValueError, match="input scale"):
        build_table_16(lambda x: x, math.inf, 1.0)


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu", "tanh", "sigmoid", "relu"])
def test_a_table_follows_its_function(name: str) -> None:
    input_scale, output_scale = 8 / 32768, 8 / 32768
    table = build_table_16(activation(name), input_scale, output_scale)
    real = activation(name)(EVERY_INT16.astype(np.float64) * input_scale) / output_scale
    # Half a unit from rounding the entries; the rest is what straight lines of 1/32 cannot follow.
    assert np.abs(table_16(EVERY_INT16, table) / 128 - real).max() < 1.1


@pytest.mark.parametrize("bits", [8, 16])
def test_exp2_table_is_correctly_rounded(bits: int) -> None:
    # round(A * 2^(f/1024)) = E exactly when (2E-1)^1024 < (2A)^1024 * 2^f < (2E+1)^1024.
    scale = ((1 << bits) - 1) << 7
    power = (2 * scale) ** 1024
    for f, entry in enumerate(exp2_table(bits).tolist()):
        assert (2 * entry - 1) ** 1024 < power << f < (2 * entry + 1) ** 1024


def test_exp2_table_is_read_only_and_has_two_widths() -> None:
    with pytest.raises(ValueError, match="read-only"):
        exp2_table(8)[0] = 1
    with pytest.raises(ValueError, match="8 or 16 bits, not 12"):
        exp2_table(12)


def exp2_by_definition(t: int, bits: int) -> int:
    """Returns the softmax unit's exponential of one value."""
    shift = min(7 - (t >> 10), 40)
    return (int(exp2_table(bits)[t & 1023]) + (1 << (shift - 1))) >> shift


@pytest.mark.parametrize("bits", [8, 16])
def test_exp2_follows_its_definition(bits: int) -> None:
    t = -np.arange(25 * 1024)
    result = exp2(t, bits)
    assert result.dtype == np.int64
    assert result.tolist() == [exp2_by_definition(value, bits) for value in t.tolist()]
    assert result[0] == 2**bits - 1
    real = (2**bits - 1) * 2.0 ** (t / 1024)
    assert np.abs(result - real).max() <= 0.5 + 1 / 128
    assert np.all(np.diff(result) <= 0)


@settings(deadline=None)
@given(st.integers(-(2**63), 0), st.sampled_from([8, 16]))
def test_exp2_takes_any_exponent(t: int, bits: int) -> None:
    assert int(exp2([t], bits)[0]) == exp2_by_definition(t, bits)


def test_exp2_refuses_positive_exponents() -> None:
    with pytest.raises(ValueError, match="positive, got 1"):
        exp2([-3, 1], 8)


@given(hnp.arrays(np.int8, 256))
def test_an_8_bit_table_is_looked_up_in_a_wide_one(table: np.ndarray) -> None:
    every_value = np.arange(-128, 128).astype(np.int8)
    assert table_8(every_value, table).tolist() == table.tolist()
    # As the vector unit does it: times 256, and the 7 fraction bits taken off again.
    wide = table_16(apply_scale_32(every_value, 1 << 30, 22).astype(np.int16), widened_table(table))
    assert apply_scale_32(wide, 1 << 30, 37).tolist() == table.tolist()


def test_an_8_bit_table_has_zero_points() -> None:
    table = build_table_8(lambda x: x, 0.5, 0.25, -28, 5)
    # Entry 100 is input -28, which is zero; halves of the input are two steps of the output.
    assert table[[99, 100, 101, 255]].tolist() == [3, 5, 7, 127]
    halves = build_table_8(lambda x: x, 1.0, 2.0, 0, 1)
    assert halves[[127, 129, 131]].tolist() == [1, 1, 3]


def test_8_bit_tables_refuse() -> None:
    table = np.zeros(256, np.int8)
    with pytest.raises(ValueError, match="takes int8 values, got int16"):
        table_8(EVERY_INT16, table)  # pyright: ignore[reportArgumentType]
    for other in (table[:255], table.astype(np.int16)):
        with pytest.raises(ValueError, match=r"int8\[256\]"):
            table_8(np.zeros(2, np.int8), other)  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match=r"int8\[256\]"):
            widened_table(other)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="output scale"):
        build_table_8(lambda x: x, 1.0, -1.0)
    with pytest.raises(ValueError, match="not a number at -128"):
        build_table_8(lambda x: np.where(x < 0, np.nan, x), 1.0, 1.0)
