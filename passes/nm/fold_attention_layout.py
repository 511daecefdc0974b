"""Attention with its output in the layout of its consumer."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, PatternRewriteWalker, RewritePattern, op_type_rewrite_pattern

from sta.dialect import nm
from sta.dialect.ir.quantized_value import keep_meaning


class FoldPermutation(RewritePattern):
    """`permute(attention)` becomes an attention whose result has the permuted axes."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nm.PermuteOp, rewriter: PatternRewriter) -> None:
        attention = op.x.owner
        if not isinstance(attention, nm.AttentionOp) or not op.x.has_one_use():
            return
        folded = nm.AttentionOp(
            (attention.q, attention.k, attention.v),
            attention.mask,
            attention.score_scale.pair,
            (
                *attention.output_scale.pair,
                attention.zero_point.value.data,
            ),
            attention.causal is not None,
            nm.element_of(op.result),
            [attention.axes[axis] for axis in op.axes],
            bits=attention.bits,
            chunk=attention.chunk_keys,
            bias=attention.bias_and_scale,
        )
        folded.location = attention.location
        keep_meaning(op.result, folded.result)
        rewriter.replace(op, folded)
        rewriter.erase(attention)


@dataclass(frozen=True)
class NmFoldAttentionLayoutPass(ModulePass):
    """Folds a permutation of an attention's result into the attention."""

    name = "nm-fold-attention-layout"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        PatternRewriteWalker(FoldPermutation()).rewrite_module(op)
