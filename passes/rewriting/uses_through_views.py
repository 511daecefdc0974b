"""Consumers of a value, seen through rearrangements."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue, Use
from xdsl.rewriter import InsertPoint, Rewriter

from sta.dialect import torch

VIEWS = torch.ViewOp | torch.PermuteOp | torch.SliceTensorOp | torch.ExpandOp | torch.UnfoldOp


@dataclass(frozen=True)
class Consumer:
    """A use of a value by an operation other than a view, and the views on the way."""

    use: Use
    path: tuple[Operation, ...]

    @property
    def keeps_columns(self) -> bool:
        """True if the operand has the value's last axis, whole and in order."""
        return all(keeps_columns(view) for view in self.path)


def consumers_of(value: SSAValue, path: tuple[Operation, ...] = ()) -> list[Consumer]:
    """Uses of `value`, seen through views."""
    consumers: list[Consumer] = []
    for use in value.uses:
        if isinstance(use.operation, VIEWS):
            consumers += consumers_of(use.operation.result, (*path, use.operation))
        else:
            consumers.append(Consumer(use, path))
    return consumers


def redirect(source: SSAValue, target: SSAValue, consumers: list[Consumer]) -> None:
    """Lets `consumers` of `source` use `target` instead, through views of its own."""
    copies: dict[Operation, SSAValue] = {}
    for consumer in consumers:
        value = target
        for view in consumer.path:
            if view not in copies:
                copy = view.clone({view.operands[0]: value})
                Rewriter.insert_op(copy, InsertPoint.after(view))
                copies[view] = copy.results[0]
            value = copies[view]
        consumer.use.operation.operands[consumer.use.index] = value


def keeps_columns(view: Operation) -> bool:
    """True if the last axis of the operand of `view` is the last axis of its result, too, whole and in order."""
    if isinstance(view, torch.ViewOp | torch.ExpandOp):
        return torch.sizes_of(view.input)[-1:] == torch.sizes_of(view.result)[-1:]
    if isinstance(view, torch.PermuteOp):
        return view.axes[-1] == len(view.axes) - 1
    return isinstance(view, torch.SliceTensorOp) and view.bounds[0] != len(torch.sizes_of(view.input)) - 1


def source_of_rows(value: SSAValue) -> SSAValue:
    """Value whose rows are the rows of `value`, before views."""
    while isinstance(value.owner, VIEWS) and keeps_columns(value.owner):
        value = value.owner.input
    return value
