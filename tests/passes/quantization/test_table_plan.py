"""Tables over windows: what the machine gives with them, against float64."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sta.passes.quantization.table_plan import MOST_TABLES, TOLERANCE, Table, plain_error, plan_tables
from sta.spec.integers import apply_scale_32, encode_scale, saturate
from sta.spec.operators.expression import parse
from sta.spec.tables import RealFunction, table_16


def looked_up(tables: list[Table], integers: np.ndarray) -> np.ndarray:
    """The sum of the tables, each as the machine looks it up: saturated index, lines between entries."""
    total = np.zeros(integers.shape)
    for table in tables:
        multiplier, shift = (int(part) for part in encode_scale(table.gain))
        index = saturate(
            apply_scale_32(integers.astype(np.int64) - table.middle, multiplier, shift), np.dtype(np.int16)
        )
        total += table_16(index, table.entries) / 128 * table.scale
    return total


def error(function: RealFunction, window: tuple[int, int], reach: tuple[float, float]) -> float:
    """The largest error at any integer of the window, by the function's root mean square there."""
    integers = np.arange(window[0], window[1] + 1)
    exact = np.clip(function(integers.astype(np.float64)), *reach)
    found = looked_up(plan_tables(function, window, window, reach), integers)
    return float(np.abs(found - exact).max() / np.sqrt(np.mean(exact**2)))


SMOOTH = {
    "aten.exp(x)": (-8.0, 8.0),
    "aten.log(x)": (0.01, 8.0),
    "aten.sqrt(x)": (0.0, 8.0),
    "aten.rsqrt(x)": (0.02, 8.0),
    "aten.reciprocal(x)": (0.02, 8.0),
    "aten.cos(x)": (-8.0, 8.0),
    "aten.softplus(x, 1.0, 20.0)": (-8.0, 8.0),
    "v1=aten.abs(x); aten.sqrt(v1)": (-8.0, 8.0),
    "aten.clamp(x, -1.25, 0.3)": (-8.0, 8.0),
    "aten.mish(x)": (-8.0, 8.0),
}


@pytest.mark.parametrize("text", SMOOTH)
def test_windows_hold_functions_that_one_table_does_not(text: str) -> None:
    scale, ends, function = 8 / 32767, SMOOTH[text], parse(text)
    window = (int(np.ceil(ends[0] / scale)), int(np.floor(ends[1] / scale)))
    assert error(lambda q: function(q * scale), window, (-4e3, 4e3)) <= 2 * TOLERANCE


@settings(deadline=None, max_examples=40)
@given(st.integers(-32000, 32000), st.integers(-32767, 32766), st.integers(2, 65534))
def test_a_step_is_exact(threshold: int, low: int, length: int) -> None:
    window = (low, min(low + length, 32767))
    assume(window[1] > window[0] + 1)
    tables = plan_tables(lambda q: np.where(q > threshold, 1.0, 0.0), window, window, (-2.0, 2.0))
    integers = np.arange(-32767, 32768)
    inside = np.clip(integers, *window)
    np.testing.assert_array_equal(looked_up(tables, integers), (inside > threshold) * 1.0)
    assert len(tables) == 1


@settings(deadline=None, max_examples=20)
@given(st.floats(-6, 6), st.floats(-3, 3), st.floats(0.01, 3))
def test_a_jump_between_smooth_parts_is_exact(threshold: float, slope: float, rate: float) -> None:
    scale = 8 / 32767

    def function(q: np.ndarray) -> np.ndarray:
        return np.where(q * scale > threshold, slope * q * scale, np.exp(rate * np.minimum(q * scale, 0.0)))

    assert error(function, (-32767, 32767), (-50.0, 50.0)) <= 2 * TOLERANCE


def test_outside_its_window_a_function_keeps_the_value_at_the_end() -> None:
    tables = plan_tables(parse("aten.reciprocal(x)"), (100, 20000), (100, 20000), (-1.0, 1.0))
    assert 1 < len(tables) <= MOST_TABLES
    ends = looked_up(tables, np.array([-32767, 0, 99, 100, 20000, 20001, 32767]))
    np.testing.assert_allclose(ends[:4], 0.01, rtol=1e-3)
    np.testing.assert_allclose(ends[4:], ends[4])


def test_values_beyond_the_format_saturate() -> None:
    tables = plan_tables(lambda q: np.exp(q / 1000), (-32767, 32767), (-4000, 4000), (-100.0, 100.0))
    assert looked_up(tables, np.array([32767, 20000])) == pytest.approx(100.0, rel=1e-4)


def test_where_a_function_has_no_value_the_nearest_one_stands() -> None:
    tables = plan_tables(lambda q: parse("aten.sqrt(x)")(q), (-50, 100), (-50, 100), (-20.0, 20.0))
    np.testing.assert_allclose(looked_up(tables, np.array([-50, -1, 0, 49])), [0, 0, 0, 7], atol=1e-3)
    with pytest.raises(ValueError, match="has no value"):
        plan_tables(lambda q: parse("aten.sqrt(x)")(q), (-50, -10), (-50, -10), (-1.0, 1.0))


def test_a_constant_function_is_one_table() -> None:
    tables = plan_tables(lambda q: np.full(q.shape, 2.5), (-100, 100), (-100, 100), (-4.0, 4.0))
    assert len(tables) == 1
    np.testing.assert_allclose(looked_up(tables, np.arange(-100, 101)), 2.5, rtol=1e-4)


PLAIN: list[tuple[RealFunction, bool]] = [
    (lambda q: np.tanh(q), True),
    (lambda q: np.array(q), True),
    (lambda q: np.where(q > 3, 1.0, 0.0), False),
    (parse("aten.reciprocal(x)"), False),
    (lambda q: np.exp(q * 10), False),
]


@pytest.mark.parametrize(("function", "is_plain"), PLAIN)
def test_one_table_over_the_whole_range_does_for_smooth_functions(function: RealFunction, is_plain: bool) -> None:
    with np.errstate(all="ignore"):
        found = plain_error(lambda q: function(q / 4096), (-16384, 16384), 128)
    assert (found <= TOLERANCE) == (is_plain and np.isfinite(found))
