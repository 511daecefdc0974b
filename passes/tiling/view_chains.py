"""
Chains of views, permutations and slices as one: slices of the source, a view, a permutation, a view.

Plain index arithmetic, without IR. The axes of the source are split into factors as far as the views demand; a result
axis is a group of factors in row-major order. What a chain does is then an order of factors, whatever the steps were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class ChainPlan:
    """The steps that a chain comes down to, in this order; a step that does nothing is what its fields say it is."""

    slices: tuple[tuple[int, int], ...]
    """Start and end along each axis of the source."""

    split: tuple[int, ...]
    """The shape of the first view."""

    order: tuple[int, ...]
    """The permutation."""

    sizes: tuple[int, ...]
    """The shape of the last view: the chain's result."""


@dataclass
class _Factor:
    """A part of one axis of the source. `start` and `end` tell which of its positions are kept."""

    size: int
    start: int
    end: int

    @property
    def kept(self) -> int:
        return self.end - self.start


class ViewChain:
    """
    The views, permutations and slices (step 1) applied to a source of shape `sizes` so far.

    Each step returns whether it could be added; one that could not leaves the chain as it was.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._axes = [[_Factor(size, 0, size)] for size in sizes]
        self._groups = [list(axis) for axis in self._axes]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of the result."""
        return tuple(prod(factor.kept for factor in group) for group in self._groups)

    def permute(self, order: Sequence[int]) -> bool:
        """Axis i of the new result is axis order[i] of the old one."""
        self._groups = [self._groups[axis] for axis in order]
        return True

    def view(self, sizes: Sequence[int]) -> bool:
        """The same elements under the shape `sizes`. Fails where an axis cannot be split as it demands."""
        flat = [factor for group in self._groups for factor in group if factor.kept != 1]
        if 0 in sizes:
            return False
        groups: list[list[_Factor]] = []
        for size in sizes:
            group = self._take(flat, size)
            if group is None:
                return False
            groups.append(group)
        self._groups = groups
        return True

    def slice(self, axis: int, start: int, end: int) -> bool:
        """Positions start to end (excluded) of `axis`. Fails where they are no range of the source."""
        group = [factor for factor in self._groups[axis] if factor.kept != 1]
        if (start, end) == (0, self.sizes[axis]):
            return True
        if not group or start >= end:
            return False
        inner = prod(factor.kept for factor in group[1:])
        if start % inner or end % inner or not self._is_outermost(group[0]):
            return False
        group[0].start, group[0].end = group[0].start + start // inner, group[0].start + end // inner
        return True

    def plan(self) -> ChainPlan:
        """The steps that give the result."""
        slices = tuple(self._range(axis) for axis in self._axes)
        source = [factor for axis in self._axes for factor in axis if factor.kept != 1]
        place = {id(factor): index for index, factor in enumerate(source)}
        order = [place[id(factor)] for group in self._groups for factor in group if factor.kept != 1]
        runs = _runs(order)
        starts = sorted(run[0] for run in runs)
        lengths = {run[0]: len(run) for run in runs}
        split = [prod(source[start + offset].kept for offset in range(lengths[start])) for start in starts]
        permutation = [starts.index(run[0]) for run in runs]
        sliced = [end - start for start, end in slices]
        split, permutation = _with_units(sliced, split, permutation, self.sizes)
        return ChainPlan(slices, tuple(split), tuple(permutation), self.sizes)

    def _take(self, flat: list[_Factor], size: int) -> list[_Factor] | None:
        """Take factors of `size` positions in all from the front of `flat`, splitting the last one where needed."""
        group: list[_Factor] = []
        while size > 1:
            if not flat:
                return None
            factor = flat.pop(0)
            if size % factor.kept:
                if factor.kept % size or not self._can_split(factor):
                    return None
                inner = self._split(factor, size)
                flat.insert(0, inner)
            group.append(factor)
            size //= factor.kept
        return group

    @staticmethod
    def _can_split(factor: _Factor) -> bool:
        return (factor.start, factor.end) == (0, factor.size)

    def _split(self, factor: _Factor, outer: int) -> _Factor:
        """Make `factor` the outer part, of size `outer`, and return the inner one."""
        inner = _Factor(factor.size // outer, 0, factor.size // outer)
        factor.size, factor.end = outer, outer
        for factors in (*self._axes, *self._groups):
            for index, candidate in enumerate(factors):
                if candidate is factor:
                    factors.insert(index + 1, inner)
                    break
        return inner

    def _is_outermost(self, factor: _Factor) -> bool:
        """Whether nothing stands before `factor` in its axis of the source, so that its range is one of the axis."""
        for axis in self._axes:
            before = [candidate for candidate in axis if candidate.kept != 1 or candidate.size != 1]
            if before and before[0] is factor:
                return True
        return False

    @staticmethod
    def _range(axis: list[_Factor]) -> tuple[int, int]:
        inner = prod(factor.size for factor in axis)
        start = 0
        length = 1
        for factor in axis:
            inner //= factor.size
            start += factor.start * inner
            length *= factor.kept
        return start, start + length


def _runs(order: list[int]) -> list[list[int]]:
    """`order` as runs of consecutive numbers: factors that stay beside each other are one axis."""
    runs: list[list[int]] = []
    for number in order:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _with_units(
    source: list[int], split: list[int], order: list[int], result: Sequence[int]
) -> tuple[list[int], list[int]]:
    """
    The first view and the permutation with axes of size 1, where that saves a view: those of the source, which need
    no first view, or those of the result, which need no last one.
    """
    if split == [size for size in source if size != 1]:
        return list(source), _keep_units(source, order)
    permuted = [split[axis] for axis in order]
    if permuted != [size for size in result if size != 1]:
        return split, order
    places = [axis for axis, size in enumerate(result) if size != 1]
    shape = list(result)
    for axis, size in zip(places, split, strict=True):
        shape[axis] = size
    return shape, _keep_units(shape, order)


def _keep_units(shape: Sequence[int], order: list[int]) -> list[int]:
    """The permutation of all axes of `shape` that is `order` for those larger than 1 and leaves the others in place."""
    places = [axis for axis, size in enumerate(shape) if size != 1]
    complete = list(range(len(shape)))
    for place, axis in zip(places, order, strict=True):
        complete[place] = places[axis]
    return complete
