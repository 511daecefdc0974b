"""Policy of tiling: the shares, limits and estimates by which the compiler chooses tiles and places values."""

from __future__ import annotations

from dataclasses import dataclass, fields

_LEAST = {"issue_cycles": 0, "unrolled_tiles": 0, "unrolled_row_tiles": 0, "prefetch": 0}
"""Least values of counts that may be zero."""

LOOP_ORDERS = ("columns", "rows", "reloaded")
"""The orders of a linear layer's loops, in the order in which equal ones are preferred."""


@dataclass(frozen=True)
class TilingPolicy:
    """
    Constants of planning, for `nm-plan-tiles` and the double buffering of `convert-nm-to-sta`.

    None of them changes a bit of a lowered module's results. `torch-choose-softmax` estimates attention under the same
    policy, and its decisions (rows or chunks) are part of a model's bits.

    Raises `ValueError` for a share outside of 0..1 and for counts below their least value.
    """

    layer_share: float = 3 / 8
    """Initial share of the chip's memory for the tiles of one linear layer."""
    small_share: float = 1 / 16
    """Share of the chip's memory below which all tiles count as equally small."""
    tolerance: float = 1 / 200
    """Relative difference of two estimates that count as equal."""
    hidden_divisor: int = 16
    """
    Divisor of the share (1/16) of hidden cycles that is charged anyway. Overlap is never perfect; among tilings with
    the same bottleneck this prefers the one with less work.
    """
    issue_cycles: int = 6
    """Cycles of the sequencer for each product and its drain."""
    unrolled_tiles: int = 8
    """
    Largest trip count of an inner loop that is unrolled instead of peeled: a peeled remainder uses the
    buffers of the loop's last tile, so that every outer iteration would wait for two drains.
    """
    unrolled_row_tiles: int = 2
    """
    Largest number of row tiles with the same keys that are unrolled into one pipeline over all heads. More are a loop
    with a pipeline in each iteration: unrolled, BERT-base would be half as large again.
    """
    attention_share: float = 1 / 8
    """Share of the chip's memory for the tiles of an attention over whole rows, if a tile fits that share."""
    online_share: float = 1 / 2
    """The same for an online softmax: sequences of that length live in DRAM, and larger tiles load less."""
    attention_reserve: float = 1 / 16
    """Share of the chip's memory kept from every attention: for parameters, and the layers around."""
    sharing_heads: int = 8
    """Largest number of query heads that alternate on a chunk of the keys they share: each has its own code."""
    causal_groups: int = 16
    """
    Groups of row tiles that a causal attention is cut into, each with as many keys as its last row admits. The code
    grows by a constant, and one sixteenth of the scores at most is computed in vain.
    """
    parameters_share: float = 1 / 16
    """Share of the chip's memory up to which all parameters of a linear layer stay there."""
    staging_share: float = 1 / 4
    """Share of the chip's memory for the tiles of a map, norm, look-up or copy with operands in DRAM."""
    prefetch: int = 3
    """
    Number of operations that buffers for weights are reserved ahead where there is room: weights then load under the
    products of other layers.
    """
    loss_divisor: int = 1000
    """
    One in so many of the cycles of all layers concerned may be lost by a layer whose tiles shrink; where each of them
    loses more, only the one that loses least shrinks.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            share = isinstance(field.default, float)
            if share and not 0 <= value <= 1:
                raise ValueError(f"tiling policy: {field.name} is a share from 0 to 1, got {value}")
            least = _LEAST.get(field.name, 1)
            if not share and value < least:
                raise ValueError(f"tiling policy: {field.name} must be at least {least}, got {value}")
