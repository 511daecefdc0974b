"""
One spelling for every rearrangement, and one for every product with a weight.

unsqueeze, squeeze, flatten, unflatten, reshape, t, transpose, select, chunk and split become `aten.view`,
`aten.permute` and `aten.slice.Tensor`, as do look-ups at constant positions that form a view. Rows that are selected
from a constant table are an embedding. A chain of them becomes
slices, at most a view, a permutation and a view, in this order, or nothing if it has no effect. mm, addmm and matmul
with a constant weight become `aten.linear`. A linear layer whose result is used in parts only (a packed projection of
query, key and value) becomes one layer for each part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern
from xdsl.transforms.common_subexpression_elimination import cse

from sta.dialect import torch
from sta.dialect.interpreters.torch import TorchInterpretationError, evaluate, tensor_from
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.sweep import sweep
from sta.passes.rewriting.torch_operations import (
    Array,
    TorchBuilder,
    array_of,
    is_aten,
    literal_of,
    operations_of,
    replace,
    single_use,
)
from sta.passes.rewriting.torch_views import emit_view
from sta.passes.tiling.strided_view import NotAView, StridedView
from sta.spec.operators.operator import Elements


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
    Rewrites the function `main` of `module`; new layouts of weights go into `store`.

    With `split_linears` unset a linear layer whose result is used in parts stays whole.
    """
    rearrangements = _Rearrangements(store)
    for operation in operations_of(module):
        rearrangements.visit(operation)
    erase_dead(module)
    sweep(module, MatmulToLinear(store), AddmmToLinear(store), TakeInBias(store))
    erase_dead(module)
    if split_linears:
        sweep(module, SplitLinear(store))
        erase_dead(module)
    cse(module)


class _Rearrangements:
    """Rewrites chains of rearrangements: what each makes depends on where its chain begins, however far that is."""

    def __init__(self, store: WeightStore) -> None:
        self._store = store
        self._views: dict[SSAValue, tuple[SSAValue, StridedView]] = {}
        """Values that are views, each with its root and its view."""

    def visit(self, operation: Operation) -> None:
        """Replaces `operation` if it only rearranges its operand."""
        if isinstance(operation, torch.ListUnpackOp):
            self._visit_split(operation)
            return
        row = torch.find_row(operation)
        if row is not None and row.spelling in _LOOK_UPS:
            self._visit_look_up(operation)
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
        if not isinstance(split, Operation) or _elements(split) is not Elements.PARTED:
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

    def _visit_look_up(self, operation: Operation) -> None:
        """A look-up at constant positions as the view that they form, and one in a constant table as an embedding."""
        if (rows := _table_rows(operation, self._store)) is not None:
            replace(operation, [rows])
            return
        source = operation.operands[0]
        positions = _positions(operation, self._store)
        view = None if positions is None else _strided(positions)
        result = None if view is None else emit_view(TorchBuilder(operation, self._store), source, view)
        if result is None or view is None:
            return
        self._views[result] = (source, view)
        replace(operation, [result])

    def _apply(self, builder: TorchBuilder, value: SSAValue, step: _Step) -> SSAValue:
        """`value` after `step`, as one canonical chain from the root of its own chain."""
        if 0 in torch.sizes_of(value):
            return _emit_plain(builder, value, step)
        root, view = self._views.get(value, (value, _whole(value)))
        after = _after(view, step)
        result = None if after is None else emit_view(builder, root, after)
        if result is None:
            # The chain ends where the axes cannot be distinguished any more.
            root, after = value, _after(_whole(value), step)
            result = None if after is None else emit_view(builder, root, after)
        if result is None or after is None:
            result = _emit_plain(builder, value, step)
            root, after = result, _whole(result)
        self._views[result] = (root, after) if result is not root else (root, _whole(root))
        return result


@dataclass(frozen=True)
class MatmulToLinear(RewritePattern):
    """A product with a constant matrix is a linear layer; with the constant on the left, of the transpose."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.MmOp | torch.MatmulOp | torch.BmmOp, rewriter: PatternRewriter) -> None:
        builder = TorchBuilder(op, self.store, rewriter)
        if torch.tensor_type(op.input).rank >= 2 and (weight := _transposed(builder, op.other, self.store)) is not None:
            result = builder.linear(op.input, weight)
        elif torch.tensor_type(op.other).rank >= 2 and (weight := _matrix(builder, op.input, self.store)) is not None:
            result = builder.transposed(builder.linear(builder.transposed(op.other), weight))
        else:
            return
        rewriter.replace(op, (), [builder.view(result, op.result.type.sizes)])


@dataclass(frozen=True)
class AddmmToLinear(RewritePattern):
    """A product with a constant matrix and a constant added to its rows is a linear layer."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.AddmmOp, rewriter: PatternRewriter) -> None:
        builder = TorchBuilder(op, self.store, rewriter)
        weight, bias = _transposed(builder, op.mat2, self.store), array_of(op.input, self.store)
        if weight is None:
            return
        weight = self._scaled(builder, weight, torch.number_of(op.alpha))
        beta = torch.number_of(op.beta)
        added = op.input if bias is None else self._scaled(builder, op.input, beta)
        columns = op.result.type.sizes[-1]
        if bias is not None and bias.size in (1, columns) and bias.shape[-1:] == (bias.size,):
            row = self._row(builder, added, columns)
            rewriter.replace(op, (), [builder.linear(op.mat1, weight, row)])
        elif bias is not None or beta == 1:
            operands = [builder.linear(op.mat1, weight), added, builder.integer(1)]
            rewriter.replace(op, (), [builder.aten(torch.AddTensorOp, operands, op.result.type)])

    def _scaled(self, builder: TorchBuilder, value: SSAValue, factor: float) -> SSAValue:
        """The constant `value` times `factor`."""
        literal = literal_of(value)
        if literal is None or factor == 1:
            return value
        array = literal.array(self.store)
        return builder.literal(array * array.dtype.type(factor), f"{literal.resource or 'constant'}.scaled")

    def _row(self, builder: TorchBuilder, value: SSAValue, columns: int) -> SSAValue:
        """The constant `value` as a row of `columns` numbers."""
        literal = literal_of(value)
        assert literal is not None
        if literal.result.type.sizes == (columns,):
            return value
        array = np.array(np.broadcast_to(literal.array(self.store).reshape(-1), (columns,)), order="C")
        return builder.literal(array, f"{literal.resource or 'constant'}.row")


@dataclass(frozen=True)
class TakeInBias(RewritePattern):
    """A constant that is added to a linear layer without bias is its bias."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.AddTensorOp, rewriter: PatternRewriter) -> None:
        linear, bias = op.input.owner, literal_of(op.other)
        if not isinstance(linear, torch.LinearOp) or not isinstance(linear.bias.type, torch.NoneType) or bias is None:
            return
        if not single_use(linear.result) or torch.constant_of(op.alpha) != 1:
            return
        if bias.result.type.sizes != torch.sizes_of(linear.weight)[:1]:
            return
        builder = TorchBuilder(op, self.store, rewriter)
        operands = [linear.input, linear.weight, op.other]
        rewriter.replace(op, (), [builder.aten(torch.LinearOp, operands, op.result.type)])


def _transposed(builder: TorchBuilder, value: SSAValue, store: WeightStore) -> SSAValue | None:
    """The weight [n, k] of a product with the constant matrix `value` [k, n], or vector [k]; None if that is none."""
    if isinstance(value.owner, torch.PermuteOp) and value.owner.axes == (1, 0):
        return value.owner.input if literal_of(value.owner.input) is not None else None
    literal = literal_of(value)
    if literal is None or not literal.result.type.is_float:
        return None
    array = _as_matrix(literal.array(store))
    if array is None:
        return None
    return builder.literal(np.array(array.T, order="C"), f"{literal.resource or 'constant'}.transposed")


def _matrix(builder: TorchBuilder, value: SSAValue, store: WeightStore) -> SSAValue | None:
    """The constant matrix `value`, without leading axes of size 1; None if it is none."""
    literal = literal_of(value)
    if literal is None or literal.result.type.rank == 1 or not literal.result.type.is_float:
        return None
    array = _as_matrix(literal.array(store))
    if array is None or array.shape == literal.result.type.sizes:
        return None if array is None else value
    return builder.literal(np.array(array, order="C"), f"{literal.resource or 'constant'}.matrix")


def _as_matrix(array: Array) -> Array | None:
    """`array` with two axes: a vector as a column, others without leading axes of size 1; None if it has more."""
    if array.ndim == 1:
        return array[:, np.newaxis]
    return array.reshape(array.shape[-2:]) if array.size == array.shape[-2] * array.shape[-1] else None


@dataclass(frozen=True)
class SplitLinear(RewritePattern):
    """A linear layer of which every use is a slice of its features becomes one for each."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.LinearOp, rewriter: PatternRewriter) -> None:
        if any(literal_of(one) is None for one in _of_weight(op)):
            return
        if isinstance(op.bias.type, torch.VTensorType) and literal_of(op.bias) is None:
            return
        slices = [use.operation for use in op.result.uses]
        for part in slices:
            if not isinstance(part, torch.SliceTensorOp) or part.bounds[0] != op.result.type.rank - 1:
                return
        for part in slices:
            assert isinstance(part, torch.SliceTensorOp)
            self._split_off(op, part, rewriter)

    def _split_off(self, linear: torch.LinearOp, part: torch.SliceTensorOp, rewriter: PatternRewriter) -> None:
        _, start, end, step = part.bounds
        builder = TorchBuilder(linear, self.store, rewriter)
        rows = slice(start, end, step)
        suffix = f"rows_{start}_{end}" + (f"_{step}" if step != 1 else "")
        constants: list[SSAValue] = []
        for value in (linear.bias, *_of_weight(linear)):
            literal = literal_of(value)
            if literal is None:
                constants.append(value)
                continue
            array = np.array(literal.array(self.store)[rows], order="C")
            constants.append(builder.literal(array, f"{literal.resource or 'constant'}.{suffix}"))
        bias, weight, *scales = constants
        if scales:
            weight = builder.insert(torch.FakeQuantizeChannelsOp(weight, scales[0]))
        rewriter.replace(part, (), [builder.aten(torch.LinearOp, [linear.input, weight, bias], part.result.type)])


def _of_weight(linear: torch.LinearOp) -> list[SSAValue]:
    """The weight of a linear layer, and the scales of its rows if it has some."""
    rounded = linear.weight.owner
    return list(rounded.operands) if isinstance(rounded, torch.FakeQuantizeChannelsOp) else [linear.weight]


def _steps(operation: Operation) -> Sequence[_Step] | None:
    """The steps of `operation`; None if it does more than rearranging, or keeps its form."""
    if not operation.operands or not isinstance(operation.operands[0].type, torch.VTensorType):
        return None
    source = operation.operands[0].type
    result = operation.results[0].type if operation.results else None
    if not isinstance(result, torch.VTensorType):
        return None
    elements = _elements(operation)
    if elements is Elements.RESHAPED:
        return [_View(result.sizes)]
    if elements is Elements.EXPANDED:
        return [_View(result.sizes)] if result.element_count == source.element_count else None
    if elements is Elements.EXCHANGED:
        first, second = (torch.integer_of(operand) % source.rank for operand in operation.operands[1:])
        return [_Permute(_exchanged(source.rank, first, second))]
    if isinstance(operation, torch.PermuteOp):
        return [_Permute(operation.axes)]
    if isinstance(operation, torch.TOp):
        return [_Permute(tuple(reversed(range(source.rank))))]
    if isinstance(operation, torch.SelectIntOp):
        axis = torch.integer_of(operation.dim) % source.rank
        index = torch.integer_of(operation.index) % source.sizes[axis]
        return [_Slice(axis, index, index + 1), _View(result.sizes)]
    if isinstance(operation, torch.SliceTensorOp):
        axis, start, end, step = operation.bounds
        return [_Slice(axis, start, end)] if step == 1 else None
    return None


_LOOK_UPS = ("positions", "indices", "gather")
"""Spellings of the operators that take elements of their first operand at positions."""


def _table_rows(look_up: Operation, store: WeightStore) -> SSAValue | None:
    """The rows of a constant table of floats that `look_up` selects at positions of the run; None if it does not."""
    if not is_aten(look_up, "index_select"):
        return None
    table, dim, positions = look_up.operands
    kind = torch.tensor_type(table)
    if literal_of(table) is None or not kind.is_float or literal_of(positions) is not None:
        return None
    if torch.integer_of(dim) % kind.rank != 0:
        return None
    builder = TorchBuilder(look_up, store)
    count, width = torch.tensor_type(positions).element_count, kind.element_count // kind.sizes[0]
    matrix = builder.view(table, (kind.sizes[0], width))
    operands = [matrix, positions, builder.integer(-1), builder.boolean(False), builder.boolean(False)]
    rows = builder.aten(torch.EmbeddingOp, operands, torch.VTensorType((count, width), kind.element_type))
    return builder.view(rows, torch.sizes_of(look_up.results[0]))


def _positions(look_up: Operation, store: WeightStore) -> Array | None:
    """The flat positions, in its first operand, of the elements that `look_up` takes; None if they are no constants."""
    source, *others = look_up.operands
    if not all(map(_is_known, others)):
        return None
    kind = torch.tensor_type(source)
    every = tensor_from(np.arange(kind.element_count).reshape(kind.sizes))
    try:
        return evaluate(look_up, (every, *(_known(operand, store) for operand in others)), store)[0].numpy()
    except TorchInterpretationError:
        return None


def _is_known(value: SSAValue) -> bool:
    """True if `value` is a constant, or a list of such."""
    if isinstance(value.owner, torch.ListConstructOp):
        return all(map(_is_known, value.owner.elements))
    return torch.is_constant(value) or literal_of(value) is not None


def _known(value: SSAValue, store: WeightStore) -> Any:
    """The constant `value`."""
    if isinstance(value.owner, torch.ListConstructOp):
        return [_known(element, store) for element in value.owner.elements]
    literal = literal_of(value)
    return torch.constant_of(value) if literal is None else evaluate(literal, (), store)[0]


def _strided(positions: Array) -> StridedView | None:
    """The view of a contiguous buffer that takes the elements at `positions`; None if it has no strides."""
    if positions.size == 0:
        return None
    offset = int(positions.flat[0])
    axes: list[tuple[int, int]] = []
    for axis, size in enumerate(positions.shape):
        second = [0] * positions.ndim
        second[axis] = min(1, size - 1)
        axes.append((size, int(positions[tuple(second)]) - offset))
    if any(stride < 0 for _, stride in axes):
        return None
    grids = np.indices(positions.shape, sparse=True)
    expected = sum((grid * stride for grid, (_, stride) in zip(grids, axes, strict=True)), offset)
    if not np.array_equal(positions, np.broadcast_to(expected, positions.shape)):
        return None
    return StridedView(tuple((one,) for one in axes), offset)


def _elements(operation: Operation) -> Elements | None:
    row = torch.find_row(operation)
    return None if row is None else row.elements


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
    """Spells rearrangements as view, permute and slice only, and products with a weight as linear."""

    name = "torch-canonicalize-views"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place; new layouts of weights go into the context's weight store."""
        canonicalize_views(op, weights_of(ctx))
