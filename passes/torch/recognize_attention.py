"""
Recognition of spelled-out attention as one operation.

matmul(q, k^T), scaled and masked in any order (by additions, masked_fill, where), softmax over the keys, matmul with v,
with views in between that keep rows and keys: all of it is `aten.scaled_dot_product_attention`. So is a softmax of
other scores, capped ones for instance, which are added to a product of zeros, and one whose weights are used in other
ways, by values that are a unit matrix. Every attention, even one imported whole, gets its scale as a constant and four
axes [batch, heads, rows, features], and shares heads of keys that a model repeats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import FloatAttr, ModuleOp, UnitAttr, f64
from xdsl.ir import Block, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.mask_analysis import MaskAnalysis
from sta.passes.rewriting.mask_terms import expanded
from sta.passes.rewriting.scores import Scores, find_scores, keeps_matrices, leading_axes, on_leading_axes
from sta.passes.rewriting.shared_heads import share_heads
from sta.passes.rewriting.sinks import Sink, find_sink, gate_as_sink, with_sink
from sta.passes.rewriting.sweep import sweep
from sta.passes.rewriting.torch_operations import TorchBuilder, is_aten, single_use
from sta.spec.operators.operator import Role


def recognize_attention(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the functions of `module`."""
    sweep(module, PlainScores(store))
    erase_dead(module)
    sweep(module, RecognizeAttention(store))
    erase_dead(module)
    sweep(module, NormalizeAttention(store))
    erase_dead(module)


@dataclass(frozen=True)
class PlainScores(RewritePattern):
    """Scores by a product and a sum, a softmax that needs no stabilization of theirs, and no gate of a sink."""

    store: WeightStore

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Rewrites `op` if it is one of these."""
        if is_aten(op, "baddbmm"):
            self._spell_product(op, rewriter)
        elif isinstance(op, torch.SoftmaxIntOp | torch.SoftmaxOp) and (plain := _without_shift(op)) is not None:
            op.operands[0] = plain
            rewriter.notify_op_modified(op)
        elif isinstance(op, torch.MulTensorOp):
            attended = gate_as_sink(TorchBuilder(op, self.store, rewriter), op)
            if attended is not None:
                rewriter.replace(op, (), [attended])

    def _spell_product(self, op: Operation, rewriter: PatternRewriter) -> None:
        builder, result = TorchBuilder(op, self.store, rewriter), op.results[0].type
        added, left, right, beta, alpha = op.operands
        product = _scaled(builder, builder.aten(torch.BmmOp, [left, right], result), torch.number_of(alpha))
        if torch.number_of(beta) != 0:
            operands = [product, _scaled(builder, added, torch.number_of(beta)), builder.integer(1)]
            product = builder.aten(torch.AddTensorOp, operands, result)
        rewriter.replace(op, (), [product])


def _scaled(builder: TorchBuilder, value: SSAValue, factor: float) -> SSAValue:
    return value if factor == 1 else builder.aten(torch.MulScalarOp, [value, builder.number(factor)], value.type)


def _without_shift(softmax: torch.SoftmaxIntOp | torch.SoftmaxOp) -> SSAValue | None:
    """The scores of which `softmax` takes their difference to one number of each row; None if it does not."""
    difference = softmax.input.owner
    if not isinstance(difference, Operation) or not is_aten(difference, "sub.Tensor"):
        return None
    scores, shift, alpha = difference.operands
    axis = torch.integer_of(softmax.dim) % torch.tensor_type(scores).rank - torch.tensor_type(scores).rank
    sizes = torch.sizes_of(shift)
    if torch.constant_of(alpha) != 1 or scores.type != difference.results[0].type:
        return None
    return scores if len(sizes) < -axis or sizes[axis] == 1 else None


@dataclass(frozen=True)
class RecognizeAttention(RewritePattern):
    """
    From a softmax over keys to the products around it: all of it is one attention.

    Scores that are no product are added to a product of zeros. Weights that are not only multiplied with values are
    what attention makes of the rows of a unit matrix. A softmax without product and mask stays.
    """

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.SoftmaxIntOp | torch.SoftmaxOp, rewriter: PatternRewriter) -> None:
        rank = op.result.type.rank
        if rank < 2 or torch.integer_of(op.dim) % rank != rank - 1 or op.input.type != op.result.type:
            return
        sunk = find_sink(op)
        weights, scored = (op.result, op.input) if sunk is None else (sunk.weights, sunk.scores)
        product = _user_behind_views(weights)
        if product is not None and not _has_axes(product, leading_axes(scored)):
            product = None
        replaced = weights.owner if product is None else product
        assert isinstance(replaced, Operation)
        builder = TorchBuilder(replaced, self.store, rewriter)
        scores = find_scores(builder, scored, self.store, rewriter)
        if product is None and sunk is None and not scores.is_product and not self._is_masked(scored.owner):
            return
        if product is None:
            value = _unit_matrices(builder, scores.leading, torch.sizes_of(weights)[-1])
        elif torch.sizes_of(product.input)[:-2] == scores.leading:
            value = product.other
        else:
            value = on_leading_axes(builder, product.other, scores.leading)
        attended = _attention(builder, scores, value, sunk)
        rewriter.replace(replaced, (), [builder.view(attended, torch.sizes_of(replaced.results[0]))])

    def _is_masked(self, owner: Operation | Block) -> bool:
        """True if `owner` selects scores, or adds a mask to them."""
        if not isinstance(owner, Operation):
            return False
        if isinstance(owner, torch.AddTensorOp):
            return any(map(MaskAnalysis(self.store).admits, owner.operands[:2]))
        row = torch.find_row(owner)
        return row is not None and row.role is Role.SELECTION


def _has_axes(product: torch.MatmulOp | torch.BmmOp, leading: tuple[int, ...]) -> bool:
    """True if weights and values of `product` are on the leading axes of their scores, or as many."""
    weights, values = (torch.sizes_of(one)[:-2] for one in (product.input, product.other))
    return weights == leading or math.prod(values) == math.prod(leading)


def _unit_matrices(builder: TorchBuilder, leading: tuple[int, ...], size: int) -> SSAValue:
    matrices = np.broadcast_to(np.eye(size, dtype=np.float32), (*leading, size, size))
    return builder.literal(np.array(matrices, order="C"), "attention_weights")


def _attention(builder: TorchBuilder, scores: Scores, value: SSAValue, sink: Sink | None) -> SSAValue:
    key, mask, biases = _transposed(builder, scores.key_transposed), scores.mask, list[SSAValue]()
    if sink is not None:
        key, value, mask, biases = with_sink(builder, sink, key, value, mask, torch.sizes_of(scores.query)[-2])
    operands = [
        scores.query,
        key,
        value,
        builder.none() if mask is None else mask,
        builder.number(0.0),
        builder.boolean(False),
        builder.number(scores.scale),
        builder.boolean(False),
        *biases,
    ]
    rows, width = torch.sizes_of(scores.query)[-2], torch.sizes_of(value)[-1]
    kind = torch.VTensorType((*scores.leading, rows, width), torch.tensor_type(value).element_type)
    attention = builder.aten(torch.ScaledDotProductAttentionOp, operands, kind)
    assert isinstance(attention.owner, Operation)
    if mask is not None:
        attention.owner.attributes[torch.SPELLED] = UnitAttr()
    if scores.fill is not None and math.isfinite(scores.fill):
        attention.owner.attributes[torch.MASK_FILL] = FloatAttr(scores.fill, f64)
    return attention


def _user_behind_views(weights: SSAValue) -> torch.MatmulOp | torch.BmmOp | None:
    """
    The product that takes `weights` as its first operand, behind views that keep the last two axes; None if anything
    else uses them.
    """
    while single_use(weights):
        user = next(iter(weights.uses)).operation
        if not keeps_matrices(user):
            if not isinstance(user, torch.MatmulOp | torch.BmmOp):
                return None
            return user if user.input is weights else None
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
    """Every attention has a constant, positive scale, four axes, and as many batches of keys as of queries."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.ScaledDotProductAttentionOp, rewriter: PatternRewriter) -> None:
        builder = TorchBuilder(op, self.store, rewriter)
        if isinstance(op.scale.type, torch.NoneType):
            _set_scale(op, builder.number(1 / math.sqrt(torch.sizes_of(op.query)[-1])), rewriter)
        elif torch.is_constant(op.scale) and torch.number_of(op.scale) <= 0:
            sign = math.copysign(1.0, torch.number_of(op.scale)) if torch.number_of(op.scale) else 0.0
            op.operands[0] = _scaled(builder, op.query, sign)
            _set_scale(op, builder.number(abs(torch.number_of(op.scale)) or 1.0), rewriter)
        if share_heads(builder, op, rewriter):
            return
        if op.result.type.rank != 4:
            self._take_four_axes(builder, op, rewriter)
            return
        if not torch.constant_of(op.enable_gqa) and any(
            torch.sizes_of(one)[:-2] != op.result.type.sizes[:-2] for one in op.operands[:3]
        ):
            leading = op.result.type.sizes[:-2]
            op.operands = [*(_on_all(builder, one, leading) for one in op.operands[:3]), *op.operands[3:]]
            rewriter.notify_op_modified(op)

    def _take_four_axes(
        self, builder: TorchBuilder, op: torch.ScaledDotProductAttentionOp, rewriter: PatternRewriter
    ) -> None:
        """Missing axes are 1, and further ones join the batch."""
        sizes = op.result.type.sizes
        leading, tensors = sizes[:-2], list(op.operands[:3])
        if len(sizes) > 4 and not torch.constant_of(op.enable_gqa):
            tensors = [_on_all(builder, one, leading) for one in tensors]
        tensors = [builder.view(one, _four_axes(torch.sizes_of(one))) for one in tensors]
        rest = list(op.operands[3:])
        if isinstance(op.attn_mask.type, torch.VTensorType):
            rest[0] = _joined(builder, op.attn_mask, leading)
        if op.bias is not None:
            rest[5] = _joined(builder, op.bias, leading)
        wide = torch.VTensorType(_four_axes(sizes), op.result.type.element_type)
        attention = builder.aten(torch.ScaledDotProductAttentionOp, [*tensors, *rest], wide)
        assert isinstance(attention.owner, Operation)
        attention.owner.attributes.update(op.attributes)
        rewriter.replace(op, (), [builder.view(attention, sizes)])


def _set_scale(op: torch.ScaledDotProductAttentionOp, scale: SSAValue, rewriter: PatternRewriter) -> None:
    op.operands[6] = scale
    rewriter.notify_op_modified(op)


def _four_axes(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return (*(1,) * (4 - len(sizes)), *sizes) if len(sizes) <= 4 else (math.prod(sizes[:-3]), *sizes[-3:])


def _on_all(builder: TorchBuilder, value: SSAValue, leading: tuple[int, ...]) -> SSAValue:
    """The matrices `value` broadcast to all leading axes."""
    return expanded(builder, value, (*leading, *torch.sizes_of(value)[-2:]))


def _joined(builder: TorchBuilder, added: SSAValue, leading: tuple[int, ...]) -> SSAValue:
    """A mask or a bias of scores whose `leading` axes but the last are joined."""
    sizes = torch.sizes_of(added)
    if len(leading) <= 2 or len(sizes) <= 3:
        return added
    if math.prod(sizes[:-3]) > 1:
        added = expanded(builder, added, (*leading[:-1], *sizes[-3:]))
    return builder.view(added, _four_axes(torch.sizes_of(added)))


@dataclass(frozen=True)
class TorchRecognizeAttentionPass(ModulePass):
    """Replaces spelled-out attention by aten.scaled_dot_product_attention, with a constant scale."""

    name = "torch-recognize-attention"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place."""
        recognize_attention(op, weights_of(ctx))
