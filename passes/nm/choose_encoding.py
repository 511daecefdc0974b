"""N:M sparsity in the zeros of weights, and the smaller of its encodings."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from sta.dialect import nm
from sta.dialect.ir.context import target_of, weights_of
from sta.spec.nm_format import choose_pattern, smaller_encoding


@dataclass(frozen=True)
class NmChooseEncodingPass(ModulePass):
    """
    Gives the weight of every product an N:M pattern that its zeros satisfy: fewest cycles on the target, then fewest
    bytes, then the smallest M.
    """

    name = "nm-choose-encoding"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        weights, target = weights_of(ctx), target_of(ctx)
        for product in [inner for inner in op.walk() if isinstance(inner, nm.ProductOp)]:
            weight = product.weight.owner
            if not isinstance(weight, nm.WeightOp):
                continue
            pattern = choose_pattern(weights.get(weight.store_name), target.multipliers, target.window)
            if pattern.is_dense:
                continue
            encoding = nm.PatternAttr(pattern, smaller_encoding(pattern))
            typed = nm.WeightOp(
                weight.store_name, TensorType(nm.si8, nm.tensor_of(weight.result).get_shape(), encoding)
            )
            typed.location = weight.location
            Rewriter.insert_op(typed, InsertPoint.before(weight))
            product.operands[1] = typed.result
            if not weight.result.uses:
                Rewriter.erase_op(weight)
