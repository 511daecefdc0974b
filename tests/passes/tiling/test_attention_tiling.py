"""Estimated cost of attention: causal attention counts only the pairs that its groups of rows compute."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sta.passes.tiling.attention_tiling import AttentionShape, Tiling, head_cycles, online_tiling, row_groups
from sta.spec.target import load_target
from sta.spec.tiling_policy import TilingPolicy

POLICY = TilingPolicy()
SIZES = st.integers(1, 3000)


@given(SIZES, SIZES, st.integers(1, 128), st.booleans())
def test_groups_cover_the_rows_once_with_all_keys_they_admit(queries: int, keys: int, tile: int, causal: bool) -> None:
    groups = row_groups(POLICY, AttentionShape(queries, keys, 64, 8, causal=causal), tile)
    assert len(groups) <= (POLICY.causal_groups if causal else 1)
    assert [group.first for group in groups] == [0, *(group.first + group.rows for group in groups[:-1])]
    assert sum(group.rows for group in groups) == queries
    for group in groups:
        assert group.rows > 0
        assert group.rows % tile == 0 or group is groups[-1]
        assert group.keys >= min(group.first + group.rows if causal else keys, keys)


def test_a_causal_estimate_counts_what_lies_below_the_diagonal() -> None:
    target = load_target("sta-base")
    full = AttentionShape(8192, 8192, 64, 8)
    tiling = online_tiling(target, POLICY, full)
    assert tiling is not None
    causal = replace(full, causal=True)
    part = head_cycles(target, POLICY, causal, tiling) / head_cycles(target, POLICY, full, tiling)
    # Half the pairs, and a sixteenth of them in vain; latencies once a row tile in both.
    assert 1 / 2 < part < 1 / 2 * (1 + 2 / POLICY.causal_groups)
    assert head_cycles(target, POLICY, replace(causal, queries=16, keys=16), Tiling(16)) == head_cycles(
        target, POLICY, replace(full, queries=16, keys=16), Tiling(16)
    )
