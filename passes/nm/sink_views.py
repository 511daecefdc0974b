"""Moves views from between a product and its epilogue, so that the epilogue can be fused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.irdl import IRDLOperation
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import (
    GreedyRewritePatternApplier,
    PatternRewriter,
    PatternRewriteWalker,
    RewritePattern,
    op_type_rewrite_pattern,
)

from sta.dialect import nm
from sta.dialect.ir.quantized_value import keep_meaning

Reordering = nm.ViewOp | nm.PermuteOp
"""Views with an inverse."""


def _reordering(value: SSAValue) -> Reordering | None:
    op = value.owner
    return op if isinstance(op, nm.ViewOp | nm.PermuteOp) else None


def reapplied(view: Reordering, value: SSAValue) -> nm.ViewOp | nm.PermuteOp:
    """The same view of another value of the operand's shape."""
    if isinstance(view, nm.ViewOp):
        return nm.ViewOp(value, nm.tensor_of(view.result).get_shape())
    return nm.PermuteOp(value, view.axes)


def undone(view: Reordering, value: SSAValue) -> nm.ViewOp | nm.PermuteOp:
    """A value of the view's result shape in the layout of the view's operand."""
    if isinstance(view, nm.ViewOp):
        return nm.ViewOp(value, nm.tensor_of(view.x).get_shape())
    return nm.PermuteOp(value, [view.axes.index(axis) for axis in range(len(view.axes))])


def _insert(rewriter: PatternRewriter, place: Operation, *new: IRDLOperation) -> None:
    for op in new:
        op.location = place.location
    rewriter.replace(place, new)


class SinkBelowCombination(RewritePattern):
    """
    `add(view(a), b)` becomes `view(add(a, inverse view(b)))` if `a` comes from accumulators and `b` does not: otherwise
    a view of one of them has to stay. Likewise for every combination.
    """

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nm.CombinationOp, rewriter: PatternRewriter) -> None:
        for term, other in ((op.a, op.b), (op.b, op.a)):
            view = _reordering(term)
            if view is None or nm.tensor_of(term).get_shape() != nm.tensor_of(other).get_shape():
                continue
            if not _from_accumulators(view.x) or _from_accumulators(other):
                continue
            moved = undone(view, other)
            keeps_order = term is op.a or op.COMBINE == op.EXCHANGED
            total = type(op)(*((view.x, moved.result) if keeps_order else (moved.result, view.x)))
            _insert(rewriter, op, moved, total, reapplied(view, total.result))
            return


def _from_accumulators(value: SSAValue) -> bool:
    """True if the value is a product's rescaling or a combination of such, possibly seen through views."""
    view = _reordering(value)
    if view is not None:
        return _from_accumulators(view.x)
    op = value.owner
    of_values = isinstance(op, nm.RescaleOp) and isinstance(op.x.owner, nm.DynamicProductOp)
    return of_values or isinstance(op, nm.RescaleChannelsOp | nm.CombinationOp)


class SinkBelowClamp(RewritePattern):
    """`clamp(view(x))` becomes `view(clamp(x))`."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nm.ClampOp, rewriter: PatternRewriter) -> None:
        view = _reordering(op.x)
        if view is None:
            return
        clamped = nm.ClampOp(view.x, op.zero_point.value.data, nm.element_of(op.result))
        keep_meaning(op.result, clamped.result)
        _insert(rewriter, op, clamped, reapplied(view, clamped.result))


def _viewed(value: SSAValue) -> Operation | Block:
    """The owner of a value that is seen through views."""
    view = _reordering(value)
    return value.owner if view is None else _viewed(view.x)


def _is_read_once(value: SSAValue) -> bool:
    """True if a value, and everything that it is a view of, has no other reader."""
    view = _reordering(value)
    return value.has_one_use() and (view is None or _is_read_once(view.x))


class SinkBelowTable(RewritePattern):
    """
    `table(view(x))` becomes `view(table(x))` if `x` is an accumulators' clamp that nothing else reads: the table is
    looked up as they drain.
    """

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nm.TableOp, rewriter: PatternRewriter) -> None:
        view = _reordering(op.x)
        if view is None or not _is_read_once(op.x):
            return
        clamp = _viewed(view.x)
        if not isinstance(clamp, nm.ClampOp) or not _from_accumulators(clamp.x):
            return
        found = nm.TableOp(view.x, op.table)
        _insert(rewriter, op, found, reapplied(view, found.result))


class SinkBelowRescale(RewritePattern):
    """`rescale(view(table(x)))` becomes `view(rescale(table(x)))`: the rescaling of a table's result stays with it."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nm.RescaleOp, rewriter: PatternRewriter) -> None:
        view = _reordering(op.x)
        if view is None or not isinstance(_viewed(view.x), nm.TableOp):
            return
        rescaled = nm.RescaleOp(view.x, op.bias.value.data, *op.scale.pair)
        _insert(rewriter, op, rescaled, reapplied(view, rescaled.result))


class RaiseAboveRescale(RewritePattern):
    """`view(rescale(x))` becomes `rescale(view(x))`: a residual is rescaled as it is added."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if not isinstance(op, nm.ViewOp | nm.PermuteOp) or not isinstance(op.x.owner, nm.RescaleOp):
            return
        rescale = op.x.owner
        if nm.element_of(rescale.x) in (nm.si32, nm.si64):
            return
        view = reapplied(op, rescale.x)
        scale = (rescale.bias.value.data, *rescale.scale.pair)
        _insert(rewriter, op, view, nm.RescaleOp(view.result, *scale))


PATTERNS: tuple[Callable[[], RewritePattern], ...] = (
    SinkBelowCombination,
    SinkBelowClamp,
    SinkBelowTable,
    SinkBelowRescale,
    RaiseAboveRescale,
)


@dataclass(frozen=True)
class NmSinkViewsPass(ModulePass):
    """
    Sinks reshapes and permutations of accumulators below additions, clamps and tables, and raises reshapes and
    permutations of residuals above their rescaling.
    """

    name = "nm-sink-views"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        patterns = GreedyRewritePatternApplier([pattern() for pattern in PATTERNS], dce_enabled=True)
        PatternRewriteWalker(patterns).rewrite_module(op)
