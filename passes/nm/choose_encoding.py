"""N:M sparsity in the zeros of weights, and the smaller of its encodings."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern
from xdsl.rewriter import InsertPoint

from sta.dialect import nm
from sta.dialect.ir.context import target_of, weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.sweep import sweep
from sta.spec.nm_format import choose_pattern, smaller_encoding
from sta.spec.target import Target


@dataclass(frozen=True)
class EncodeWeight(RewritePattern):
    """The weight of a product gets the pattern that its zeros fit, and the smaller encoding."""

    weights: WeightStore
    target: Target

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nm.ProductOp, rewriter: PatternRewriter) -> None:
        weight = op.weight.owner
        if not isinstance(weight, nm.WeightOp):
            return
        pattern = choose_pattern(self.weights.get(weight.store_name), self.target.multipliers, self.target.window)
        if pattern.is_dense:
            return
        encoding = nm.PatternAttr(pattern, smaller_encoding(pattern))
        shape = nm.tensor_of(weight.result).get_shape()
        typed = nm.WeightOp(weight.store_name, nm.Tensor(nm.si8, shape, encoding))
        typed.location = weight.location
        rewriter.insert(typed, InsertPoint.before(weight))
        op.operands[1] = typed.result
        rewriter.notify_op_modified(op)
        if not weight.result.uses:
            rewriter.erase(weight)


@dataclass(frozen=True)
class NmChooseEncodingPass(ModulePass):
    """
    Gives the weight of every product an N:M pattern that its zeros satisfy: fewest cycles on the target, then fewest
    bytes, then the smallest M.
    """

    name = "nm-choose-encoding"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        sweep(op, EncodeWeight(weights_of(ctx), target_of(ctx)))
