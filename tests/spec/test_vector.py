"""The vector unit's pipeline, one element at a time on Python integers."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sta.spec.integers import apply_scale_32
from sta.spec.norm import layer_norm
from sta.spec.parameters import MapParameters, NormParameters
from sta.spec.softmax import normalize
from sta.spec.vector import COMBINATIONS, RowStatistics, map_tile, norm_tile

INT32 = st.integers(-(2**31), 2**31 - 1)
MULTIPLIER = st.integers(0, 2**31 - 1)
SHIFT = st.integers(2, 62)
SOURCES = st.sampled_from([np.int32, np.int16, np.int8, np.uint8])
DESTINATIONS = st.sampled_from([np.int8, np.uint8, np.int16, np.int32])
RESIDUALS = st.sampled_from([None, np.int8, np.int16, np.int32])


def saturated_scale(value: int, multiplier: int, shift: int) -> int:
    """Returns apply_scale_32 of one value."""
    limit = 1 << (shift - 1)
    return (max(-limit, min(limit - 1, value)) * multiplier + limit) >> shift


def clamp(value: int, dtype: Any) -> int:
    """Returns the value inside the range of a dtype."""
    return max(int(np.iinfo(dtype).min), min(int(np.iinfo(dtype).max), value))


def looked_up(value: int, table: list[int]) -> int:
    """Returns the table's result for one value, with 7 fraction bits."""
    index, fraction = (clamp(value, np.int16) + 32768) >> 7, value & 0x7F if -32768 <= value <= 32767 else 0
    if value > 32767:
        fraction = 127
    return (table[index] << 7) + (table[index + 1] - table[index]) * fraction


def drawn_parameters(data: st.DataObject, columns: int) -> MapParameters:
    """Returns any parameters whose bias keeps the source inside int32 most of the time."""
    return MapParameters(
        data.draw(hnp.arrays(np.int32, columns, elements=st.integers(-(2**24), 2**24))),
        data.draw(hnp.arrays(np.int32, columns, elements=MULTIPLIER)),
        data.draw(hnp.arrays(np.int8, columns, elements=SHIFT)),
        *data.draw(st.tuples(MULTIPLIER, SHIFT, INT32, MULTIPLIER, SHIFT, INT32)),
    )


@settings(max_examples=200, deadline=None)
@given(
    st.data(),
    SOURCES,
    DESTINATIONS,
    RESIDUALS,
    st.booleans(),
    st.booleans(),
    st.sampled_from(COMBINATIONS),
    st.booleans(),
)
def test_map_tile_is_the_pipeline(
    data: st.DataObject,
    source_dtype: Any,
    destination_dtype: Any,
    residual_dtype: Any,
    has_table: bool,
    per_column: bool,
    combine: str,
    residual_column: bool,
) -> None:
    m, n = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    source = data.draw(hnp.arrays(source_dtype, (m, n)))
    parameters = drawn_parameters(data, n if per_column else 1)
    table = data.draw(hnp.arrays(np.int16, 513, fill=st.integers(-32768, 32767))) if has_table else None
    residual_shape = (m, 1 if residual_column else n)
    residual = data.draw(hnp.arrays(residual_dtype, residual_shape)) if residual_dtype else None

    def element(row: int, column: int) -> int:
        entry = column if parameters.columns > 1 else 0
        value = int(source[row, column]) + int(parameters.bias[entry])
        if value != clamp(value, np.int32):
            raise OverflowError
        result = saturated_scale(value, int(parameters.multiplier[entry]), int(parameters.shift[entry]))
        if table is not None:
            wide = looked_up(result, table.tolist())
            result = saturated_scale(wide, parameters.table_multiplier, parameters.table_shift)
        if residual is not None:
            shifted = int(residual[row, 0 if residual_column else column]) + parameters.residual_bias
            scale = parameters.residual_multiplier, parameters.residual_shift
            if combine == "multiply":
                result = saturated_scale(clamp(result, np.int16) * clamp(shifted, np.int16), *scale)
            else:
                other = saturated_scale(shifted, *scale)
                result = {
                    "add": result + other,
                    "subtract": result - other,
                    "subtract_from": other - result,
                    "maximum": max(result, other),
                    "minimum": min(result, other),
                }[combine]
        return clamp(result + parameters.output_zero_point, destination_dtype)

    combine = combine if residual is not None else "add"
    optional: dict[str, Any] = {"table": table, "residual": residual, "combine": combine}
    try:
        expected = [[element(row, column) for column in range(n)] for row in range(m)]
    except OverflowError:
        with pytest.raises(OverflowError, match="does not fit int32"):
            map_tile(source, parameters, destination_dtype, **optional)
        return
    result = map_tile(source, parameters, destination_dtype, **optional)
    assert result.dtype == destination_dtype
    assert result.tolist() == expected


def scalar_parameters(**changes: int) -> MapParameters:
    """Returns scalar parameters: bias 3, a scale of 1/2."""
    one = np.array([2**30], dtype=np.int32)
    return MapParameters(np.array([3], dtype=np.int32), one, np.array([31], dtype=np.int8), **changes)


def test_map_tile_normalizes() -> None:
    source = np.array([[1000, -500], [7, 8], [0, 60000]], dtype=np.int32)
    sums = np.array([4, 0, 255], dtype=np.int32)
    parameters = scalar_parameters(output_zero_point=-5)
    expected = np.clip(normalize(source + 3, sums, 2**30, 31) - 5, -128, 127)
    result = map_tile(source, parameters, np.int8, sums=sums)
    np.testing.assert_array_equal(result, expected)
    # A row without admissible keys is the zero point.
    assert result[1].tolist() == [-5, -5]
    table = (np.arange(513) - 256).astype(np.int16)
    looked = map_tile(source, parameters, np.int16, table=table, residual=source, sums=sums)
    halves = normalize(source + 3, sums, 2**30, 31)
    np.testing.assert_array_equal(looked, np.clip(np.clip(halves, -32768, 32767) + source - 5, -32768, 32767))


@pytest.mark.parametrize(("value", "bias"), [(2**31 - 1, 1), (-(2**31), -1)])
def test_a_source_beyond_int32_is_an_error(value: int, bias: int) -> None:
    parameters = MapParameters(*(np.array([entry]) for entry in (bias, 2**30, 30)))  # pyright: ignore[reportArgumentType]
    with pytest.raises(OverflowError, match="plus its bias"):
        map_tile(np.array([[value]], dtype=np.int32), parameters, np.int8)


def test_map_tile_refuses_what_does_not_match() -> None:
    tile = np.zeros((2, 3), dtype=np.int32)
    two = MapParameters(*(np.array([entry] * 2) for entry in (0, 1, 30)))  # pyright: ignore[reportArgumentType]
    three = MapParameters(*(np.array([entry] * 3) for entry in (0, 1, 30)))  # pyright: ignore[reportArgumentType]
    sums = np.ones(2, dtype=np.int32)
    with pytest.raises(ValueError, match="2 parameters for 3 columns"):
        map_tile(tile, two, np.int8)
    with pytest.raises(ValueError, match="scalar parameters"):
        map_tile(tile, three, np.int8, sums=sums)
    with pytest.raises(ValueError, match="sums of shape"):
        map_tile(tile, scalar_parameters(), np.int8, sums=sums[:1])
    with pytest.raises(ValueError, match="residual of shape"):
        map_tile(tile, three, np.int8, residual=tile[:1])
    with pytest.raises(ValueError, match="combines by 'multiply' has a residual"):
        map_tile(tile, three, np.int8, combine="multiply")
    with pytest.raises(ValueError, match="combination 'divide' is none of add, multiply"):
        map_tile(tile, three, np.int8, residual=tile, combine="divide")
    with pytest.raises(ValueError, match="two dimensions"):
        map_tile(tile[0], three, np.int8)


@settings(deadline=None)
@given(hnp.arrays(np.int16, (3, 5)), st.sampled_from(["layer", "rms"]), MULTIPLIER, SHIFT, INT32)
def test_norm_tile_writes_stream_and_copy(
    source: npt.NDArray[np.int16], kind: str, multiplier: int, shift: int, zero_point: int
) -> None:
    gamma, beta = np.full(5, 3 << 20, dtype=np.int32), np.arange(5, dtype=np.int32) << 10
    parameters = NormParameters(gamma, beta, 2, 30, multiplier, shift, zero_point)
    stream, copy = norm_tile(source, parameters, kind)
    assert (stream.dtype, copy.dtype) == (np.int16, np.int8)
    np.testing.assert_array_equal(stream, layer_norm(source, gamma, beta, 2, 30, kind))
    np.testing.assert_array_equal(copy, np.clip(apply_scale_32(stream, multiplier, shift) + zero_point, -128, 127))


@given(st.data())
def test_added_statistics_are_those_of_whole_rows(data: st.DataObject) -> None:
    rows, widths = data.draw(st.integers(1, 5)), data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    x = data.draw(hnp.arrays(np.int16, (rows, sum(widths))))
    gamma, beta = (np.full(sum(widths), value, np.int32) for value in (1 << 20, 77))
    parameters = NormParameters(gamma, beta, 3, 30, 1 << 30, 31, -5)
    statistics = RowStatistics(8)
    start = 0
    for width in widths:
        statistics.add(x[:, start : start + width])
        start += width
    whole, copy = norm_tile(x, parameters, "layer")
    found, found_copy = norm_tile(x, parameters, "layer", statistics.take(rows))
    assert np.array_equal(whole, found)
    assert np.array_equal(copy, found_copy)
    assert not np.any(statistics.take(rows))


@given(st.data())
def test_replaced_statistics_are_those_of_the_new_tile(data: st.DataObject) -> None:
    shape = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
    first, before, after = (data.draw(hnp.arrays(np.int16, shape)) for _ in range(3))
    statistics, expected = RowStatistics(8), RowStatistics(8)
    for registers, tiles in ((statistics, (first, before)), (expected, (first, after))):
        for tile in tiles:
            registers.add(tile)
    statistics.replace(before, after)
    for found, wanted in zip(statistics.values, expected.values, strict=True):
        assert np.array_equal(found, wanted)


def test_statistics_of_other_rows_are_refused() -> None:
    x = np.zeros((1, 4), np.int16)
    parameters = NormParameters(np.ones(4, np.int32), np.ones(4, np.int32), 1, 30, 1 << 30, 30, 0)
    for sums, squares in ((1 << 18, 1 << 32), (0, 1 << 33), (0, -1), (100, 1)):
        with pytest.raises(ValueError, match="statistics"):
            norm_tile(x, parameters, "layer", (np.array([sums]), np.array([squares])))
