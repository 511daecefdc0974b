"""
Tiling of a linear layer: sizes, loop order, and placement on the chip. Plain arithmetic.

Candidates are compared by the cycles of the machine's cost functions (`sta.spec.cost`). The fastest within its share of
the chip is chosen.
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
from sta.spec.tiling_policy import LOOP_ORDERS, TilingPolicy

DEPTH_LIMIT = definition_of("mm").field("depth").maximum
"""Largest reduction that the depth field of an `mm` instruction holds."""
SLOTS = 2
"""Buffers of each kind: one is filled while the other is in use."""
COLUMNS, ROWS, RELOADED = LOOP_ORDERS
"""
Loop orders. `columns`: groups of columns outermost, so that each weight is loaded once if all rows make one tile or the
depth is not cut. `rows`: rows outermost, all weights stay on the chip. `reloaded`: rows outermost, weights are loaded
for each tile of rows; for activations in DRAM, which are then loaded once.
"""


@dataclass(frozen=True)
class LinearShape:
    """Parameters that determine the tiles of a linear layer."""

    rows: int
    columns: int
    depth: int
    pattern: Pattern
    encoding: str
    x_bytes: int = 0
    """Bytes of an element of the activations if they are loaded from DRAM, else 0; likewise the next field."""
    residual_bytes: int = 0
    residual_column: bool = False
    """True if the residual has one element a row."""
    result_bytes: int = 0
    batches: int = 1
    """Number of batches of so many rows: tiles do not span separate regions of memory."""
    norm: bool = False
    """True if a norm of each tile of rows follows."""
    wide: bool = False
    """True if the activations have 16 bits: two passes, each with its own accumulators."""
    run: int = 0
    """Activations of a row that lie next to each other, if they are fewer than the depth: no cut goes beyond a run."""

    @property
    def passes(self) -> int:
        """Passes of the array over each tile."""
        return 2 if self.wide else 1

    def residual_row(self, columns: int) -> int:
        """Bytes of a row of the residual's tile, for so many columns of the result, if it is loaded from DRAM."""
        return self.residual_bytes * (1 if self.residual_column else columns)


@dataclass(frozen=True)
class LinearTiling:
    """Sizes of a tile, and the order of the loops."""

    rows: int
    columns: int
    depth: int
    order: str


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of a tiling: cycles of each unit, and cycles in which the array waits."""

    products: int
    loads: int
    stores: int
    vector: int
    turnaround: int
    """Cycles for filling and using the busiest buffers in turn, latencies included."""
    issue: int
    """Cycles of the sequencer."""
    waiting: int
    """Cycles in which the products wait for work that they do not overlap: the first load, the last drain, norms."""
    size: int
    """Bytes on the chip."""
    hidden_divisor: int
    """
    Share of hidden cycles that is charged anyway: one in `TilingPolicy.hidden_divisor`. Overlap is never perfect; among
    tilings with the same bottleneck this prefers the one with less work.
    """

    @property
    def bound(self) -> str:
        """The bottleneck."""
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
        """Estimated cycles from the first load to the last result."""
        parts = (self.products, self.loads, self.stores, self.vector, self.turnaround, self.issue)
        return max(parts) + (sum(parts) - max(parts)) // self.hidden_divisor + self.waiting


def cuts(size: int, tile: int) -> list[tuple[int, int]]:
    """Number and size of the tiles that cover an axis."""
    full, rest = divmod(size, tile)
    return [(count, part) for count, part in ((full, tile), (1, rest)) if count and part]


def is_rolled(policy: TilingPolicy, size: int, tile: int) -> bool:
    """True if pairs of tiles of an axis form a loop, rather than being unrolled."""
    full, rest = divmod(size, tile)
    uneven = full % SLOTS or rest
    return full // SLOTS > 1 and not (uneven and full + (rest > 0) <= policy.unrolled_tiles)


def row_cuts(shape: LinearShape, tiling: LinearTiling) -> list[tuple[int, int]]:
    """Number of tiles for each number of rows."""
    return [(count * shape.batches, part) for count, part in cuts(shape.rows, tiling.rows)]


def program_products(shape: LinearShape, tiling: LinearTiling) -> int:
    """
    Approximate number of a layer's product instructions: loops take two tiles at a time, cuts of the depth are
    unrolled.
    """
    rows = shape.batches * -(-shape.rows // tiling.rows)
    columns, cut = -(-shape.columns // tiling.columns), -(-shape.depth // tiling.depth)
    return min(rows, SLOTS) * min(columns, SLOTS) * cut


def weight_bytes(shape: LinearShape, columns: int, depth: int) -> int:
    """Bytes of all weights, cut into blocks."""
    return sum(
        count * times * aligned(packed_size(width, length, shape.pattern, shape.encoding))
        for count, width in cuts(shape.columns, columns)
        for times, length in cuts(shape.depth, depth)
    )


def group_bytes(shape: LinearShape, tiling: LinearTiling) -> int:
    """Bytes of the weights of a tile of columns that are loaded at once: of a cut of the depth, or of all of them."""
    cut = aligned(packed_size(tiling.columns, tiling.depth, shape.pattern, shape.encoding))
    return cut * (shape.depth // tiling.depth) if shape.run else cut


def tile_bytes(shape: LinearShape, tiling: LinearTiling) -> int:
    """Bytes of a layer's tiles on the chip."""
    if tiling.order == ROWS:
        weights = weight_bytes(shape, tiling.columns, tiling.depth)
    else:
        weights = SLOTS * group_bytes(shape, tiling)
    loaded = tiling.depth if tiling.order == COLUMNS else shape.depth
    element = 4 * shape.passes + shape.result_bytes
    row = loaded * shape.x_bytes + shape.residual_row(tiling.columns) + tiling.columns * element
    return weights + SLOTS * tiling.rows * row


def estimate(target: Target, policy: TilingPolicy, shape: LinearShape, tiling: LinearTiling) -> Estimate:
    """Estimated cost of a tiling."""
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
        residuals += count * dma_cycles(target, height, shape.residual_row(width))
        stores += count * dma_cycles(target, height, width * shape.result_bytes)
    tiles = row_tiles * column_tiles
    by_columns = tiling.order == COLUMNS
    once = tiling.order == ROWS or (by_columns and (cut == 1 or shape.run > 0))
    blocks = column_tiles * (1 if shape.run else cut) * (1 if once else row_tiles)
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
    first = dma_cycles(target, 1, group_bytes(shape, tiling))
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
    """Candidate tilings."""
    for columns in tile_sizes(shape.columns, target.tile_columns, target.array_columns):
        for rows in tile_sizes(shape.rows, target.tile_rows, target.array_rows):
            # If all rows are one tile, both orders are the same.
            if not shape.run and shape.depth <= DEPTH_LIMIT and rows < shape.rows * shape.batches:
                yield LinearTiling(rows, columns, shape.depth, ROWS)
            for depth in _depths(shape):
                yield LinearTiling(rows, columns, depth, COLUMNS)
                if shape.x_bytes and not shape.run:
                    yield LinearTiling(rows, columns, depth, RELOADED)


def tile_sizes(size: int, limit: int, array: int) -> list[int]:
    """
    Candidate sizes of a tile: the array's size and its doubles, or all elements if they are fewer; below the array's
    size single elements, for chips that hold no more.
    """
    sizes = [min(size, limit)]
    doubled = array
    while doubled < sizes[0]:
        sizes.append(doubled)
        doubled *= 2
    return sorted({*sizes, min(sizes[0], array), min(sizes[0], max(1, array // 4)), 1}, reverse=True)


def _depths(shape: LinearShape) -> list[int]:
    """Cuts of the depth in whole groups of the pattern."""
    group = shape.pattern.m
    if shape.run:
        # Equal cuts, so that each lies in a run.
        return [depth for depth in halved(shape.run, group) if depth <= DEPTH_LIMIT and shape.run % depth == 0]
    return halved(min(shape.depth, DEPTH_LIMIT // group * group), group)


def halved(depth: int, group: int) -> list[int]:
    """A depth and its halves, quarters and so on, in multiples of `group`."""
    depths = [depth]
    while depth > group:
        depth = max(1, -(-depth // 2) // group) * group
        depths.append(depth)
    return depths


@lru_cache(maxsize=1024)
def ranked(target: Target, policy: TilingPolicy, shape: LinearShape) -> tuple[tuple[LinearTiling, Estimate], ...]:
    """All tilings, the fastest first; among equally fast ones the smallest first."""
    all_of_them = [
        (tiling, estimate(target, policy, shape, tiling)) for tiling in dict.fromkeys(candidates(target, shape))
    ]
    return tuple(sorted(all_of_them, key=lambda one: (one[1].cycles, one[1].size, LOOP_ORDERS.index(one[0].order))))


@dataclass(frozen=True)
class LinearChoice:
    """The chosen tiling, and the next best of another loop order or other sizes; None if nothing else fits."""

    tiling: LinearTiling
    estimate: Estimate
    other: LinearTiling | None
    other_estimate: Estimate | None


@lru_cache(maxsize=1024)
def choose(target: Target, policy: TilingPolicy, shape: LinearShape, budget: int) -> LinearChoice:
    """
    The fastest tiling of at most `budget` bytes, or the smallest if there is none. Among about equally fast tilings the
    smallest wins, as room on the chip is worth more than a few cycles. Tilings below a small share of the chip count as
    equally small: among them the shortest program wins, then the least waiting.
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
    """A budget below `size` bytes: at most half, or the least that a tiling needs. None if there is nothing smaller."""
    sizes = [one[1].size for one in ranked(target, policy, shape)]
    if min(sizes) >= size:
        return None
    return max(size // 2, min(sizes))
