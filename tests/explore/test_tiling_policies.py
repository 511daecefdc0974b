"""Costs of planning with other values of a constant request plans only, and agree with compiles under that policy."""

from __future__ import annotations

import pytest

from sta.dialect import nm, sta
from sta.dialect.ir.context import CompileContext
from sta.explore.tiling_policies import planning_costs
from sta.passes.tiling.tile_choice import recorded
from sta.spec.target import load_target
from tests.support.nm_builder import Case, NmBuilder
from tests.support.pipeline_check import apply

TARGET = load_target("sta-base")


def two_layers() -> Case:
    """Two linear layers whose activations fit the chip."""
    builder = NmBuilder(TARGET)
    hidden = builder.clamp(builder.linear(builder.bytes("x", (384, 768)), 768, "up"), nm.si8)
    case = builder.case(builder.clamp(builder.linear(hidden, 256, "down"), nm.si8))
    apply(case.module, case.context, "nm-fuse-epilogues")
    return case


def test_less_of_the_chip_takes_no_fewer_cycles() -> None:
    case = two_layers()
    text = str(case.module)
    shares = [1 / 64, 1 / 16, 1 / 4, 1 / 2]
    costs = planning_costs(case.module, case.context.weights, TARGET, "layer_share", shares)
    assert costs[0].cycles > costs[-1].cycles
    for share, cost in zip(shares, costs, strict=True):
        assert cost.largest_tiles <= share * TARGET.sram_bytes
        # About equally fast tilings are not told apart.
        assert costs[-1].cycles <= cost.cycles * (1 + cost.policy.tolerance)
    assert str(case.module) == text


@pytest.mark.parametrize("share", [1 / 64, 1 / 4])
def test_the_compiler_plans_as_the_costs_say(share: float) -> None:
    case = two_layers()
    (cost,) = planning_costs(case.module, case.context.weights, TARGET, "layer_share", [share])
    context = CompileContext(case.context.weights, TARGET, cost.policy)
    apply(case.module, context, "convert-nm-to-sta")
    layers = recorded(case.module)
    assert sum(layer["cycles"] for layer in layers) == cost.cycles
    assert max(layer["chip_bytes"] for layer in layers) == cost.largest_tiles
    assert any(isinstance(op, sta.ProductOp) for op in case.module.walk())


def test_a_knob_out_of_range_is_refused() -> None:
    case = two_layers()
    with pytest.raises(ValueError, match="layer_share is a share from 0 to 1"):
        planning_costs(case.module, case.context.weights, TARGET, "layer_share", [2])
