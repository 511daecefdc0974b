"""Rows of a value that count, by the shape of the value."""

import numpy as np
import pytest

from sta.passes.quantization.padding_rows import counted_rows

COUNTED = np.array([[True, False, True]])


@pytest.mark.parametrize("shape", [(1, 3, 3), (1, 3, 5), (3, 1, 4), (1, 2, 3, 4), (3, 4)])
def test_rows_at_positions_that_count(shape: tuple[int, ...]) -> None:
    axis = shape[:-1].index(3)
    values = np.zeros(shape)
    # Each element holds the position that it belongs to.
    values += np.arange(3).reshape([3 if index == axis else 1 for index in range(len(shape))])
    rows = counted_rows(values, COUNTED)
    assert rows.shape == (values.size // shape[-1] * 2 // 3, shape[-1])
    assert set(np.unique(rows)) == {0, 2}


@pytest.mark.parametrize("shape", [(1, 3), (1, 5), (7, 4), (2, 2, 6)])
def test_all_rows_count_where_no_axis_is_that_of_the_positions(shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(counted_rows(values, COUNTED), values.reshape(-1, shape[-1]))


def test_without_a_mask_all_rows_count() -> None:
    values = np.arange(12).reshape(1, 3, 4)
    np.testing.assert_array_equal(counted_rows(values, None), values[0])
    np.testing.assert_array_equal(counted_rows(values, np.zeros((1, 3), np.bool_)), values[0])


@pytest.mark.parametrize("shape", [(2, 3, 5), (3, 2, 5), (2, 4, 3, 5), (2, 3, 4, 5)])
def test_rows_of_a_mask_that_admits_all_come_in_the_order_of_the_positions(shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape)).reshape(shape)
    most = np.ones((2, 3), np.bool_)
    most[1, 2] = False
    rows = counted_rows(values, np.ones((2, 3), np.bool_))
    assert rows.shape == (values.size // 5, 5)
    # A mask that leaves one position out takes the same rows without those of the position.
    kept = {tuple(row) for row in counted_rows(values, most).tolist()}
    assert [row for row in rows.tolist() if tuple(row) in kept] == counted_rows(values, most).tolist()
