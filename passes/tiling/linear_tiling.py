"""
How a linear layer is cut into tiles, in which order they are walked, and what stays on the chip. Plain arithmetic.

All ways are compared by the cycles that the machine's cost functions (`sta.spec.cost`) give them, and the fastest that
keeps to its share of the chip is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from sta.spec.alignment import aligned
from sta.spec.cost import dma_cycles, product_cycles, vector_cycles
from sta.spec.instructions.table import definition_of
from sta.spec.nm_format import Pattern, packed_size
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy

DEPTH_LIMIT = definition_of("mm").field("depth").maximum
"""
Largest reduction an `mm` instruction's depth field holds.
"""
SLOTS = 2
"""
Buffers of each kind: one is filled while the other is in use.
"""
COLUMNS, ROWS, STREAMED = "columns", "rows", "streamed"
"""
The orders of the loops. `columns`: groups of columns outermost, so that each weight is loaded once if all rows make one
tile or the depth is not cut. `rows`: rows outermost, all weights stay on the chip. `streamed`: rows outermost, weights
are loaded for each tile of rows; for activations that are in DRAM, which are then loaded once.
"""


@dataclass(frozen=True)
class LinearShape:
    """
    What decides about the tiles of a linear layer.
    """

    rows: int
    columns: int
    depth: int
    pattern: Pattern
    encoding: str
    x_bytes: int = 0
    """
    Bytes of an element of the activations if they are loaded from DRAM, else 0; for what follows likewise.
    """
    residual_bytes: int = 0
    result_bytes: int = 0
    batches: int = 1
    """
    How often there are so many rows: tiles do not span what lies apart in memory.
    """
    norm: bool = False
    """
    Whether a norm follows that can be made of each tile of rows.
    """
    wide: bool = False
    """
    Whether the activations have 16 bits: two passes, each with accumulators of its own.
    """

    @property
    def passes(self) -> int:
        """
        Passes of the array over each tile.
        """
        return 2 if self.wide else 1


@dataclass(frozen=True)
class LinearTiling:
    """
    Sizes of a tile, and the order of the loops.
    """

    rows: int
    columns: int
    depth: int
    order: str


@dataclass(frozen=True)
class Estimate:
    """
    What a tiling costs: cycles of each unit, and cycles in which the array waits.
    """

    products: int
    loads: int
    stores: int
    vector: int
    turnaround: int
    """
    Cycles that the buffers in most demand need to be filled and used in turn, latencies included.
    """
    issue: int
    """
    Cycles of the sequencer.
    """
    waiting: int
    """
    Cycles in which the products wait for what cannot be done under them: the first load, the last drain, norms.
    """
    size: int
    """
    Bytes on the chip.
    """
    hidden_divisor: int
    """
    One in so many hidden cycles is charged: `TilingPolicy.hidden_divisor`.
    """

    @property
    def bound(self) -> str:
        """
        The part of the machine that has most to do.
        """
        parts = {
            "compute": self.products,
            "DMA": max(self.loads, self.stores),
            "vector": self.vector,
            "buffers": self.turnaround,
            "sequencer": self.issue,
        }
        return max(parts, key=lambda part: parts[part])

    @property
    def cycles(self) -> int:
        """
        About how many cycles there are from the first load to the last result.
        """
        parts = (self.products, self.loads, self.stores, self.vector, self.turnaround, self.issue)
        return max(parts) + (sum(parts) - max(parts)) // self.hidden_divisor + self.waiting


def cuts(size: int, tile: int) -> list[tuple[int, int]]:
    """
    How many tiles of which size cover an axis.
    """
    full, rest = divmod(size, tile)
    return [(count, part) for count, part in ((full, tile), (1, rest)) if count and part]


def is_rolled(policy: TilingPolicy, size: int, tile: int) -> bool:
    """
    Whether pairs of tiles of an axis are a loop, rather than unrolled.
    """
    full, rest = divmod(size, tile)
    uneven = full % SLOTS or rest
    return full // SLOTS > 1 and not (uneven and full + (rest > 0) <= policy.unrolled_tiles)


def row_cuts(shape: LinearShape, tiling: LinearTiling) -> list[tuple[int, int]]:
    """
    How many tiles of how many rows there are.
    """
    return [(count * shape.batches, part) for count, part in cuts(shape.rows, tiling.rows)]


def program_products(shape: LinearShape, tiling: LinearTiling) -> int:
    """
    How many products of a layer stand in the program, about: loops take two tiles at a time, cuts of the depth are
    unrolled.
    """
    rows = shape.batches * -(-shape.rows // tiling.rows)
    columns, cut = -(-shape.columns // tiling.columns), -(-shape.depth // tiling.depth)
    return min(rows, SLOTS) * min(columns, SLOTS) * cut


def weight_bytes(shape: LinearShape, columns: int, depth: int) -> int:
    """
    Bytes of all weights, cut into blocks.
    """
    return sum(
        count * times * aligned(packed_size(width, length, shape.pattern, shape.encoding))
        for count, width in cuts(shape.columns, columns)
        for times, length in cuts(shape.depth, depth)
    )


def tile_bytes(shape: LinearShape, tiling: LinearTiling) -> int:
    """
    Bytes on the chip that the tiles of a layer take.
    """
    if tiling.order == ROWS:
        weights = weight_bytes(shape, tiling.columns, tiling.depth)
    else:
        weights = SLOTS * aligned(packed_size(tiling.columns, tiling.depth, shape.pattern, shape.encoding))
    loaded = tiling.depth if tiling.order == COLUMNS else shape.depth
    element = 4 * shape.passes + shape.residual_bytes + shape.result_bytes
    return weights + SLOTS * tiling.rows * (loaded * shape.x_bytes + tiling.columns * element)


def estimate(target: Target, policy: TilingPolicy, shape: LinearShape, tiling: LinearTiling) -> Estimate:
    """
    The cost of a tiling.
    """
    rows = row_cuts(shape, tiling)
    columns, depths = cuts(shape.columns, tiling.columns), cuts(shape.depth, tiling.depth)
    row_tiles, column_tiles, cut = (sum(count for count, _ in parts) for parts in (rows, columns, depths))
    products = vector = residuals = stores = 0
    for count, height, width in ((n * m, height, width) for n, height in rows for m, width in columns):
        product = sum(
            times * product_cycles(target, height, width, depth, shape.pattern, shape.wide) for times, depth in depths
        )
        products += count * product
        vector += count * vector_cycles(target, height, width, 1)
        residuals += count * dma_cycles(target, height, width * shape.residual_bytes)
        stores += count * dma_cycles(target, height, width * shape.result_bytes)
    tiles = row_tiles * column_tiles
    by_columns = tiling.order == COLUMNS
    once = tiling.order == ROWS or (by_columns and cut == 1)
    blocks = column_tiles * cut * (1 if once else row_tiles)
    weights = dma_cycles(target, 1, weight_bytes(shape, tiling.columns, tiling.depth)) * (1 if once else row_tiles)
    windows = tiles * cut if by_columns else row_tiles
    activations = sum(
        n * m * dma_cycles(target, height, depth * shape.x_bytes) for n, height in rows for m, depth in depths
    ) * (column_tiles if by_columns else 1)
    latencies = {
        "accumulators": products + vector + tiles * target.drain_latency,
        "weights": 0 if tiling.order == ROWS else products + weights + blocks * target.dma_latency,
        "activations": products + activations + windows * target.dma_latency if activations else 0,
        "residual": vector + residuals + tiles * target.dma_latency if residuals else 0,
        "results": vector + stores + tiles * target.dma_latency if stores else 0,
    }
    iterations, inner = (column_tiles * shape.batches, (shape.rows, tiling.rows))
    if not by_columns:
        iterations, inner = row_tiles, (shape.columns, tiling.columns)
    peeled = iterations > 1 and is_rolled(policy, *inner) and inner[0] % (SLOTS * inner[1])
    turns = 2 * iterations * (target.drain_latency + vector // tiles) if peeled else 0
    stalls, normalized, tail = _norm_cycles(target, shape, tiling, products // tiles)
    first = dma_cycles(target, 1, packed_size(tiling.columns, tiling.depth, shape.pattern, shape.encoding))
    if tiling.order == ROWS:
        # All weights are loaded under the first tile of rows.
        first = max(first, weights - products // row_tiles)
    last = vector_cycles(target, min(tiling.rows, shape.rows), min(tiling.columns, shape.columns), 1)
    return Estimate(
        products + stalls,
        weights + residuals + activations,
        stores,
        vector + normalized,
        max(latencies.values()) // SLOTS + stalls,
        tiles * cut * shape.passes * policy.issue_cycles,
        target.dma_latency + first + target.drain_latency + last + tail + turns,
        tile_bytes(shape, tiling),
        policy.hidden_divisor,
    )


def _norm_cycles(target: Target, shape: LinearShape, tiling: LinearTiling, product: int) -> tuple[int, int, int]:
    """
    For the norm that follows: cycles in which the products wait for accumulators, cycles of the vector unit under them,
    and cycles after the last product. A norm of rows whose statistics are known takes one pass.
    """
    if not shape.norm:
        return 0, 0, 0
    if tiling.order == COLUMNS:
        passes = 1 if shape.batches == 1 and shape.rows <= tiling.rows else 2
        return 0, 0, vector_cycles(target, shape.batches * shape.rows, shape.columns, passes)
    tiles = [(count, vector_cycles(target, height, shape.columns, 1)) for count, height in row_cuts(shape, tiling)]
    stalls = sum(count * max(0, cycles - SLOTS * product) for count, cycles in tiles)
    return stalls, sum(count * cycles for count, cycles in tiles), tiles[-1][1]


def candidates(target: Target, shape: LinearShape) -> Iterator[LinearTiling]:
    """
    The tilings to choose from.
    """
    for columns in _sizes(shape.columns, target.tile_columns, target.array_columns):
        for rows in _sizes(shape.rows, target.tile_rows, target.array_rows):
            # With all rows in one tile both orders are the same.
            if shape.depth <= DEPTH_LIMIT and rows < shape.rows * shape.batches:
                yield LinearTiling(rows, columns, shape.depth, ROWS)
            for depth in _depths(shape):
                yield LinearTiling(rows, columns, depth, COLUMNS)
                if shape.x_bytes:
                    yield LinearTiling(rows, columns, depth, STREAMED)


def _sizes(size: int, limit: int, array: int) -> list[int]:
    """
    Sizes of a tile: what the array takes at once and its doubles, all there is if that is less, and below the array's
    size single elements for chips that hold no more.
    """
    sizes = [min(size, limit)]
    doubled = array
    while doubled < sizes[0]:
        sizes.append(doubled)
        doubled *= 2
    return sorted({*sizes, min(sizes[0], array), min(sizes[0], max(1, array // 4)), 1}, reverse=True)


def _depths(shape: LinearShape) -> list[int]:
    """
    Cuts of the depth in whole groups of the pattern: all of it, halves, quarters.
    """
    group = shape.pattern.m
    depth = min(shape.depth, DEPTH_LIMIT // group * group)
    depths = [depth]
    while depth > group:
        depth = max(1, -(-depth // 2) // group) * group
        depths.append(depth)
    return depths


@lru_cache(maxsize=1024)
def ranked(target: Target, policy: TilingPolicy, shape: LinearShape) -> tuple[tuple[LinearTiling, Estimate], ...]:
    """
    All tilings, the fastest first; of equally fast ones the smallest first.
    """
    all_of_them = [
        (tiling, estimate(target, policy, shape, tiling)) for tiling in dict.fromkeys(candidates(target, shape))
    ]
    order = (COLUMNS, ROWS, STREAMED)
    return tuple(sorted(all_of_them, key=lambda one: (one[1].cycles, one[1].size, order.index(one[0].order))))


@dataclass(frozen=True)
class LinearChoice:
    """
    The tiling that was chosen, and the next best that would do something else: another order of the loops or other
    sizes. None where nothing else fits.
    """

    tiling: LinearTiling
    estimate: Estimate
    other: LinearTiling | None
    other_estimate: Estimate | None


@lru_cache(maxsize=1024)
def choose(target: Target, policy: TilingPolicy, shape: LinearShape, budget: int) -> LinearChoice:
    """
    The fastest tiling that takes at most `budget` bytes, or the smallest if none does. Of those that are about as fast,
    the smallest, as room on the chip is worth more than a few cycles. What takes less than a small part of the chip
    counts as equally small: of these, the one with the shortest program, and then the least waiting.
    """
    fitting = [one for one in ranked(target, policy, shape) if one[1].size <= budget]
    fitting = fitting or [min(ranked(target, policy, shape), key=lambda one: one[1].size)]
    as_fast = [one for one in fitting if one[1].cycles <= fitting[0][1].cycles * (1 + policy.tolerance)]
    small = target.sram_bytes * policy.small_share

    def rank(one: tuple[LinearTiling, Estimate]) -> tuple[float, int, int, int]:
        tiling, cost = one
        return max(cost.size, small), program_products(shape, tiling), cost.waiting, cost.cycles

    chosen = min(as_fast, key=rank)
    others = [one for one in fitting if one is not chosen]
    return LinearChoice(*chosen, *(others[0] if others else (None, None)))


def smaller_budget(target: Target, policy: TilingPolicy, shape: LinearShape, size: int) -> int | None:
    """
    The budget under which a layer takes less than `size` bytes: at most half, or whatever is the least. None if there
    is nothing smaller.
    """
    sizes = [one[1].size for one in ranked(target, policy, shape)]
    if min(sizes) >= size:
        return None
    return max(size // 2, min(sizes))
