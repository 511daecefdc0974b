"""
Movement of values as views and concatenations.

cat, padding with a number, roll, flip, repeat, repeat_interleave, scattered slices and look-ups at constant positions
become `torch.concatenate` of slices, and `aten.expand` under other shapes. Look-ups of very many parts, whose positions
differ from row to row, are products with ones. What moves integers or bools stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.location import module_path
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.movement import Positions, flipped, repeated, taken
from sta.passes.rewriting.torch_operations import (
    Array,
    TorchBuilder,
    array_of,
    identifier,
    operations_of,
    replace,
)


def decompose_movement(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the function `main` of `module`; constants that are padded with go into `store`."""
    for operation in operations_of(module):
        row = torch.find_row(operation)
        spell = None if row is None else _SPELLINGS.get(row.spelling)
        if spell is None or isinstance(operation, torch.ConcatenateOp) or not _is_float(operation.results[0]):
            continue
        result = spell(TorchBuilder(operation, store), operation, store)
        if result is not None and result.type == operation.results[0].type:
            replace(operation, [result])
    erase_dead(module)


def _is_float(value: SSAValue) -> bool:
    return isinstance(value.type, torch.VTensorType) and value.type.is_float


Spelling = Callable[[TorchBuilder, Operation, WeightStore], SSAValue | None]
"""The result of an operation in other operators; None for a form that is not known."""


def _concatenate(builder: TorchBuilder, cat: Operation, _: WeightStore) -> SSAValue | None:
    elements = _elements(cat.operands[0])
    result = torch.tensor_type(cat.results[0])
    if elements is None or any(torch.tensor_type(one).element_type != result.element_type for one in elements):
        return None
    # PyTorch leaves out empty tensors, whatever their rank.
    parts = [one for one in elements if 0 not in torch.sizes_of(one)]
    return builder.concatenate(parts, torch.integer_of(cat.operands[1]) % result.rank)


def _pad(builder: TorchBuilder, pad: Operation, _: WeightStore) -> SSAValue | None:
    value, number = pad.operands[0], torch.number_of(pad.operands[2])
    if not np.isfinite(number):
        return None
    rank, lengths = torch.tensor_type(value).rank, torch.integers_of(pad.operands[1])
    # Pairs of lengths, from the last axis on.
    for index, (before, after) in enumerate(zip(lengths[::2], lengths[1::2], strict=True)):
        axis = rank - 1 - index
        size = torch.sizes_of(value)[axis]
        value = builder.slice(value, axis, max(-before, 0), size - max(-after, 0))
        parts = [
            _filled(builder, value, axis, before, number, pad),
            value,
            _filled(builder, value, axis, after, number, pad),
        ]
        value = builder.concatenate([part for part in parts if part is not None], axis)
    return value


def _filled(
    builder: TorchBuilder, like: SSAValue, axis: int, size: int, number: float, pad: Operation
) -> SSAValue | None:
    """A constant of `size` positions along an axis, otherwise of the shape of `like`; None for no positions."""
    if size <= 0:
        return None
    sizes = torch.sizes_of(like)
    dtype = torch.numpy_dtype(torch.tensor_type(like).element_type)
    array = np.full((*sizes[:axis], size, *sizes[axis + 1 :]), number, dtype)
    return builder.literal(array, f"{identifier(module_path(pad)) or 'constant'}.padding")


def _roll(builder: TorchBuilder, roll: Operation, _: WeightStore) -> SSAValue:
    value = roll.operands[0]
    sizes, (shifts, axes) = torch.sizes_of(value), map(torch.integers_of, roll.operands[1:])
    if not axes:
        value, axes = builder.view(value, [torch.tensor_type(value).element_count]), [0]
    for shift, axis in zip(shifts, axes, strict=True):
        axis %= torch.tensor_type(value).rank
        size = torch.sizes_of(value)[axis]
        cut = -shift % size
        if cut:
            value = builder.concatenate(
                [builder.slice(value, axis, cut, size), builder.slice(value, axis, 0, cut)], axis
            )
    return builder.view(value, sizes)


def _flip(builder: TorchBuilder, flip: Operation, _: WeightStore) -> SSAValue:
    value = flip.operands[0]
    for axis in torch.integers_of(flip.operands[1]):
        value = flipped(builder, value, axis % torch.tensor_type(value).rank)
    return value


def _repeat(builder: TorchBuilder, repeat: Operation, _: WeightStore) -> SSAValue:
    value, times = repeat.operands[0], torch.integers_of(repeat.operands[1])
    sizes = torch.sizes_of(value)
    value = builder.view(value, [*[1] * (len(times) - len(sizes)), *sizes])
    return repeated(builder, value, times, in_turn=True)


def _repeat_interleave(builder: TorchBuilder, repeat: Operation, _: WeightStore) -> SSAValue:
    value, times, axis = repeat.operands[0], torch.integer_of(repeat.operands[1]), torch.constant_of(repeat.operands[2])
    if not isinstance(axis, int):
        value, axis = builder.view(value, [torch.tensor_type(value).element_count]), 0
    rank = torch.tensor_type(value).rank
    return repeated(builder, value, [times if one == axis % rank else 1 for one in range(rank)], in_turn=False)


def _expand(builder: TorchBuilder, expand: Operation, _: WeightStore) -> SSAValue | None:
    value, result = expand.operands[0], torch.tensor_type(expand.results[0])
    return builder.expand(value, result.sizes)


def _scatter_slice(builder: TorchBuilder, scatter: Operation, _: WeightStore) -> SSAValue | None:
    value, source, dim, start, end, step = scatter.operands
    axis = torch.integer_of(dim) % torch.tensor_type(value).rank
    size = torch.sizes_of(value)[axis]
    bounds = slice(_integer_or_none(start), _integer_or_none(end), torch.integer_of(step))
    return _scattered(builder, value, source, axis, np.arange(size)[bounds])


def _scatter_position(builder: TorchBuilder, scatter: Operation, _: WeightStore) -> SSAValue | None:
    value, source, dim, index = scatter.operands
    sizes = torch.sizes_of(value)
    axis = torch.integer_of(dim) % len(sizes)
    row = builder.view(source, [*sizes[:axis], 1, *sizes[axis + 1 :]])
    return _scattered(builder, value, row, axis, np.array([torch.integer_of(index) % sizes[axis]]))


def _scattered(
    builder: TorchBuilder, value: SSAValue, source: SSAValue, axis: int, positions: Positions
) -> SSAValue | None:
    """`value` with `source` at some positions of an axis."""
    if not positions.size:
        return value
    size, first, last = torch.sizes_of(value)[axis], int(positions[0]), int(positions[-1])
    if last - first + 1 == positions.size:
        around = [
            builder.slice(value, axis, *ends) if ends[0] < ends[1] else None for ends in ((0, first), (last + 1, size))
        ]
        return builder.concatenate([part for part in (around[0], source, around[1]) if part is not None], axis)
    order = np.arange(size)
    order[positions] = size + np.arange(positions.size)
    return taken(builder, builder.concatenate([value, source], axis), axis, order)


def _index_select(builder: TorchBuilder, select: Operation, store: WeightStore) -> SSAValue | None:
    value, dim, index = select.operands
    positions = array_of(index, store)
    if positions is None:
        return None
    axis = torch.integer_of(dim) % torch.tensor_type(value).rank
    return _looked_up(builder, value, axis, positions.reshape(-1))


def _index(builder: TorchBuilder, index: Operation, store: WeightStore) -> SSAValue | None:
    """Positions of axes, broadcast against each other: the axes become one, in front if they are not neighbours."""
    value, listed = index.operands[0], _elements(index.operands[1])
    if listed is None:
        return None
    arrays = [None if isinstance(one.type, torch.NoneType) else array_of(one, store) for one in listed]
    axes = [axis for axis, one in enumerate(listed) if not isinstance(one.type, torch.NoneType)]
    given = [array for array in arrays if array is not None]
    if not axes or len(given) != len(axes) or any(array.dtype == np.bool_ for array in given):
        return None
    rank = torch.tensor_type(value).rank
    if axes != list(range(axes[0], axes[-1] + 1)):
        value = builder.permute(value, [*axes, *(axis for axis in range(rank) if axis not in axes)])
        axes = list(range(len(axes)))
    sizes = torch.sizes_of(value)
    first, given = _without_whole_axes(sizes, axes[0], given)
    behind = first + len(given)
    extents = sizes[first:behind]
    wrapped = [np.where(array < 0, array + size, array) for array, size in zip(given, extents, strict=True)]
    if any(
        array.min(initial=0) < 0 or array.max(initial=0) >= size for array, size in zip(wrapped, extents, strict=True)
    ):
        return None
    positions = np.ravel_multi_index(tuple(np.broadcast_arrays(*wrapped)), extents)
    joined = builder.view(value, [*sizes[:first], prod(extents), *sizes[behind:]])
    result = _looked_up(builder, joined, first, positions.reshape(-1))
    return None if result is None else builder.view(result, torch.sizes_of(index.results[0]))


def _without_whole_axes(sizes: Sequence[int], first: int, arrays: list[Array]) -> tuple[int, list[Array]]:
    """
    The positions of axes from axis `first` on, and the first axis, without axes in front and at the end that are whole:
    torch-mlir writes `x[:, i]` so, with positions of all axes.
    """
    rank = max(array.ndim for array in arrays)
    full = [array.reshape(*[1] * (rank - array.ndim), *array.shape) for array in arrays]
    while len(full) > 1 and _is_whole(full[0], 0, sizes[first]) and all(array.shape[0] == 1 for array in full[1:]):
        first, full = first + 1, [array[0] for array in full[1:]]
    while (
        len(full) > 1
        and _is_whole(full[-1], -1, sizes[first + len(full) - 1])
        and all(array.shape[-1] == 1 for array in full[:-1])
    ):
        full = [array[..., 0] for array in full[:-1]]
    return first, full


def _is_whole(positions: Array, axis: int, size: int) -> bool:
    """True if `positions` are all of an axis of `size`, in order, along `axis` of the result and no other."""
    return positions.shape[axis] == positions.size == size and bool(np.all(positions.reshape(-1) == np.arange(size)))


def _gather(builder: TorchBuilder, gather: Operation, store: WeightStore) -> SSAValue | None:
    """Positions of an axis that are the same everywhere else, or positions of the whole tensor, or a product."""
    value, dim, index = gather.operands[:3]
    positions = array_of(index, store)
    if positions is None:
        return None
    axis = torch.integer_of(dim) % torch.tensor_type(value).rank
    sizes = torch.sizes_of(value)
    line = np.moveaxis(positions, axis, -1).reshape(-1, positions.shape[axis])
    if np.all(line == line[0]):
        for other, size in enumerate(positions.shape):
            value = value if other == axis else builder.slice(value, other, 0, size)
        return _looked_up(builder, value, axis, line[0])
    places = [positions if other == axis else place for other, place in enumerate(np.indices(positions.shape))]
    flat = builder.view(value, [torch.tensor_type(value).element_count])
    result = _looked_up(builder, flat, 0, np.ravel_multi_index(tuple(places), sizes).reshape(-1))
    return _chosen(builder, value, axis, positions) if result is None else builder.view(result, positions.shape)


def _chosen(builder: TorchBuilder, value: SSAValue, axis: int, positions: Positions) -> SSAValue:
    """
    The product of each row of an axis with a matrix that has a single one for each position.

    One matrix for all rows that have the same positions along an axis.
    """
    rank, count = positions.ndim, positions.shape[axis]
    for other, size in enumerate(positions.shape):
        value = value if other == axis else builder.slice(value, other, 0, size)
    others = [other for other in range(rank) if other != axis]
    same = [other for other in others if np.array_equal(positions, np.roll(positions, 1, other))]
    order = [*(other for other in others if other not in same), *same, axis]
    outer = len(others) - len(same)
    turned = np.transpose(positions, order)
    kinds, rows = prod(turned.shape[:outer]), prod(turned.shape[outer:-1])
    distinct = turned.reshape(kinds, rows, count)[:, 0]
    matrices = np.equal.outer(np.arange(torch.sizes_of(value)[axis]), distinct).transpose(1, 0, 2)
    ones = builder.literal(np.array(matrices, np.float32, order="C"), "choice")
    lines = builder.view(builder.permute(value, order), (kinds, rows, matrices.shape[1]))
    kind = torch.VTensorType((kinds, rows, count), torch.tensor_type(value).element_type)
    product = builder.view(builder.aten(torch.MatmulOp, [lines, ones], kind), turned.shape)
    return builder.permute(product, [order.index(other) for other in range(rank)])


def _looked_up(builder: TorchBuilder, value: SSAValue, axis: int, positions: Array) -> SSAValue | None:
    """Positions of an axis; negative ones count from its end."""
    size = torch.sizes_of(value)[axis]
    if not positions.size or positions.min() < -size or positions.max() >= size:
        return None
    return taken(builder, value, axis, np.where(positions < 0, positions + size, positions).astype(np.int64))


def _elements(value: SSAValue) -> Sequence[SSAValue] | None:
    return value.owner.elements if isinstance(value.owner, torch.ListConstructOp) else None


def _integer_or_none(value: SSAValue) -> int | None:
    return None if isinstance(value.type, torch.NoneType) else torch.integer_of(value)


_SPELLINGS: Mapping[str, Spelling] = {
    "concatenation": _concatenate,
    "padding": _pad,
    "roll": _roll,
    "flip": _flip,
    "repetition": _repeat,
    "repetition in a row": _repeat_interleave,
    "expansion": _expand,
    "slice scatter": _scatter_slice,
    "position scatter": _scatter_position,
    "positions": _index_select,
    "indices": _index,
    "gather": _gather,
}
"""Spellings of this pass, by the names that rows of operators have for them."""


@dataclass(frozen=True)
class TorchDecomposeMovementPass(ModulePass):
    """Spells movement of values with views and concatenations."""

    name = "torch-decompose-movement"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place; its new arrays go into the context's weight store."""
        decompose_movement(op, weights_of(ctx))
