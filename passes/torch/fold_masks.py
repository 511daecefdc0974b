"""
Attention masks in the few forms that the machine has.

A model may compute its masks in any way. The result is no mask, a padding mask over the keys that is an input, a causal
mask, both, or a constant. Any other mask that bools of the run determine becomes a bool tensor, for the host to compute
(`torch-extract-prologue`), and a causal part of it is taken out. Finite numbers that are added to the scores become a
bias beside the mask. An attention with a mask that is none of these keeps it, and is reported as unsupported. So is one
with rows without a key, if PyTorch does not give zero there as the machine does. A finite number that excludes keys is
kept as an attribute: whether it is low enough depends on the scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as replace_fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects.builtin import FloatAttr, ModuleOp, StringAttr, UnitAttr, f32, f64, i1
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.mask_analysis import (
    INDEPENDENT,
    Admissible,
    BoolArray,
    FloatArray,
    IndexArray,
    MaskAnalysis,
    MaskError,
)
from sta.passes.rewriting.mask_cases import MaskCases
from sta.passes.rewriting.mask_terms import TermFinder, all_added, expanded, sum_of
from sta.passes.rewriting.torch_operations import TorchBuilder, operations_of, replace, set_argument_attribute

Scalar = TypeVar("Scalar", bound=np.generic)

SWALLOWING = -(2.0**29)
"""A number to which float32 adds scores below 16 without a trace; those of samples are held to its own limit."""
FAITHFUL = -(2.0**16)
"""A number to which float32 adds scores with an error below a part in 256."""
SHALLOW = (
    "rows may have no key, and the number that is added there keeps a part of the scores in float32: use "
    "torch.finfo(torch.float32).min, or scaled_dot_product_attention with a bool mask"
)


def fold_masks(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the masks of every attention in the function `main` of `module`."""
    analysis = MaskAnalysis(store)
    negated: dict[BlockArgument, bool] = {}
    cases = MaskCases(store)
    for attention in operations_of(module):
        if not isinstance(attention, torch.ScaledDotProductAttentionOp) or attention.result.type.rank != 4:
            continue
        attention = _with_bias_apart(attention, analysis, cases, store)
        if isinstance(attention.attn_mask.type, torch.NoneType):
            continue
        try:
            _fold_mask(attention, analysis, negated, store)
        except MaskError as error:
            attention.attributes[torch.MASK_ERROR] = StringAttr(str(error))
            _use_bools(attention, cases, main_function(module), store)
    erase_dead(module)


def _fold_mask(
    attention: torch.ScaledDotProductAttentionOp,
    analysis: MaskAnalysis,
    negated: dict[BlockArgument, bool],
    store: WeightStore,
) -> None:
    """
    Rewrites the mask of `attention`; `negated` holds for each input the sense in which earlier attentions use it.

    Raises MaskError for a mask that has none of the forms of inputs and constants.
    """
    builder = TorchBuilder(attention, store)
    admissible = _on_four_axes(analysis.admissible(attention.attn_mask))
    empty = _empty_rows(attention, admissible.constant, admissible.depth)
    mask, is_causal = _simplest(builder, attention, admissible)
    _check_one_sense(admissible, negated)
    flag, at_run_time = _constant_flag(builder, empty), False
    if admissible.argument is not None and is_causal and _is_finite(attention, admissible.depth):
        # Behind a causal mask, rows of padding before the first token have no key.
        if not _gives_means(attention, admissible.depth):
            raise MaskError(SHALLOW)
        flag, at_run_time = _flag(builder, _without(builder, attention, mask, is_causal)), True
    folded = _put_mask(attention, builder, mask, is_causal, _counting_depth(attention, admissible.depth))
    _add_means(folded, flag, store, at_run_time, _lowered(folded, admissible.depth))


def _use_bools(
    attention: torch.ScaledDotProductAttentionOp, cases: MaskCases, function: FuncOp, store: WeightStore
) -> None:
    """
    Lets bools of the run be the mask of `attention`, if it has such a form. The reason against the other forms stays
    until the host computes them.
    """
    try:
        found = cases.mask(attention)
        possible = found.possible.reshape(_four(found.possible.shape))
        depth = found.depth.reshape(_four(found.depth.shape))
        empty = _empty_rows(attention, possible, depth)
    except MaskError:
        return
    rows, keys = torch.sizes_of(attention.query)[-2], torch.sizes_of(attention.key)[-2]
    triangle = np.tril(np.ones((rows, keys), np.bool_))
    constant = _shrunk(np.broadcast_to(possible, (*possible.shape[:2], rows, keys)))
    is_causal = bool(torch.constant_of(attention.is_causal)) or bool(np.all(constant == triangle))
    mask = cases.value(found, constant | ~triangle if is_causal else constant)
    for argument in found.masks:
        set_argument_attribute(function, argument.index, torch.HOLDS_MASK, UnitAttr())
    reason = attention.attributes[torch.MASK_ERROR]
    builder = TorchBuilder(attention, store)
    flag, at_run_time = _constant_flag(builder, empty), False
    has_rows = not isinstance(mask.type, torch.NoneType) and (is_causal or torch.sizes_of(mask)[-2] > 1)
    if has_rows and _is_finite(attention, depth):
        left_out = _without(builder, attention, mask, is_causal)
        if _gives_means(attention, depth):
            flag, at_run_time = _flag(builder, left_out), True
        elif _only_number(depth) >= FAITHFUL:
            # All scores of a row are lowered by one number, which changes no weight.
            mask, is_causal = _or_lowered(builder, left_out, np.isfinite(depth)), False
        else:
            attention.attributes[torch.MASK_ERROR] = StringAttr(SHALLOW)
            return
    folded = _put_mask(attention, builder, mask, is_causal, _counting_depth(attention, depth))
    folded.attributes[torch.MASK_ERROR] = reason
    _add_means(folded, flag, store, at_run_time, _lowered(folded, depth))


def _put_mask(
    attention: torch.ScaledDotProductAttentionOp,
    builder: TorchBuilder,
    mask: SSAValue,
    is_causal: bool,
    depth: FloatArray,
) -> torch.ScaledDotProductAttentionOp:
    """Replaces `attention` by one with another mask, which it returns."""
    operands = list(attention.operands)
    operands[3], operands[5] = mask, builder.boolean(is_causal)
    folded = builder.aten(torch.ScaledDotProductAttentionOp, operands, attention.result.type).owner
    assert isinstance(folded, torch.ScaledDotProductAttentionOp)
    if is_causal or not isinstance(mask.type, torch.NoneType):
        _keep_depth(attention, folded, depth)
    replace(attention, [folded.result])
    return folded


def _with_bias_apart(
    attention: torch.ScaledDotProductAttentionOp, analysis: MaskAnalysis, cases: MaskCases, store: WeightStore
) -> torch.ScaledDotProductAttentionOp:
    """An attention whose mask adds nothing to scores but what leaves keys out: the rest is its bias."""
    mask = attention.attn_mask
    if isinstance(mask.type, torch.NoneType) or torch.tensor_type(mask).element_type == i1:
        return attention
    if analysis.admits(mask) or cases.admits(mask, attention):
        return attention
    builder = TorchBuilder(attention, store)
    terms = TermFinder(attention, analysis, cases, store).terms_of(mask)
    if any(_is_input(one) for one in terms.biases):
        return attention
    operands = list(attention.operands[:8])
    operands[3] = all_added(builder, terms.masks) if terms.masks else builder.none()
    biases = [*terms.biases, *attention.operands[8:]]
    if biases:
        bias = sum_of(builder, biases, store)
        missing, keys = 4 - torch.tensor_type(bias).rank, torch.sizes_of(attention.key)[-2]
        sizes = (*(1,) * missing, *torch.sizes_of(bias)[:-1], keys)
        operands.append(expanded(builder, bias, sizes))
    apart = builder.aten(torch.ScaledDotProductAttentionOp, operands, attention.result.type).owner
    assert isinstance(apart, torch.ScaledDotProductAttentionOp)
    apart.attributes.update(attention.attributes)
    replace(attention, [apart.result])
    return apart


def _is_input(value: SSAValue) -> bool:
    """True for an input of the model, or a rearrangement of one."""
    while isinstance(value.owner, Operation) and (row := torch.find_row(value.owner)) is not None and row.moves:
        value = value.owner.operands[0]
    return isinstance(value, BlockArgument)


def _empty_rows(attention: torch.ScaledDotProductAttentionOp, constant: BoolArray, depth: FloatArray) -> BoolArray:
    """
    The rows [batch or 1, heads or 1, rows] that have no key, whatever an input is, and of which PyTorch makes the mean
    of the values; where it gives zero, as the machine does, there are none. Raises MaskError where it gives neither.

    `constant` are the keys that some input admits, `depth` the numbers added to the scores of others.
    """
    admitted = constant & _before(attention)
    empty: BoolArray = np.logical_not(admitted.any(axis=3))
    if not empty.any():
        return empty
    depth = np.broadcast_to(_counting_depth(attention, depth), admitted.shape)
    is_finite = torch.MASK_FILL in attention.attributes or bool(np.isfinite(depth[empty]).any())
    if not is_finite and torch.SPELLED not in attention.attributes:
        return np.zeros_like(empty)
    if _gives_means(attention, depth[empty]):
        return empty
    there = "the weights of scores without a mask" if is_finite else "NaN"
    rows = np.unique(np.nonzero(empty)[2])
    raise MaskError(
        f"{_row_text(rows)} no key, for which PyTorch gives {there}, and this machine zero: admit a key in every row, "
        "or use scaled_dot_product_attention with a bool mask, which gives zero, too"
    )


def _gives_means(attention: torch.ScaledDotProductAttentionOp, depth: FloatArray) -> bool:
    """
    True if scores without an admitted key are all equal, and so are their weights, whatever the scores are: one number
    stands in their place, or is added that is so large that float32 keeps nothing of them.
    """
    if torch.constant_of(attention.is_causal):
        return False
    if torch.MASK_FILL in attention.attributes:
        return True
    return _only_number(depth) <= SWALLOWING


def _only_number(depth: FloatArray) -> float:
    """The number that is added to scores beside minus infinity; NaN if it is not the same everywhere."""
    numbers = np.unique(depth[np.isfinite(depth)])
    return float(numbers[0]) if len(numbers) == 1 else float("nan")


def _is_finite(attention: torch.ScaledDotProductAttentionOp, depth: FloatArray) -> bool:
    """True if keys are left out by a finite number."""
    return torch.MASK_FILL in attention.attributes or bool(np.isfinite(depth).any())


def _lowered(attention: torch.ScaledDotProductAttentionOp, depth: FloatArray) -> BoolArray:
    """The keys that a finite number leaves out; all, where it takes the place of scores."""
    return np.ones((1, 1, 1, 1), np.bool_) if torch.MASK_FILL in attention.attributes else np.isfinite(depth)


def _constant_flag(builder: TorchBuilder, empty: BoolArray) -> SSAValue | None:
    """One for rows [..., rows, 1] without a key; None if each has one."""
    flag = empty[..., np.newaxis].astype(np.float32)
    return builder.literal(flag, "rows_without_key") if empty.any() else None


def _without(
    builder: TorchBuilder, attention: torch.ScaledDotProductAttentionOp, mask: SSAValue, is_causal: bool
) -> SSAValue:
    """The keys [batch or 1, heads or 1, rows, keys] that are left out in a run, for the host to compute."""
    rows, keys = torch.sizes_of(attention.query)[-2], torch.sizes_of(attention.key)[-2]
    if is_causal:
        triangle = builder.literal(np.tril(np.ones((1, 1, rows, keys), np.bool_)), "causal_mask")
        mask = _logic(builder, "aten.logical_and", mask, triangle)
    return builder.aten(torch.LogicalNotOp, [mask], mask.type)


def _logic(builder: TorchBuilder, name: str, left: SSAValue, right: SSAValue) -> SSAValue:
    sizes = np.broadcast_shapes(torch.sizes_of(left), torch.sizes_of(right))
    return builder.aten(torch.operator_class(name), [left, right], torch.VTensorType(sizes, i1))


def _empty(builder: TorchBuilder, left_out: SSAValue) -> SSAValue:
    """True for rows [batch or 1, heads or 1, rows, 1] of which all keys are left out."""
    operands = [left_out, builder.integer(3), builder.boolean(True)]
    result = torch.VTensorType((*torch.sizes_of(left_out)[:3], 1), i1)
    return builder.aten(torch.operator_class("aten.all.dim"), operands, result)


def _flag(builder: TorchBuilder, left_out: SSAValue) -> SSAValue:
    """One for rows [batch or 1, heads or 1, rows, 1] without a key in a run, for the host to compute."""
    empty, false = _empty(builder, left_out), builder.boolean(False)
    number = builder.integer(torch.dtype_number(np.dtype(np.float32)))
    result = torch.VTensorType(torch.sizes_of(empty), f32)
    return builder.aten(torch.ToDtypeOp, [empty, number, false, false, builder.none()], result)


def _or_lowered(builder: TorchBuilder, left_out: SSAValue, lowered: BoolArray) -> SSAValue:
    """A mask that admits every key with a lowered score where a run leaves out all of a row's."""
    mask, empty = builder.aten(torch.LogicalNotOp, [left_out], left_out.type), _empty(builder, left_out)
    if not lowered.all():
        empty = _logic(builder, "aten.logical_and", empty, builder.literal(lowered, "lowered_keys"))
    return _logic(builder, "aten.logical_or", mask, empty)


def _add_means(
    attention: torch.ScaledDotProductAttentionOp,
    flag: SSAValue | None,
    store: WeightStore,
    at_run_time: bool,
    lowered: BoolArray,
) -> None:
    """
    Adds the mean of the values to the results of an attention, which are zero, where `flag` is one.

    Keys whose scores are not `lowered` but minus infinity have no part in it.
    """
    if flag is None:
        return
    if at_run_time:
        attention.attributes[torch.MEANS] = UnitAttr()
    value, result, users = attention.value, attention.result, list(attention.result.uses)
    builder = TorchBuilder(attention, store)
    batch, heads, keys, width = torch.sizes_of(value)
    if lowered.all():
        rows = 1
        means = builder.aten(
            torch.MeanOp,
            [value, builder.integers([2]), builder.boolean(True), builder.none()],
            torch.VTensorType((batch, heads, 1, width), f32),
        )
    else:
        rows = torch.sizes_of(result)[2]
        parts = np.broadcast_to(lowered, (*lowered.shape[:2], rows, keys)).astype(np.float32)
        parts /= np.maximum(parts.sum(axis=-1, keepdims=True), 1)
        weights = builder.literal(_shrunk(parts), "parts_of_means")
        means = builder.aten(torch.MatmulOp, [weights, value], torch.VTensorType((batch, heads, rows, width), f32))
    shared = torch.sizes_of(result)[1] // heads
    if shared > 1:
        wide = builder.expand(
            builder.view(means, (batch * heads, 1, rows, width)), (batch * heads, shared, rows, width)
        )
        means = builder.view(wide, (batch, heads * shared, rows, width))
    there = builder.aten(torch.MulTensorOp, [means, flag], result.type)
    following = attention.next_op
    assert following is not None
    behind = TorchBuilder(following, store)
    total = behind.aten(torch.AddTensorOp, [result, there, behind.integer(1)], result.type)
    for use in users:
        use.operation.operands[use.index] = total


def _row_text(rows: IndexArray) -> str:
    """Numbers of rows, those that follow each other as a range, and their verb."""
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    texts = [f"{run[0]}" if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return f"row {texts[0]} has" if len(rows) == 1 else f"rows {', '.join(texts)} have"


def _before(attention: torch.ScaledDotProductAttentionOp) -> BoolArray:
    """Keys [rows, keys] that the attention's own is_causal admits."""
    rows, keys = torch.sizes_of(attention.query)[-2], torch.sizes_of(attention.key)[-2]
    every = np.ones((rows, keys), np.bool_)
    return np.tril(every) if torch.constant_of(attention.is_causal) else every


def _counting_depth(attention: torch.ScaledDotProductAttentionOp, depth: FloatArray) -> FloatArray:
    """The numbers of `depth` for keys that the mask alone excludes, [batch or 1, heads or 1, rows, keys]."""
    return np.where(_before(attention), depth, -np.inf).astype(np.float32)


def _keep_depth(attention: Operation, folded: Operation, depth: FloatArray) -> None:
    """Annotates `folded` with the finite number that excludes keys of `attention`."""
    if torch.MASK_FILL in attention.attributes:
        folded.attributes[torch.MASK_FILL] = attention.attributes[torch.MASK_FILL]
    elif np.isfinite(depth).any():
        folded.attributes[torch.MASK_DEPTH] = FloatAttr(float(depth.max()), f64)


def _check_one_sense(admissible: Admissible, negated: dict[BlockArgument, bool]) -> None:
    """Raises MaskError if one attention excludes the keys that another counts: the host inverts an input or not."""
    argument = admissible.argument
    if argument is not None and negated.setdefault(argument, admissible.negated) != admissible.negated:
        raise MaskError("another attention counts the keys that this one leaves out; pass each a mask of its own")


def _four(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*(1,) * (4 - len(shape)), *shape)


def _on_four_axes(admissible: Admissible) -> Admissible:
    shape = _four(admissible.constant.shape)
    return replace_fields(
        admissible,
        constant=admissible.constant.reshape(shape),
        source=admissible.source.reshape(shape),
        depth=admissible.depth.reshape(shape),
    )


def _simplest(
    builder: TorchBuilder, attention: torch.ScaledDotProductAttentionOp, admissible: Admissible
) -> tuple[SSAValue, bool]:
    """The mask operand, None if there need be none, and whether the attention is causal."""
    rows, keys = torch.sizes_of(attention.query)[-2], torch.sizes_of(attention.key)[-2]
    triangle = np.tril(np.ones((rows, keys), np.bool_))
    constant = _shrunk(admissible.constant)
    was_causal = bool(torch.constant_of(attention.is_causal))
    is_causal = was_causal or bool(np.all(constant == triangle))
    # Elements that the causal mask excludes anyway are free.
    is_free = bool(np.all(constant | ~triangle)) if is_causal else bool(np.all(constant))
    if admissible.argument is None:
        return (builder.none() if is_free else builder.literal(constant, "attention_mask")), is_causal
    if not is_free:
        raise MaskError("it combines a padding mask with a constant one that is not causal")
    return _padding(builder, admissible, triangle if is_causal else np.ones_like(triangle)), is_causal


def _shrunk(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """`array` with one element along each of the first two axes if it is constant along them."""
    for axis in (0, 1):
        first = array.take([0], axis=axis)
        if np.array_equal(np.broadcast_to(first, array.shape), array):
            array = first
    return np.array(array, order="C")


def _padding(builder: TorchBuilder, admissible: Admissible, counts: BoolArray) -> SSAValue:
    """The padding mask [batch or 1, 1, 1, keys] as a view of its input; `counts` marks the elements that matter."""
    assert admissible.argument is not None
    sources = _key_sources(admissible.source, counts)
    argument = admissible.argument
    size = torch.tensor_type(argument).element_count
    if sources.size != size or not np.array_equal(sources.reshape(-1), np.arange(size)):
        raise MaskError("its elements are not those of an input in their order")
    counting = _as_bool(builder, argument, admissible.negated)
    return builder.view(counting, (sources.shape[0], 1, 1, sources.shape[1]))


def _key_sources(source: IndexArray, counts: BoolArray) -> IndexArray:
    """The flat index of the input's element for each batch and key. Raises MaskError if heads or rows differ."""
    batch, heads, _, _ = source.shape
    full = np.broadcast_to(source, (batch, heads, *counts.shape))
    ignored = np.where(counts, full, np.iinfo(np.int64).max)
    lowest = ignored.min(axis=(1, 2))
    highest = np.where(counts, full, INDEPENDENT - 1).max(axis=(1, 2))
    if not np.array_equal(lowest, highest):
        raise MaskError("it depends on an input differently for different heads or rows")
    if np.any(lowest == INDEPENDENT):
        raise MaskError("it depends on an input for some keys only")
    if batch > 1 and np.array_equal(np.broadcast_to(lowest[:1], lowest.shape), lowest):
        return lowest[:1]
    return lowest


def _as_bool(builder: TorchBuilder, argument: BlockArgument, negated: bool) -> SSAValue:
    """True for each element of the input that is not zero; for each that is, if `negated`."""
    if negated:
        return builder.aten(torch.LogicalNotOp, [argument], torch.VTensorType(torch.sizes_of(argument), i1))
    if torch.tensor_type(argument).element_type == i1:
        return argument
    false = builder.boolean(False)
    operands = [argument, builder.integer(torch.dtype_number(np.dtype(np.bool_))), false, false, builder.none()]
    return builder.aten(torch.ToDtypeOp, operands, torch.VTensorType(torch.sizes_of(argument), i1))


@dataclass(frozen=True)
class TorchFoldMasksPass(ModulePass):
    """Brings attention masks into the forms none, padding over the keys, causal, both, or constant."""

    name = "torch-fold-masks"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place; constant masks go into the context's weight store."""
        fold_masks(op, weights_of(ctx))
