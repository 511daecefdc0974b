"""Products with 16-bit activations: two passes over bytes give the product in Python's own integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sta.spec.integers import matrix_product
from sta.spec.parameters import MapParameters
from sta.spec.vector import map_tile
from sta.spec.wide_product import LONGEST_SUM, PLANE_MAGNITUDES, PLANES, byte_plane, wide_accumulators, wide_product

WIDE = st.sampled_from([np.int16, np.uint16])


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_every_value_is_its_two_bytes(dtype: Any) -> None:
    values = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1).astype(dtype)
    high, low = (byte_plane(values, plane) for plane in PLANES)
    assert (high.dtype, low.dtype) == (np.dtype(f"{np.dtype(dtype).kind}1"), np.uint8)
    np.testing.assert_array_equal(256 * high.astype(int) + low, values)
    if dtype is np.int16:
        assert [int(np.abs(plane.astype(int)).max()) for plane in (high, low)] == list(PLANE_MAGNITUDES)


@settings(deadline=None)
@given(st.data(), WIDE)
def test_two_passes_are_the_product(data: st.DataObject, dtype: Any) -> None:
    m, n, k = (data.draw(st.integers(1, 5)) for _ in range(3))
    a, b = data.draw(hnp.arrays(dtype, (m, k))), data.draw(hnp.arrays(np.int8, (n, k)))
    acc = wide_product(a, b)
    assert acc.shape == (m, 2 * n)
    expected = [[sum(int(x) * int(w) for x, w in zip(row, column, strict=True)) for column in b] for row in a]
    assert wide_accumulators(acc).tolist() == expected


@settings(deadline=None)
@given(hnp.arrays(np.int16, (2, 3)), hnp.arrays(np.int8, (4, 3)), st.integers(-(2**31), 2**31 - 1), st.integers(8, 45))
def test_the_drain_rescales_the_product_once(a: Any, b: Any, bias: int, shift: int) -> None:
    one = np.ones(4, np.int32)
    parameters = MapParameters(bias * one, (2**30 + 12345) * one, np.full(4, shift, np.int8), output_zero_point=-3)
    found = map_tile(wide_product(a, b), parameters, np.int16, wide=True)
    limit = 1 << (shift - 1)
    for i, j in np.ndindex(2, 4):
        value = int(a[i].astype(int) @ b[j].astype(int)) + bias
        scaled = (max(-limit, min(limit - 1, value)) * (2**30 + 12345) + limit) >> shift
        assert found[i, j] == max(-32768, min(32767, scaled - 3))


@pytest.mark.parametrize("value", [-32768, 255])
def test_each_pass_stays_in_int32(value: int) -> None:
    # Both planes of -32768 and 255 are extreme: the high byte of one, the low byte of the other.
    depth = 70_000 if value == 255 else 140_000
    with pytest.raises(OverflowError, match="does not fit int32"):
        wide_product(np.full((1, depth), value, np.int16), np.full((1, depth), 127, np.int8))


def test_what_has_no_two_bytes_is_refused() -> None:
    with pytest.raises(TypeError, match="those of 16-bit integers, got int8"):
        byte_plane(np.zeros(3, np.int8), "low")
    with pytest.raises(ValueError, match="one of high, low, not 'middle'"):
        byte_plane(np.zeros(3, np.int16), "middle")
    with pytest.raises(ValueError, match="come in pairs"):
        wide_accumulators(np.zeros((2, 3), np.int32))


@settings(deadline=None)
@given(st.data(), st.sampled_from([np.int8, np.uint8, np.int16]))
def test_batches_of_products_broadcast(data: st.DataObject, dtype: Any) -> None:
    m, n, k = (data.draw(st.integers(1, 4)) for _ in range(3))
    shapes = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
    left, right = shapes.input_shapes
    a, b = data.draw(hnp.arrays(dtype, (*left, m, k))), data.draw(hnp.arrays(np.int8, (*right, n, k)))
    # NumPy's product of Python's integers is the oracle.
    expected = np.matmul(a.astype(object), np.swapaxes(b.astype(object), -1, -2))
    if dtype is not np.int16:
        np.testing.assert_array_equal(matrix_product(a, b), expected)
        return
    acc = wide_product(a, b)
    assert acc.shape == (*shapes.result_shape, m, 2 * n)
    found = wide_accumulators(acc.reshape(-1, 2 * n)).reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)


def test_the_longest_sum_stays_in_int32_whatever_the_numbers() -> None:
    b = np.full((1, LONGEST_SUM), -128, np.int8)
    for a in (np.full((1, LONGEST_SUM), 255, np.uint8), np.full((1, LONGEST_SUM), -128, np.int8)):
        matrix_product(a, b)
    for value in (-32768, 32767, 255):
        wide_product(np.full((1, LONGEST_SUM), value, np.int16), b)
    with pytest.raises(OverflowError, match="does not fit int32"):
        matrix_product(np.full((1, LONGEST_SUM + 1), 255, np.uint8), np.full((1, LONGEST_SUM + 1), -128, np.int8))
