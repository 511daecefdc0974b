"""Tensors of channels, `[B, C, ...]`, in the layout of the machine, `[B, ..., C]`: permutations, padding, windows."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue

from sta.dialect import torch
from sta.dialect.ir.location import module_path
from sta.passes.rewriting.torch_operations import TorchBuilder, identifier


def last_order(rank: int) -> tuple[int, ...]:
    """The permutation that makes channels the last axis."""
    return (0, *range(2, rank), 1)


def first_order(rank: int) -> tuple[int, ...]:
    """The permutation that makes channels the second axis again."""
    return (0, rank - 1, *range(1, rank - 1))


def channels_last(builder: TorchBuilder, value: SSAValue) -> SSAValue:
    """`value` `[B, C, ...]` as `[B, ..., C]`."""
    rank = torch.tensor_type(value).rank
    if isinstance(value.owner, torch.PermuteOp) and value.owner.axes == first_order(rank):
        return value.owner.input
    return builder.permute(value, last_order(rank))


def channels_first(builder: TorchBuilder, value: SSAValue) -> SSAValue:
    """`value` `[B, ..., C]` as `[B, C, ...]`."""
    return builder.permute(value, first_order(torch.tensor_type(value).rank))


def has_channels_last(value: SSAValue) -> bool:
    """True if `value` `[B, C, ...]` is a permutation of `[B, ..., C]`, or a function of each element of one."""
    while isinstance(value.owner, Operation):
        operation = value.owner
        if isinstance(operation, torch.PermuteOp):
            return operation.axes == first_order(len(operation.axes))
        row = torch.find_row(operation)
        if row is None or not row.combines:
            return False
        value = operation.operands[0]
    return False


def padded(builder: TorchBuilder, value: SSAValue, widths: Sequence[tuple[int, int]]) -> SSAValue:
    """`value` with zeros before and after each of its axes, or without elements there for a negative width."""
    for axis, (before, after) in enumerate(widths):
        size = torch.sizes_of(value)[axis]
        value = builder.slice(value, axis, max(-before, 0), size - max(-after, 0))
    zeros = [(max(before, 0), max(after, 0)) for before, after in widths]
    if not any(map(any, zeros)):
        return value
    given = torch.tensor_type(value)
    sizes = [size + sum(width) for size, width in zip(given.sizes, zeros, strict=True)]
    amounts = builder.integers(amount for width in reversed(zeros) for amount in width)
    pad = torch.operator_class("aten.constant_pad_nd")
    return builder.aten(pad, [value, amounts, builder.number(0.0)], torch.VTensorType(sizes, given.element_type))


def windows(builder: TorchBuilder, value: SSAValue, axis: int, size: int, step: int, dilation: int) -> SSAValue:
    """Windows along `axis`, which counts them; a new last axis has their `size` elements, `dilation` apart."""
    given = torch.tensor_type(value)
    reach = (size - 1) * dilation + 1
    sizes = list(given.sizes)
    sizes[axis] = (sizes[axis] - reach) // step + 1
    if size == 1:
        return builder.view(builder.slice(value, axis, 0, (sizes[axis] - 1) * step + 1, step), (*sizes, 1))
    if step == size and dilation == 1:
        apart = builder.slice(value, axis, 0, sizes[axis] * size)
        apart = builder.view(apart, (*sizes[: axis + 1], size, *sizes[axis + 1 :]))
        return builder.permute(apart, (*range(axis + 1), *range(axis + 2, given.rank + 1), axis + 1))
    operands = [value, *(builder.integer(number) for number in (axis, reach, step))]
    made = builder.aten(torch.UnfoldOp, operands, torch.VTensorType([*sizes, reach], given.element_type))
    return builder.slice(made, given.rank, 0, reach, dilation)


def constant_name(operation: Operation, what: str) -> str:
    """The name of a constant that is made for `operation`."""
    return f"{identifier(module_path(operation)) or 'constant'}.{what}"
