"""Sinking of views: views that move, views that stay, and termination."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from xdsl.ir import SSAValue

from sta.dialect import nm
from tests.support.nm_builder import NmBuilder
from tests.support.pipeline_check import check_passes, check_pipeline, operations

PASS = ("nm-sink-views",)
KINDS = (nm.ViewOp, nm.PermuteOp, nm.SliceOp, nm.AddOp, nm.ClampOp, nm.RescaleOp, nm.RescaleChannelsOp)

View = Callable[[NmBuilder, SSAValue], SSAValue]


def split(builder: NmBuilder, x: SSAValue) -> SSAValue:
    """[5, 6] as [5, 2, 3]."""
    return builder.view(x, 5, 2, 3)


def turned(builder: NmBuilder, x: SSAValue) -> SSAValue:
    """[5, 6] as [6, 5]."""
    return builder.permute(x, 1, 0)


def both(builder: NmBuilder, x: SSAValue) -> SSAValue:
    """[5, 6] as [2, 5, 3]."""
    return builder.permute(builder.view(x, 5, 2, 3), 1, 0, 2)


VIEWS = pytest.mark.parametrize("view", [split, turned, both])


def chain(builder: NmBuilder, *outputs: SSAValue) -> list[str]:
    """Returns the names of a module's operations after the pass, without weights, after comparing its bits."""
    case = builder.case(*outputs)
    _ = list(check_passes(case, PASS))
    return [op.name.removeprefix("nm.") for op in operations(case, *KINDS)]


@VIEWS
def test_view_of_accumulators_sinks_below_the_clamp(view: View) -> None:
    builder = NmBuilder()
    case = builder.case(builder.clamp(view(builder, builder.linear(builder.bytes("x", (5, 8)), 6, "w")), nm.si8, 3))
    _ = list(check_passes(case, PASS))
    clamp = operations(case, nm.ClampOp)[0]
    assert isinstance(clamp.operands[0].owner, nm.RescaleChannelsOp)
    assert nm.integer_value(clamp.properties["zero_point"]) == 3


@VIEWS
@pytest.mark.parametrize("order", [0, 1])
def test_view_of_accumulators_sinks_below_the_addition(view: View, order: int) -> None:
    builder = NmBuilder()
    acc = view(builder, builder.linear(builder.bytes("x", (5, 8)), 6, "w"))
    residual = builder.rescale(builder.stream("r", nm.tensor_of(acc).get_shape()), 0.4)
    terms = (acc, residual) if order == 0 else (residual, acc)
    case = builder.case(builder.clamp(builder.sum(*terms), nm.si16))
    _ = list(check_passes(case, PASS))
    (add,) = operations(case, nm.AddOp)
    owners = {type(operand.owner) for operand in add.operands}
    assert owners == {nm.RescaleChannelsOp, nm.RescaleOp}
    assert isinstance(operations(case, nm.ClampOp)[0].operands[0].owner, nm.AddOp)


@VIEWS
@pytest.mark.parametrize("order", [0, 1])
def test_a_difference_keeps_its_order_below_a_view(view: View, order: int) -> None:
    builder = NmBuilder()
    acc = view(builder, builder.linear(builder.bytes("x", (5, 8)), 6, "w"))
    residual = builder.rescale(builder.stream("r", nm.tensor_of(acc).get_shape()), 0.4)
    terms = (acc, residual) if order == 0 else (residual, acc)
    case = builder.case(builder.clamp(builder.combine(nm.SubtractOp, *terms), nm.si16))
    _ = list(check_passes(case, PASS))
    (difference,) = operations(case, nm.SubtractOp)
    assert isinstance(difference.operands[order].owner, nm.RescaleChannelsOp)


@VIEWS
def test_view_of_a_rescaled_value_is_raised(view: View) -> None:
    builder = NmBuilder()
    viewed = view(builder, builder.rescale(builder.stream("x", (5, 6)), 0.4, 3))
    other = builder.rescale(builder.stream("y", nm.tensor_of(viewed).get_shape()), 0.5)
    case = builder.case(builder.clamp(builder.sum(viewed, other), nm.si16))
    _ = list(check_passes(case, PASS))
    (add,) = operations(case, nm.AddOp)
    assert [type(operand.owner) for operand in add.operands] == [nm.RescaleOp, nm.RescaleOp]


def test_rescaled_value_that_is_used_in_two_layouts() -> None:
    builder = NmBuilder()
    rescaled = builder.rescale(builder.stream("x", (5, 6)), 0.4)
    terms = builder.rescale(builder.stream("y", (6, 5)), 0.3), turned(builder, rescaled)
    names = chain(builder, builder.clamp(builder.sum(*terms), nm.si16), builder.clamp(rescaled, nm.si8))
    assert names == ["rescale", "rescale", "permute", "rescale", "add", "clamp", "clamp"]


def test_a_slice_has_no_inverse_and_stays() -> None:
    builder = NmBuilder()
    part = builder.slice(builder.linear(builder.bytes("x", (5, 8)), 6, "w"), 1, 1, 4)
    assert chain(builder, builder.clamp(part, nm.si8)) == ["rescale_channels", "slice", "clamp"]


def test_broadcasting_addend_stays_where_it_is() -> None:
    builder = NmBuilder()
    acc = builder.view(builder.linear(builder.bytes("x", (5, 8)), 6, "w"), 5, 2, 3)
    row = builder.rescale(builder.stream("r", (2, 3)), 0.5)
    assert chain(builder, builder.clamp(builder.sum(acc, row), nm.si16)) == [
        "rescale_channels",
        "view",
        "rescale",
        "add",
        "clamp",
    ]


@VIEWS
@pytest.mark.parametrize("viewed", ["both", "first", "second", "sum of two"])
def test_sum_of_two_products_ends(view: View, viewed: str) -> None:
    # Each addend comes from accumulators: sinking one view would put one above the other, over and over.
    builder = NmBuilder()
    x = builder.bytes("x", (5, 8))
    first = view(builder, builder.linear(x, 6, "a"))
    shape = nm.tensor_of(first).get_shape()
    if viewed == "both":
        second = view(builder, builder.linear(x, 6, "b"))
    elif viewed == "sum of two":
        second = view(builder, builder.sum(builder.linear(x, 6, "b"), builder.linear(x, 6, "c")))
    else:
        second = builder.linear(builder.bytes("y", (*shape[:-1], 4)), shape[-1], "b")
    terms = (second, first) if viewed == "second" else (first, second)
    check_pipeline(builder.case(builder.clamp(builder.sum(*terms), nm.si16)))


def test_views_between_stored_values_stay() -> None:
    builder = NmBuilder()
    x = builder.clamp(builder.rescale(builder.stream("x", (5, 6)), 0.01), nm.si8)
    result = builder.clamp(builder.linear(both(builder, x), 4, "w"), nm.si8)
    assert chain(builder, result) == ["rescale", "clamp", "view", "permute", "rescale_channels", "clamp"]


@VIEWS
def test_a_table_of_viewed_accumulators_is_looked_up_as_they_drain(view: View) -> None:
    builder = NmBuilder()
    product = builder.clamp(builder.linear(builder.bytes("x", (5, 8)), 6, "w"), nm.si16)
    found = builder.table(view(builder, product), "t")
    case = builder.case(builder.clamp(builder.rescale(found, 0.4), nm.si8, 3))
    _ = list(check_passes(case, (*PASS, "nm-fuse-epilogues")))
    (linear,) = operations(case, nm.LinearOp)
    assert any(nm.tensor_of(operand).get_shape() == (513,) for operand in linear.operands)
    assert not operations(case, nm.MapOp)


def test_a_viewed_table_stays_where_the_product_has_another_reader() -> None:
    builder = NmBuilder()
    product = builder.clamp(builder.linear(builder.bytes("x", (5, 8)), 6, "w"), nm.si16)
    found = builder.clamp(builder.table(split(builder, product), "t"), nm.si8)
    case = builder.case(found, product)
    _ = list(check_passes(case, PASS))
    (table,) = operations(case, nm.TableOp)
    assert isinstance(table.operands[0].owner, nm.ViewOp)
