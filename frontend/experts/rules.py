"""
Operators on values in slots, as operations on values of experts.

A rule gets the rewriting and the node, and returns the node's new value: lifted, a node of the graph, or one of the
marks below. It raises NotRewritten where there is no counterpart.
"""
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# Operators of torch.ops and arguments of nodes have no public types.

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from sta.frontend.experts.choice import between, ranks_of
from sta.frontend.experts.lifted import Choice, Lifted, Order, aligned, permuted, viewed
from sta.frontend.graph_builder import GraphBuilder, NotRewritten, name_of, sizes_of

if TYPE_CHECKING:
    from torch.fx import Node


@dataclass(frozen=True, eq=False)
class Tokens:
    """The token of each of the sorted slots."""

    order: Order


@dataclass(frozen=True, eq=False)
class Inverse:
    """The position of each slot in a sorted order."""

    order: Order


@dataclass(frozen=True, eq=False)
class Ends:
    """The number of sorted slots of each expert, or the end of its slots."""

    order: Order


Value: TypeAlias = Any
"""A Lifted, an Order, one of the marks, a Python constant, a node of the graph, or a list of those."""
Rule = Callable[["Rewriting", "Node", Sequence[Value]], Value]


@dataclass
class Rewriting:
    """Values of the nodes of a graph, as far as they are rewritten."""

    builder: GraphBuilder
    values: dict[Node, Value] = field(default_factory=dict)
    excluded: dict[Node, Choice] = field(default_factory=dict)
    """Scores of which those that a choice took are -inf, and that choice."""
    joined: dict[tuple[Choice, ...], Choice] = field(default_factory=dict)
    """The slots of several choices, one after the other."""

    def value_of(self, argument: Any) -> Value:
        """The value of an argument of a node."""
        from torch.fx import Node

        if isinstance(argument, list | tuple):
            return [self.value_of(one) for one in argument]
        return self.values.get(argument, argument) if isinstance(argument, Node) else argument


RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update((name, rule) for name in names)
        return rule

    return register


def rule_of(node: Node) -> Rule | None:
    """The rule of a node with lifted arguments; None if its operator has none."""
    import torch

    if node.target is operator.getitem:
        return _part_of_list
    found = RULES.get(name_of(node))
    if found is None and isinstance(node.target, torch._ops.OpOverload):
        if node.target._schema.name == "transformers::grouped_mm_fallback":
            return _grouped_product
        return _elementwise if torch.Tag.pointwise in node.target.tags else None
    return found


def _axis(value: Lifted, axis: int) -> int:
    return axis % len(value.sizes)


def _lifted(value: Value) -> Lifted:
    if not isinstance(value, Lifted):
        raise NotRewritten("an operand without slots")
    return value


def _own_axis(value: Lifted, axis: int) -> int:
    """An axis that is not that of the slots."""
    axis = _axis(value, axis)
    if axis == value.axis:
        raise NotRewritten("slots that are told apart")
    return axis


def _part_of_list(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    parts, index = values
    if not isinstance(parts, list):
        raise NotRewritten("a part of no list")
    return parts[index]


# --- Choices ---


def choose_best(rewriting: Rewriting, node: Node) -> list[Value]:
    """The values and indices of topk."""
    scores, count, axis, largest, is_sorted = [*node.args, *(-1, True, True)[len(node.args) - 2 :]]
    axis, largest = node.kwargs.get("dim", axis), node.kwargs.get("largest", largest)
    assert hasattr(scores, "meta")
    return _chosen(rewriting, scores, axis, count, bool(largest), bool(node.kwargs.get("sorted", is_sorted)))


def choose_first(rewriting: Rewriting, node: Node) -> Value:
    """The index of the largest element, and for `max.dim` its value."""

    scores, axis, *rest = cast("Any", node.args)
    keeps = bool(rest[0]) if rest else bool(node.kwargs.get("keepdim", False))
    if axis is None:
        raise NotRewritten("the largest of all elements")
    _, index = _chosen(rewriting, scores, axis, 1, True, True)
    sizes = list(index.sizes)
    if not keeps:
        del sizes[axis % len(sizes)]
        if not sizes:
            raise NotRewritten("an index without axes")
        index = viewed(rewriting.builder, index, sizes)
    if name_of(node) == "argmax.default":
        return index
    largest = rewriting.builder.call("amax.default", scores, [axis], keeps)
    return [largest, index]


def _chosen(
    rewriting: Rewriting, scores: Any, axis: int, count: int, is_largest: bool, is_sorted: bool
) -> list[Lifted]:
    builder = rewriting.builder
    sizes = sizes_of(scores)
    if not scores.meta["val"].is_floating_point() or not sizes:
        raise NotRewritten("a choice among integers")
    axis %= len(sizes)
    experts = sizes[axis]
    ranks = _spread(builder, ranks_of(builder, scores, axis, is_largest), axis)
    excluded = rewriting.excluded.get(scores)
    choice = Choice(count, experts, ranks if is_sorted else None, () if excluded is None else (excluded,))
    slots = [*sizes[:axis], count, *sizes[axis + 1 :]]
    mask = between(builder, ranks, 0, count, experts)
    values = Lifted(choice, tuple(slots), axis, 1, mask, lambda: _spread(builder, scores, axis))
    numbers = _numbers(builder, experts, axis, len(sizes))
    return [values, replace(values, make_dense=lambda: numbers, is_numbers=True, _made=[])]


def choose_listed(rewriting: Rewriting, indices: Any, experts: int) -> Lifted:
    """Slots that are filled with integers, which may be equal; along their last axis."""
    import torch

    builder = rewriting.builder
    sizes = sizes_of(indices)
    axis = len(sizes) - 1
    every = builder.constant(torch.arange(experts, dtype=indices.meta["val"].dtype))
    equal = builder.call("eq.Tensor", builder.call("unsqueeze.default", indices, -1), every)
    count = builder.total(builder.call("to.dtype", equal, torch.float32), [-2])
    numbers = _numbers(builder, experts, axis, len(sizes))
    return Lifted(
        Choice(sizes[-1], experts),
        tuple(sizes),
        axis,
        1,
        _spread(builder, count, axis),
        lambda: numbers,
        is_numbers=True,
    )


def _spread(builder: GraphBuilder, node: Node, axis: int) -> Node:
    """The axis of the experts between two of size 1."""
    sizes = sizes_of(node)
    return builder.view(node, [*sizes[:axis], 1, sizes[axis], 1, *sizes[axis + 1 :]])


def _numbers(builder: GraphBuilder, experts: int, axis: int, rank: int) -> Node:
    """The numbers of the experts, the same for all tokens."""
    import torch

    sizes = [1] * (rank + 2)
    sizes[axis + 1] = experts
    return builder.constant(torch.arange(experts).reshape(sizes))


# --- Elements ---


def _elementwise(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    builder = rewriting.builder
    form = next((one for one in values if isinstance(one, Lifted)), None)
    if form is None or any(isinstance(one, list | Order | Tokens | Inverse | Ends) for one in values):
        raise NotRewritten("an operation on what is no tensor with slots")
    sizes = sizes_of(node)
    axis = form.axis + len(sizes) - len(form.sizes)
    if sizes[axis] != form.sizes[form.axis]:
        raise NotRewritten("slots that are repeated")
    operands = [aligned(builder, one, form, len(sizes)) for one in values]
    keywords = {name: one for name, one in node.kwargs.items() if name not in ("memory_format", "layout", "pin_memory")}
    count = builder.view(form.count, [*(1 for _ in range(axis - form.axis)), *sizes_of(form.count)])
    result = Lifted(
        form.choice,
        tuple(sizes),
        axis,
        form.inner,
        count,
        lambda: builder.call_target(node.target, *(one() for one in operands), **keywords),
        form.order,
    )
    return replace(result, make_total=_total_of(rewriting, node, values, operands))


def _total_of(
    rewriting: Rewriting, node: Node, values: Sequence[Value], operands: Sequence[Callable[[], Any]]
) -> Callable[[Node], Node] | None:
    """The sum over the experts of a product or a sum of which a part has a cheap one."""

    builder, sizes = rewriting.builder, tuple(sizes_of(node))
    cheap = next((index for index, one in enumerate(values) if isinstance(one, Lifted) and one.make_total), None)
    if cheap is None or values[cheap].sizes != sizes or len(values) > 2:
        return None
    if name_of(node) in _COPIES:
        return values[cheap].make_total
    if len(values) != 2 or node.kwargs:
        return None
    part, other = values[cheap], values[1 - cheap]
    if name_of(node) == "mul.Tensor":
        factor = operands[1 - cheap]
        return lambda weight: part.total(builder, builder.call("mul.Tensor", weight, factor()))
    if name_of(node) == "add.Tensor" and isinstance(other, Lifted) and other.sizes == sizes:
        return lambda weight: builder.call("add.Tensor", part.total(builder, weight), other.total(builder, weight))
    return None


_COPIES = ("alias.default", "clone.default", "detach.default")


@_rule("alias.default", "clone.default", "detach.default", "contiguous.default")
def _copy(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    return values[0]


@_rule("_to_copy.default", "to.dtype", "type_as.default")
def _converted(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:

    value, dtype = _lifted(values[0]), node.meta["val"].dtype
    if node.args[0].meta["val"].dtype == dtype:
        return value
    builder = rewriting.builder
    dense = lambda: builder.call("to.dtype", value.dense, dtype)  # noqa: E731
    return replace(value, make_dense=dense, make_total=None, _made=[])


@_rule("floor_divide.default", "div.Tensor_mode", "floor_divide.Scalar", "div.Scalar_mode")
def _quotient(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    """The tokens of sorted slots: their positions without order, divided by the slots of a token."""
    order = values[0]
    if not isinstance(order, Order):
        return _elementwise(rewriting, node, values)
    if values[1] != order.ids.choice.slots:
        raise NotRewritten("arithmetic with positions")
    return Tokens(order)


# --- Views ---


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
    return viewed(rewriting.builder, _lifted(values[0]), sizes_of(node))


@_rule("expand.default", "expand_as.default")
def _expand(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    value, sizes = _lifted(values[0]), sizes_of(node)
    added = len(sizes) - len(value.sizes)
    if sizes[value.axis + added] != value.sizes[value.axis]:
        raise NotRewritten("slots that are repeated")
    widened = viewed(rewriting.builder, value, [*(1 for _ in range(added)), *value.sizes])
    # What does not depend on an axis has size 1 there.
    return replace(widened, sizes=tuple(sizes), make_total=None)


@_rule("permute.default")
def _permute(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    value = _lifted(values[0])
    return permuted(rewriting.builder, value, [_axis(value, axis) for axis in values[1]])


@_rule("transpose.int", "t.default")
def _transpose(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    value, first, second = _lifted(values[0]), *(values[1:] or (0, 1))
    axes = list(range(len(value.sizes)))
    axes[first], axes[second] = axes[second], axes[first]
    return permuted(rewriting.builder, value, axes)


@_rule("split.Tensor", "split_with_sizes.default", "chunk.default")
def _split(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    value, given, axis = _lifted(values[0]), values[1], values[2] if len(values) > 2 else node.kwargs.get("dim", 0)
    axis = _own_axis(value, axis)
    parts = [int(part.shape[axis]) for part in node.meta["val"]]
    starts = [sum(parts[:index]) for index in range(len(parts))]
    if any(not isinstance(one, int) for one in (given if isinstance(given, list) else [given])):
        raise NotRewritten("parts whose sizes depend on the choice")
    return [_cut(rewriting, value, axis, start, start + size, 1) for start, size in zip(starts, parts, strict=True)]


@_rule("slice.Tensor")
def _slice(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    value, axis, start, stop, step = [*values, *(0, None, None, 1)[len(values) - 1 :]]
    value = _lifted(value)
    axis = _axis(value, axis)
    size = value.sizes[axis]
    start, stop, step = slice(start, stop, step).indices(size)
    if (start, stop, step) == (0, size, 1):
        return value
    if axis == value.axis:
        return _some_slots(rewriting, value, start, stop, step)
    return _cut(rewriting, value, axis, start, stop, step)


@_rule("select.int")
def _select(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    value, axis, index = values
    value = _lifted(value)
    axis = _axis(value, axis)
    index %= value.sizes[axis]
    if axis != value.axis:
        part = _cut(rewriting, value, axis, index, index + 1, 1)
        return viewed(rewriting.builder, part, sizes_of(node))
    slot = _some_slots(rewriting, value, index, index + 1, 1)
    return rewriting.builder.view(slot.total(rewriting.builder), sizes_of(node))


def _cut(rewriting: Rewriting, value: Lifted, axis: int, start: int, stop: int, step: int) -> Lifted:
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
        count=part(value.count),
        make_dense=lambda: part(value.dense),
        make_total=None,
        _made=[],
    )


def _some_slots(rewriting: Rewriting, value: Lifted, start: int, stop: int, step: int) -> Lifted:
    """The slots of some ranks."""
    builder, choice = rewriting.builder, value.choice
    if choice.ranks is None or not value.is_slot_axis or step != 1 or value.order is not None:
        raise NotRewritten("slots that are told apart")
    ranks = builder.view(choice.ranks, sizes_of(value.count))
    count = between(builder, ranks, start, stop, choice.experts)
    sizes = list(value.sizes)
    sizes[value.axis] = stop - start
    return replace(
        value, choice=Choice(stop - start, choice.experts), sizes=tuple(sizes), count=count, make_total=None, _made=[]
    )


def slots_of(rewriting: Rewriting, value: Lifted) -> Node:
    """The value itself, slot after slot: that of the expert in it."""

    if not value.is_slot_axis or value.order is not None:
        raise NotRewritten("slots that are told apart")
    builder, slots = rewriting.builder, value.choice.slots
    sizes = [1 if axis == value.axis else size for axis, size in enumerate(value.sizes)]
    single = [value] if slots == 1 else [_some_slots(rewriting, value, slot, slot + 1, 1) for slot in range(slots)]
    parts = [builder.view(one.total(builder), sizes) for one in single]
    return parts[0] if slots == 1 else builder.call("cat.default", parts, value.axis)


# --- Along axes ---


@_rule("sum.dim_IntList", "mean.dim")
def _reduce(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:

    builder, value = rewriting.builder, _lifted(values[0])
    axes = sorted(_axis(value, axis) for axis in (values[1] or range(len(value.sizes))))
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
            count=_ones_at(rewriting, value.count, moved),
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


def _ones_at(rewriting: Rewriting, node: Node, axes: Sequence[int]) -> Node:
    """A count that does not depend on some axes."""
    if any(sizes_of(node)[axis] != 1 for axis in axes):
        raise NotRewritten("a sum over tokens")
    return node


@_rule("softmax.int", "_softmax.default")
def _softmax(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    """Over the slots: the experts' exponentials, those that are not chosen without a part in the sum."""

    builder = rewriting.builder
    value, axis = _lifted(values[0]), _axis(_lifted(values[0]), values[1])
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


# --- Indices ---


@_rule("gather.default")
def _gather(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    source, axis, index = values[:3]
    builder, index = rewriting.builder, _lifted(index)
    axis = _axis(index, axis)
    if axis != index.axis or not index.is_slot_axis or not index.is_numbers or isinstance(source, Lifted):
        raise NotRewritten("indices of something else than experts")
    sizes = sizes_of(source)
    if sizes[axis] != index.choice.experts or _without(sizes, axis) != _without(index.sizes, axis):
        raise NotRewritten("indices of something else than experts")
    dense = lambda: _spread(builder, source, axis)  # noqa: E731
    return replace(index, make_dense=dense, is_numbers=False, make_total=None, _made=[])


def _without(sizes: Sequence[int], axis: int) -> list[int]:
    return [*sizes[:axis], *sizes[axis + 1 :]]


@_rule("scatter.src", "scatter.value")
def _scatter(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:

    builder = rewriting.builder
    base, axis, index, source = values
    index, sizes = _lifted(index), sizes_of(node)
    axis = _axis(index, axis)
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
    if dtype.is_floating_point and _is_zero(base) and isinstance(source, int | float):
        result = count if source == 1 else builder.call("mul.Scalar", count, source)
    elif dtype.is_floating_point and _is_zero(base):
        result = builder.call("mul.Tensor", source, count)
    elif isinstance(source, bool | int | float):
        result = builder.call("masked_fill.Scalar", base, chosen, source)
    else:
        result = builder.call("where.self", chosen, source, base)
    if source == -math.inf:
        rewriting.excluded[result] = index.choice
    return result


def _is_zero(node: Node) -> bool:
    """True for a tensor of zeros."""
    names = ("zeros.default", "zeros_like.default", "new_zeros.default")
    filled = ("full.default", "full_like.default", "new_full.default")
    name = name_of(node)
    return name in names or (name in filled and bool(node.args[-1] == 0))


@_rule("cat.default", "concat.default", "concatenate.default")
def _concatenate(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    """Slots of choices of which each excludes the ones before."""

    builder = rewriting.builder
    parts, axis = [_lifted(one) for one in values[0]], values[1] if len(values) > 1 else node.kwargs.get("dim", 0)
    first = parts[0]
    axis = _axis(first, axis)
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


def _all_excluded(choice: Choice) -> list[Choice]:
    """The choices whose experts another leaves out."""
    found = list(choice.excluded)
    for one in choice.excluded:
        found += _all_excluded(one)
    return found


# --- Dispatch: slots sorted by expert ---


@_rule("sort.default", "sort.stable")
def _sort(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    ids = next(_lifted(one) for one in values if isinstance(one, Lifted))
    if len(ids.sizes) != 1 or ids.inner != 1 or not ids.is_numbers or ids.order is not None or _is_descending(node):
        raise NotRewritten("sorted values")
    order = Order(ids)
    return [replace(ids, order=order), order]


@_rule("argsort.default", "argsort.stable")
def _argsort(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    if isinstance(values[0], Order):
        return Inverse(values[0])
    return _sort(rewriting, node, values)[1]


def _is_descending(node: Node) -> bool:
    return bool(node.kwargs.get("descending", False)) or True in node.args[2:]


@_rule("index.Tensor")
def _index(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    builder = rewriting.builder
    source, indices = values
    if len(indices) != 1:
        raise NotRewritten("several indices")
    (index,) = indices
    if isinstance(index, Tokens) and not isinstance(source, Lifted):
        ids, sizes = index.order.ids, sizes_of(node)
        dense = builder.view(source, [sizes_of(source)[0], 1, 1, *sizes[1:]])
        count = builder.view(ids.count, [*sizes_of(ids.count), *(1 for _ in sizes[1:])])
        return Lifted(ids.choice, tuple(sizes), 0, 1, count, lambda: dense, index.order)
    if isinstance(index, Order) and isinstance(source, Lifted):
        if source.axis != 0 or source.inner != 1 or source.order is not None:
            raise NotRewritten("sorted slots of something else")
        return replace(source, order=index)
    if isinstance(index, Inverse) and isinstance(source, Lifted):
        if source.order is not index.order:
            raise NotRewritten("sorted slots of something else")
        return replace(source, order=None)
    if isinstance(index, Lifted) and not isinstance(source, Lifted) and index.is_numbers:
        rest = sizes_of(source)[1:]
        sizes = sizes_of(node)
        lead = [1] * index.axis + [1, index.choice.experts, 1] + [1] * (len(index.sizes) - index.axis - 1)
        dense = builder.view(source, [*lead, *rest])
        count = builder.view(index.count, [*sizes_of(index.count), *(1 for _ in rest)])
        if sizes_of(source)[0] != index.choice.experts:
            raise NotRewritten("indices of something else than experts")
        value = Lifted(index.choice, tuple(sizes), index.axis, index.inner, count, lambda: dense, index.order)
        return replace(value, make_total=_total_of_parameters(rewriting, value))
    raise NotRewritten("indices of something else")


def _total_of_parameters(rewriting: Rewriting, value: Lifted) -> Callable[[Node], Node] | None:
    """The sum over the experts of what only depends on the expert, one axis behind the slots: a linear layer."""

    builder = rewriting.builder
    if len(value.sizes) != 2 or value.axis != 0:
        return None

    def total(weight: Node) -> Node:
        if sizes_of(weight)[-1] != 1:
            return replace(value, make_total=None).total(builder, weight)
        table = builder.view(value.dense, [value.choice.experts, value.sizes[1]])
        tokens = builder.view(builder.expand(weight, [value.outer, value.choice.experts, 1, 1]), [value.outer, -1])
        return builder.call("linear.default", tokens, builder.permute(table, [1, 0]))

    return total


@_rule("index_put.default")
def _index_put(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    """Positions put where an order says: its inverse."""
    _, indices, positions = values[:3]
    is_range = getattr(positions, "target", None) is not None and name_of(positions) == "arange.default"
    if len(indices) != 1 or not isinstance(indices[0], Order) or not is_range or len(positions.args) != 1:
        raise NotRewritten("values put somewhere")
    return Inverse(indices[0])


@_rule("empty_like.default", "zeros_like.default", "new_empty.default", "new_zeros.default", "ones_like.default")
def _new(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    """A tensor of which only the sizes come from slots: it stays."""
    return node


@_rule("histc.default", "bincount.default")
def _histogram(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    ids = _lifted(values[0])
    experts = ids.choice.experts
    given = tuple(values[1:])
    if ids.order is None or not ids.is_numbers or given not in ((experts, 0, experts - 1), (None, experts)):
        raise NotRewritten("counted values")
    return Ends(ids.order)


@_rule("cumsum.default")
def _running_total(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    if not isinstance(values[0], Ends):
        raise NotRewritten("a running total over slots")
    return values[0]


def _grouped_product(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    """Each expert's linear layer, on its slots."""
    rows, weight, ends = values
    rows = _lifted(rows)
    if not isinstance(ends, Ends) or rows.order is not ends.order or rows.axis != 0 or rows.inner != 1:
        raise NotRewritten("a product with groups of something else")
    if isinstance(weight, Lifted) or sizes_of(weight)[0] != rows.choice.experts:
        raise NotRewritten("a product with groups of something else")
    return product(rewriting, rows, weight)


def product(rewriting: Rewriting, rows: Lifted, weight: Node) -> Lifted:
    """
    The product of rows `[slots, in]` with their expert's matrix of `weight`, `[experts, in, out]`.

    The weighted sum over the experts is one linear layer on all their weighted rows.
    """

    builder = rewriting.builder
    experts, width, out = sizes_of(weight)
    tokens = rows.outer

    def every(node: Node) -> Node:
        count = sizes_of(node)[1]
        return builder.view(builder.expand(node, [tokens, count, 1, width]), [tokens, count, width])

    def dense() -> Node:
        given = every(rows.dense)
        if sizes_of(given)[1] == 1:
            matrix = builder.view(builder.permute(weight, [0, 2, 1]), [experts * out, width])
            result = builder.call("linear.default", builder.view(given, [tokens, width]), matrix)
            return builder.view(result, [tokens, experts, 1, out])
        layers = [
            builder.call(
                "linear.default",
                builder.call("select.int", given, 1, expert),
                builder.permute(builder.call("select.int", weight, 0, expert), [1, 0]),
            )
            for expert in range(experts)
        ]
        return builder.view(builder.call("stack.default", layers, 1), [tokens, experts, 1, out])

    result = Lifted(rows.choice, (rows.sizes[0], out), 0, 1, rows.count, dense, rows.order)

    def total(weights: Node) -> Node:
        if sizes_of(weights)[-1] != 1:
            return replace(result, make_total=None).total(builder, weights)
        weighted = every(builder.call("mul.Tensor", rows.dense, weights))
        matrix = builder.view(builder.permute(weight, [2, 0, 1]), [out, experts * width])
        return builder.call("linear.default", builder.view(weighted, [tokens, experts * width]), matrix)

    return replace(result, make_total=total)
