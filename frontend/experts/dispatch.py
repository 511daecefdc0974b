"""Rules for slots sorted by expert: their order, their tokens, the products of each expert, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

from sta.frontend.experts.elements import elementwise
from sta.frontend.experts.groups import LAYERS, of_group
from sta.frontend.experts.indices import is_zero
from sta.frontend.experts.lifted import Lifted, Order
from sta.frontend.experts.ranks import between
from sta.frontend.experts.rewriting import (
    Ends,
    Group,
    Inverse,
    Rewriting,
    Rule,
    Tokens,
    Value,
    lifted,
    registrar,
)
from sta.frontend.graph_builder import NotRewritten, name_of, sizes_of

if TYPE_CHECKING:
    from torch.fx import Node

RULES: dict[str, Rule] = {}
_rule = registrar(RULES)


@_rule("floor_divide.default", "div.Tensor_mode", "floor_divide.Scalar", "div.Scalar_mode")
def _quotient(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    """The tokens of sorted slots: their positions without order, divided by the slots of a token."""
    order = values[0]
    if not isinstance(order, Order):
        return elementwise(rewriting, node, values)
    if values[1] != order.ids.choice.slots:
        raise NotRewritten("arithmetic with positions")
    return Tokens(order)


@_rule("sort.default", "sort.stable")
def _sort(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    ids = next(lifted(one) for one in values if isinstance(one, Lifted))
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
        sizes = sizes_of(node)
        dense = builder.view(source, [sizes_of(source)[0], 1, 1, *sizes[1:]])
        return _sorted(rewriting, index.order, lambda: dense, sizes)
    if isinstance(index, Order) and not isinstance(source, Lifted):
        return _sorted(rewriting, index, _of_slots(rewriting, index.ids, source), sizes_of(node))
    if isinstance(index, Order):
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
        if sizes_of(source)[0] != index.choice.experts:
            raise NotRewritten("indices of something else than experts")
        value = replace(
            index,
            sizes=tuple(sizes),
            **index.marks(lambda one: builder.view(one, [*sizes_of(one), *(1 for _ in rest)])),
            make_dense=lambda: dense,
            is_numbers=False,
            _made=[],
        )
        return replace(value, make_total=_total_of_parameters(rewriting, value))
    raise NotRewritten("indices of something else")


def _sorted(rewriting: Rewriting, order: Order, dense: Callable[[], Node], sizes: Sequence[int]) -> Lifted:
    """Sorted slots whose values are `[tokens, experts, 1, ...]`."""
    builder, ids, rest = rewriting.builder, order.ids, [1] * (len(sizes) - 1)
    marks = ids.marks(lambda one: builder.view(one, [*sizes_of(one), *rest]))
    return Lifted(ids.choice, tuple(sizes), 0, 1, make_dense=dense, order=order, **marks)


def _of_slots(rewriting: Rewriting, ids: Lifted, values: Node) -> Callable[[], Node]:
    """Makes, of values `[slots of all tokens, ...]`, for each expert that of the slot in which it is."""
    if ids.ranks is None:
        raise NotRewritten("slots in an unknown order")
    builder, ranks, slots, experts = rewriting.builder, ids.ranks, ids.choice.slots, ids.choice.experts
    rest = sizes_of(values)[1:]
    told = builder.view(values, [ids.outer, slots, 1, *rest])

    def part(slot: int) -> Node:
        chosen = builder.view(
            between(builder, ranks, slot, slot + 1, experts), [ids.outer, experts, 1, *(1 for _ in rest)]
        )
        return builder.call("mul.Tensor", builder.call("slice.Tensor", told, 1, slot, slot + 1), chosen)

    return lambda: reduce(lambda left, right: builder.call("add.Tensor", left, right), map(part, range(slots)))


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


@_rule(*LAYERS)
def _linear(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    """A layer of one expert, on its group."""
    if not isinstance(values[0], Group) or any(isinstance(one, Group) for one in values[1:]):
        raise NotRewritten("a layer of all experts")
    return of_group(rewriting, node, values)


@_rule("index_add.default")
def _index_add(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    """Sorted slots put back in their places, or added up for each token, on zeros."""
    base, axis, index, value = values
    value = lifted(value)
    if not is_zero(base) or axis != 0 or node.kwargs or value.axis != 0 or value.inner != 1:
        raise NotRewritten("slots added to something else")
    if isinstance(index, Order) and value.order is index and sizes_of(node)[0] == value.sizes[0]:
        return replace(value, order=None)
    if isinstance(index, Tokens) and value.order is index.order and sizes_of(node)[0] == value.outer:
        return value.total(rewriting.builder)
    raise NotRewritten("slots added to something else")


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
    ids = lifted(values[0])
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


@_rule("transformers.grouped_mm_fallback.default")
def _grouped_product(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    """Each expert's linear layer, on its slots."""
    rows, weight, ends = values
    rows = lifted(rows)
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

    result = replace(rows, sizes=(rows.sizes[0], out), make_dense=dense, make_total=None, _made=[])

    def total(weights: Node) -> Node:
        if sizes_of(weights)[-1] != 1:
            return replace(result, make_total=None).total(builder, weights)
        weighted = every(builder.call("mul.Tensor", rows.dense, weights))
        matrix = builder.view(builder.permute(weight, [2, 0, 1]), [out, experts * width])
        return builder.call("linear.default", builder.view(weighted, [tokens, experts * width]), matrix)

    return replace(result, make_total=total)
