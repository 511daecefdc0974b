"""Useful multiply-accumulates, against counts made by hand and one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sta.dialect import nm
from sta.passes.lowering.useful_macs import UsefulMacs, useful_macs
from sta.spec.nm_format import Pattern
from tests.support.nm_builder import NmBuilder
from tests.support.pipeline_check import check_passes
from tests.support.transformers import Transformer, transformers


def test_a_linear_layer() -> None:
    builder = NmBuilder()
    case = builder.case(builder.clamp(builder.linear(builder.bytes("x", (2, 5, 8)), 7, "w"), nm.si8))
    assert useful_macs(case.module) == UsefulMacs(2 * 5 * 8 * 7, 2 * 5 * 8 * 7)
    _ = list(check_passes(case, ("nm-fuse-epilogues",)))
    assert useful_macs(case.module) == UsefulMacs(560, 560)


@pytest.mark.parametrize(("pattern", "kept"), [("2:4", 280), ("1:4", 140), ("1:8", 70), ("3:7", 240)])
def test_sparse_weights_count_what_is_kept(pattern: str, kept: int) -> None:
    builder = NmBuilder()
    n, m = (int(part) for part in pattern.split(":"))
    encoding = nm.PatternAttr(Pattern(n, m), "bitmap")
    weight = builder.weight("w", np.zeros((7, 8)), nm.si8, encoding)
    product = builder.add(nm.ProductOp(builder.bytes("x", (2, 5, 8)), weight)).result
    assert useful_macs(builder.case(product).module) == UsefulMacs(kept, 560)


@settings(deadline=None)
@given(*(st.integers(1, 6) for _ in range(5)), st.booleans())
def test_attention_counts_admissible_pairs(
    batch: int, heads: int, queries: int, keys: int, depth: int, causal: bool
) -> None:
    builder = NmBuilder()
    q = builder.bytes("q", (batch, heads, queries, depth))
    k, v = (builder.bytes(name, (batch, heads, keys, depth)) for name in "kv")
    case = builder.case(builder.attention((q, k, v), builder.mask("m", (batch, 1, 1, keys)), causal))
    pairs = sum(not causal or key <= query for query in range(queries) for key in range(keys))
    count = batch * heads * pairs * depth * 2
    assert useful_macs(case.module) == UsefulMacs(count, count)


def test_a_product_of_two_passes_counts_once() -> None:
    builder = NmBuilder()
    case = builder.case(builder.clamp(builder.linear(builder.stream("x", (2, 5, 8)), 7, "w"), nm.si8))
    assert useful_macs(case.module) == UsefulMacs(560, 560)


def test_nothing_else_counts() -> None:
    builder = NmBuilder()
    x = builder.norm(builder.stream("x", (5, 8)), "n")
    case = builder.case(builder.clamp(builder.rescale(builder.table(x, "t"), 1 / 128), nm.si8))
    assert useful_macs(case.module) == UsefulMacs(0, 0)


@settings(deadline=None, max_examples=15)
@given(transformers(longest=6, widest=12))
def test_counts_do_not_depend_on_the_passes(model: Transformer) -> None:
    case = model.case()
    before = useful_macs(case.module)
    linears = 4 * model.width**2 + 2 * model.width * model.hidden
    tokens = model.batch * model.sequence
    positions = model.sequence
    pairs = positions * (positions + 1) // 2 if model.causal else positions**2
    attention = 2 * model.batch * model.width * pairs
    pooler = 3 * model.width * model.batch if model.pooled else 0
    assert before.dense == model.blocks * (tokens * linears + attention) + pooler
    for _ in check_passes(case, ("nm-sink-views", "nm-fold-attention-layout", "nm-fuse-epilogues")):
        assert useful_macs(case.module) == before
