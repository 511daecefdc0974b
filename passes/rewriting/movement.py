"""Positions of an axis in any order, as views of a tensor and concatenations of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.passes.rewriting.torch_operations import TorchBuilder
from sta.passes.rewriting.torch_views import emit_view
from sta.passes.tiling.strided_view import Factor, StridedView

Positions = NDArray[np.int64]

MOST_PARTS = 256
"""Parts of a concatenation that one operator may become: each costs operations of the program."""
_SHORT = 8
"""Positions that are reversed one by one; longer axes are split into axes of at most this size."""


def taken(builder: TorchBuilder, value: SSAValue, axis: int, positions: Positions) -> SSAValue | None:
    """
    The `positions` of an axis of `value`, in their order: a view if they are evenly spaced in nested loops, else runs
    of evenly spaced ones, concatenated. None if there are more than MOST_PARTS of them.
    """
    sizes = torch.sizes_of(value)
    factors = _nested(positions)
    if factors is not None:
        inner = prod(sizes[axis + 1 :])
        whole = StridedView.contiguous(sizes)
        along = tuple((size, stride * inner) for size, stride in factors)
        view = StridedView((*whole.axes[:axis], along, *whole.axes[axis + 1 :]), int(positions[0]) * inner)
        if (result := emit_view(builder, value, view)) is not None:
            return result
    runs = _runs(positions)
    if len(runs) > MOST_PARTS:
        return None
    return builder.concatenate([_run(builder, value, axis, run) for run in runs], axis)


def flipped(builder: TorchBuilder, value: SSAValue, axis: int) -> SSAValue:
    """`value` with the positions of an axis in reverse order; a long axis is split and reversed part by part."""
    sizes = torch.sizes_of(value)
    size = sizes[axis]
    if size <= _SHORT:
        singles = [builder.slice(value, axis, index, index + 1) for index in reversed(range(size))]
        return builder.concatenate(singles, axis)
    inner = next((divisor for divisor in range(_SHORT, 1, -1) if size % divisor == 0), None)
    if inner is None:
        rest = flipped(builder, builder.slice(value, axis, 0, size - 1), axis)
        return builder.concatenate([builder.slice(value, axis, size - 1, size), rest], axis)
    parted = builder.view(value, (*sizes[:axis], size // inner, inner, *sizes[axis + 1 :]))
    return builder.view(flipped(builder, flipped(builder, parted, axis), axis + 1), sizes)


def repeated(builder: TorchBuilder, value: SSAValue, times: Sequence[int], *, in_turn: bool) -> SSAValue:
    """`value` with each axis repeated: its positions `in_turn` (0 1 0 1), or each several times in a row (0 0 1 1)."""
    sizes = torch.sizes_of(value)
    pairs = [
        ((1, size), (count, size)) if in_turn else ((size, 1), (size, count))
        for size, count in zip(sizes, times, strict=True)
    ]
    parted = builder.view(value, [one for before, _ in pairs for one in before])
    wide = builder.expand(parted, [one for _, after in pairs for one in after])
    return builder.view(wide, [size * count for size, count in zip(sizes, times, strict=True)])


def _nested(positions: Positions) -> list[Factor] | None:
    """Factors, outermost first, of positions that are evenly spaced in nested loops; None if they are not."""
    factors: list[Factor] = []
    starts = positions
    while starts.size > 1:
        steps = np.diff(starts)
        different = np.flatnonzero(steps != steps[0])
        length = int(different[0]) + 1 if different.size else starts.size
        if steps[0] < 1 or starts.size % length:
            return None
        blocks = starts.reshape(-1, length)
        if np.any(np.diff(blocks) != steps[0]):
            return None
        factors.insert(0, (length, int(steps[0])))
        starts = blocks[:, 0]
    return factors


def _runs(positions: Positions) -> list[Positions]:
    """The positions cut into runs of evenly spaced ones."""
    runs: list[Positions] = []
    begin = 0
    while begin < positions.size:
        steps = np.diff(positions[begin:])
        different = np.flatnonzero(steps != steps[0]) if steps.size else steps
        length = int(different[0]) + 1 if different.size else positions.size - begin
        if length == 2 and steps[0] != 1:
            # The second may well begin a longer run.
            length = 1
        runs.append(positions[begin : begin + length])
        begin += length
    return runs


def _run(builder: TorchBuilder, value: SSAValue, axis: int, run: Positions) -> SSAValue:
    """Evenly spaced positions of an axis."""
    first, last = int(run[0]), int(run[-1])
    step = int(run[1]) - first if run.size > 1 else 1
    if step == 0:
        sizes = torch.sizes_of(value)
        return builder.expand(
            builder.slice(value, axis, first, first + 1), (*sizes[:axis], run.size, *sizes[axis + 1 :])
        )
    if step > 0:
        return builder.slice(value, axis, first, last + 1, step)
    return flipped(builder, builder.slice(value, axis, last, first + 1, -step), axis)
