"""
Recognition of spelled-out attention as one operation.

matmul(q, k^T), scaled and masked in any order (by additions, masked_fill, where), softmax over the keys, matmul with v,
with views in between that keep rows and keys: all of it is `aten.scaled_dot_product_attention`. Every attention, even
one imported whole, gets its scale as a constant and four axes [batch, heads, rows, features], and shares heads of keys
that a model repeats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import FloatAttr, ModuleOp, UnitAttr, f64
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.scores import find_scores, keeps_matrices, on_leading_axes
from sta.passes.rewriting.shared_heads import share_heads
from sta.passes.rewriting.sweep import sweep
from sta.passes.rewriting.torch_operations import TorchBuilder, single_use


def recognize_attention(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the functions of `module`."""
    sweep(module, RecognizeAttention(store))
    erase_dead(module)
    sweep(module, NormalizeAttention(store))
    erase_dead(module)


@dataclass(frozen=True)
class RecognizeAttention(RewritePattern):
    """From a softmax over keys to the products around it: all of it is one attention."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.SoftmaxIntOp | torch.SoftmaxOp, rewriter: PatternRewriter) -> None:
        rank = op.result.type.rank
        if torch.integer_of(op.dim) % rank != rank - 1 or op.input.type != op.result.type:
            return
        product = _user_behind_views(op.result)
        if not isinstance(product, torch.MatmulOp | torch.BmmOp):
            return
        builder = TorchBuilder(product, self.store, rewriter)
        scores = find_scores(builder, op.input, self.store, rewriter)
        if scores is None:
            return
        value = product.other
        if torch.sizes_of(product.input) != (*scores.leading, *torch.sizes_of(product.input)[-2:]):
            value = on_leading_axes(builder, value, scores.leading)
        if value is None:
            return
        operands = [
            scores.query,
            _transposed(builder, scores.key_transposed),
            value,
            builder.none() if scores.mask is None else scores.mask,
            builder.number(0.0),
            builder.boolean(False),
            builder.number(scores.scale),
            builder.boolean(False),
        ]
        sizes = (*scores.leading, *product.result.type.sizes[-2:])
        result = torch.VTensorType(sizes, product.result.type.element_type)
        attention = builder.aten(torch.ScaledDotProductAttentionOp, operands, result)
        assert isinstance(attention.owner, Operation)
        if scores.mask is not None:
            attention.owner.attributes[torch.SPELLED] = UnitAttr()
        if scores.fill is not None and math.isfinite(scores.fill):
            attention.owner.attributes[torch.MASK_FILL] = FloatAttr(scores.fill, f64)
        rewriter.replace(product, (), [builder.view(attention, product.result.type.sizes)])


def _user_behind_views(weights: SSAValue) -> Operation | None:
    """
    The product that takes `weights` as its first operand, behind views that keep the last two axes; None if anything
    else uses them.
    """
    while single_use(weights):
        user = next(iter(weights.uses)).operation
        if not keeps_matrices(user):
            return user if user.operands[0] is weights else None
        weights = user.results[0]
    return None


def _transposed(builder: TorchBuilder, value: SSAValue) -> SSAValue:
    """`value` with its last two axes exchanged: itself, before they were exchanged."""
    rank = torch.tensor_type(value).rank
    if isinstance(value.owner, torch.PermuteOp) and value.owner.axes == (*range(rank - 2), rank - 1, rank - 2):
        return value.owner.input
    return builder.transposed(value)


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
        if share_heads(builder, op, rewriter):
            return
        result = op.result.type
        if result.rank not in (2, 3):
            return
        tensors = [builder.view(value, _four_axes(torch.sizes_of(value))) for value in (op.query, op.key, op.value)]
        wide = torch.VTensorType(_four_axes(result.sizes), result.element_type)
        attention = builder.aten(torch.ScaledDotProductAttentionOp, [*tensors, *op.operands[3:]], wide)
        assert isinstance(attention.owner, Operation)
        attention.owner.attributes.update(op.attributes)
        rewriter.replace(op, (), [builder.view(attention, result.sizes)])


def _four_axes(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return (*(1,) * (4 - len(sizes)), *sizes)


@dataclass(frozen=True)
class TorchRecognizeAttentionPass(ModulePass):
    """Replaces spelled-out attention by aten.scaled_dot_product_attention, with a constant scale."""

    name = "torch-recognize-attention"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place."""
        recognize_attention(op, weights_of(ctx))
