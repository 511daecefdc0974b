"""A norm and the 8-bit copy of its result in one pass of the vector unit."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern
from xdsl.rewriter import InsertPoint

from sta.dialect import nm
from sta.dialect.ir.quantized_value import keep_meaning
from sta.passes.rewriting.sweep import sweep


def is_copy(op: object, stream: nm.NormOp) -> bool:
    """True if `op` rescales the norm's 16-bit result to 8 bits and does nothing else."""
    return (
        isinstance(op, nm.MapOp)
        and op.x is stream.result
        and op.table is None
        and op.residual is None
        and op.bias.value.data == 0
        and nm.tensor_of(op.result).element_type == nm.si8
    )


class FuseCopy(RewritePattern):
    """A norm gets the first 8-bit copy of its result as a second result."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nm.NormOp, rewriter: PatternRewriter) -> None:
        if op.result is None or op.copy is not None:
            return
        copy = next((use.operation for use in op.result.uses if is_copy(use.operation, op)), None)
        if not isinstance(copy, nm.MapOp):
            return
        scale = (*copy.scale.pair, copy.zero_point.value.data)
        fused = nm.NormOp(
            op.x,
            op.gamma,
            op.beta,
            op.kind.data,
            op.epsilon.value.data,
            op.shift.value.data,
            scale,
            stream=not op.result.has_one_use(),
        )
        fused.location = op.location
        assert fused.copy is not None
        keep_meaning(copy.result, fused.copy)
        if fused.result is not None:
            keep_meaning(op.result, fused.result)
        rewriter.insert(fused, InsertPoint.before(op))
        rewriter.replace(copy, (), [fused.copy])
        rewriter.replace(op, (), [fused.result])


@dataclass(frozen=True)
class NmFuseNormCopiesPass(ModulePass):
    """Writes the 16-bit stream and the 8-bit operand of the next product together."""

    name = "nm-fuse-norm-copies"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        sweep(op, FuseCopy())
