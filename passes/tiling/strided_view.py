"""
Strided views as plain arithmetic: the layout of a tensor's elements in its buffer.

A logical axis is a list of (size, stride) factors, outermost first. So a reshape which splits or merges axes stays a
view where a single stride an axis would force a copy (a sequence-first `[S, B*H, D]` view of attention inputs). Strides
are in elements. No IR here: the passes that lower tensors to buffers call it, and its tests need nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from math import prod

Factor = tuple[int, int]
"""Size and stride of one step of an axis."""


class NotAView(ValueError):
    """The elements cannot be reached by strides and have to be copied first."""


def merge(factors: Sequence[Factor]) -> tuple[Factor, ...]:
    """The same order of elements with the fewest factors; factors of size 1 vanish, broadcast ones (stride 0) join."""
    merged: list[Factor] = []
    for size, stride in factors:
        if size == 1:
            continue
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return tuple(merged)


def split(factors: Sequence[Factor], sizes: Sequence[int]) -> tuple[tuple[Factor, ...], ...]:
    """
    Groups row-major `factors` so that group i has `sizes[i]` elements.

    Raises NotAView where a boundary between groups falls inside a factor that it does not divide.
    """
    rest = list(factors)[::-1]
    groups: list[tuple[Factor, ...]] = []
    for size in sizes[::-1]:
        groups.append(_take_last(rest, size))
    return tuple(groups[::-1])


def _take_last(rest: list[Factor], size: int) -> tuple[Factor, ...]:
    """Removes the innermost `size` elements from `rest`, which is innermost first."""
    group: list[Factor] = []
    while size > 1:
        if not rest:
            raise NotAView(f"{size} elements too many")
        inner, stride = rest.pop(0)
        if size % inner == 0:
            group.append((inner, stride))
            size //= inner
        elif inner % size == 0:
            group.append((size, stride))
            rest.insert(0, (inner // size, stride * size))
            size = 1
        else:
            raise NotAView(f"a boundary at {size} cuts an axis of {inner}")
    return tuple(group[::-1])


def element_offset(factors: Sequence[Factor], index: int) -> int:
    """The offset of an element of an axis from its first one."""
    offset = 0
    for size, stride in reversed(factors):
        index, step = divmod(index, size)
        offset += step * stride
    return offset


@dataclass(frozen=True)
class StridedView:
    """Axes as tuples of factors, and the offset of the first element; all in elements of the buffer."""

    axes: tuple[tuple[Factor, ...], ...]
    offset: int = 0

    @classmethod
    def contiguous(cls, shape: Sequence[int]) -> StridedView:
        """The row-major view of a buffer of `shape`."""
        strides = [prod(shape[i + 1 :]) for i in range(len(shape))]
        return cls(tuple(((size, stride),) for size, stride in zip(shape, strides, strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        """The logical shape."""
        return tuple(prod(size for size, _ in axis) for axis in self.axes)

    def reshaped(self, shape: Sequence[int]) -> StridedView:
        """
        The same elements in the same order under another shape.

        Raises NotAView if that order cannot be expressed by strides.
        """
        factors = merge([factor for axis in self.axes for factor in axis])
        return StridedView(split(factors, shape), self.offset)

    def permuted(self, axes: Sequence[int]) -> StridedView:
        """Axis i of the result is axis `axes[i]` of this view."""
        return StridedView(tuple(self.axes[axis] for axis in axes), self.offset)

    def sliced(self, axis: int, start: int, stop: int, step: int = 1) -> StridedView:
        """
        Elements `start:stop:step` along one axis.

        Raises NotAView if the axis has several factors and the slice is not a run of one of them, or no regular part.
        """
        factors, offset = _stepped(merge(self.axes[axis]), range(start, stop, step))
        return self._replaced(axis, factors, self.offset + offset)

    def windowed(self, axis: int, size: int, step: int) -> StridedView:
        """
        Windows of `size` elements along one axis, each `step` behind the one before: the axis counts them, and a new
        last axis their elements. Windows that overlap share elements.

        Raises NotAView if the axis has several factors.
        """
        factors = merge(self.axes[axis])
        if len(factors) > 1:
            raise NotAView(f"windows of an axis made of {factors}")
        length, stride = factors[0] if factors else (1, 0)
        count = (length - size) // step + 1
        view = self._replaced(axis, ((count, step * stride),), self.offset)
        return StridedView((*view.axes, ((size, stride),)), self.offset)

    def broadcast(self, shape: Sequence[int]) -> StridedView:
        """The view with NumPy's broadcasting to `shape`: axes of size 1, and axes it has not, repeat with stride 0."""
        axes = ((),) * (len(shape) - len(self.axes)) + self.axes
        sizes = (1,) * (len(shape) - len(self.axes)) + self.shape
        return StridedView(
            tuple(axis if size == full else ((full, 0),) for axis, size, full in zip(axes, sizes, shape, strict=True)),
            self.offset,
        )

    def _replaced(self, axis: int, factors: tuple[Factor, ...], offset: int) -> StridedView:
        return StridedView((*self.axes[:axis], factors, *self.axes[axis + 1 :]), offset)


def _stepped(factors: Sequence[Factor], positions: range) -> tuple[tuple[Factor, ...], int]:
    """Factors and position of elements at `positions`: steps within one factor, or of the innermost in a run."""
    start, step, count = positions.start, positions.step, len(positions)
    if step == 1 or count == 1:
        return _run(factors, start, start + count)
    with suppress(NotAView):
        run, position = _run(factors, start, positions[-1] + 1)
        if len(run) == 1:
            return ((count, step * run[0][1]),), position
    *outer, (inner, stride) = factors
    if inner % step:
        raise NotAView(f"steps of {step} cut an axis made of {tuple(factors)}")
    run, position = _run((*outer, (inner // step, step * stride)), start // step, start // step + count)
    return run, position + start % step * stride


def _run(factors: Sequence[Factor], start: int, stop: int) -> tuple[tuple[Factor, ...], int]:
    """Factors and position of elements `start:stop`: whole steps of one factor, with any factors outside it."""
    if not factors:
        return (), 0
    stride, rest = factors[0][1], tuple(factors[1:])
    inner = prod(size for size, _ in rest)
    step, first = divmod(start, inner)
    if rest and step == (stop - 1) // inner:
        run, position = _run(rest, first, stop - step * inner)
        return run, step * stride + position
    if first or stop % inner:
        raise NotAView(f"a slice [{start}, {stop}) cuts an axis made of {tuple(factors)}")
    return ((stop // inner - step, stride), *rest), step * stride


@dataclass(frozen=True)
class Axis:
    """One axis of a common iteration space: its size and each view's stride along it."""

    size: int
    strides: tuple[int, ...]


def iteration_space(views: Sequence[Sequence[Sequence[Factor]]]) -> tuple[Axis, ...]:
    """
    The coarsest axes, outermost first, along which several views of one shape all move by strides.

    `views` holds for each view its axes (tuples of factors), all of the same total number of elements, visited in the
    same row-major order. A view that repeats its elements (a broadcast) has stride 0 there.

    Raises NotAView if the views' factors do not nest.
    """
    flat = [merge([factor for axis in view for factor in axis]) for view in views]
    total = prod(size for size, _ in flat[0])
    boundaries = {1, total}
    for factors in flat:
        inner = 1
        for size, _ in reversed(factors):
            inner *= size
            boundaries.add(inner)
    ordered = sorted(boundaries)
    if any(b % a for a, b in pairwise(ordered)):
        raise NotAView(f"axes with boundaries at {ordered} do not nest")
    sizes = [b // a for a, b in pairwise(ordered)][::-1]
    groups = [split(factors, sizes) for factors in flat]
    axes = [Axis(size, tuple(group[i][0][1] for group in groups)) for i, size in enumerate(sizes)]
    return _merge_axes(axes)


def row_space(views: Sequence[StridedView]) -> tuple[Axis, ...]:
    """
    The axes along which the rows of several views (all axes but the last) move together, the longest innermost. Rows
    may be visited in any order, and a tile of them lies along one axis.

    Raises NotAView if the views' rows do not nest.
    """
    return longest_last(iteration_space([view.axes[:-1] for view in views]))


def longest_last(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Axes that may be visited in any order, the longest innermost: a tile lies along it."""
    ordered = list(axes)
    longest = max(range(len(ordered)), key=lambda index: (ordered[index].size, index), default=None)
    if longest is not None:
        ordered.append(ordered.pop(longest))
    return tuple(ordered)


def _merge_axes(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    merged: list[Axis] = []
    for axis in axes:
        if merged and all(a == b * axis.size for a, b in zip(merged[-1].strides, axis.strides, strict=True)):
            merged[-1] = Axis(merged[-1].size * axis.size, axis.strides)
        else:
            merged.append(axis)
    return tuple(merged)
