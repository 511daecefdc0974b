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
from sta.spec.softmax import (
    NO_MAXIMUM,
    Bias,
    RowState,
    most_keys,
    normalize,
    probabilities,
    shift_rows,
    softmax_online,
    softmax_row,
)
from sta.spec.tables import exp2_table

ANY_SCORE = st.one_of(
    st.integers(-(2**31), 2**31 - 1), st.integers(-3000, 3000), st.sampled_from([-(2**31), 2**31 - 1])
)
MULTIPLIERS = st.one_of(st.integers(0, 2**31 - 1), st.sampled_from([0, 1, 2**31 - 1]))


def saturated_scale(value: int, multiplier: int, shift: int) -> int:
    """Returns apply_scale_32 of one value."""
    limit = 1 << (shift - 1)
    return (max(-limit, min(limit - 1, value)) * multiplier + limit) >> shift


def exponentials_by_definition(
    scores: list[int], admissible: list[bool], multiplier: int, shift: int, bits: int
) -> list[int]:
    """Returns the exponentials of one row."""
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


def biases(data: st.DataObject, shape: tuple[int, ...]) -> Bias:
    """Draws a bias for scores of a shape, one row for all of a matrix or not."""
    rows = data.draw(st.sampled_from([shape[-2], 1]))
    values = data.draw(hnp.arrays(np.int16, (*shape[:-2], rows, shape[-1])))
    return Bias(values, data.draw(MULTIPLIERS), data.draw(st.integers(2, 62)))


def logarithms(scores: npt.NDArray[np.int32], multiplier: int, shift: int, bias: Bias | None) -> list[list[int]]:
    """Scaled scores with their scaled bias, row by row."""
    rows = scores.reshape(-1, scores.shape[-1]).tolist()
    if bias is None:
        return [[saturated_scale(score, multiplier, shift) for score in row] for row in rows]
    added = np.broadcast_to(bias.values, scores.shape).reshape(-1, scores.shape[-1]).tolist()
    return [
        [
            saturated_scale(score, multiplier, shift) + saturated_scale(other, bias.multiplier, bias.shift)
            for score, other in zip(row, others, strict=True)
        ]
        for row, others in zip(rows, added, strict=True)
    ]


@settings(deadline=None)
@given(st.data(), MULTIPLIERS, st.integers(2, 62), st.sampled_from([8, 16]))
def test_softmax_row_adds_a_bias(data: st.DataObject, multiplier: int, shift: int, bits: int) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6))
    scores = data.draw(hnp.arrays(np.int32, shape, elements=ANY_SCORE))
    admissible = data.draw(hnp.arrays(np.bool_, shape))
    bias = biases(data, shape)
    exponentials, sums = softmax_row(scores, admissible, multiplier, shift, bits, bias)
    expected: list[list[int]] = []
    allowed = admissible.reshape(-1, shape[-1]).tolist()
    for row, keys in zip(logarithms(scores, multiplier, shift, bias), allowed, strict=True):
        # Every logarithm fits int32.
        assert all(-(2**31) <= t < 2**31 for t in row)
        largest = max((t for t, key in zip(row, keys, strict=True) if key), default=0)
        expected.append(
            [power_by_definition(t - largest, bits) if key else 0 for t, key in zip(row, keys, strict=True)]
        )
    assert exponentials.reshape(-1, shape[-1]).tolist() == expected
    assert sums.reshape(-1).tolist() == [sum(row) for row in expected]


@pytest.mark.parametrize("bits", [8, 16])
def test_biased_exponentials_are_within_their_bound(bits: int) -> None:
    generator, keys = np.random.default_rng(bits), 300
    score_scale, bias_scale = 1 / 4096, 1 / 512
    scores = np.rint(generator.normal(size=(8, keys)) / score_scale).astype(np.int32)
    bias = np.rint(generator.normal(size=(8, keys)) / bias_scale).astype(np.int16)
    multipliers, shifts = encode_scale(np.array([score_scale, bias_scale]) * 1024 / math.log(2))
    added = Bias(bias, int(multipliers[1]), int(shifts[1]))
    exponentials, _ = softmax_row(scores, np.array(True), int(multipliers[0]), int(shifts[0]), bits, added)
    exponents = scores * score_scale + bias * bias_scale
    exact = np.exp(exponents - exponents.max(axis=1, keepdims=True))
    allowed = exact / 738 + 0.51 / (2**bits - 1)
    assert np.all(np.abs(exponentials / (2**bits - 1) - exact) <= allowed)


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
    """Returns one normalized value."""
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


def power_by_definition(t: int, bits: int) -> int:
    """Returns exp2 of one exponent."""
    down = min(7 - (t >> 10), 40)
    return (int(exp2_table(bits)[t & 1023]) + (1 << (down - 1))) >> down


def halved(value: int, shift: int) -> int:
    """Returns the rounded shift of one value."""
    return (value + ((1 << shift) >> 1)) >> shift


class OnlineRow:
    """One row by the definition of `softmax_online`, on Python integers."""

    def __init__(self) -> None:
        self.total = 0
        self.maximum: int | None = None

    def step(self, scaled: list[int], admissible: list[bool], bits: int) -> tuple[list[int], int]:
        """Returns a chunk's exponentials, and the shift of what came before it."""
        allowed = [t for t, is_allowed in zip(scaled, admissible, strict=True) if is_allowed]
        if not allowed:
            return [0] * len(scaled), 0
        ceiling = math.ceil(Fraction(max(allowed), 1024))
        before = self.maximum
        self.maximum = ceiling if before is None else max(before, ceiling)
        down = 0 if before is None else min(self.maximum - before, 31)
        exponentials = [
            power_by_definition(t - 1024 * self.maximum, bits) if is_allowed else 0
            for t, is_allowed in zip(scaled, admissible, strict=True)
        ]
        self.total = halved(self.total, down) + sum(exponentials)
        return exponentials, down


@settings(deadline=None)
@given(st.data(), MULTIPLIERS, st.integers(2, 62), st.sampled_from([8, 16]))
def test_softmax_online_follows_its_definition(data: st.DataObject, multiplier: int, shift: int, bits: int) -> None:
    rows, keys = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 13))
    chunk = data.draw(st.integers(1, 6))
    scores = data.draw(hnp.arrays(np.int32, (rows, keys), elements=ANY_SCORE))
    admissible = data.draw(hnp.arrays(np.bool_, (rows, keys)))
    bias = biases(data, (rows, keys)) if data.draw(st.booleans()) else None
    logs = np.array(logarithms(scores, multiplier, shift, bias))
    state, expected = RowState.empty((rows,)), [OnlineRow() for _ in range(rows)]
    for start in range(0, keys, chunk):
        part = slice(start, start + chunk)
        added = None if bias is None else bias._replace(values=bias.values[:, part])
        exponentials, state = softmax_online(
            scores[:, part], admissible[:, part], multiplier, shift, state, bits, added
        )
        assert exponentials.dtype == (np.uint8 if bits == 8 else np.uint16)
        for i, row in enumerate(expected):
            wanted, down = row.step(logs[i, part].tolist(), admissible[i, part].tolist(), bits)
            assert exponentials[i].tolist() == wanted
            assert int(state.shifts[i]) == down
            assert int(state.sums[i]) == row.total
            assert int(state.maxima[i]) == (NO_MAXIMUM if row.maximum is None else row.maximum)


def test_a_chunk_without_admissible_keys_changes_nothing() -> None:
    scores = np.array([[700, -5000, 3, 900]], dtype=np.int32)
    scale = (1 << 30, 30)
    exponentials, first = softmax_online(scores, np.array(True), *scale, RowState.empty((1,)))
    hidden, second = softmax_online(scores + 10000, np.array(False), *scale, first)
    assert not hidden.any()
    assert (second.sums.tolist(), second.maxima.tolist(), second.shifts.tolist()) == (
        [int(exponentials.sum(dtype=np.int64))],
        [1],
        [0],
    )
    none, empty = softmax_online(scores, np.array(False), *scale, RowState.empty((1,)))
    assert (none.any(), empty.sums.tolist(), empty.maxima.tolist()) == (False, [0], [NO_MAXIMUM])


def test_softmax_online_refuses() -> None:
    scores = np.zeros((1, 2), dtype=np.int32)
    with pytest.raises(ValueError, match="multiplier"):
        softmax_online(scores, np.array(True), -1, 30, RowState.empty((1,)))
    full = RowState(np.array([2**31 - 100]), np.array([0]), np.array([0]))
    with pytest.raises(ValueError, match=r"0\.\.2\^31-1"):
        softmax_online(scores, np.array(True), 1, 30, full)
    with pytest.raises(ValueError, match=r"0\.\.2\^31-1"):
        softmax_online(scores, np.array(True), 1, 30, RowState(np.array([-1]), np.array([0]), np.array([0])))


@given(hnp.arrays(np.int32, (3, 4), elements=ANY_SCORE), hnp.arrays(np.int32, (3,), elements=st.integers(0, 31)))
def test_shift_rows_follows_its_definition(values: npt.NDArray[np.int32], shifts: npt.NDArray[np.int32]) -> None:
    rows = zip(values.tolist(), shifts.tolist(), strict=True)
    assert shift_rows(values, shifts).tolist() == [[halved(value, shift) for value in row] for row, shift in rows]


@pytest.mark.parametrize("shift", [-1, 32])
def test_shift_rows_refuses(shift: int) -> None:
    with pytest.raises(ValueError, match=rf"must be in 0\.\.31, got {shift}"):
        shift_rows(np.ones((2, 2), np.int32), np.array([3, shift], np.int32))


def attention(
    scores: npt.NDArray[np.int32], values: npt.NDArray[np.int8], score_scale: float, bits: int, chunk: int | None
) -> npt.NDArray[np.float64]:
    """Returns the rows of attention, its values in units of 2^-16; `chunk` keys at a time, or all (None)."""
    multiplier, shift = (int(part) for part in encode_scale(score_scale * 1024 / math.log(2)))
    if chunk is None:
        exponentials, sums = softmax_row(scores, np.array(True), multiplier, shift, bits)
        products = exponentials.astype(np.int64) @ values
    else:
        state = RowState.empty(scores.shape[:1])
        products = np.zeros((len(scores), values.shape[1]), np.int64)
        for start in range(0, scores.shape[1], chunk):
            part = slice(start, start + chunk)
            exponentials, state = softmax_online(scores[:, part], np.array(True), multiplier, shift, state, bits)
            products = shift_rows(products, state.shifts) + exponentials.astype(np.int64) @ values[part]
        sums = state.sums
    return normalize(products, sums, 1 << 30, 14) / 65536


def decibels(expected: npt.NDArray[np.float64], result: npt.NDArray[np.float64]) -> float:
    """Returns the signal-to-noise ratio."""
    return float(10 * np.log10((expected**2).sum() / ((expected - result) ** 2).sum()))


@pytest.mark.parametrize("chunk", [None, 96, 500])
def test_a_sink_needs_16_bits(chunk: int | None) -> None:
    # One key lies 10 above the others, as in attention sinks: these have about e^-10 of its weight each, but are many.
    generator, keys, score_scale = np.random.default_rng(4), 2000, 1 / 512
    scores = np.rint(generator.normal(size=(6, keys), scale=0.3) / score_scale).astype(np.int32)
    scores[:, 3] = round(10 / score_scale)
    values = generator.integers(20, 128, (keys, 8)).astype(np.int8)
    values[3] = 0
    weights = np.exp((scores - scores.max(axis=1, keepdims=True)) * score_scale)
    expected = weights @ values / weights.sum(axis=1, keepdims=True)
    assert not attention(scores, values, score_scale, 8, chunk).any()
    assert decibels(expected, attention(scores, values, score_scale, 16, chunk)) > 30


@pytest.mark.parametrize("bits", [8, 16])
def test_online_is_as_good_as_row_but_for_a_bit(bits: int) -> None:
    generator, keys, score_scale = np.random.default_rng(5), 1500, 1 / 512
    scores = np.rint(generator.normal(size=(8, keys)) / score_scale).astype(np.int32)
    values = generator.integers(-127, 128, (keys, 16)).astype(np.int8)
    weights = np.exp((scores - scores.max(axis=1, keepdims=True)) * score_scale)
    expected = weights @ values / weights.sum(axis=1, keepdims=True)
    row = decibels(expected, attention(scores, values, score_scale, bits, None))
    for chunk in (100, 512, 4000):
        # The maximum is rounded up to a power of two: up to one bit of an exponential is not used.
        assert decibels(expected, attention(scores, values, score_scale, bits, chunk)) > row - 6.1


@given(hnp.arrays(np.int16, (3, 5)), st.integers(2**20, 2**31 - 1), st.integers(20, 40))
def test_probabilities_are_normalized_exponentials(x: npt.NDArray[np.int16], multiplier: int, shift: int) -> None:
    exponentials, sums = softmax_row(x, np.array(True), multiplier, shift, 16)
    ratios = exponentials / sums[:, np.newaxis]
    result = probabilities(x, multiplier, shift)
    assert (result.dtype, result.shape) == (np.uint8, x.shape)
    assert np.abs(result - 255 * ratios).max() <= 0.5 + 1e-6
    shifted = probabilities(x, multiplier, shift, 1 / 128, 3)
    assert np.abs(shifted - 3 - 128 * ratios).max() <= 0.5 + 1e-6


def test_probabilities_of_long_and_of_constant_rows() -> None:
    assert probabilities(np.full((1, 4), -32768, np.int16), 1 << 30, 30).tolist() == [[64] * 4]
    assert probabilities(np.zeros((1, 1), np.int16), 1 << 30, 30).tolist() == [[255]]
    assert not probabilities(np.zeros((1, 32768), np.int16), 1 << 30, 30).any()
    with pytest.raises(ValueError, match="rows of up to 32768"):
        probabilities(np.zeros((1, 32769), np.int16), 1 << 30, 30)


@pytest.mark.parametrize(("bits", "largest"), [(8, 255 * 128), (16, 65535)])
def test_sums_over_the_longest_row_stay_in_int32(bits: int, largest: int) -> None:
    assert most_keys(bits) * largest < 1 << 31 <= (most_keys(bits) + 1) * largest
