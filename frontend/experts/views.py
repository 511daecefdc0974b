"""Rules for views, and for parts of values in slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from sta.frontend.experts.groups import groups
from sta.frontend.experts.lifted import Choice, Lifted, permuted, viewed
from sta.frontend.experts.ranks import between
from sta.frontend.experts.rewriting import (
    Rewriting,
    Rule,
    Value,
    axis_of,
    lifted,
    own_axis,
    registrar,
)
from sta.frontend.graph_builder import NotRewritten, argument_of, sizes_of

if TYPE_CHECKING:
    from torch.fx import Node

RULES: dict[str, Rule] = {}
_rule = registrar(RULES)


@_rule(
    "view.default",
    "reshape.default",
    "_unsafe_view.default",
    "unsqueeze.default",
    "squeeze.dim",
    "squeeze.dims",
    "squeeze.default",
    "flatten.using_ints",
    "unflatten.int",
)
def _view(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    return viewed(rewriting.builder, lifted(values[0]), sizes_of(node))


@_rule("expand.default", "expand_as.default")
def _expand(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    value, sizes = lifted(values[0]), sizes_of(node)
    added = len(sizes) - len(value.sizes)
    if sizes[value.axis + added] != value.sizes[value.axis]:
        raise NotRewritten("slots that are repeated")
    widened = viewed(rewriting.builder, value, [*(1 for _ in range(added)), *value.sizes])
    # What does not depend on an axis has size 1 there.
    return replace(widened, sizes=tuple(sizes), make_total=None)


@_rule("permute.default")
def _permute(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    value = lifted(values[0])
    return permuted(rewriting.builder, value, [axis_of(value, axis) for axis in values[1]])


@_rule("transpose.int", "t.default")
def _transpose(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    value, first, second = lifted(values[0]), *(values[1:] or (0, 1))
    axes = list(range(len(value.sizes)))
    axes[first], axes[second] = axes[second], axes[first]
    return permuted(rewriting.builder, value, axes)


@_rule("split.Tensor", "split_with_sizes.default", "chunk.default")
def _split(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    value, given = lifted(values[0]), values[1]
    axis = axis_of(value, argument_of(node, 2, "dim", 0))
    if value.order is not None and axis == value.axis and isinstance(given, list):
        return groups(rewriting, value, value.order, cast("list[Value]", given))
    axis = own_axis(value, axis)
    parts: list[int] = [int(part.shape[axis]) for part in node.meta["val"]]
    starts = [sum(parts[:index]) for index in range(len(parts))]
    return [cut(rewriting, value, axis, start, start + size, 1) for start, size in zip(starts, parts, strict=True)]


@_rule("slice.Tensor")
def _slice(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    value = lifted(values[0])
    axis = axis_of(value, argument_of(node, 1, "dim", 0))
    size = value.sizes[axis]
    limits = slice(argument_of(node, 2, "start"), argument_of(node, 3, "end"), argument_of(node, 4, "step", 1))
    start, stop, step = limits.indices(size)
    if (start, stop, step) == (0, size, 1):
        return value
    if axis == value.axis:
        _check_is_slot_axis(value)
        return _some_slots(rewriting, value, start, stop, step)
    return cut(rewriting, value, axis, start, stop, step)


@_rule("select.int")
def _select(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    value, axis, index = values
    value = lifted(value)
    axis = axis_of(value, axis)
    index %= value.sizes[axis]
    if axis != value.axis:
        part = cut(rewriting, value, axis, index, index + 1, 1)
        return viewed(rewriting.builder, part, sizes_of(node))
    _check_is_slot_axis(value)
    slot = _some_slots(rewriting, value, index, index + 1, 1)
    return rewriting.builder.view(slot.total(rewriting.builder), sizes_of(node))


def cut(rewriting: Rewriting, value: Lifted, axis: int, start: int, stop: int, step: int) -> Lifted:
    """A part of an axis that is not that of the slots."""

    builder, at = rewriting.builder, value.dense_axis(axis)

    def part(node: Node) -> Node:
        if sizes_of(node)[at] == 1:
            return node
        return builder.call("slice.Tensor", node, at, start, stop, step)

    sizes = list(value.sizes)
    sizes[axis] = len(range(start, stop, step))
    return replace(
        value,
        sizes=tuple(sizes),
        **value.marks(part),
        make_dense=lambda: part(value.dense),
        make_total=None,
        _made=[],
    )


def _some_slots(rewriting: Rewriting, value: Lifted, start: int, stop: int, step: int) -> Lifted:
    """The slots of some ranks."""
    builder, choice = rewriting.builder, value.choice
    if value.ranks is None or step != 1 or value.order is not None:
        raise NotRewritten("slots that are told apart")
    count = between(builder, value.ranks, start, stop, choice.experts)
    sizes = list(value.sizes)
    sizes[value.axis] = value.outer * (stop - start) * value.inner
    return replace(
        value,
        choice=Choice(stop - start, choice.experts),
        sizes=tuple(sizes),
        count=count,
        ranks=None,
        make_total=None,
        _made=[],
    )


def slots_of(rewriting: Rewriting, value: Lifted) -> Node:
    """The value itself, slot after slot: that of the expert in it."""
    if value.order is not None:
        raise NotRewritten("sorted slots")
    builder, slots, axis = rewriting.builder, value.choice.slots, value.axis
    sizes = [*value.sizes[:axis], value.outer, 1, value.inner, *value.sizes[axis + 1 :]]
    single = [value] if slots == 1 else [_some_slots(rewriting, value, slot, slot + 1, 1) for slot in range(slots)]
    parts = [builder.view(one.total(builder), sizes) for one in single]
    return builder.view(parts[0] if slots == 1 else builder.call("cat.default", parts, axis + 1), value.sizes)


def _check_is_slot_axis(value: Lifted) -> None:
    if not value.is_slot_axis:
        raise NotRewritten("slots of several tokens that are told apart")
