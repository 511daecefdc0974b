"""
Placing buffers with known lifetimes in one memory: first fit, largest buffer first.

Plain arithmetic, shared by placement and by the pass that assigns offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sta.spec.alignment import aligned


@dataclass(frozen=True)
class Lifetime:
    """A buffer: its bytes, and the first and last position of the program that use it."""

    size: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """True if the two buffers are ever live at once."""
        return self.first <= other.last and other.first <= self.last


def first_fit(lifetimes: Sequence[Lifetime], capacity: int | None) -> tuple[list[int | None], int]:
    """Byte offset of each buffer, `None` where it does not fit `capacity`, and the extent in use."""
    order = sorted(range(len(lifetimes)), key=lambda i: (-lifetimes[i].size, lifetimes[i].first, i))
    offsets: list[int | None] = [None] * len(lifetimes)
    placed: list[int] = []
    extent = 0
    for index in order:
        offset = _lowest_gap(lifetimes, offsets, placed, index)
        end = offset + aligned(lifetimes[index].size)
        if capacity is not None and end > capacity:
            continue
        offsets[index] = offset
        placed.append(index)
        extent = max(extent, end)
    return offsets, extent


def _lowest_gap(lifetimes: Sequence[Lifetime], offsets: list[int | None], placed: list[int], index: int) -> int:
    taken = sorted(
        (offset, offset + aligned(lifetimes[other].size))
        for other in placed
        if (offset := offsets[other]) is not None and lifetimes[other].overlaps(lifetimes[index])
    )
    lowest = 0
    for start, end in taken:
        if start - lowest >= aligned(lifetimes[index].size):
            break
        lowest = max(lowest, end)
    return lowest
