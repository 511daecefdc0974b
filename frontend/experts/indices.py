"""Rules for values at the experts of slots, and for slots put together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

from sta.frontend.experts.groups import joined
from sta.frontend.experts.lifted import Choice, Lifted, aligned
from sta.frontend.experts.rewriting import (
    Group,
    Rewriting,
    Rule,
    Value,
    axis_of,
    lifted,
    registrar,
    spread,
)
from sta.frontend.graph_builder import NotRewritten, argument_of, name_of, sizes_of

if TYPE_CHECKING:
    from torch.fx import Node

RULES: dict[str, Rule] = {}
_rule = registrar(RULES)


@_rule("gather.default")
def _gather(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    source, axis, index = values[:3]
    builder, index = rewriting.builder, lifted(index)
    axis = axis_of(index, axis)
    if axis != index.axis or not index.is_slot_axis or not index.is_numbers or isinstance(source, Lifted):
        raise NotRewritten("indices of something else than experts")
    sizes = sizes_of(source)
    if sizes[axis] != index.choice.experts or _without(sizes, axis) != _without(index.sizes, axis):
        raise NotRewritten("indices of something else than experts")
    dense = lambda: spread(builder, source, axis)  # noqa: E731
    return replace(index, make_dense=dense, is_numbers=False, make_total=None, _made=[])


def _without(sizes: Sequence[int], axis: int) -> list[int]:
    return [*sizes[:axis], *sizes[axis + 1 :]]


@_rule("scatter.src", "scatter.value")
def _scatter(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:

    builder = rewriting.builder
    base, axis, index, source = values
    index, sizes = lifted(index), sizes_of(node)
    axis = axis_of(index, axis)
    if isinstance(base, Lifted) or axis != index.axis or not index.is_slot_axis or not index.is_numbers:
        raise NotRewritten("indices of something else than experts")
    if sizes[axis] != index.choice.experts or _without(sizes, axis) != _without(index.sizes, axis):
        raise NotRewritten("indices of something else than experts")
    count = builder.view(builder.expand(index.count, index.full_sizes(index.choice.experts)), sizes)
    if isinstance(source, Lifted):
        source = builder.expand(aligned(builder, source, index, len(sizes))(), index.full_sizes(index.choice.experts))
        source = builder.view(source, sizes)
    elif not isinstance(source, bool | int | float):
        raise NotRewritten("values that do not come from the slots")
    chosen = builder.call("gt.Scalar", count, 0.5)
    dtype = node.meta["val"].dtype
    if dtype.is_floating_point and is_zero(base) and isinstance(source, int | float):
        result = count if source == 1 else builder.call("mul.Scalar", count, source)
    elif dtype.is_floating_point and is_zero(base):
        result = builder.call("mul.Tensor", source, count)
    elif isinstance(source, bool | int | float):
        result = builder.call("masked_fill.Scalar", base, chosen, source)
    else:
        result = builder.call("where.self", chosen, source, base)
    if source == -math.inf:
        rewriting.excluded[result] = index.choice
    if source == 1 and result is count:
        rewriting.masks[result] = index.choice
    return result


def is_zero(node: Node) -> bool:
    """True for a tensor of zeros."""
    names = ("zeros.default", "zeros_like.default", "new_zeros.default")
    filled = ("full.default", "full_like.default", "new_full.default")
    name = name_of(node)
    return name in names or (name in filled and bool(node.args[-1] == 0))


@_rule("cat.default", "concat.default", "concatenate.default")
def _concatenate(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    """Slots of choices of which each excludes the ones before, parts of values along another axis, or groups."""
    builder, axis = rewriting.builder, argument_of(node, 1, "dim", 0)
    if all(isinstance(one, Group) for one in values[0]):
        return joined(rewriting, values[0], axis)
    parts = [lifted(one) for one in values[0]]
    first = parts[0]
    axis = axis_of(first, axis)
    if axis != first.axis:
        return _side_by_side(rewriting, parts, axis)
    if any(one.axis != axis or not one.is_slot_axis or one.order is not None for one in parts):
        raise NotRewritten("slots beside other slots")
    choices = tuple(one.choice for one in parts)
    for before, after in itertools.pairwise(choices):
        if not set(_all_excluded(before)) | {before} <= set(_all_excluded(after)):
            raise NotRewritten("slots that may hold the same expert")

    def added(nodes: Sequence[Node]) -> Node:
        return reduce(lambda left, right: builder.call("add.Tensor", left, right), nodes)

    def dense() -> Node:
        return added([builder.call("mul.Tensor", one.dense, one.count) for one in parts])

    choice = rewriting.joined.setdefault(choices, Choice(sum(one.slots for one in choices), choices[0].experts))
    is_numbers = all(one.is_numbers for one in parts)
    return Lifted(
        choice,
        tuple(sizes_of(node)),
        axis,
        1,
        added([one.count for one in parts]),
        (lambda: first.dense) if is_numbers else dense,
        is_numbers=is_numbers,
    )


def _side_by_side(rewriting: Rewriting, parts: Sequence[Lifted], axis: int) -> Lifted:
    """Parts of values of the same slots, along another axis than theirs."""
    builder, first = rewriting.builder, parts[0]
    at = first.dense_axis(axis)
    made = [aligned(builder, one, first, len(first.sizes)) for one in parts]
    if sizes_of(first.count)[at] != 1:
        raise NotRewritten("choices of several tokens side by side")

    def dense() -> Node:
        given = [
            builder.expand(make(), one.full_sizes(one.choice.experts)) for make, one in zip(made, parts, strict=True)
        ]
        return builder.call("cat.default", given, at)

    sizes = list(first.sizes)
    sizes[axis] = sum(one.sizes[axis] for one in parts)
    return replace(first, sizes=tuple(sizes), make_dense=dense, make_total=None, is_numbers=False, _made=[])


def _all_excluded(choice: Choice) -> list[Choice]:
    """The choices whose experts another leaves out."""
    found = list(choice.excluded)
    for one in choice.excluded:
        found += _all_excluded(one)
    return found
