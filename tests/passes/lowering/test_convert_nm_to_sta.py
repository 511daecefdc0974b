"""Lowering to the machine: hand-made modules whose layouts, sizes or uses are out of the ordinary keep their bits."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from xdsl.ir import SSAValue

from sta.dialect import nm, sta
from sta.passes.pipeline import INTEGER_PIPELINE
from sta.passes.tiling.capacity import CapacityError
from sta.spec.target import Target
from tests.support.nm_builder import PLAIN_TARGET, NmBuilder
from tests.support.pipeline_check import apply, check_pipeline, operations
from tests.support.transformers import Transformer, transformers

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

SMALL = replace(PLAIN_TARGET, name="small", sram_bytes=1 << 14, tile_rows=8, tile_columns=8)
"""A machine on which almost nothing stays on the chip."""


def fused_attention(target: Target, batch: int, sequence: int, heads: int, depth: int) -> tuple[NmBuilder, SSAValue]:
    """A builder, and attention whose queries, keys and values are parts of one tensor."""
    builder = NmBuilder(target)
    width = heads * depth
    x = builder.bytes("x", (batch, sequence, width))
    joined = builder.clamp(builder.linear(x, 3 * width, "qkv"), nm.si8)
    q, k, v = (
        builder.permute(
            builder.view(builder.slice(joined, 2, i * width, (i + 1) * width), batch, sequence, heads, depth),
            *(0, 2, 1, 3),
        )
        for i in range(3)
    )
    return builder, builder.attention((q, k, v))


def test_a_residual_may_be_a_part_of_what_it_is_added_to() -> None:
    # Both are tiles of one tensor in DRAM, at different places.
    builder = NmBuilder(SMALL)
    x = builder.stream("x", (200, 24))
    first = builder.slice(x, 0, 0, 1)
    total = builder.clamp(builder.sum(builder.rescale(x, 0.5), builder.rescale(first, 0.7)), nm.si16)
    check_pipeline(builder.case(builder.slice(total, 0, 0, 50)))


@pytest.mark.parametrize("target", [PLAIN_TARGET, SMALL], ids=lambda target: target.name)
@pytest.mark.parametrize("shape", [(2, 50, 1), (2, 1, 1), (50, 1), (1,), (1, 1, 24)])
@pytest.mark.parametrize("kind", [nm.SubtractOp, nm.MaximumOp, nm.MinimumOp])
def test_a_residual_may_have_one_element_a_row(
    target: Target, shape: tuple[int, ...], kind: type[nm.CombinationOp]
) -> None:
    builder = NmBuilder(target)
    x, residual = builder.stream("x", (2, 50, 24)), builder.stream("r", shape)
    drained = builder.combine(kind, builder.rescale(residual, 0.01), builder.linear(x, 24, "w"))
    product = builder.multiply(builder.clamp(drained, nm.si16), residual, 0.01)
    check_pipeline(builder.case(builder.clamp(product, nm.si16)))


@pytest.mark.parametrize("target", [PLAIN_TARGET, SMALL], ids=lambda target: target.name)
def test_two_values_that_both_broadcast_are_combined_once_one_is_expanded(target: Target) -> None:
    builder = NmBuilder(target)
    column, row = builder.stream("c", (2, 50, 1)), builder.stream("r", (1, 24))
    expanded = builder.broadcast(column, 2, 50, 24)
    difference = builder.combine(nm.SubtractOp, builder.rescale(row, 0.3), builder.rescale(expanded, 0.7))
    product = builder.multiply(expanded, row, 0.001)
    check_pipeline(builder.case(builder.clamp(difference, nm.si16), builder.clamp(product, nm.si16)))


def test_queries_keys_and_values_may_be_parts_of_one_tensor_in_dram() -> None:
    builder, attention = fused_attention(SMALL, 2, 60, 2, 16)
    check_pipeline(builder.case(builder.slice(attention, 2, 0, 20)))


def queries_keys_values(builder: NmBuilder, shape: tuple[int, int, int, int]) -> tuple[SSAValue, SSAValue, SSAValue]:
    """Three random inputs for attention."""
    return builder.bytes("q", shape), builder.bytes("k", shape), builder.bytes("v", shape)


TARGETS = pytest.mark.parametrize("target", [PLAIN_TARGET, SMALL], ids=lambda target: target.name)


@TARGETS
def test_a_mask_whose_rows_are_not_contiguous(target: Target) -> None:
    builder = NmBuilder(target)
    operands = queries_keys_values(builder, (1, 2, 9, 8))
    mask = builder.permute(builder.mask("mask", (1, 1, 9, 9)), 0, 1, 3, 2)
    check_pipeline(builder.case(builder.attention(operands, mask)))


@TARGETS
def test_a_mask_whose_rows_come_from_two_axes(target: Target) -> None:
    builder = NmBuilder(target)
    operands = queries_keys_values(builder, (2, 2, 12, 8))
    parts = builder.permute(builder.mask("mask", (3, 2, 4, 12)), 1, 0, 2, 3)
    check_pipeline(builder.case(builder.attention(operands, builder.view(parts, 2, 1, 12, 12))))


@TARGETS
@pytest.mark.parametrize("permutation", list(itertools.permutations(range(4))))
def test_attention_may_write_any_layout(target: Target, permutation: tuple[int, ...]) -> None:
    builder = NmBuilder(target)
    attention = builder.attention(queries_keys_values(builder, (2, 3, 9, 5)), permutation=permutation)
    check_pipeline(builder.case(attention))


def test_a_pass_over_transposed_attention() -> None:
    # Not in place: the rows of what attention wrote are not the rows of its result.
    builder = NmBuilder()
    attention = builder.attention(queries_keys_values(builder, (2, 3, 9, 5)), element=nm.si16)
    check_pipeline(builder.case(builder.clamp(builder.rescale(builder.permute(attention, 0, 1, 3, 2), 0.3), nm.si16)))


@pytest.mark.parametrize("drain", ["product", "vector unit"])
@TARGETS
def test_rows_that_cannot_be_walked_together(target: Target, drain: str) -> None:
    # One operand's rows come in fours, the other's in sixes.
    builder = NmBuilder(target)
    x = builder.clamp(builder.rescale(builder.stream("x", (4, 3, 8)), 0.02), nm.si8)
    x = builder.view(builder.permute(x, 1, 0, 2), 12, 8)
    main = builder.linear(x, 5, "w") if drain == "product" else builder.rescale(x, 0.5)
    width = nm.tensor_of(main).get_shape()[1]
    residual = builder.view(builder.permute(builder.stream("r", (6, 2, width)), 1, 0, 2), 12, width)
    check_pipeline(builder.case(builder.clamp(builder.sum(main, builder.rescale(residual, 0.5)), nm.si16)))


def test_heads_that_cannot_be_walked_together() -> None:
    builder = NmBuilder()
    q = builder.view(builder.permute(builder.bytes("q", (2, 3, 4, 5)), 1, 0, 2, 3), 1, 6, 4, 5)
    k = builder.view(builder.permute(builder.bytes("k", (3, 2, 4, 5)), 1, 0, 2, 3), 1, 6, 4, 5)
    check_pipeline(builder.case(builder.attention((q, k, builder.bytes("v", (1, 6, 4, 5))))))


ODD_OUTPUTS: dict[str, Callable[[NmBuilder], SSAValue]] = {
    "input": lambda builder: builder.bytes("x", (5, 3)),
    "transposed input": lambda builder: builder.permute(builder.bytes("x", (5, 3)), 1, 0),
    "constant": lambda builder: builder.weight("w", np.arange(12).reshape(3, 4), nm.si16),
    "part of a constant": lambda builder: builder.slice(
        builder.weight("w", np.arange(12).reshape(3, 4), nm.si16), 1, 1, 3
    ),
    "one axis": lambda builder: builder.clamp(builder.linear(builder.bytes("x", (8,)), 5, "w"), nm.si8),
    "one number": lambda builder: builder.norm(builder.stream("x", (1, 1)), "n"),
    "six axes": lambda builder: builder.permute(builder.stream("x", (2,) * 6), 5, 4, 3, 2, 1, 0),
}


@TARGETS
@pytest.mark.parametrize("name", ODD_OUTPUTS)
def test_odd_outputs(target: Target, name: str) -> None:
    builder = NmBuilder(target)
    builder.mask("unused", (2, 2))
    result = ODD_OUTPUTS[name](builder)
    check_pipeline(builder.case(result, result))


@pytest.mark.parametrize("how", ["once", "twice", "transposed", "in part", "attention"])
def test_an_output_may_be_larger_than_the_chip(how: str) -> None:
    builder = NmBuilder(SMALL)
    if how == "attention":
        q, k, v = queries_keys_values(builder, (6, 2, 48, 32))
        case = builder.case(builder.attention((q, k, v), permutation=(0, 3, 1, 2)))
    else:
        x = builder.clamp(builder.linear(builder.bytes("x", (300, 24)), 64, "w"), nm.si16)
        assert 300 * 64 * 2 > SMALL.sram_bytes
        parts = {"once": [x], "twice": [x, x], "in part": [builder.slice(x, 1, 3, 60), builder.slice(x, 0, 7, 290)]}
        case = builder.case(*parts.get(how, [builder.permute(x, 1, 0)]))
    check_pipeline(case)


@pytest.mark.parametrize("kind", ["map", "norm", "linear", "gather"])
def test_tiles_of_wide_tensors_in_dram_fit_the_chip(kind: str) -> None:
    # A tile of as many rows as the machine may take would not fit: 32 rows of 800 numbers.
    builder = NmBuilder(replace(PLAIN_TARGET, sram_bytes=1 << 15))
    if kind == "gather":
        ids = builder.argument("ids", (70,), nm.si32, builder.random.integers(0, 9, 70), "index", 9)
        table = builder.weight("table", builder.random.integers(-99, 99, (9, 800)), nm.si16)
        check_pipeline(builder.case(builder.add(nm.GatherOp(table, ids)).result))
        return
    x = builder.stream("x", (70, 800))
    if kind == "norm":
        stream = builder.norm(x, "n")
        check_pipeline(builder.case(stream, builder.clamp(builder.rescale(stream, 1 / 150), nm.si8)))
        return
    main = builder.rescale(x, 0.3)
    if kind == "linear":
        main = builder.linear(builder.clamp(builder.rescale(x, 1 / 150), nm.si8), 800, "w")
    check_pipeline(builder.case(builder.clamp(builder.sum(main, builder.rescale(x, 0.2)), nm.si16)))


def test_the_largest_value_that_can_move_to_dram_moves() -> None:
    # Beside the attention there lies the copy of its mask, which is larger than the stream but has to stay.
    builder = NmBuilder(SMALL)
    x = builder.clamp(builder.rescale(builder.stream("x", (100, 20)), 0.5), nm.si16)
    mask = builder.permute(builder.mask("mask", (1, 1, 100, 100)), 0, 1, 3, 2)
    attention = builder.attention(queries_keys_values(builder, (1, 1, 100, 4)), mask)
    total = builder.sum(builder.rescale(x, 0.3), builder.linear(builder.view(attention, 100, 4), 20, "w"))
    check_pipeline(builder.case(builder.clamp(total, nm.si16)))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_parts_of_a_concatenation_are_written_where_they_belong(axis: int) -> None:
    builder = NmBuilder()
    x, other = builder.bytes("x", (2, 5, 8)), builder.stream("y", (2, 5, 8))
    linear = builder.clamp(builder.linear(x, 8, "w"), nm.si16)
    mapped = builder.clamp(builder.rescale(other, 0.3), nm.si16)
    case = builder.case(builder.concatenate(axis, linear, builder.norm(other, "n"), mapped))
    check_pipeline(case)
    # Copies have parameters of their own.
    assert not any("identity" in str(op) for op in operations(case, sta.ConstantOp))


def test_inputs_are_loaded_into_their_parts_of_a_concatenation() -> None:
    builder = NmBuilder()
    x, y = builder.stream("x", (2, 5, 8)), builder.stream("y", (2, 3, 8))
    case = builder.case(builder.norm(builder.concatenate(1, x, y), "n"))
    check_pipeline(case)
    assert not operations(case, sta.MapOp)
    assert len([op for op in operations(case, sta.AllocOp) if sta.space_of(op.result) == "spad"]) == 1


LARGE: dict[str, Callable[[NmBuilder], SSAValue]] = {
    "view": lambda b: b.norm(b.view(b.permute(b.stream("x", (100, 120)), 1, 0), 100, 120), "n"),
    "norm": lambda b: b.norm(b.permute(b.stream("x", (100, 120)), 1, 0), "n"),
    "map": lambda b: b.clamp(b.rescale(b.permute(b.stream("x", (100, 120)), 1, 0), 0.5), nm.si16),
    "linear": lambda b: b.clamp(b.linear(b.permute(b.bytes("x", (100, 200)), 1, 0), 30, "w"), nm.si16),
    "broadcast": lambda b: b.clamp(
        b.rescale(b.broadcast(b.view(b.stream("x", (100, 20)), 100, 20, 1), 100, 20, 30), 0.5), nm.si16
    ),
}


@pytest.mark.parametrize("build", LARGE.values(), ids=LARGE)
def test_copies_without_room_in_the_scratchpad_are_made_in_dram(build: Callable[[NmBuilder], SSAValue]) -> None:
    builder = NmBuilder(SMALL)
    case = builder.case(build(builder))
    check_pipeline(case)
    copies = [op for op in operations(case, sta.AllocOp) if op.label.data.endswith(":copy")]
    assert "dram" in [sta.space_of(op.result) for op in copies]


@pytest.mark.parametrize("kind", ["product", "gather", "table", "norm"])
def test_what_has_to_be_a_constant_is_asked_for_by_name(kind: str) -> None:
    builder = NmBuilder(path="layer.7.mixer")
    x = builder.bytes("x", (5, 8))
    match kind:
        case "product":
            acc = builder.add(nm.ProductOp(x, builder.bytes("y", (6, 8)))).result
            result = builder.clamp(builder.scaled_channels(acc, 0.01, "c"), nm.si8)
        case "gather":
            ids = builder.argument("ids", (5,), nm.si32, np.zeros(5), "index", 4)
            result = builder.add(nm.GatherOp(builder.stream("table", (4, 8)), ids)).result
        case "table":
            looked_up = builder.add(nm.TableOp(builder.stream("y", (5, 8)), builder.stream("table", (513,)))).result
            result = builder.clamp(looked_up, nm.si16)
        case _:
            gamma = builder.argument("gamma", (8,), nm.si32, np.ones(8))
            norm = builder.add(nm.NormOp(builder.stream("y", (5, 8)), gamma, gamma, "layer", 1, 20))
            assert norm.result is not None
            result = norm.result
    with pytest.raises(ValueError, match=r"layer\.7\.mixer: nm\.\w+ takes .* constants of the model only"):
        check_pipeline(builder.case(result))


KIBIBYTES = (8, 12, 16, 20, 24, 32)


def fits(model: Transformer, kibibytes: int) -> bool:
    """True if a model compiles for its machine with so much memory."""
    case = replace(model, target=replace(model.target, sram_bytes=1024 * kibibytes)).case()
    try:
        apply(case.module, case.context, *INTEGER_PIPELINE)
    except CapacityError:
        return False
    return True


def check_memory(model: Transformer) -> None:
    """Checks that a model that compiles for some memory compiles for more, and any small model for 32 KiB."""
    fitting = [fits(model, kibibytes) for kibibytes in KIBIBYTES]
    assert fitting == sorted(fitting)
    assert fitting[-1]


@settings(deadline=None, max_examples=5, suppress_health_check=SLOW)
@given(transformers(longest=14, widest=24))
def test_more_memory_never_hurts(model: Transformer) -> None:
    check_memory(model)


@pytest.mark.slow
@settings(deadline=None, max_examples=60, suppress_health_check=SLOW)
@given(transformers(longest=30, widest=60))
def test_more_memory_never_hurts_larger_models(model: Transformer) -> None:
    check_memory(model)
