"""Busy cycles of the units. Cycles depend on shapes and patterns only, never on data."""

from sta.spec.pattern import Pattern, kept
from sta.spec.target import Target

SOFTMAX_PASSES = 2
"""Passes of the softmax unit over a row of scores: maximum, then exponentials and sum."""


def product_steps(k: int, pattern: Pattern, multipliers: int, window: int) -> int:
    """
    Returns the steps of one output element's sum over `k` weights.

    A step processes `multipliers` kept weights; a sparse product is also never faster than `window` activations a step.
    A dense pattern bypasses the selector, and with it the window.
    """
    if pattern.is_dense:
        return _ceil_div(k, multipliers)
    return max(_ceil_div(kept(k, pattern), multipliers), _ceil_div(k, window))


def product_cycles(target: Target, m: int, n: int, k: int, pattern: Pattern, wide: bool = False) -> int:
    """
    Returns the cycles of a product tile of `m` x `n` results over `k`: ``ceil(m/R) * ceil(n/C) * steps``.

    `wide`: the activations have 16 bits and take two passes.
    """
    tiles = _ceil_div(m, target.array_rows) * _ceil_div(n, target.array_columns)
    steps = product_steps(k, pattern, target.multipliers, target.window)
    return tiles * steps * (2 if wide else 1)


def vector_cycles(target: Target, m: int, n: int, passes: int) -> int:
    """Returns the cycles of `passes` passes of the vector unit over `m` x `n` elements."""
    return passes * _ceil_div(m * n, target.vector_lanes)


def softmax_cycles(target: Target, m: int, n: int) -> int:
    """Returns the cycles of the softmax unit for `m` rows of `n` scores."""
    return SOFTMAX_PASSES * _ceil_div(m * n, target.softmax_lanes)


def dma_cycles(target: Target, rows: int, row_bytes: int) -> int:
    """Returns the cycles of a transfer of `rows` rows; the caller gives contiguous rows as one row."""
    return rows * _ceil_div(row_bytes, target.dma_bytes_per_cycle)


def copy_cycles(target: Target, rows: int, row_bytes: int, dram_stride: int) -> int:
    """Returns the cycles of a copy of `rows` rows; rows that are adjacent in DRAM count as one long row."""
    if dram_stride == row_bytes:
        return dma_cycles(target, 1, rows * row_bytes)
    return dma_cycles(target, rows, row_bytes)


def _ceil_div(dividend: int, divisor: int) -> int:
    """Returns the quotient rounded up."""
    return -(-dividend // divisor)
