"""The effect of a constant of the tiling policy on the plan of a model, without lowering it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from xdsl.dialects.builtin import ModuleOp

from sta.dialect.ir.main_function import machine_functions
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.memory.placement import place_values
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy


@dataclass(frozen=True)
class PlannedCost:
    """The cost of a plan."""

    policy: TilingPolicy
    cycles: int
    """The sum of the layers' estimates."""
    largest_tiles: int
    """Bytes on the chip of the layer with the largest tiles."""
    values_in_dram: int


def planning_costs(
    module: ModuleOp, weights: WeightStore, target: Target, knob: str, values: Iterable[float]
) -> list[PlannedCost]:
    """
    The cost of planning a module of the `nm` dialect with each value of one field of `TilingPolicy`.

    Raises CapacityError if nothing fits, and ValueError for a value that the policy refuses.
    """
    policies = [replace(TilingPolicy(), **{knob: value}) for value in values]
    return [_cost(module, weights, target, policy) for policy in policies]


def _cost(module: ModuleOp, weights: WeightStore, target: Target, policy: TilingPolicy) -> PlannedCost:
    placements = [place_values(function, weights, target, policy) for function in machine_functions(module)]
    layers = [layer for placement in placements for layer in placement.layers.values()]
    return PlannedCost(
        policy,
        sum(layer.cycles for layer in layers),
        max((layer.size for layer in layers), default=0),
        sum(len(placement.in_dram) for placement in placements),
    )
