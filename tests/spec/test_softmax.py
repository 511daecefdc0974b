"""Attention's softmax, against its definition on Python integers and against float64."""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sta.spec.integers import encode_scale
from sta.spec.softmax import normalize, softmax_row
from sta.spec.tables import exp2_table

ANY_SCORE = st.one_of(
    st.integers(-(2**31), 2**31 - 1), st.integers(-3000, 3000), st.sampled_from([-(2**31), 2**31 - 1])
)
MULTIPLIERS = st.one_of(st.integers(0, 2**31 - 1), st.sampled_from([0, 1, 2**31 - 1]))


def saturated_scale(value: int, multiplier: int, shift: int) -> int:
    """Return apply_scale_32 of one value."""
    limit = 1 << (shift - 1)
    return (max(-limit, min(limit - 1, value)) * multiplier + limit) >> shift


def exponentials_by_definition(
    scores: list[int], admissible: list[bool], multiplier: int, shift: int, bits: int
) -> list[int]:
    """Return the exponentials of one row."""
    allowed = [score for score, is_allowed in zip(scores, admissible, strict=True) if is_allowed]
    result: list[int] = []
    for score, is_allowed in zip(scores, admissible, strict=True):
        if not is_allowed:
            result.append(0)
            continue
        t = saturated_scale(score - max(allowed), multiplier, shift)
        down = min(7 - (t >> 10), 40)
        result.append((int(exp2_table(bits)[t & 1023]) + (1 << (down - 1))) >> down)
    return result


@settings(deadline=None)
@given(st.data(), MULTIPLIERS, st.integers(2, 62), st.sampled_from([8, 16]))
def test_softmax_row_follows_its_definition(data: st.DataObject, multiplier: int, shift: int, bits: int) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6))
    scores = data.draw(hnp.arrays(np.int32, shape, elements=ANY_SCORE))
    admissible = data.draw(hnp.arrays(np.bool_, shape))
    exponentials, sums = softmax_row(scores, admissible, multiplier, shift, bits)
    assert exponentials.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert sums.dtype == np.int64
    assert sums.shape == shape[:-1]
    rows = zip(scores.reshape(-1, shape[-1]).tolist(), admissible.reshape(-1, shape[-1]).tolist(), strict=True)
    expected = [exponentials_by_definition(*row, multiplier, shift, bits) for row in rows]
    assert exponentials.reshape(-1, shape[-1]).tolist() == expected
    assert sums.reshape(-1).tolist() == [sum(row) for row in expected]


def test_masks_broadcast_and_empty_rows_are_zero() -> None:
    scores = np.array([[[5, 900, 3], [1, 2, 3]]], dtype=np.int32)
    exponentials, sums = softmax_row(scores, np.array([[True, False, True], [False, False, False]]), 2**30, 30)
    assert exponentials[0, 0, 1] == 0
    assert exponentials[0, 0, 0] == 255
    assert exponentials[0, 1].tolist() == [0, 0, 0]
    assert sums.tolist() == [[int(exponentials[0, 0].sum(dtype=np.int64)), 0]]
    whole, _ = softmax_row(scores, np.array(True), 2**30, 30)
    assert (whole[0, 0, 1], whole[0, 1, 2]) == (255, 255)
    none, no_sums = softmax_row(np.zeros((2, 0), dtype=np.int32), np.array(True), 2**30, 30)
    assert none.shape == (2, 0)
    assert no_sums.tolist() == [0, 0]


def test_softmax_row_refuses() -> None:
    scores = np.zeros((1, 2), dtype=np.int32)
    with pytest.raises(ValueError, match="multiplier"):
        softmax_row(scores, np.array(True), -1, 30)
    with pytest.raises(ValueError, match="8 or 16 bits"):
        softmax_row(scores, np.array(True), 1, 30, bits=7)


def reciprocal_by_definition(value: int, total: int, multiplier: int, shift: int) -> int:
    """Return one normalized value."""
    if total == 0:
        return 0
    length = total.bit_length()
    reciprocal = min(math.floor(Fraction(1 << (30 + length), total) + Fraction(1, 2)), 2**31 - 1)
    return saturated_scale(value, (multiplier * reciprocal + 2**30) >> 31, shift + length - 1)


@settings(deadline=None)
@given(st.data(), MULTIPLIERS, st.integers(2, 42))
def test_normalize_follows_its_definition(data: st.DataObject, multiplier: int, shift: int) -> None:
    m, d = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    values = data.draw(hnp.arrays(np.int32, (2, m, d), elements=st.integers(-(2**31), 2**31 - 1)))
    sums = data.draw(hnp.arrays(np.int64, (2, m), elements=st.one_of(st.integers(0, 2**20), st.just(0))))
    result = normalize(values, sums, multiplier, shift)
    assert result.dtype == np.int64
    pairs = zip(values.reshape(-1, d).tolist(), sums.reshape(-1).tolist(), strict=True)
    expected = [[reciprocal_by_definition(value, total, multiplier, shift) for value in row] for row, total in pairs]
    assert result.reshape(-1, d).tolist() == expected


@settings(deadline=None)
@given(st.one_of(st.integers(0, 2**31 - 1), st.integers(0, 30).map(lambda bit: 1 << bit), st.just(2**31 - 1)))
def test_normalize_takes_every_sum(total: int) -> None:
    values = np.array([[2**31 - 1, -(2**31), 12345]], dtype=np.int64)
    expected = [reciprocal_by_definition(value, total, 2**31 - 1, 31) for value in values[0].tolist()]
    assert normalize(values, np.array([total]), 2**31 - 1, 31)[0].tolist() == expected


def test_normalize_rounds_every_reciprocal() -> None:
    totals = np.arange(1, 600)
    values = np.random.default_rng(0).integers(-(2**31), 2**31, (totals.size, 40))
    rows = zip(values.tolist(), totals.tolist(), strict=True)
    expected = [[reciprocal_by_definition(value, total, 2**31 - 1, 31) for value in row] for row, total in rows]
    assert normalize(values, totals, 2**31 - 1, 31).tolist() == expected


def test_normalize_refuses() -> None:
    values = np.ones((1, 1), dtype=np.int64)
    with pytest.raises(ValueError, match="together above 62"):
        normalize(values, np.array([2**20]), 2**30, 50)
    for total in (-1, 2**31):
        with pytest.raises(ValueError, match=r"0\.\.2\^31-1"):
            normalize(values, np.array([total]), 2**30, 30)
    # Whether a scale is refused does not depend on the data.
    for total in (0, 1000):
        with pytest.raises(ValueError, match="shift"):
            normalize(values, np.array([total]), 2**30, 1)
        with pytest.raises(ValueError, match="multiplier"):
            normalize(values, np.array([total]), 2**31, 30)


@pytest.mark.parametrize("keys", [16, 128, 1024])
@pytest.mark.parametrize("bits", [8, 16])
def test_attention_is_close_to_float64_at_any_length(keys: int, bits: int) -> None:
    generator = np.random.default_rng(keys)
    score_scale = 1 / 4096
    scores = np.rint(generator.normal(size=(8, keys)) / score_scale).astype(np.int32)
    multiplier, shift = (int(part) for part in encode_scale(score_scale * 1024 / math.log(2)))
    exponentials, sums = softmax_row(scores, np.array(True), multiplier, shift, bits)
    weights = np.exp(scores * score_scale)
    weights /= weights.sum(axis=1, keepdims=True)
    # An exponential is off by the rounding of its logarithm (2^-11, relative) and its own rounding; so is the sum.
    totals = sums[:, np.newaxis]
    allowed = 2.02 * math.log(2) / 2048 * weights + 0.51 * (1 + keys * weights) / totals
    assert np.all(np.abs(exponentials / totals - weights) <= allowed)
    # Constant values come back as they are: the weights of a row sum to one.
    products = exponentials.astype(np.int64).sum(axis=1, keepdims=True) * 100
    output_multiplier, output_shift = (int(part) for part in encode_scale(1.0))
    assert normalize(products, sums, output_multiplier, output_shift).tolist() == [[100]] * 8


def test_sums_of_equal_scores() -> None:
    scores: npt.NDArray[np.int32] = np.full((1, 5000), -(2**31), dtype=np.int32)
    _, sums = softmax_row(scores, np.array(True), 2**31 - 1, 2, bits=16)
    assert sums.tolist() == [5000 * 65535]
