"""Fusion of epilogues: chains that become one operation, chains that do not, and unchanged bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from xdsl.ir import Operation, SSAValue

from sta.dialect import nm
from sta.dialect.ir.location import module_path
from tests.support.nm_builder import Case, NmBuilder
from tests.support.pipeline_check import check_passes, check_pipeline, operations

PASS = ("nm-fuse-epilogues",)


def fused(builder: NmBuilder, *outputs: SSAValue) -> list[Operation]:
    """Returns the linears and maps that a module becomes, after comparing its bits; nothing else is left of a chain."""
    case = builder.case(*outputs)
    _ = list(check_passes(case, PASS))
    assert not operations(case, nm.ClampOp, nm.AddOp, nm.RescaleOp, nm.RescaleChannelsOp, nm.TableOp, nm.ProductOp)
    return operations(case, nm.LinearOp, nm.MapOp)


def only(found: list[Operation], kind: type[nm.LinearOp] | type[nm.MapOp]) -> nm.LinearOp | nm.MapOp:
    """Returns the single operation found, which is of a kind."""
    assert len(found) == 1
    assert isinstance(found[0], kind)
    return found[0]


def test_product_scale_and_clamp_are_one_linear() -> None:
    builder = NmBuilder(path="layer.dense")
    acc = builder.linear(builder.bytes("x", (3, 5, 8)), 7, "w")
    builder.path = "layer.clamp"
    linear = only(fused(builder, builder.clamp(acc, nm.si8, -9)), nm.LinearOp)
    assert linear.zero_point.value.data == -9
    assert nm.element_of(linear.result) == nm.si8
    assert linear.table is None
    assert linear.residual is None
    assert module_path(linear) == "layer.dense"


@pytest.mark.parametrize("first", ["product", "residual"])
@pytest.mark.parametrize("element", [nm.si8, nm.si16])
def test_a_stored_residual_is_added_in_the_drain(first: str, element: nm.IntegerType) -> None:
    builder = NmBuilder()
    acc = builder.linear(builder.bytes("x", (5, 8)), 7, "w")
    stored = builder.clamp(builder.rescale(builder.stream("r", (5, 7)), 0.01), element)
    added = builder.rescale(stored, 0.7, -3)
    terms = (acc, added) if first == "product" else (added, acc)
    found = fused(builder, builder.clamp(builder.sum(*terms), nm.si16, 2))
    assert [type(op) for op in found] == [nm.MapOp, nm.LinearOp]
    linear = found[1]
    assert isinstance(linear, nm.LinearOp)
    assert linear.residual is found[0].results[0]
    assert linear.residual_bias.value.data == -3
    assert linear.zero_point.value.data == 2


def test_a_residual_may_broadcast() -> None:
    builder = NmBuilder()
    acc = builder.linear(builder.bytes("x", (2, 5, 8)), 7, "w")
    row = builder.weight("positions", np.arange(35).reshape(5, 7), nm.si16)
    linear = only(fused(builder, builder.clamp(builder.sum(acc, builder.rescale(row, 3.0)), nm.si16)), nm.LinearOp)
    assert linear.residual is not None
    assert nm.tensor_of(linear.residual).get_shape() == (5, 7)


@pytest.mark.parametrize(
    ("kind", "combinations"),
    [
        (nm.AddOp, ("add", "add")),
        (nm.SubtractOp, ("subtract", "subtract_from")),
        (nm.MaximumOp, ("maximum", "maximum")),
        (nm.MinimumOp, ("minimum", "minimum")),
    ],
)
@pytest.mark.parametrize("shape", [(5, 7), (7,), (5, 1), (1,)])
def test_a_residual_is_combined_in_the_drain(
    kind: type[nm.CombinationOp], combinations: tuple[str, str], shape: tuple[int, ...]
) -> None:
    for exchanged, combination in enumerate(combinations):
        builder = NmBuilder()
        operands = [
            builder.linear(builder.bytes("x", (5, 8)), 7, "w"),
            builder.rescale(builder.stream("r", shape), 0.01),
        ]
        total = builder.combine(kind, *(operands[::-1] if exchanged else operands))
        linear = only(fused(builder, builder.clamp(total, nm.si16)), nm.LinearOp)
        assert linear.combine.data == combination
        assert linear.residual is not None
        assert nm.tensor_of(linear.residual).get_shape() == shape


def test_a_product_that_broadcasts_is_written_before_it_is_added() -> None:
    builder = NmBuilder()
    small = builder.linear(builder.bytes("x", (7, 8)), 6, "w")
    big = builder.rescale(builder.stream("y", (5, 7, 6)), 0.1)
    found = fused(builder, builder.clamp(builder.sum(big, small), nm.si16))
    assert [type(op) for op in found] == [nm.LinearOp, nm.MapOp]
    assert nm.element_of(found[0].results[0]) == nm.si32


def test_table_between_two_clamps() -> None:
    builder = NmBuilder()
    acc = builder.linear(builder.bytes("x", (5, 8)), 7, "w", spread=9000)
    looked_up = builder.table(builder.clamp(acc, nm.si16), "t")
    linear = only(fused(builder, builder.clamp(builder.rescale(looked_up, 1 / 12800), nm.si8, -4)), nm.LinearOp)
    assert linear.table is not None
    assert linear.zero_point.value.data == -4


@pytest.mark.parametrize("reason", ["another use", "zero point", "8 bits", "sum"])
def test_a_clamp_in_front_of_a_table_stays(reason: str) -> None:
    builder = NmBuilder()
    acc = builder.linear(builder.bytes("x", (5, 8)), 7, "w", spread=9000 if reason != "8 bits" else 80)
    if reason == "sum":
        acc = builder.sum(acc, builder.rescale(builder.stream("r", (5, 7)), 1.5))
    element = nm.si8 if reason == "8 bits" else nm.si16
    clamped = builder.clamp(acc, element, 1 if reason == "zero point" else 0)
    result = builder.clamp(builder.rescale(builder.table(clamped, "t"), 1 / 128), nm.si16)
    outputs = (clamped, result) if reason == "another use" else (result,)
    found = fused(builder, *outputs)
    assert [type(op) for op in found] == [nm.LinearOp, nm.MapOp]
    assert nm.element_of(found[0].results[0]) == element
    assert isinstance(found[1], nm.MapOp)
    assert found[1].table is not None


def test_table_and_residual_in_one_drain() -> None:
    builder = NmBuilder()
    acc = builder.linear(builder.bytes("x", (5, 8)), 7, "w", spread=9000)
    looked_up = builder.rescale(builder.table(builder.clamp(acc, nm.si16), "t"), 1 / 128)
    total = builder.sum(looked_up, builder.rescale(builder.stream("r", (5, 7)), 0.3))
    linear = only(fused(builder, builder.clamp(total, nm.si16)), nm.LinearOp)
    assert linear.table is not None
    assert linear.residual is not None


def test_elementwise_chain_is_one_map() -> None:
    builder = NmBuilder()
    a, b = builder.stream("a", (5, 7)), builder.stream("b", (5, 7))
    found = fused(builder, builder.clamp(builder.sum(builder.rescale(a, 0.3), builder.rescale(b, 0.4)), nm.si16))
    assert only(found, nm.MapOp).residual is not None


def test_two_tables_in_a_row_are_two_passes() -> None:
    builder = NmBuilder()
    once = builder.rescale(builder.table(builder.stream("x", (4, 6)), "t"), 1 / 64)
    twice = builder.rescale(builder.table(once, "u"), 1 / 128)
    found = fused(builder, builder.clamp(twice, nm.si16))
    assert [type(op) for op in found] == [nm.MapOp, nm.MapOp]


def test_accumulators_that_two_clamps_take() -> None:
    builder = NmBuilder()
    acc = builder.linear(builder.bytes("x", (5, 8)), 7, "w")
    found = fused(builder, builder.clamp(acc, nm.si16), builder.clamp(acc, nm.si8))
    assert [type(op) for op in found] == [nm.LinearOp, nm.LinearOp]


def two_linears(builder: NmBuilder) -> SSAValue:
    """A sum of two products, neither of which is stored."""
    x = builder.bytes("x", (5, 8))
    return builder.clamp(builder.sum(builder.linear(x, 7, "a"), builder.linear(x, 7, "b")), nm.si16)


def three_linears(builder: NmBuilder) -> SSAValue:
    """A sum of three."""
    x = builder.bytes("x", (5, 8))
    a, b, c = (builder.linear(x, 7, name) for name in "abc")
    return builder.clamp(builder.sum(builder.sum(a, b), c), nm.si16)


def twice_the_same(builder: NmBuilder) -> SSAValue:
    """Accumulators added to themselves."""
    acc = builder.linear(builder.bytes("x", (5, 8)), 7, "a")
    return builder.clamp(builder.sum(acc, acc), nm.si16)


def bare_table(builder: NmBuilder) -> SSAValue:
    """A table whose result is not rescaled."""
    return builder.clamp(builder.table(builder.stream("x", (5, 8)), "t"), nm.si16)


def biased_table(builder: NmBuilder) -> SSAValue:
    """A table whose result gets a bias, which the vector unit has no place for."""
    return builder.clamp(builder.rescale(builder.table(builder.stream("x", (5, 8)), "t"), 1 / 128, 300), nm.si8)


def returned_table(builder: NmBuilder) -> SSAValue:
    """The int32 result of a table."""
    return builder.table(builder.stream("x", (5, 8)), "t")


def unsigned_residual(builder: NmBuilder) -> SSAValue:
    """A residual of a type that the vector unit does not add."""
    x = builder.bytes("x", (5, 8))
    stored = builder.clamp(builder.rescale(x, 1.0), nm.ui8, 128)
    return builder.clamp(builder.sum(builder.linear(x, 8, "w"), builder.rescale(stored, 1.5, -128)), nm.si16)


def returned_accumulators(builder: NmBuilder) -> SSAValue:
    """A linear whose int32 result is an output."""
    return builder.linear(builder.bytes("x", (5, 8)), 7, "w")


def returned_sum(builder: NmBuilder) -> SSAValue:
    """A sum whose int32 result is an output."""
    x = builder.stream("x", (5, 8))
    return builder.sum(builder.rescale(x, 500.0), builder.rescale(x, 0.1, 7))


@pytest.mark.parametrize(
    "build",
    [
        two_linears,
        three_linears,
        twice_the_same,
        bare_table,
        biased_table,
        returned_table,
        unsigned_residual,
        returned_accumulators,
        returned_sum,
    ],
)
def test_what_no_chain_absorbs_is_written(build: Callable[[NmBuilder], SSAValue]) -> None:
    builder = NmBuilder()
    check_pipeline(builder.case(build(builder)))


def test_a_scale_per_channel_needs_a_product() -> None:
    builder = NmBuilder(path="layer.3.dense")
    split = builder.view(builder.product(builder.bytes("x", (5, 8)), 6, "w"), 5, 2, 3)
    case = builder.case(builder.clamp(builder.scaled_channels(split, 0.01, "w"), nm.si16))
    with pytest.raises(ValueError, match=r"layer\.3\.dense: nm\.rescale_channels scales what no nm\.product made"):
        _ = list(check_passes(case, PASS))


def test_what_nobody_uses_is_erased() -> None:
    builder = NmBuilder()
    x = builder.bytes("x", (5, 8))
    builder.clamp(builder.linear(x, 7, "unused"), nm.si8)
    case: Case = builder.case(builder.clamp(builder.rescale(x, 0.5), nm.si8))
    _ = list(check_passes(case, PASS))
    assert not operations(case, nm.LinearOp, nm.WeightOp)
    assert len(operations(case, nm.MapOp)) == 1
