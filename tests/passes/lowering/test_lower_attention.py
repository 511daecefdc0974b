"""Attention on the machine: every mode keeps its bits, whatever the sizes, and no unit overtakes another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xdsl.ir import SSAValue

from sta.dialect import nm, sta
from sta.passes.lowering.useful_macs import useful_macs
from sta.passes.pipeline import INTEGER_PIPELINE
from sta.passes.tiling.attention_tiling import KEYS_LIMIT, AttentionShape, row_groups, row_tiling
from sta.passes.tiling.tile_choice import recorded
from sta.runtime import Program
from sta.spec.cost import softmax_cycles
from sta.spec.target import Target, load_target
from sta.spec.tiling_policy import TilingPolicy
from tests.support.nm_builder import PLAIN_TARGET, NmBuilder
from tests.support.pipeline_check import apply, check_pipeline, operations, program_of

POLICY = TilingPolicy()
SMALL = replace(
    PLAIN_TARGET, name="small", sram_bytes=1 << 13, array_rows=4, array_columns=4, tile_rows=8, tile_columns=8
)
"""A machine on which nothing but tiles stays on the chip."""
ROOMY = replace(SMALL, name="roomy", sram_bytes=1 << 18)


def attention_of(
    builder: NmBuilder,
    q: tuple[int, int, int, int],
    k: tuple[int, int, int, int],
    mask: tuple[int, ...] | None = None,
    bias: tuple[int, ...] | None = None,
    width: int | None = None,
    **how: Any,
) -> SSAValue:
    """
    Attention of random inputs; heads lie beside each other in a row, as a model leaves them. `width` is that of values
    if it is not that of keys.
    """

    def heads(name: str, shape: tuple[int, int, int, int]) -> SSAValue:
        batch, count, rows, depth = shape
        return builder.permute(builder.bytes(name, (batch, rows, count, depth)), 0, 2, 1, 3)

    operands = heads("q", q), heads("k", k), heads("v", (*k[:3], width or k[3]))
    if bias is not None:
        how["bias"] = builder.stream("bias", bias)
    return builder.attention(operands, None if mask is None else builder.mask("mask", mask), **how)


def check(builder: NmBuilder, result: SSAValue) -> Program:
    """Takes the case through everything; returns the program, which has no race."""
    program = check_pipeline(builder.case(result))
    program.check_races()
    return program


@pytest.mark.parametrize("target", [SMALL, PLAIN_TARGET], ids=lambda target: target.name)
@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.parametrize("rows", [5, 19])
def test_keys_and_values_repeated_in_turn_belong_to_other_heads_each(
    target: Target, chunk: int | None, rows: int
) -> None:
    builder = NmBuilder(target)

    def in_turn(name: str) -> SSAValue:
        heads = builder.view(builder.bytes(name, (1, 2, rows, 4)), 1, 1, 2, rows, 4)
        return builder.view(builder.broadcast(heads, 1, 3, 2, rows, 4), 1, 6, rows, 4)

    query = builder.permute(builder.bytes("q", (1, rows, 6, 4)), 0, 2, 1, 3)
    check(builder, builder.attention((query, in_turn("k"), in_turn("v")), chunk=chunk))


def compiled(builder: NmBuilder, result: SSAValue) -> Program:
    """The program, without running it anywhere."""
    case = builder.case(result)
    macs = useful_macs(case.module)
    apply(case.module, case.context, *INTEGER_PIPELINE)
    return program_of(case, macs)


TARGETS = pytest.mark.parametrize("target", [SMALL, ROOMY], ids=lambda target: target.name)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_attention_keeps_its_bits(data: st.DataObject) -> None:
    target = data.draw(st.sampled_from([SMALL, ROOMY]))
    batch, heads, group = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    queries, keys = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))
    depth = data.draw(st.sampled_from([3, 8, 13]))
    shape = (batch, heads * group, queries, keys)
    of_scores = st.sampled_from([None, (1, 1, 1, keys), (batch, 1, 1, keys), (1, 1, queries, keys), shape])
    mask, bias = data.draw(of_scores), data.draw(of_scores | st.just((1, heads * group, queries, keys)))
    builder = NmBuilder(target, seed=data.draw(st.integers(0, 1000)))
    result = attention_of(
        builder,
        (batch, heads * group, queries, depth),
        (batch, heads, keys, depth),
        mask,
        bias,
        data.draw(st.sampled_from([None, 2, 11, 18])),
        causal=data.draw(st.booleans()),
        bits=data.draw(st.sampled_from([8, 16])),
        chunk=data.draw(st.sampled_from([None, None, 5, 8, 16, 100])),
        element=data.draw(st.sampled_from([nm.si8, nm.si16])),
        permutation=data.draw(st.sampled_from([(0, 1, 2, 3), (0, 2, 1, 3)])),
    )
    check(builder, result)


@TARGETS
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("keys", [7, 8, 17, 33, 48, 61])
def test_chunks_of_any_number(target: Target, bits: int, causal: bool, keys: int) -> None:
    # One chunk, two, an odd number, with and without a rest, more than are unrolled.
    builder = NmBuilder(target)
    result = attention_of(builder, (1, 1, 21, 6), (1, 1, keys, 6), causal=causal, bits=bits, chunk=8)
    check(builder, result)


@TARGETS
@pytest.mark.parametrize("chunk", [None, 16])
def test_a_bias_is_a_constant_or_computed(target: Target, chunk: int | None) -> None:
    builder = NmBuilder(target)
    computed = builder.clamp(builder.rescale(builder.stream("b", (1, 1, 40, 33)), 0.3), nm.si16)
    constant = builder.weight("bias", builder.random.integers(-9000, 9000, (1, 2, 40, 33)), nm.si16)
    shapes = (1, 2, 40, 8), (1, 2, 33, 8)
    q, k, v = (builder.bytes(name, shape) for name, shape in zip("qkv", (*shapes, (1, 2, 33, 8)), strict=True))
    first, second = (builder.attention((q, k, v), chunk=chunk, bias=bias) for bias in (computed, constant))
    check_pipeline(builder.case(first, second)).check_races()


@TARGETS
@pytest.mark.parametrize("chunk", [None, 16])
def test_scores_and_exponentials_cost_no_traffic(target: Target, chunk: int | None) -> None:
    builder = NmBuilder(target)
    program = compiled(builder, attention_of(builder, (1, 2, 64, 8), (1, 2, 64, 8), chunk=chunk))
    assert program.profile().to_json()["total"]["dram"].get("attention", 0) == 0


@pytest.mark.parametrize(("target", "chunk"), [(ROOMY, None), (ROOMY, 8), (SMALL, 8)])
@pytest.mark.parametrize("causal", [False, True])
def test_code_does_not_grow_with_the_sequence(target: Target, chunk: int | None, causal: bool) -> None:
    sizes: list[int] = []
    for length in (512, 1024):
        builder = NmBuilder(target)
        case = builder.case(attention_of(builder, (1, 4, length, 4), (1, 4, length, 4), chunk=chunk, causal=causal))
        apply(case.module, case.context, "convert-nm-to-sta")
        sizes.append(len(operations(case, sta.UnitOp)))
    # The first groups of a causal attention have few chunks, fewer than are unrolled.
    assert sizes[0] <= sizes[1] <= sizes[0] * (1.1 if causal else 1)


@TARGETS
@pytest.mark.parametrize("chunk", [None, 8])
def test_a_causal_attention_skips_what_lies_above_the_diagonal(target: Target, chunk: int | None) -> None:
    macs: dict[bool, int] = {}
    for causal in (False, True):
        builder = NmBuilder(target)
        program = compiled(builder, attention_of(builder, (1, 2, 128, 4), (1, 2, 128, 4), causal=causal, chunk=chunk))
        macs[causal] = program.profile().to_json()["total"]["macs"]
    # Half of the pairs and one sixteenth more, and half a tile of columns.
    assert macs[True] <= macs[False] * (0.5 + 1 / 32 + 1 / 32)


@pytest.mark.parametrize("heads", [1, 5])
@pytest.mark.parametrize("causal", [False, True])
def test_the_softmax_runs_under_the_products(causal: bool, heads: int) -> None:
    # Several row tiles of several heads, causal ones in groups with different numbers of keys: one pipeline for all.
    # Where many of them have the same keys they are a loop, with a pipeline for each.
    target = load_target("sta-base")
    rows, depth = 200, 64
    builder = NmBuilder(target)
    program = compiled(builder, attention_of(builder, (1, heads, rows, depth), (1, heads, rows, depth), causal=causal))
    tiling = row_tiling(target, POLICY, AttentionShape(rows, rows, depth, 8, causal=causal))
    assert tiling is not None
    assert rows > 2 * tiling.rows
    pipelines = 1 if causal or heads == 1 else -(-rows // tiling.rows)
    # Waited for are the first tile, which has nothing to run under, and the last, which has half of it.
    assert program.profile().total.idle["sm"] <= 2 * pipelines * softmax_cycles(target, tiling.rows, rows)


def test_heads_that_share_keys_load_them_once() -> None:
    traffic: dict[int, int] = {}
    for group in (1, 4):
        builder = NmBuilder(replace(SMALL, sram_bytes=1 << 14))
        program = compiled(builder, attention_of(builder, (1, 4, 256, 8), (1, 4 // group, 256, 8)))
        assert program.container.program["spad"] < 4 * 256 * 8
        traffic[group] = program.timing.dram_bytes_read
    keys_and_values = 2 * 256 * 8
    assert traffic[1] - traffic[4] == 3 * keys_and_values


def tile_of(builder: NmBuilder, result: SSAValue) -> dict[str, Any]:
    """The tile that is chosen for the only layer."""
    case = builder.case(result)
    apply(case.module, case.context, "convert-nm-to-sta")
    (choice,) = recorded(case.module)
    return choice["tile"]


@pytest.mark.parametrize("causal", [False, True])
def test_heads_that_share_keys_take_turns_at_each_chunk(causal: bool) -> None:
    rows, keys, heads, shared, depth = 64, 520, 8, 2, 8

    def case() -> tuple[NmBuilder, SSAValue]:
        builder = NmBuilder(SMALL)
        q, k = (1, heads, rows, depth), (1, shared, keys, depth)
        return builder, attention_of(builder, q, k, chunk=16, causal=causal)

    assert tile_of(*case()) == {"rows": 8, "keys": 16, "order": "online", "heads": heads // shared}
    groups = row_groups(POLICY, AttentionShape(rows, keys, depth, 8, causal=causal), 8)
    # Keys and values for each row tile once for all heads that share them; queries once.
    loaded = sum(group.rows // 8 * 2 * shared * group.keys * depth for group in groups)
    traffic = compiled(*case()).profile().to_json()["total"]["dram"]
    assert traffic["inputs"] == heads * rows * depth + loaded
    assert traffic["outputs"] == heads * rows * depth


@pytest.mark.parametrize(
    ("group", "turns", "keys", "bits", "causal"),
    [(2, 2, 64, 8, False), (3, 3, 69, 16, False), (4, 2, 66, 16, True), (7, 1, 56, 8, False)],
)
def test_turns_keep_the_bits(group: int, turns: int, keys: int, bits: int, causal: bool) -> None:
    # An even and an odd number of turns and of chunks, with and without a rest; some of the heads, and none.
    def case() -> tuple[NmBuilder, SSAValue]:
        builder = NmBuilder(replace(SMALL, sram_bytes=1 << 11))
        mask = None if causal else (1, 1, 13, keys)
        q, k = (1, 2 * group, 13, 6), (1, 2, keys, 6)
        return builder, attention_of(builder, q, k, mask, causal=causal, bits=bits, chunk=8)

    assert tile_of(*case()).get("heads", 1) == turns
    check(*case())


def test_too_many_keys_for_whole_rows() -> None:
    builder = NmBuilder(SMALL)
    case = builder.case(attention_of(builder, (1, 1, 8, 4), (1, 1, 3000, 4)))
    message = r"3,000 keys needs 54,\d+ bytes on the chip, 7,680 of its 8,192 are there; compile with softmax 'online'"
    with pytest.raises(ValueError, match=message):
        apply(case.module, case.context, "convert-nm-to-sta")
    builder = NmBuilder(replace(SMALL, sram_bytes=1 << 26))
    case = builder.case(attention_of(builder, (1, 1, 1, 1), (1, 1, KEYS_LIMIT + 1, 1)))
    with pytest.raises(ValueError, match="are there, and at most 8,192 keys; compile with softmax 'online'"):
        apply(case.module, case.context, "convert-nm-to-sta")


def test_a_chunk_that_does_not_fit() -> None:
    builder = NmBuilder(SMALL)
    case = builder.case(attention_of(builder, (1, 1, 8, 4), (1, 1, 3000, 4), chunk=2000))
    with pytest.raises(ValueError, match=r"of 2,000 keys needs 52,\d+ bytes on the chip, 7,680 of its 8,192 are there"):
        apply(case.module, case.context, "convert-nm-to-sta")
