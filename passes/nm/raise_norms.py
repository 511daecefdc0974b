"""Raises norms above views of their operands, so that a norm follows the product whose rows it normalizes."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from sta.dialect import nm
from sta.dialect.ir.quantized_value import keep_meaning
from sta.passes.nm.sink_views import Reordering, reapplied
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.sweep import sweep


def views_of_rows(value: SSAValue) -> list[Reordering]:
    """The views through which a value is seen, the last first, as far as each keeps rows (the last axis) whole."""
    views: list[Reordering] = []
    view = value.owner
    while isinstance(view, nm.ViewOp | nm.PermuteOp) and _keeps_rows(view):
        views.append(view)
        view = view.x.owner
    return views


def _keeps_rows(view: Reordering) -> bool:
    shape = nm.tensor_of(view.result).get_shape()
    if isinstance(view, nm.PermuteOp):
        return view.axes[-1] == len(shape) - 1
    return nm.tensor_of(view.x).get_shape()[-1:] == shape[-1:]


class RaiseNorm(RewritePattern):
    """`norm(view(x))` becomes `view(norm(x))` where `x` is the result of a linear layer."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nm.NormOp, rewriter: PatternRewriter) -> None:
        views = views_of_rows(op.x)
        if not views or not isinstance(views[-1].x.owner, nm.LinearOp):
            return
        copy_scale = (*op.copy_scale.pair, op.copy_zero_point.value.data)
        raised = nm.NormOp(
            views[-1].x,
            op.gamma,
            op.beta,
            op.kind.data,
            op.epsilon.value.data,
            op.shift.value.data,
            None if op.copy is None else copy_scale,
            stream=op.result is not None,
        )
        made: list[Operation] = [raised]
        results: list[SSAValue] = []
        for old, new in ((op.result, raised.result), (op.copy, raised.copy)):
            if old is None or new is None:
                continue
            keep_meaning(old, new)
            seen: SSAValue = new
            for view in reversed(views):
                again = reapplied(view, seen)
                made.append(again)
                seen = again.result
            results.append(seen)
        for operation in made:
            operation.location = op.location
        rewriter.replace(op, made, results)


@dataclass(frozen=True)
class NmRaiseNormsPass(ModulePass):
    """Lets norms read the rows of linear layers directly, and views their results instead."""

    name = "nm-raise-norms"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        sweep(op, RaiseNorm())
        erase_dead(op)
