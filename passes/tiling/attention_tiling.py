"""
Tiling of attention: rows of queries, and chunks of keys for an online softmax. Plain arithmetic.

The product array should never wait. A tile has whole array rows, and no more than necessary, because the model's other
values need the memory. Sizes are compared by an estimate of cycles from `sta.spec.cost`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sta.spec.cost import dma_cycles, product_cycles, softmax_cycles, vector_cycles
from sta.spec.instructions.table import definition_of
from sta.spec.pattern import DENSE
from sta.spec.softmax import STATE_ARRAYS
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy

KEYS_LIMIT = definition_of("softmax").field("keys").maximum
"""Keys that one instruction of the softmax unit accepts."""


@dataclass(frozen=True)
class AttentionShape:
    """Sizes of each head of an attention."""

    queries: int
    keys: int
    depth: int
    bits: int
    """Width of the exponentials."""
    has_mask: bool = False
    causal: bool = False
    sharing: int = 1
    """Heads of queries that share keys and values, if those have to be loaded."""
    has_bias: bool = False
    value_depth: int = 0
    """Elements of a value; 0: as many as of a key."""

    @property
    def width(self) -> int:
        """Elements of a value, and of a row of the result."""
        return self.value_depth or self.depth

    @property
    def planes(self) -> int:
        """Bytes of an exponential, and so passes of P.V."""
        return self.bits // 8


@dataclass(frozen=True)
class Tiling:
    """
    Rows of a tile, and the keys of a chunk, or None if a tile has all keys. While a chunk is on the chip, the tiles of
    `heads` heads that share keys and values alternate on it.
    """

    rows: int
    chunk: int | None = None
    heads: int = 1


@dataclass(frozen=True)
class RowGroup:
    """Rows with the same number of keys."""

    first: int
    rows: int
    keys: int


def row_groups(policy: TilingPolicy, shape: AttentionShape, tile: int) -> list[RowGroup]:
    """The rows of a head, in groups of whole tiles of `tile` rows with equally many keys."""
    if not shape.causal:
        return [RowGroup(0, shape.queries, shape.keys)]
    tiles = -(-shape.queries // tile)
    count = min(tiles, policy.causal_groups)
    ends = [min(tiles * (index + 1) // count * tile, shape.queries) for index in range(count)]
    starts = [0, *ends[:-1]]
    return [RowGroup(start, end - start, min(end, shape.keys)) for start, end in zip(starts, ends, strict=True)]


def tile_bytes(shape: AttentionShape, tiling: Tiling, ahead: bool = False) -> int:
    """
    Bytes on the chip: two tiles of everything, except each head's sums if several heads alternate, which are single;
    and keys and values, two chunks of each, or those of one head, `ahead` of two. Operands that are on the chip anyway
    are counted, too.
    """
    span, rows = min(tiling.chunk or shape.keys, shape.keys), tiling.rows
    score_bytes = span * (4 + shape.planes + shape.has_mask + 2 * shape.has_bias)
    row_bytes = shape.depth + shape.width * (4 * shape.planes + 2) + 4 * STATE_ARRAYS
    copies = 2 if tiling.chunk or ahead else 1
    sums = 2 if tiling.heads == 1 else tiling.heads
    return rows * (2 * score_bytes + sums * row_bytes) + copies * span * (shape.depth + shape.width)


def head_cycles(target: Target, policy: TilingPolicy, shape: AttentionShape, tiling: Tiling) -> int:
    """Estimated cycles of one head: the bottleneck's, and latencies at which the array may wait, once a row tile."""
    return sum(
        _group_cycles(target, replace(shape, queries=group.rows, keys=group.keys), tiling)
        for group in row_groups(policy, shape, tiling.rows)
    )


def _group_cycles(target: Target, shape: AttentionShape, tiling: Tiling) -> int:
    full, rest = divmod(shape.queries, tiling.rows)
    tiles = [(full, tiling.rows), (1, rest)] if rest else [(full, tiling.rows)]
    wait = 2 * target.drain_latency
    cycles = 0
    for count, rows in tiles:
        drain = 0 if tiling.chunk is None else tiling.heads * vector_cycles(target, rows, shape.width, 1)
        parts = tile_parts(target, shape, replace(tiling, rows=rows))
        cycles += count * (max(parts.values()) + wait + drain)
    return -(-cycles // tiling.heads)


def filling_cycles(target: Target, shape: AttentionShape, tiling: Tiling) -> int:
    """
    Estimated cycles of an online softmax beyond `head_cycles`: every row tile begins and ends with a chunk whose
    softmax or products nothing overlaps. Whole rows are pipelined from tile to tile.
    """
    chunk = replace(shape, keys=min(tiling.chunk or shape.keys, shape.keys))
    parts = tile_parts(target, chunk, replace(tiling, rows=min(tiling.rows, shape.queries)))
    return -(-shape.queries // tiling.rows) * min(parts["softmax"], parts["compute"]) // tiling.heads


def tile_parts(target: Target, shape: AttentionShape, tiling: Tiling) -> dict[str, int]:
    """Cycles of each part of the machine for a tile of rows, of all alternating heads."""
    rows, chunk, heads = tiling.rows, tiling.chunk, tiling.heads
    span = min(chunk or shape.keys, shape.keys)
    full, rest = divmod(shape.keys, span)
    products = softmax = vector = loads = 0
    for count, keys in ((full, span), (1, rest)):
        products += count * product_cycles(target, rows, keys, shape.depth, DENSE)
        products += count * shape.planes * product_cycles(target, rows, shape.width, keys, DENSE)
        softmax += count * softmax_cycles(target, rows, keys)
        if chunk is not None and keys:
            vector += count * vector_cycles(target, rows, shape.planes * shape.width, 1)
            loads += count * (dma_cycles(target, keys, shape.depth) + dma_cycles(target, keys, shape.width))
    drain = vector_cycles(target, rows, shape.width, 1)
    return {
        "compute": heads * products,
        "softmax": heads * softmax,
        "vector": heads * (vector + drain),
        "DMA": loads,
    }


def row_tiling(target: Target, policy: TilingPolicy, shape: AttentionShape) -> Tiling | None:
    """The best tiling for a softmax over whole rows; None if not even a tile of one row fits the chip."""
    return next(iter(row_tilings(target, policy, shape)), None)


def row_tilings(target: Target, policy: TilingPolicy, shape: AttentionShape, budget: int | None = None) -> list[Tiling]:
    """Candidate tilings for a softmax over whole rows, the best first; of at most `budget` bytes if given."""
    if shape.keys > KEYS_LIMIT:
        return []
    candidates = [Tiling(rows) for rows in _row_counts(target, shape.queries)]
    return _ranked(target, policy, shape, candidates, policy.attention_share, budget)


def online_tiling(
    target: Target, policy: TilingPolicy, shape: AttentionShape, chunk: int | None = None
) -> Tiling | None:
    """The best tiling for an online softmax, with a given chunk or any; None if nothing fits the chip."""
    return next(iter(online_tilings(target, policy, shape, chunk)), None)


def online_tilings(
    target: Target, policy: TilingPolicy, shape: AttentionShape, chunk: int | None = None, budget: int | None = None
) -> list[Tiling]:
    """Candidate tilings for an online softmax, the best first; of at most `budget` bytes if given."""
    chunks = list(_chunks(target, shape.keys)) if chunk is None else [chunk]
    most = min(shape.sharing, policy.sharing_heads)
    turns = [heads for heads in range(1, most + 1) if shape.sharing % heads == 0]
    candidates = [
        Tiling(rows, keys, heads) for keys in chunks for rows in _row_counts(target, shape.queries) for heads in turns
    ]
    return _ranked(target, policy, shape, candidates, policy.online_share, budget)


def _ranked(
    target: Target,
    policy: TilingPolicy,
    shape: AttentionShape,
    candidates: list[Tiling],
    share: float,
    budget: int | None,
) -> list[Tiling]:
    """The fastest tilings of whole array rows within a share of the chip first; without any, the fastest that fit."""

    def rank(tiling: Tiling) -> tuple[int, int, int, int]:
        # Among equally fast ones the longest chunk: every shift between chunks rounds, and costs an instruction. Then
        # the fewest heads: tiles of more rows keep the array busy for longer than the latencies of one head's step.
        cycles = head_cycles(target, policy, shape, tiling)
        return cycles, -(tiling.chunk or 0), tiling.heads, tile_bytes(shape, tiling)

    whole = [tiling for tiling in candidates if tiling.rows % target.array_rows == 0 or tiling.rows == shape.queries]
    within = [tiling for tiling in whole if tile_bytes(shape, tiling) <= target.sram_bytes * share]
    fitting = [tiling for tiling in candidates if tile_bytes(shape, tiling) <= capacity(target, policy)]
    if budget is not None and fitting:
        smallest = min(fitting, key=lambda tiling: tile_bytes(shape, tiling))
        within = [tiling for tiling in fitting if tile_bytes(shape, tiling) <= budget] or [smallest]
    return sorted(within or fitting, key=rank)


def capacity(target: Target, policy: TilingPolicy) -> int:
    """Bytes of the chip that attention may use."""
    return int(target.sram_bytes * (1 - policy.attention_reserve))


def too_long(target: Target, policy: TilingPolicy, shape: AttentionShape, chunk: int | None) -> str:
    """Message, with remedy, for an attention of which no tile fits the chip."""
    needed = tile_bytes(shape, Tiling(1, chunk))
    room = f"{capacity(target, policy):,} of its {target.sram_bytes:,} are there"
    if chunk is not None:
        return (
            f"attention over chunks of {min(chunk, shape.keys):,} keys needs {needed:,} bytes on the chip, {room}; use "
            "a target with more memory"
        )
    limit = f", and at most {KEYS_LIMIT:,} keys" if shape.keys > KEYS_LIMIT else ""
    return (
        f"a softmax over whole rows of {shape.keys:,} keys needs {needed:,} bytes on the chip, {room}"
        f"{limit}; compile with softmax 'online' or 'auto', or use a target with more memory"
    )


def _row_counts(target: Target, queries: int) -> Iterator[int]:
    """Candidate rows of a tile: whole array rows, and fewer than one of them."""
    array = target.array_rows
    yield from range(array, min(queries, target.tile_rows) + 1, array)
    yield from range(min(queries, array, target.tile_rows), 0, -1)


def _chunks(target: Target, keys: int) -> Iterator[int]:
    """Candidate lengths of a chunk: a tile of columns and its doubles."""
    chunk = target.tile_columns
    while chunk < min(keys, KEYS_LIMIT):
        yield chunk
        chunk *= 2
    if keys <= KEYS_LIMIT:
        yield keys
