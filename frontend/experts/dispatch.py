"""Rules for slots sorted by expert: their order, their tokens, the products of each expert, and the way back."""
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# Operators of torch.ops and arguments of nodes have no public types.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sta.frontend.experts.elements import elementwise
from sta.frontend.experts.lifted import Lifted, Order
from sta.frontend.experts.rewriting import (
    Ends,
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


def grouped_product(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
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

    result = Lifted(rows.choice, (rows.sizes[0], out), 0, 1, rows.count, dense, rows.order)

    def total(weights: Node) -> Node:
        if sizes_of(weights)[-1] != 1:
            return replace(result, make_total=None).total(builder, weights)
        weighted = every(builder.call("mul.Tensor", rows.dense, weights))
        matrix = builder.view(builder.permute(weight, [2, 0, 1]), [out, experts * width])
        return builder.call("linear.default", builder.view(weighted, [tokens, experts * width]), matrix)

    return replace(result, make_total=total)
