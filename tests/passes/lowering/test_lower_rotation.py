"""Rotary position embeddings on the machine: their bits stay, and what heads share is loaded once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sta.dialect import nm
from sta.spec.rotation import PAIRINGS
from sta.spec.target import Target
from tests.support.nm_builder import PLAIN_TARGET, NmBuilder
from tests.support.pipeline_check import check_pipeline

SMALL = replace(PLAIN_TARGET, name="small", sram_bytes=1 << 13, tile_rows=8, tile_columns=8)
"""A machine on which nothing but tiles stays on the chip."""
TARGETS = pytest.mark.parametrize("target", [PLAIN_TARGET, SMALL], ids=lambda target: target.name)


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_rotation_keeps_its_bits(data: st.DataObject) -> None:
    builder = NmBuilder(data.draw(st.sampled_from([PLAIN_TARGET, SMALL])), seed=data.draw(st.integers(0, 1000)))
    batch, heads = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 5))
    tokens, columns = data.draw(st.integers(1, 40)), data.draw(st.integers(2, 20))
    make = data.draw(st.sampled_from([builder.stream, builder.bytes]))
    x = builder.permute(make("x", (batch, tokens, heads, columns)), 0, 2, 1, 3)
    tables = data.draw(
        st.sampled_from([(tokens,), (1, 1, tokens), (batch, 1, tokens), (batch, heads, tokens), (1,), (heads, 1)])
    )
    rotated = builder.rotate(
        x,
        builder.angles("angles", *tables, columns),
        2 * data.draw(st.integers(1, columns // 2)),
        data.draw(st.sampled_from([nm.si8, nm.si16])),
        data.draw(st.sampled_from(PAIRINGS)),
    )
    check_pipeline(builder.case(rotated)).check_races()


@TARGETS
def test_queries_and_keys_are_rotated_for_attention(target: Target) -> None:
    builder = NmBuilder(target)
    x, tables = builder.bytes("x", (2, 24, 16)), builder.angles("angles", 24, 8)
    heads = [
        builder.permute(builder.view(builder.clamp(builder.linear(x, 16, name), nm.si16), 2, 24, 2, 8), 0, 2, 1, 3)
        for name in "qk"
    ]
    q, k = (builder.rotate(value, tables, 8, nm.si8) for value in heads)
    check_pipeline(builder.case(builder.attention((q, k, builder.bytes("v", (2, 2, 24, 8))), causal=True)))


def test_heads_share_what_is_loaded_of_angles() -> None:
    heads, tokens, columns = 6, 64, 16
    builder = NmBuilder(SMALL)
    x = builder.stream("x", (1, heads, tokens, columns))
    program = check_pipeline(builder.case(builder.rotate(x, builder.angles("angles", tokens, columns), columns)))
    inputs, tables, parameters = 2 * heads * tokens * columns, 2 * 2 * tokens * columns, 16
    assert program.timing.dram_bytes_read <= inputs + tables + parameters


def test_cosines_and_sines_may_be_computed() -> None:
    builder = NmBuilder(SMALL)
    tables = [builder.clamp(builder.rescale(builder.stream(name, (30, 12)), 0.7), nm.si16) for name in "cs"]
    x = builder.stream("x", (2, 30, 12))
    check_pipeline(builder.case(builder.rotate(x, (tables[0], tables[1]), 10, pairing="interleaved")))
