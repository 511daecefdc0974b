"""
Tiling of a product of two values: rows, columns and depth of a tile. Plain arithmetic.

Columns are outermost: a tile of the second factor stays while all rows of the first pass by. Candidates are compared as
those of a linear layer are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from sta.passes.tiling.linear_tiling import (
    COLUMNS,
    DEPTH_LIMIT,
    SLOTS,
    Estimate,
    LinearChoice,
    LinearTiling,
    cuts,
    halved,
    tile_sizes,
)
from sta.spec.cost import dma_cycles, product_cycles, vector_cycles
from sta.spec.pattern import DENSE
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy


@dataclass(frozen=True)
class MatmulShape:
    """Parameters that determine the tiles of a product of two values."""

    rows: int
    columns: int
    depth: int
    batches: int
    """Number of products of so many rows, columns and depth."""
    wide: bool
    """True if the first factor has 16 bits: two passes, each with its own accumulators."""
    a_bytes: int = 0
    """Bytes of an element of the first factor if it is loaded from DRAM, else 0; likewise the next fields."""
    b_bytes: int = 0
    residual_bytes: int = 0
    result_bytes: int = 0

    @property
    def passes(self) -> int:
        """Passes of the array over each tile."""
        return 2 if self.wide else 1


def tile_bytes(shape: MatmulShape, tiling: LinearTiling) -> int:
    """Bytes of the tiles on the chip."""
    element = 4 * shape.passes + shape.residual_bytes + shape.result_bytes
    of_rows = tiling.rows * (tiling.depth * shape.a_bytes + tiling.columns * element)
    return SLOTS * (of_rows + tiling.columns * tiling.depth * shape.b_bytes)


def estimate(target: Target, policy: TilingPolicy, shape: MatmulShape, tiling: LinearTiling) -> Estimate:
    """Estimated cost of a tiling."""
    rows = cuts(shape.rows, tiling.rows)
    columns, depths = cuts(shape.columns, tiling.columns), cuts(shape.depth, tiling.depth)
    row_tiles, column_tiles, cut = (sum(count for count, _ in parts) for parts in (rows, columns, depths))
    products = vector = residuals = stores = first = second = 0
    for m, width in columns:
        once = sum(times * dma_cycles(target, width, depth * shape.b_bytes) for times, depth in depths)
        second += m * once * (1 if cut == 1 else row_tiles)
        for n, height in rows:
            tiles = n * m
            products += tiles * sum(
                times * product_cycles(target, height, width, depth, DENSE, shape.wide) for times, depth in depths
            )
            first += tiles * sum(times * dma_cycles(target, height, depth * shape.a_bytes) for times, depth in depths)
            vector += tiles * vector_cycles(target, height, width, 1)
            residuals += tiles * dma_cycles(target, height, width * shape.residual_bytes)
            stores += tiles * dma_cycles(target, height, width * shape.result_bytes)
    tiles = row_tiles * column_tiles
    turnaround = max(
        products + vector + tiles * target.drain_latency,
        products + first + second + tiles * cut * target.dma_latency if first or second else 0,
        vector + residuals + stores + tiles * target.dma_latency if residuals or stores else 0,
    )
    begin = dma_cycles(target, tiling.columns, tiling.depth * shape.b_bytes) + target.dma_latency if second else 0
    end = target.drain_latency + vector_cycles(target, min(tiling.rows, shape.rows), tiling.columns, 1)
    batches = shape.batches
    return Estimate(
        batches * products,
        batches * (first + second + residuals),
        batches * stores,
        batches * vector,
        batches * turnaround // SLOTS,
        batches * tiles * cut * shape.passes * policy.issue_cycles,
        begin + end,
        tile_bytes(shape, tiling),
        policy.hidden_divisor,
    )


def candidates(target: Target, shape: MatmulShape) -> Iterator[LinearTiling]:
    """Candidate tilings."""
    for columns in tile_sizes(shape.columns, target.tile_columns, target.array_columns):
        for rows in tile_sizes(shape.rows, target.tile_rows, target.array_rows):
            for depth in halved(min(shape.depth, DEPTH_LIMIT), 1):
                yield LinearTiling(rows, columns, depth, COLUMNS)


@lru_cache(maxsize=1024)
def ranked(target: Target, policy: TilingPolicy, shape: MatmulShape) -> tuple[tuple[LinearTiling, Estimate], ...]:
    """All tilings, the fastest first; among equally fast ones the smallest first."""
    all_of_them = [(tiling, estimate(target, policy, shape, tiling)) for tiling in candidates(target, shape)]
    return tuple(sorted(all_of_them, key=lambda one: (one[1].cycles, one[1].size)))


def choose(target: Target, policy: TilingPolicy, shape: MatmulShape, budget: int) -> LinearChoice:
    """The fastest tiling of at most `budget` bytes, or the smallest if there is none."""
    everything = ranked(target, policy, shape)
    fitting = [one for one in everything if one[1].size <= budget]
    fitting = fitting or [min(everything, key=lambda one: one[1].size)]
    return LinearChoice(*fitting[0], *(fitting[1] if len(fitting) > 1 else (None, None)))


def smaller_budget(target: Target, policy: TilingPolicy, shape: MatmulShape, size: int) -> int | None:
    """A budget below `size` bytes: at most half, or the least that a tiling needs. None if there is nothing smaller."""
    least = min(one[1].size for one in ranked(target, policy, shape))
    return None if least >= size else max(size // 2, least)
