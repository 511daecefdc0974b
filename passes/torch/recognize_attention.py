"""
Recognition of spelled-out attention as one operation.

matmul(q, k^T), scaled before or after, masked by an addition, a masked_fill or a where, softmax over the keys, matmul
with v: all of it is `aten.scaled_dot_product_attention`. Every attention, even one imported whole, gets its scale as a
constant and four axes [batch, heads, rows, features].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, i1
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from sta.dialect import torch
from sta.dialect.interpreters.torch import operation_name
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.mask_analysis import EXCLUDED_BELOW
from sta.passes.rewriting.sweep import sweep
from sta.passes.rewriting.torch_operations import TorchBuilder, array_of, is_aten, single_use
from sta.passes.rewriting.uses_through_views import VIEWS


def recognize_attention(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the functions of `module`."""
    sweep(module, RecognizeAttention(store))
    erase_dead(module)
    sweep(module, NormalizeAttention(store))
    erase_dead(module)


@dataclass
class _Scores:
    """Findings on the way from a softmax back to the product of query and key."""

    query: SSAValue
    key_transposed: SSAValue
    scale: float
    mask: SSAValue | None


@dataclass(frozen=True)
class RecognizeAttention(RewritePattern):
    """From a softmax over keys to the products around it: all of it is one attention."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.SoftmaxIntOp | torch.SoftmaxOp, rewriter: PatternRewriter) -> None:
        rank = op.result.type.rank
        if torch.integer_of(op.dim) % rank != rank - 1 or op.input.type != op.result.type:
            return
        product = _only_user(op.result)
        if not isinstance(product, torch.MatmulOp | torch.BmmOp) or product.input is not op.result:
            return
        builder = TorchBuilder(product, self.store, rewriter)
        scores = _scores(builder, op.input, self.store, rewriter)
        if scores is None:
            return
        axes = [*range(rank - 2), rank - 1, rank - 2]
        operands = [
            scores.query,
            builder.permute(scores.key_transposed, axes),
            product.other,
            builder.none() if scores.mask is None else scores.mask,
            builder.number(0.0),
            builder.boolean(False),
            builder.number(scores.scale),
            builder.boolean(False),
        ]
        attention = builder.aten(torch.ScaledDotProductAttentionOp, operands, product.result.type)
        rewriter.replace(product, (), [attention])


def _only_user(value: SSAValue) -> Operation | None:
    """The one operation that uses `value`; None if there are more, or none."""
    return next(iter(value.uses)).operation if single_use(value) else None


def _scores(builder: TorchBuilder, value: SSAValue, store: WeightStore, rewriter: PatternRewriter) -> _Scores | None:
    """The product of query and key that `value`, masked and scaled, was made from; None if it was not."""
    mask = None
    operation = value.owner
    if isinstance(operation, torch.AddTensorOp) and torch.constant_of(operation.alpha) == 1:
        sides = [operation.input, operation.other]
        product = next((side for side in sides if _is_scaled_product(side, store)), None)
        if product is None:
            return None
        value, mask = product, sides[0] if product is sides[1] else sides[1]
    elif is_aten(operation, "masked_fill.Scalar", "masked_fill.Tensor") and isinstance(operation, Operation):
        if not _excludes(operation.operands[2], store):
            return None
        value, mask = operation.operands[0], _negated(builder, operation.operands[1])
    elif is_aten(operation, "where.self", "where.ScalarOther") and isinstance(operation, Operation):
        if not _excludes(operation.operands[2], store):
            return None
        value, mask = operation.operands[1], operation.operands[0]
    value, scale = _unscaled(value, store)
    product = value.owner
    if not isinstance(product, torch.MatmulOp | torch.BmmOp) or not single_use(value):
        return None
    rank = torch.tensor_type(value).rank
    if torch.tensor_type(product.input).rank != rank or torch.tensor_type(product.other).rank != rank:
        return None
    query, query_scale = _unscaled_below_views(product.input, store, rewriter)
    key, key_scale = _unscaled_below_views(product.other, store, rewriter)
    return _Scores(query, key, scale * query_scale * key_scale, mask)


def _is_scaled_product(value: SSAValue, store: WeightStore) -> bool:
    return isinstance(_unscaled(value, store)[0].owner, torch.MatmulOp | torch.BmmOp) and single_use(value)


def _excludes(value: SSAValue, store: WeightStore) -> bool:
    """True if `value` is a constant so low that a score of that value has weight 0."""
    array = array_of(value, store)
    if array is not None:
        return bool(np.all(array <= EXCLUDED_BELOW))
    return torch.is_constant(value) and torch.number_of(value) <= EXCLUDED_BELOW


def _negated(builder: TorchBuilder, mask: SSAValue) -> SSAValue:
    return builder.aten(torch.LogicalNotOp, [mask], torch.VTensorType(torch.sizes_of(mask), i1))


def _unscaled(value: SSAValue, store: WeightStore) -> tuple[SSAValue, float]:
    """Value and factor of which `value` is the product; `value` and 1.0 if it is no constant multiple."""
    operation = value.owner
    if isinstance(operation, torch.MulScalarOp | torch.DivScalarOp | torch.MulTensorOp | torch.DivTensorOp):
        factor = _number(operation.other, store)
        if factor is not None and single_use(value) and operation.input.type == value.type:
            return operation.input, 1 / factor if "div" in operation_name(operation) else factor
    return value, 1.0


def _number(value: SSAValue, store: WeightStore) -> float | None:
    """The number of the constant `value`; None if it is no single number, or 0."""
    if torch.is_constant(value):
        return torch.number_of(value) or None
    array = array_of(value, store)
    return float(array.reshape(-1)[0]) or None if array is not None and array.size == 1 else None


def _unscaled_below_views(value: SSAValue, store: WeightStore, rewriter: PatternRewriter) -> tuple[SSAValue, float]:
    """
    `value` without a constant factor that is applied before its chain of views, and that factor.

    The factor is removed from the chain, so nothing else may use the values in between.
    """
    current = value
    while isinstance(current.owner, VIEWS) and single_use(current):
        current = current.owner.operands[0]
    unscaled, scale = _unscaled(current, store)
    if unscaled is current:
        return value, 1.0
    if current is value:
        return unscaled, scale
    rewriter.replace_all_uses_with(current, unscaled)
    return value, scale


@dataclass(frozen=True)
class NormalizeAttention(RewritePattern):
    """Every attention has a constant scale and four axes."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.ScaledDotProductAttentionOp, rewriter: PatternRewriter) -> None:
        builder = TorchBuilder(op, self.store, rewriter)
        if isinstance(op.scale.type, torch.NoneType):
            scale = builder.number(1 / math.sqrt(torch.sizes_of(op.query)[-1]))
            op.operands = [*op.operands[:6], scale, op.operands[7]]
            rewriter.notify_op_modified(op)
        _share_heads(builder, op, rewriter)
        result = op.result.type
        if result.rank not in (2, 3):
            return
        tensors = [builder.view(value, _four_axes(torch.sizes_of(value))) for value in (op.query, op.key, op.value)]
        wide = torch.VTensorType(_four_axes(result.sizes), result.element_type)
        attention = builder.aten(torch.ScaledDotProductAttentionOp, [*tensors, *op.operands[3:]], wide)
        rewriter.replace(op, (), [builder.view(attention, result.sizes)])


def _share_heads(
    builder: TorchBuilder, attention: torch.ScaledDotProductAttentionOp, rewriter: PatternRewriter
) -> None:
    """Takes keys and values from where a model repeats them, head by head, for the heads of the queries."""
    key, value = _unrepeated(attention.key), _unrepeated(attention.value)
    if key is None or value is None or torch.sizes_of(key[0]) != torch.sizes_of(value[0]):
        return
    shared = [builder.view(source, sizes) for source, sizes in (key, value)]
    attention.operands = [attention.query, *shared, *attention.operands[3:7], builder.boolean(True)]
    rewriter.notify_op_modified(attention)


def _unrepeated(value: SSAValue) -> tuple[SSAValue, tuple[int, ...]] | None:
    """
    Value that `value` [batch, heads, rows, width] repeats for several successive heads, and its four axes; None if it
    is no view of an expansion of [batch, shared heads, 1, rows, width].
    """
    sizes = torch.sizes_of(value)
    current: SSAValue = value
    while isinstance(view := current.owner, Operation) and (isinstance(view, torch.ViewOp) or is_aten(view, "clone")):
        current = view.operands[0]
    expansion = current.owner
    if len(sizes) != 4 or not isinstance(expansion, Operation) or not is_aten(expansion, "expand"):
        return None
    source, wide = expansion.operands[0], torch.sizes_of(current)
    narrow = torch.sizes_of(source)
    batch, heads, rows, width = sizes
    if len(narrow) != 5 or narrow[2] != 1 or wide != (batch, narrow[1], heads // narrow[1], rows, width):
        return None
    return source, (batch, narrow[1], rows, width)


def _four_axes(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return (*(1,) * (4 - len(sizes)), *sizes)


@dataclass(frozen=True)
class TorchRecognizeAttentionPass(ModulePass):
    """Replaces spelled-out attention by aten.scaled_dot_product_attention, with a constant scale."""

    name = "torch-recognize-attention"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place."""
        recognize_attention(op, weights_of(ctx))
