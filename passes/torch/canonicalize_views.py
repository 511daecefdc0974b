"""
One spelling for every rearrangement, and one for every product with a weight.

unsqueeze, squeeze, flatten, unflatten, reshape, t, transpose, select, chunk and split become `aten.view`,
`aten.permute` and `aten.slice.Tensor`. A chain of those becomes slices, a view, a permutation and a view at most, in
this order, and nothing where it does nothing. mm, addmm and matmul with a constant weight become `aten.linear`; a
linear layer whose result is only ever taken in parts (a packed projection of query, key and value) becomes one for
each part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.transforms.common_subexpression_elimination import cse

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.torch_operations import TorchBuilder, is_aten, literal_of, operations_of, replace, single_use
from sta.passes.tiling.strided_view import NotAView, StridedView
from sta.passes.tiling.view_chains import view_chain

_RESHAPES = (
    "_unsafe_view",
    "flatten.using_ints",
    "reshape",
    "squeeze",
    "squeeze.dim",
    "squeeze.dims",
    "unflatten.int",
    "unsqueeze",
    "view",
)
"""Operators that keep the elements in their order: all that matters is the shape of the result."""

_EXCHANGES = ("swapaxes", "swapdims", "transpose.int")
_SPLITS = ("chunk", "split.Tensor", "split_with_sizes", "unbind.int")


@dataclass(frozen=True)
class _View:
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class _Permute:
    order: tuple[int, ...]


@dataclass(frozen=True)
class _Slice:
    axis: int
    start: int
    end: int


_Step = _View | _Permute | _Slice


def canonicalize_views(module: ModuleOp, store: WeightStore, split_linears: bool = True) -> None:
    """
    Rewrite the function `main` of `module`; new layouts of weights go into `store`.

    With `split_linears` unset a linear layer whose result is taken in parts stays whole.
    """
    rewriting = _Rewriting(store)
    for operation in operations_of(module):
        rewriting.visit_view(operation)
    erase_dead(module)
    for operation in operations_of(module):
        rewriting.visit_product(operation)
    erase_dead(module)
    for operation in operations_of(module) if split_linears else ():
        rewriting.visit_linear(operation)
    erase_dead(module)
    cse(module)


class _Rewriting:
    def __init__(self, store: WeightStore) -> None:
        self._store = store
        self._views: dict[SSAValue, tuple[SSAValue, StridedView]] = {}
        """Values that are views, each with what it is a view of."""

    def visit_view(self, operation: Operation) -> None:
        """Replace `operation` if it only rearranges its operand."""
        if isinstance(operation, torch.ListUnpackOp):
            self._visit_split(operation)
            return
        steps = _steps(operation)
        if steps is None:
            return
        builder = TorchBuilder(operation, self._store)
        value = operation.operands[0]
        for step in steps:
            value = self._apply(builder, value, step)
        replace(operation, [value])

    def _visit_split(self, operation: torch.ListUnpackOp) -> None:
        """Parts of a tensor along an axis as slices of it."""
        split = operation.list.owner
        if not isinstance(split, Operation) or not is_aten(split, *_SPLITS):
            return
        source = split.operands[0]
        axis = torch.integer_of(split.operands[-1]) % torch.tensor_type(source).rank
        builder = TorchBuilder(operation, self._store)
        parts: list[SSAValue] = []
        start = 0
        for element in operation.elements:
            sizes = torch.sizes_of(element)
            length = 1 if is_aten(split, "unbind.int") else sizes[axis]
            part = self._apply(builder, source, _Slice(axis, start, start + length))
            parts.append(self._apply(builder, part, _View(sizes)))
            start += length
        replace(operation, parts)

    def _apply(self, builder: TorchBuilder, value: SSAValue, step: _Step) -> SSAValue:
        """`value` after `step`, as one canonical chain from where its own chain begins."""
        if 0 in torch.sizes_of(value):
            return _emit_plain(builder, value, step)
        root, view = self._views.get(value, (value, _whole(value)))
        after = _after(view, step)
        result = None if after is None else _emit(builder, root, after)
        if result is None:
            # The chain ends where the axes cannot be told apart any more.
            root, after = value, _after(_whole(value), step)
            result = None if after is None else _emit(builder, root, after)
        if result is None or after is None:
            result = _emit_plain(builder, value, step)
            root, after = result, _whole(result)
        self._views[result] = (root, after) if result is not root else (root, _whole(root))
        return result

    def visit_product(self, operation: Operation) -> None:
        """Replace a product with a constant weight by a linear layer, and move a constant added to one into it."""
        if isinstance(operation, torch.MmOp | torch.MatmulOp):
            self._visit_matmul(operation)
        elif isinstance(operation, torch.AddmmOp):
            self._visit_addmm(operation)
        elif isinstance(operation, torch.AddTensorOp):
            self._visit_bias(operation)

    def _visit_matmul(self, operation: torch.MmOp | torch.MatmulOp) -> None:
        builder = TorchBuilder(operation, self._store)
        weight = self._transposed(builder, operation.other)
        if weight is None or torch.tensor_type(operation.input).rank < 2:
            return
        operands = [operation.input, weight, builder.none()]
        replace(operation, [builder.aten(torch.LinearOp, operands, operation.result.type)])

    def _visit_addmm(self, operation: torch.AddmmOp) -> None:
        builder = TorchBuilder(operation, self._store)
        weight = self._transposed(builder, operation.mat2)
        scaled = torch.number_of(operation.alpha) != 1 or torch.number_of(operation.beta) != 1
        bias = literal_of(operation.input)
        if weight is None or scaled or bias is None or bias.result.type.sizes != torch.sizes_of(weight)[:1]:
            return
        operands = [operation.mat1, weight, operation.input]
        replace(operation, [builder.aten(torch.LinearOp, operands, operation.result.type)])

    def _visit_bias(self, operation: torch.AddTensorOp) -> None:
        linear, bias = operation.input.owner, literal_of(operation.other)
        if not isinstance(linear, torch.LinearOp) or not isinstance(linear.bias.type, torch.NoneType) or bias is None:
            return
        if not single_use(linear.result) or torch.constant_of(operation.alpha) != 1:
            return
        if bias.result.type.sizes != torch.sizes_of(linear.weight)[:1]:
            return
        builder = TorchBuilder(operation, self._store)
        operands = [linear.input, linear.weight, operation.other]
        replace(operation, [builder.aten(torch.LinearOp, operands, operation.result.type)])

    def _transposed(self, builder: TorchBuilder, value: SSAValue) -> SSAValue | None:
        """The weight [n, k] of a product with the constant matrix `value` [k, n]; None if that is none."""
        if isinstance(value.owner, torch.PermuteOp) and value.owner.axes == (1, 0):
            return value.owner.input if literal_of(value.owner.input) is not None else None
        literal = literal_of(value)
        if literal is None or literal.result.type.rank != 2:
            return None
        name = f"{literal.resource or 'constant'}.transposed"
        return builder.literal(np.array(literal.array(self._store).T, order="C"), name)

    def visit_linear(self, operation: Operation) -> None:
        """Split a linear layer of which every use is a slice of its features."""
        if not isinstance(operation, torch.LinearOp) or any(literal_of(one) is None for one in _of_weight(operation)):
            return
        if isinstance(operation.bias.type, torch.VTensorType) and literal_of(operation.bias) is None:
            return
        slices = [use.operation for use in operation.result.uses]
        for part in slices:
            if not isinstance(part, torch.SliceTensorOp) or part.bounds[0] != operation.result.type.rank - 1:
                return
        for part in slices:
            assert isinstance(part, torch.SliceTensorOp)
            self._split_off(operation, part)

    def _split_off(self, linear: torch.LinearOp, part: torch.SliceTensorOp) -> None:
        _, start, end, step = part.bounds
        builder = TorchBuilder(linear, self._store)
        rows = slice(start, end, step)
        suffix = f"rows_{start}_{end}" + (f"_{step}" if step != 1 else "")
        constants: list[SSAValue] = []
        for value in (linear.bias, *_of_weight(linear)):
            literal = literal_of(value)
            if literal is None:
                constants.append(value)
                continue
            array = np.array(literal.array(self._store)[rows], order="C")
            constants.append(builder.literal(array, f"{literal.resource or 'constant'}.{suffix}"))
        bias, weight, *scales = constants
        if scales:
            weight = builder.insert(torch.FakeQuantizeChannelsOp(weight, scales[0]))
        replace(part, [builder.aten(torch.LinearOp, [linear.input, weight, bias], part.result.type)])


def _of_weight(linear: torch.LinearOp) -> list[SSAValue]:
    """The weight of a linear layer, and the scales of its rows if it came with some."""
    rounded = linear.weight.owner
    return list(rounded.operands) if isinstance(rounded, torch.FakeQuantizeChannelsOp) else [linear.weight]


def _steps(operation: Operation) -> Sequence[_Step] | None:
    """The steps that `operation` consists of; None if it does more than rearranging, or keeps its form."""
    if not operation.operands or not isinstance(operation.operands[0].type, torch.VTensorType):
        return None
    source = operation.operands[0].type
    result = operation.results[0].type if operation.results else None
    if not isinstance(result, torch.VTensorType):
        return None
    if is_aten(operation, *_RESHAPES):
        return [_View(result.sizes)]
    if is_aten(operation, "expand", "broadcast_to"):
        return [_View(result.sizes)] if result.element_count == source.element_count else None
    if isinstance(operation, torch.PermuteOp):
        return [_Permute(operation.axes)]
    if is_aten(operation, "t"):
        return [_Permute(tuple(reversed(range(source.rank))))]
    if is_aten(operation, *_EXCHANGES):
        first, second = (torch.integer_of(operand) % source.rank for operand in operation.operands[1:])
        return [_Permute(_exchanged(source.rank, first, second))]
    if isinstance(operation, torch.SelectIntOp):
        axis = torch.integer_of(operation.dim) % source.rank
        index = torch.integer_of(operation.index) % source.sizes[axis]
        return [_Slice(axis, index, index + 1), _View(result.sizes)]
    if isinstance(operation, torch.SliceTensorOp):
        axis, start, end, step = operation.bounds
        return [_Slice(axis, start, end)] if step == 1 else None
    return None


def _exchanged(rank: int, first: int, second: int) -> tuple[int, ...]:
    order = list(range(rank))
    order[first], order[second] = order[second], order[first]
    return tuple(order)


def _whole(value: SSAValue) -> StridedView:
    return StridedView.contiguous(torch.sizes_of(value))


def _after(view: StridedView, step: _Step) -> StridedView | None:
    """The view after one more step; None if strides cannot express it."""
    try:
        match step:
            case _View(sizes):
                return view.reshaped(sizes)
            case _Permute(order):
                return view.permuted(order)
            case _Slice(axis, start, end):
                return view.sliced(axis, start, end) if start < end else None
    except NotAView:
        return None


def _emit(builder: TorchBuilder, root: SSAValue, view: StridedView) -> SSAValue | None:
    """The operations that make `view` of `root`; None if no chain does."""
    chain = view_chain(view, torch.sizes_of(root))
    if chain is None:
        return None
    value = root
    for axis, (start, end) in enumerate(chain.slices):
        value = builder.slice(value, axis, start, end)
    if list(chain.order) != list(range(len(chain.order))):
        value = builder.permute(builder.view(value, chain.split), chain.order)
    return builder.view(value, chain.sizes)


def _emit_plain(builder: TorchBuilder, value: SSAValue, step: _Step) -> SSAValue:
    match step:
        case _View(sizes):
            return builder.view(value, sizes)
        case _Permute(order):
            return builder.permute(value, order)
        case _Slice(axis, start, end):
            return builder.slice(value, axis, start, end)


@dataclass(frozen=True)
class TorchCanonicalizeViewsPass(ModulePass):
    """Spell rearrangements as view, permute and slice only, and products with a weight as linear."""

    name = "torch-canonicalize-views"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite `op` in place; new layouts of weights go into the context's weight store."""
        canonicalize_views(op, weights_of(ctx))
