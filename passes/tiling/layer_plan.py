"""
The plan of one layer: its tiles, their cost, and the cost with less memory.

A plan is a function of a shape, a target, a policy and a budget of bytes. It needs no IR, so that an exploration can
request thousands of plans.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from sta.passes.tiling import linear_tiling, matmul_tiling
from sta.passes.tiling.attention_tiling import (
    AttentionShape,
    Tiling,
    head_cycles,
    online_tilings,
    row_tilings,
    tile_bytes,
    tile_parts,
    too_long,
)
from sta.passes.tiling.capacity import CapacityError
from sta.passes.tiling.linear_tiling import ROWS, LinearChoice, LinearShape, LinearTiling
from sta.passes.tiling.matmul_tiling import MatmulShape
from sta.passes.tiling.tile_choice import TileChoice
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy


@dataclass(frozen=True)
class ProductPlan:
    """The tiling of a linear layer, or of a product of two values."""

    target: Target
    policy: TilingPolicy
    shape: LinearShape | MatmulShape
    choice: LinearChoice

    @property
    def key(self) -> Hashable:
        """Key that layers of the same size share."""
        return self.shape

    @property
    def tiling(self) -> LinearTiling:
        """The tiles."""
        return self.choice.tiling

    @property
    def size(self) -> int:
        """Bytes of the tiles on the chip."""
        return self.choice.estimate.size

    @property
    def cycles(self) -> int:
        """Estimated cycles."""
        return self.choice.estimate.cycles

    def keeps_weights(self) -> bool:
        """True if all weights stay on the chip."""
        return self.tiling.order == ROWS

    def smaller_budget(self) -> int | None:
        """A budget for smaller tiles; None if there are none."""
        if isinstance(self.shape, LinearShape):
            return linear_tiling.smaller_budget(self.target, self.policy, self.shape, self.size)
        return matmul_tiling.smaller_budget(self.target, self.policy, self.shape, self.size)

    def extra_cycles(self, budget: int) -> int:
        """Estimated additional cycles of the layer if its tiles have that many bytes."""
        return plan_product(self.target, self.policy, self.shape, budget).cycles - self.cycles

    def explain(self, path: str) -> TileChoice:
        """Explanation of the choice."""
        choice = self.choice
        other = {}
        if choice.other is not None and choice.other_estimate is not None:
            other = {**vars(choice.other), "cycles": choice.other_estimate.cycles}
        kind = "linear" if isinstance(self.shape, LinearShape) else "matmul"
        return TileChoice(path, kind, vars(choice.tiling), choice.estimate.bound, self.cycles, self.size, other)


@dataclass(frozen=True)
class AttentionPlan:
    """The tiling of an attention: `tilings` are the candidates, the best first."""

    target: Target
    policy: TilingPolicy
    shape: AttentionShape
    chunk: int | None
    """Keys of a chunk of an online softmax; None for whole rows."""
    heads: int
    """Number of heads over all batches."""
    tilings: tuple[Tiling, ...]

    @property
    def key(self) -> Hashable:
        """Key that attentions of the same size share."""
        return self.shape, self.chunk

    @property
    def tiling(self) -> Tiling:
        """The tiles."""
        return self.tilings[0]

    @property
    def size(self) -> int:
        """Bytes of the tiles on the chip."""
        return tile_bytes(self.shape, self.tiling)

    @property
    def cycles(self) -> int:
        """Estimated cycles."""
        return self._cycles(self.tiling)

    def keeps_weights(self) -> bool:
        """True if all weights stay on the chip: an attention has none."""
        return False

    def smaller_budget(self) -> int | None:
        """
        A budget for smaller tiles; None if there are none. Only just smaller: keys and values do not shrink with the
        rows, and half of everything would leave next to none of them.
        """
        least = tile_bytes(self.shape, self._within(0).tiling)
        return self.size - 1 if least < self.size else None

    def extra_cycles(self, budget: int) -> int:
        """Estimated additional cycles of the attention if its tiles have that many bytes."""
        return self._within(budget).cycles - self.cycles

    def explain(self, path: str) -> TileChoice:
        """Explanation of the choice."""
        first, *others = (self._choice(path, tiling) for tiling in self.tilings[:2])
        runner_up = {**others[0].tile, "cycles": others[0].cycles} if others else {}
        return replace(first, runner_up=runner_up)

    def _within(self, budget: int) -> AttentionPlan:
        return plan_attention(self.target, self.policy, self.shape, self.chunk, self.heads, budget)

    def _cycles(self, tiling: Tiling) -> int:
        return self.heads * head_cycles(self.target, self.policy, self.shape, tiling)

    def _choice(self, path: str, tiling: Tiling) -> TileChoice:
        parts = tile_parts(self.target, self.shape, tiling)
        order = "row" if tiling.chunk is None else "online"
        tile: dict[str, int | str] = {"rows": tiling.rows, "keys": tiling.chunk or self.shape.keys, "order": order}
        if tiling.heads > 1:
            tile["heads"] = tiling.heads
        bound = max(parts, key=lambda part: parts[part])
        return TileChoice(path, "attention", tile, bound, self._cycles(tiling), tile_bytes(self.shape, tiling))


LayerPlan = ProductPlan | AttentionPlan


def plan_product(
    target: Target, policy: TilingPolicy, shape: LinearShape | MatmulShape, budget: int | None = None
) -> ProductPlan:
    """
    The plan of a linear layer, or of a product of two values, with tiles of at most `budget` bytes, by default the
    policy's share of the chip; if nothing fits that, with the smallest tiles.
    """
    budget = int(target.sram_bytes * policy.layer_share) if budget is None else budget
    if isinstance(shape, LinearShape):
        return ProductPlan(target, policy, shape, linear_tiling.choose(target, policy, shape, budget))
    return ProductPlan(target, policy, shape, matmul_tiling.choose(target, policy, shape, budget))


def plan_attention(
    target: Target,
    policy: TilingPolicy,
    shape: AttentionShape,
    chunk: int | None,
    heads: int,
    budget: int | None = None,
) -> AttentionPlan:
    """
    The plan of an attention with tiles of at most `budget` bytes, by default the policy's share of the chip; if nothing
    fits that, with the smallest tiles.

    Raises CapacityError, with the bytes needed and available, if no tile fits.
    """
    if chunk is None:
        tilings = row_tilings(target, policy, shape, budget)
    else:
        tilings = online_tilings(target, policy, shape, chunk, budget)
    if not tilings:
        raise CapacityError(too_long(target, policy, shape, chunk))
    return AttentionPlan(target, policy, shape, chunk, heads, tuple(tilings))
