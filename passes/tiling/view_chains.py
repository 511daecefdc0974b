"""Views of a tensor as operators: slices, at most a view, a permutation and a view, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from sta.passes.tiling.strided_view import Factor, StridedView


@dataclass(frozen=True)
class ViewChain:
    """
    Operators that express a view of a tensor, in this order.

    Operators without effect are represented: slices are whole axes, the order is that of the axes.
    """

    slices: tuple[tuple[int, int], ...]
    """Start and end along each axis of the source."""
    split: tuple[int, ...]
    """The shape of the first view."""
    order: tuple[int, ...]
    """The permutation."""
    sizes: tuple[int, ...]
    """The shape of the last view, the result."""


@dataclass(frozen=True)
class _Part:
    """Elements of one axis of the source that a view visits."""

    axis: int
    size: int
    stride: int
    """Stride in elements of the axis."""


def view_chain(view: StridedView, shape: Sequence[int]) -> ViewChain | None:
    """Operators that express `view` of a contiguous tensor of `shape`; None if no such chain does."""
    parts = _parts([factor for axis in view.axes for factor in axis if factor[0] != 1], shape)
    if parts is None:
        return None
    slices = _slices(parts, view.offset, shape)
    if slices is None:
        return None
    source = sorted(parts, key=lambda part: (part.axis, -part.stride))
    runs = _runs([source.index(part) for part in parts])
    starts = sorted(run[0] for run in runs)
    lengths = {run[0]: len(run) for run in runs}
    split = [prod(part.size for part in source[start : start + lengths[start]]) for start in starts]
    order = [starts.index(run[0]) for run in runs]
    split, order = _with_units([end - start for start, end in slices], split, order, view.shape)
    return ViewChain(slices, tuple(split), tuple(order), view.shape)


def _parts(factors: Sequence[Factor], shape: Sequence[int]) -> list[_Part] | None:
    """
    Factors of a view, cut where they go from one axis of the source to the next; None if they do so elsewhere than at
    an end.
    """
    parts: list[_Part] = []
    for size, stride in factors:
        cut = _cut(size, stride, shape)
        if cut is None:
            return None
        parts += cut
    return parts


def _cut(size: int, stride: int, shape: Sequence[int]) -> list[_Part] | None:
    parts: list[_Part] = []
    inner = prod(shape)
    if stride == 0:
        return None
    for axis, extent in reversed(list(enumerate(shape))):
        inner = prod(shape[axis + 1 :])
        if extent == 1 or stride >= inner * extent:
            continue
        room = inner * extent // stride
        if size > room and (size % room or room * stride != inner * extent):
            return None
        parts.insert(0, _Part(axis, min(size, room), stride // inner))
        size, stride = size // min(size, room), stride * room
        if size == 1:
            return parts
    return None


def _slices(parts: Sequence[_Part], offset: int, shape: Sequence[int]) -> tuple[tuple[int, int], ...] | None:
    """Range of each axis that the parts cover; None if they leave gaps."""
    slices: list[tuple[int, int]] = []
    for axis, extent in enumerate(shape):
        length = 1
        for part in sorted((part for part in parts if part.axis == axis), key=lambda part: part.stride):
            if part.stride != length:
                return None
            length *= part.size
        start = offset // prod(shape[axis + 1 :]) % extent
        if start + length > extent:
            return None
        slices.append((start, start + length))
    return tuple(slices)


def _runs(order: list[int]) -> list[list[int]]:
    """`order` as runs of consecutive numbers: factors that stay adjacent are one axis."""
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
    The first view and the permutation with axes of size 1, where that saves a view: axes of the source, which need no
    first view, or axes of the result, which need no last one.
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
