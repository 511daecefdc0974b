"""Lifetimes of buffers, for memory planning of a program that may not be IR yet."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sta.passes.memory.first_fit import Lifetime

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Resident(Generic[Key]):
    """A buffer that needs a place: its memory, its bytes, and the first and last point of time of its use."""

    key: Key
    space: str
    size: int
    first: int
    last: int
    label: str
    """The model's name for its contents."""
    path: str
    """Module path of its layer."""


@dataclass(frozen=True)
class Timeline(Generic[Key]):
    """Buffers of a program. Points of time are positions in the function's own block; a loop is one position."""

    fixed: Sequence[tuple[Key, int]]
    """Constants and then arguments with their bytes: they have their own place in DRAM."""
    residents: Sequence[Resident[Key]]
    starts: Sequence[int]
    """Positions at which the lowering of each operation begins: with its own buffers."""

    def lifetime(self, resident: Resident[Key], ahead: int) -> Lifetime:
        """Lifetime of a buffer; a buffer for weights is reserved `ahead` operations earlier."""
        first = resident.first
        if resident.space == "wbuf" and ahead:
            begun = bisect_right(self.starts, first) - 1
            first = self.starts[max(0, begun - ahead)]
        return Lifetime(resident.size, first, resident.last)


def starts_of(declares: Iterable[bool]) -> list[int]:
    """
    Positions at which the lowering of each operation begins in a block. `declares` says of each position whether a
    buffer is allocated or a constant declared there.
    """
    starts = [0]
    working = False
    for position, declared in enumerate(declares):
        if declared and working:
            starts.append(position)
        working = not declared
    return starts
