"""Rules for operators along axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sta.frontend.experts.lifted import viewed
from sta.frontend.experts.rewriting import (
    Rewriting,
    Rule,
    Value,
    axis_of,
    lifted,
    registrar,
)
from sta.frontend.graph_builder import NotRewritten, name_of, sizes_of

if TYPE_CHECKING:
    from torch.fx import Node

RULES: dict[str, Rule] = {}
_rule = registrar(RULES)


@_rule("sum.dim_IntList", "mean.dim")
def _reduce(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:

    builder, value = rewriting.builder, lifted(values[0])
    axes = sorted(axis_of(value, axis) for axis in (values[1] or range(len(value.sizes))))
    keeps = len(values) > 2 and values[2]
    if not node.meta["val"].is_floating_point():
        raise NotRewritten("a sum of integers")
    if value.axis not in axes:
        moved = [value.dense_axis(axis) for axis in axes]

        def dense() -> Node:
            sizes = value.full_sizes(sizes_of(value.dense)[value.axis + 1])
            return builder.call_target(node.target, builder.expand(value.dense, sizes), moved, True)

        kept = [1 if axis in axes else size for axis, size in enumerate(value.sizes)]
        reduced = replace(
            value,
            sizes=tuple(kept),
            **value.marks(lambda one: _ones_at(one, moved)),
            make_dense=dense,
            make_total=None,
            _made=[],
        )
        return reduced if keeps else viewed(builder, reduced, sizes_of(node))
    total = value.total(builder)
    left = [axis for axis in axes if axis != value.axis or not value.is_slot_axis]
    if name_of(node) == "mean.dim":
        total = builder.call("div.Tensor", total, value.choice.slots)
    if left:
        total = builder.call_target(node.target, total, left, True)
    return builder.view(total, sizes_of(node))


def _ones_at(node: Node, axes: Sequence[int]) -> Node:
    """A count that does not depend on some axes."""
    if any(sizes_of(node)[axis] != 1 for axis in axes):
        raise NotRewritten("a sum over tokens")
    return node


@_rule("softmax.int", "_softmax.default")
def _softmax(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    """Over the slots: the experts' exponentials, those that are not chosen without a part in the sum."""

    builder = rewriting.builder
    value, axis = lifted(values[0]), axis_of(lifted(values[0]), values[1])
    if axis != value.axis:
        raise NotRewritten("a softmax beside slots")
    if not value.is_slot_axis:
        raise NotRewritten("a softmax over slots of several tokens")

    def dense() -> Node:
        experts = builder.expand(value.dense, value.full_sizes(value.choice.experts))
        parts = builder.call("softmax.int", experts, value.axis + 1)
        chosen = builder.call("mul.Tensor", parts, value.count)
        return builder.call("div.Tensor", parts, builder.call("sum.dim_IntList", chosen, [value.axis + 1], True))

    return replace(value, make_dense=dense, make_total=None, _made=[])
