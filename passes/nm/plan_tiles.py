"""The plan of every layer's tiles, and of the values that live in DRAM."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from sta.dialect.ir.context import policy_of, target_of, weights_of
from sta.dialect.ir.location import module_path
from sta.dialect.ir.main_function import machine_functions
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.memory.placement import place_values
from sta.passes.tiling.plan_attributes import write_plan
from sta.passes.tiling.tile_choice import record
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy


@dataclass(frozen=True)
class NmPlanTilesPass(ModulePass):
    """
    Plans the lowering of every function: `nm.tiling` on each linear layer and attention, `nm.in_dram` on values outside
    the scratchpad, and the explanation of the choices, `sta.tiling`, on the function.
    """

    name = "nm-plan-tiles"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        weights, target, policy = weights_of(ctx), target_of(ctx), policy_of(ctx)
        for function in machine_functions(op):
            plan_function(function, weights, target, policy)


def plan_function(function: func.FuncOp, weights: WeightStore, target: Target, policy: TilingPolicy) -> None:
    """Plans one function, and replaces its present plan."""
    placement = place_values(function, weights, target, policy)
    write_plan(function, placement, target)
    record(function, [layer.explain(module_path(op)) for op, layer in placement.layers.items()])
