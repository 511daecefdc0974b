"""Plans in the IR: lowering follows them, and makes one if there is none for its target."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Attribute, Operation

from sta.dialect import nm, sta
from sta.dialect.ir.context import CompileContext
from sta.passes.pipeline import INTEGER_PIPELINE
from sta.passes.tiling.plan_attributes import IN_DRAM, TARGET, TILING
from tests.support.nm_builder import PLAIN_TARGET, Case, NmBuilder
from tests.support.pipeline_check import apply, assert_same_integers, function_of, integers, operations
from tests.support.transformers import Transformer, transformers

BEFORE = INTEGER_PIPELINE[: INTEGER_PIPELINE.index("nm-plan-tiles")]
SMALL = replace(PLAIN_TARGET, name="small", sram_bytes=1 << 14, tile_rows=8, tile_columns=8)


@settings(deadline=None, max_examples=4)
@given(transformers(longest=14, widest=24))
def test_a_module_without_a_plan_is_lowered_as_one_with_it(model: Transformer) -> None:
    planned, other = model.case(), model.case()
    apply(planned.module, planned.context, *BEFORE, "nm-plan-tiles")
    for case, passes in ((planned, ["convert-nm-to-sta"]), (other, [*BEFORE, "convert-nm-to-sta"])):
        apply(case.module, case.context, *passes)
    assert str(planned.module) == str(other.module)


def linear(rows: int = 200) -> Case:
    """A linear layer, fused; on `SMALL` its operands are in DRAM."""
    builder = NmBuilder(SMALL, path="encoder.layer.0.dense")
    case = builder.case(builder.clamp(builder.linear(builder.bytes("x", (rows, 64)), 40, "w"), nm.si8))
    apply(case.module, case.context, "nm-fuse-epilogues", "nm-plan-tiles")
    return case


def layer_of(case: Case) -> Operation:
    """The linear layer of a case."""
    (layer,) = operations(case, nm.LinearOp)
    return layer


def test_values_without_room_are_marked() -> None:
    case = linear()
    assert function_of(case).attributes[TARGET] == StringAttr("small")
    assert function_of(case).attributes[IN_DRAM] == nm.integers([0])
    assert layer_of(case).attributes[IN_DRAM] == nm.integers([0])
    small = linear(4)
    assert IN_DRAM not in function_of(small).attributes
    assert IN_DRAM not in layer_of(small).attributes


def test_lowering_follows_a_plan_that_was_edited() -> None:
    case = linear()
    expected = integers(case)
    layer_of(case).attributes[TILING] = nm.LinearTilingAttr(4, 8, 64, "columns")
    apply(case.module, case.context, "convert-nm-to-sta")
    shapes = {sta.memref_of(op.acc).get_shape() for op in case.module.walk() if isinstance(op, sta.ProductOp)}
    assert shapes == {(4, 8)}
    assert_same_integers(expected, integers(case), "the edited plan")


def test_a_plan_for_another_target_gives_way() -> None:
    case, other = linear(), linear()
    context = CompileContext(case.context.weights, replace(PLAIN_TARGET, name="roomy"))
    apply(case.module, context, "convert-nm-to-sta")
    del function_of(other).attributes[TARGET]
    apply(other.module, context, "convert-nm-to-sta")
    assert str(case.module) == str(other.module)
    assert not any(isinstance(op, sta.StoreOp) and op.parent_op() is not function_of(case) for op in case.module.walk())


@pytest.mark.parametrize(
    "tiling",
    [None, nm.AttentionTilingAttr(4, 1), nm.LinearTilingAttr(4, 41, 64, "rows"), nm.LinearTilingAttr(4, 8, 65, "rows")],
    ids=["none", "of attention", "too wide", "too deep"],
)
def test_a_plan_that_does_not_fit_its_layer_is_refused(tiling: Attribute | None) -> None:
    case = linear()
    del layer_of(case).attributes[TILING]
    if tiling is not None:
        layer_of(case).attributes[TILING] = tiling
    with pytest.raises(ValueError, match=r"encoder\.layer\.0\.dense.*nm\.tiling = .* does not fit .*run nm-plan-tiles"):
        apply(case.module, case.context, "convert-nm-to-sta")


@pytest.mark.parametrize("numbers", [nm.integers([1]), nm.integers([-1]), StringAttr("all")], ids=str)
def test_values_that_are_not_there_cannot_live_in_dram(numbers: Attribute) -> None:
    case = linear()
    layer_of(case).attributes[IN_DRAM] = numbers
    with pytest.raises(
        ValueError, match=r"encoder\.layer\.0\.dense.*nm\.in_dram = .* (does not name values|is no list of numbers)"
    ):
        apply(case.module, case.context, "convert-nm-to-sta")
