"""
Placement without IR: values that stay in the scratchpad, and sizes of tiles.

A fixed point. A function is lowered to a tile program under the present findings. If its buffers do not fit, room is
made and it is lowered again. Values in DRAM stay there and budgets only shrink, so the iteration ends.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from xdsl.dialects import func
from xdsl.ir import Operation, SSAValue

from sta.dialect import nm
from sta.dialect.ir.location import module_path
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.lowering.lower_function import LoweredFunction, Plan, lower_function
from sta.passes.lowering.tile_builder import Copy
from sta.passes.lowering.tile_program import Allocation, Buffer
from sta.passes.memory.memory_plan import Crowding, place
from sta.passes.tiling.attention_tiling import AttentionShape, Tiling
from sta.passes.tiling.capacity import CapacityError
from sta.passes.tiling.layer_plan import LayerPlan, plan_attention, plan_product
from sta.passes.tiling.linear_tiling import LinearShape, LinearTiling
from sta.passes.tiling.matmul_tiling import MatmulShape
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy


@dataclass(frozen=True)
class Placement:
    """Plan of a function: the values and the copies that live in DRAM, and each layer's tiling, in order."""

    in_dram: frozenset[SSAValue]
    copies_in_dram: frozenset[Copy]
    layers: Mapping[Operation, LayerPlan]


def place_values(function: func.FuncOp, weights: WeightStore, target: Target, policy: TilingPolicy) -> Placement:
    """
    Plan of a function. Every value stays in the scratchpad, with the fastest tiles, if that fits. Otherwise resident
    weights are loaded block by block, then values move to DRAM, then tiles shrink.

    Raises CapacityError, naming a layer and giving the bytes needed and available, if nothing fits.
    """
    room = _Room(target, policy)
    while True:
        layers: dict[Operation, LayerPlan] = {}
        lowered = lower_function(function, weights, target, policy, room.plan(layers))
        places = place(lowered.program.timeline(), target, policy)
        if not isinstance(places, Crowding):
            return Placement(frozenset(room.in_dram), frozenset(room.copies_in_dram), layers)
        if not room.give_way(lowered, layers, places.rivals):
            raise CapacityError(places.message)


@dataclass
class _Room:
    """Findings about the available memory."""

    target: Target
    policy: TilingPolicy
    in_dram: set[SSAValue] = field(default_factory=set[SSAValue])
    copies_in_dram: set[Copy] = field(default_factory=set[Copy])
    budgets: dict[Hashable, int] = field(default_factory=dict[Hashable, int])
    """Budgets of bytes for the tiles of layers of some sizes, below the usual share of the chip."""

    def plan(self, layers: dict[Operation, LayerPlan]) -> Plan:
        """Plan under the present findings; `layers` receives newly planned layers."""
        target, policy, budgets = self.target, self.policy, self.budgets

        def linear(op: nm.LinearOp, shape: LinearShape) -> LinearTiling:
            plan = plan_product(target, policy, shape, budgets.get(shape))
            layers[op] = plan
            return plan.tiling

        def matmul(op: nm.MatmulOp, shape: MatmulShape) -> LinearTiling:
            plan = plan_product(target, policy, shape, budgets.get(shape))
            layers[op] = plan
            return plan.tiling

        def attention(op: nm.AttentionOp, shape: AttentionShape, heads: int) -> Tiling:
            chunk = op.chunk_keys
            try:
                plan = plan_attention(target, policy, shape, chunk, heads, budgets.get((shape, chunk)))
            except CapacityError as error:
                raise CapacityError(f"{module_path(op)}: {error}") from None
            layers[op] = plan
            return plan.tiling

        return Plan(self.in_dram, linear, matmul, attention, self.copies_in_dram)

    def give_way(
        self,
        lowered: LoweredFunction,
        layers: Mapping[Operation, LayerPlan],
        crowded: Mapping[Buffer, Sequence[Buffer]],
    ) -> bool:
        """
        Makes room: resident weights go first, then values move to DRAM, then tiles shrink, of the layers concerned or
        else of all, where the loss is least. Returns whether anything was left to do.
        """
        largest_first = sorted(layers.values(), key=lambda layer: -layer.size)
        concerned = _crowding(layers, crowded)
        kept = [layer for layer in concerned if layer.keeps_weights()]
        if self._shrink(kept or [layer for layer in largest_first if layer.keeps_weights()][:1]):
            return True
        moving = _moving(lowered, crowded)
        values = {value for value, buffer in lowered.allocations.items() if buffer in moving} - self.in_dram
        copies = {copy for copy, buffer in lowered.copies.items() if buffer in moving} - self.copies_in_dram
        if values or copies:
            self.in_dram |= values
            self.copies_in_dram |= copies
            return True
        taking_most = _taking_most(lowered, layers)
        return self._shrink_cheapest([*concerned, *taking_most]) or self._shrink_cheapest(largest_first)

    def _shrink_cheapest(self, layers: Sequence[LayerPlan]) -> bool:
        """
        Gives smaller budgets to layers that lose next to nothing, or else to the layer that loses least; returns
        whether there was any.
        """
        budgets = [(layer, budget) for layer in layers if (budget := layer.smaller_budget()) is not None]
        losses = [layer.extra_cycles(budget) for layer, budget in budgets]
        total = sum(layer.cycles for layer in layers)
        cheap = [one for one, loss in zip(budgets, losses, strict=True) if loss * self.policy.loss_divisor <= total]
        if not cheap and budgets:
            cheap = [budgets[losses.index(min(losses))]]
        self.budgets |= {layer.key: budget for layer, budget in cheap}
        return bool(cheap)

    def _shrink(self, layers: Sequence[LayerPlan]) -> bool:
        """Gives smaller budgets to layers that can do with less; returns whether there were any."""
        budgets = {layer.key: budget for layer in layers if (budget := layer.smaller_budget()) is not None}
        self.budgets |= budgets
        return bool(budgets)


def _moving(lowered: LoweredFunction, crowded: Mapping[Buffer, Sequence[Buffer]]) -> set[Buffer]:
    """Buffers that move to DRAM: those that found no place, and for each of them its largest competitor."""
    movable = set[Buffer](chain(lowered.allocations.values(), lowered.copies.values()))
    moving = set(crowded)
    for rivals in crowded.values():
        moving |= set([rival for rival in rivals if rival in movable][:1])
    return moving


def _crowding(layers: Mapping[Operation, LayerPlan], crowded: Mapping[Buffer, Sequence[Buffer]]) -> list[LayerPlan]:
    """Layers of the buffers without a place, or of their competitors."""
    sources = {buffer.source for buffer in chain(crowded, *crowded.values())}
    return [layer for op, layer in layers.items() if op in sources]


def _taking_most(lowered: LoweredFunction, layers: Mapping[Operation, LayerPlan]) -> list[LayerPlan]:
    """Layers with the most weight buffer and the most accumulators: the scratchpad gets the rest."""
    found: list[LayerPlan] = []
    for space in ("wbuf", "acc"):
        taken: dict[Operation, int] = {}
        for node in lowered.program.nodes:
            source = node.source
            if isinstance(node, Allocation) and node.space == space and source is not None and source in layers:
                taken[source] = taken.get(source, 0) + node.size
        most = max(taken.values(), default=0)
        found += [layers[source] for source, size in taken.items() if size == most]
    return found
