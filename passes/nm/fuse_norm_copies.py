"""
A norm and the 8-bit copy of its result are one pass of the vector unit.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from sta.dialect import nm
from sta.dialect.ir.quantized_value import keep_meaning
from sta.passes.rewriting.dead_code import erase_dead


def is_copy(op: object, stream: nm.NormOp) -> bool:
    """
    Whether `op` rescales the norm's 16-bit result to 8 bits and does nothing else.
    """
    return (
        isinstance(op, nm.MapOp)
        and op.x is stream.result
        and op.table is None
        and op.residual is None
        and op.bias.value.data == 0
        and nm.tensor_of(op.result).element_type == nm.si8
    )


def fuse_copy(norm: nm.NormOp) -> None:
    """
    Gives a norm the first 8-bit copy of its result as a second result.
    """
    if norm.result is None or norm.copy is not None:
        return
    copy = next((use.operation for use in norm.result.uses if is_copy(use.operation, norm)), None)
    if not isinstance(copy, nm.MapOp):
        return
    scale = (*copy.scale.pair, copy.zero_point.value.data)
    fused = nm.NormOp(
        norm.x,
        norm.gamma,
        norm.beta,
        norm.kind.data,
        norm.epsilon.value.data,
        norm.shift.value.data,
        scale,
        stream=not norm.result.has_one_use(),
    )
    fused.location = norm.location
    Rewriter.insert_op(fused, InsertPoint.before(norm))
    assert fused.copy is not None
    keep_meaning(copy.result, fused.copy)
    copy.result.replace_all_uses_with(fused.copy)
    Rewriter.erase_op(copy)
    if fused.result is not None:
        keep_meaning(norm.result, fused.result)
        norm.result.replace_all_uses_with(fused.result)


@dataclass(frozen=True)
class NmFuseNormCopiesPass(ModulePass):
    """
    Writes the 16-bit stream and the 8-bit operand of the next product together.
    """

    name = "nm-fuse-norm-copies"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for norm in [inner for inner in op.walk() if isinstance(inner, nm.NormOp)]:
            fuse_copy(norm)
        erase_dead(op)
