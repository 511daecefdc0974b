"""
Raises norms above views of what they normalize, so that a norm follows the product whose rows it takes.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from sta.dialect import nm
from sta.dialect.ir.quantized_value import keep_meaning
from sta.passes.nm.sink_views import Reordering, reapplied
from sta.passes.rewriting.dead_code import erase_dead


def views_of_rows(value: SSAValue) -> list[Reordering]:
    """
    The views through which a value is seen, the last first, as far as each leaves rows (the last axis) whole.
    """
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


def raise_norm(norm: nm.NormOp) -> None:
    """
    `norm(view(x))` becomes `view(norm(x))` where `x` is the result of a linear layer.
    """
    views = views_of_rows(norm.x)
    if not views or not isinstance(views[-1].x.owner, nm.LinearOp):
        return
    copy_scale = (*norm.copy_scale.pair, norm.copy_zero_point.value.data)
    raised = nm.NormOp(
        views[-1].x,
        norm.gamma,
        norm.beta,
        norm.kind.data,
        norm.epsilon.value.data,
        norm.shift.value.data,
        None if norm.copy is None else copy_scale,
        stream=norm.result is not None,
    )
    raised.location = norm.location
    Rewriter.insert_op(raised, InsertPoint.before(norm))
    for old, new in ((norm.result, raised.result), (norm.copy, raised.copy)):
        if old is None or new is None:
            continue
        keep_meaning(old, new)
        seen: SSAValue = new
        for view in reversed(views):
            again = reapplied(view, seen)
            again.location = norm.location
            Rewriter.insert_op(again, InsertPoint.before(norm))
            seen = again.result
        old.replace_all_uses_with(seen)
    Rewriter.erase_op(norm)


@dataclass(frozen=True)
class NmRaiseNormsPass(ModulePass):
    """
    Norms take the rows of linear layers as these leave them; their results are viewed instead.
    """

    name = "nm-raise-norms"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for norm in [inner for inner in op.walk() if isinstance(inner, nm.NormOp)]:
            raise_norm(norm)
        erase_dead(op)
