"""Affine forms in the counters of the loops around an instruction: what an address register can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Affine:
    """
    The integer ``base + sum of step * counters[depth]`` over ``terms``.

    ``counters[0]`` belongs to the outermost loop. Terms are ordered by depth and have steps other than zero.
    """

    base: int
    terms: tuple[tuple[int, int], ...] = ()
    """Pairs (depth, step)."""

    def plus(self, other: Affine, factor: int = 1) -> Affine:
        """Returns ``self + factor * other``."""
        steps = dict(self.terms)
        for depth, step in other.terms:
            steps[depth] = steps.get(depth, 0) + factor * step
        terms = tuple(sorted((depth, step) for depth, step in steps.items() if step))
        return Affine(self.base + factor * other.base, terms)

    def at(self, counters: Sequence[int]) -> int:
        """Returns the value for the given counters."""
        value = self.base
        for depth, step in self.terms:
            value += step * counters[depth]
        return value

    def interval(self, counts: Sequence[int]) -> tuple[int, int]:
        """Returns the smallest and the largest value while each counter runs over 0..count-1."""
        spans = [step * max(counts[depth] - 1, 0) for depth, step in self.terms]
        return self.base + sum(min(span, 0) for span in spans), self.base + sum(max(span, 0) for span in spans)

    def misaligned(self, alignment: int, counts: Sequence[int]) -> bool:
        """Whether some value while the counters run is not a multiple of ``alignment``."""
        return any(part % alignment for part in (self.base, *(step for depth, step in self.terms if counts[depth] > 1)))
