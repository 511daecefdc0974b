"""Mean pooling, against exact rationals and against the attention with equal scores that it is."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sta.spec.integers import encode_scale
from sta.spec.pooling import mean_tokens
from sta.spec.softmax import normalize, softmax_row


@given(st.data(), st.sampled_from([np.int8, np.int16]), st.floats(2.0**-12, 16.0))
def test_the_mean_is_rounded_correctly_or_next_to_it(data: st.DataObject, dtype: type, scale: float) -> None:
    batch, m, n = (data.draw(st.integers(1, limit)) for limit in (3, 40, 5))
    x = data.draw(hnp.arrays(dtype, (batch, m, n)))
    admissible = data.draw(hnp.arrays(np.bool_, (batch, m)))
    multiplier, shift = (int(part) for part in encode_scale(scale))
    result = mean_tokens(x, admissible, multiplier, shift)
    assert result.shape == (batch, n)
    for i in range(batch):
        kept = x[i][admissible[i]].astype(np.int64)
        for j in range(n):
            exact = Fraction(int(kept[:, j].sum()), max(len(kept), 1)) * Fraction(multiplier, 1 << shift)
            assert abs(int(result[i, j]) - exact) <= Fraction(1, 2) + abs(exact) / 2**29


def test_it_is_attention_with_equal_scores() -> None:
    generator = np.random.default_rng(1)
    x, admissible = generator.integers(-128, 128, (4, 77, 9)).astype(np.int8), generator.random((4, 77)) < 0.6
    admissible[2] = False
    exponentials, sums = softmax_row(np.zeros((4, 77), np.int32), admissible, 1 << 30, 30)
    products = np.einsum("bm,bmn->bn", exponentials.astype(np.int64), x.astype(np.int64))
    expected = normalize(products, sums, 1 << 30, 27)
    assert np.abs(mean_tokens(x, admissible, 1 << 30, 27) - expected).max() <= 1
    assert not mean_tokens(x, admissible, 1 << 30, 27)[2].any()


def test_the_longest_sequences_at_the_ends_of_the_range() -> None:
    for value in (-32768, 32767):
        x = np.full((1, 1 << 15, 2), value, np.int16)
        assert mean_tokens(x, np.array(True), 1 << 30, 30).tolist() == [[value, value]]


def test_other_tokens_are_refused() -> None:
    for x in (np.zeros((2, 3), np.int32), np.zeros(3, np.int8), np.zeros(((1 << 15) + 1, 1), np.int8)):
        with pytest.raises(ValueError, match="tokens must be int8 or int16"):
            mean_tokens(x, np.array(True), 1 << 30, 30)
    with pytest.raises(ValueError, match="shift"):
        mean_tokens(np.zeros((2, 3), np.int8), np.array(True), 1 << 30, 63)
