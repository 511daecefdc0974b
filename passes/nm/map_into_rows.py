"""
Maps write their result in the order in which its rows are read.

The rows of patches are joined from parts of many rows of an image. Where a map makes the image, it visits it in the
order of the patches, and their rows lie next to each other without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from sta.dialect import nm
from sta.dialect.ir.quantized_value import keep_meaning
from sta.passes.nm.sink_views import reapplied
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.sweep import sweep
from sta.passes.tiling.strided_view import NotAView, StridedView, merge


class MapIntoRows(RewritePattern):
    """`view(permute(map(x)))` becomes `view(map(permute(x)))` where the last axis of the view has several factors."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nm.ViewOp, rewriter: PatternRewriter) -> None:
        views: list[nm.ViewOp | nm.PermuteOp] = []
        value = op.x
        while isinstance(value.owner, nm.ViewOp | nm.PermuteOp) and value.has_one_use():
            views.insert(0, value.owner)
            value = value.owner.x
        made = value.owner
        if not isinstance(made, nm.MapOp) or not value.has_one_use() or made.residual is not None:
            return
        if not _joins_rows(nm.tensor_of(value).get_shape(), [*views, op]):
            return
        source: SSAValue = made.x
        new: list[Operation] = []
        for view in views:
            again = reapplied(view, source)
            new.append(again)
            source = again.result
        scalars = {name: made.properties[name] for name in ("table_scale", "zero_point")}
        kind = TensorType(nm.element_of(made.result), nm.tensor_of(source).get_shape())
        scale = (made.bias.value.data, *made.scale.pair)
        moved = nm.MapOp(source, scale, made.table, None, scalars, kind)
        keep_meaning(made.result, moved.result)
        again = reapplied(op, moved.result)
        for one in (*new, moved, again):
            one.location = made.location
        rewriter.replace(op, [*new, moved, again])


def _joins_rows(shape: Sequence[int], views: Sequence[nm.ViewOp | nm.PermuteOp]) -> bool:
    """True if the last axis behind `views` of a contiguous tensor is made of runs, each a whole last axis before."""
    before = view = StridedView.contiguous(shape)
    try:
        for one in views:
            before = view
            view = view.permuted(one.axes) if isinstance(one, nm.PermuteOp) else view.reshaped(_shape(one))
    except NotAView:
        return False
    factors = merge(view.axes[-1])
    return len(factors) > 1 and factors[-1] == (before.shape[-1], 1)


def _shape(view: nm.ViewOp) -> tuple[int, ...]:
    return tuple(nm.tensor_of(view.result).get_shape())


@dataclass(frozen=True)
class NmMapIntoRowsPass(ModulePass):
    """Lets a map write its result in the order in which a linear layer reads its rows."""

    name = "nm-map-into-rows"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        sweep(op, MapIntoRows())
        erase_dead(op)
