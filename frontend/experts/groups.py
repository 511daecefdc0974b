"""
Rules for sorted slots that are split into a group for each expert, by how many slots it has.

A group is what the model computes of an expert's slots; here of all tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sta.frontend.experts.lifted import Choice, Lifted, Order
from sta.frontend.experts.rewriting import Group, Rewriting, Value
from sta.frontend.graph_builder import NotRewritten, argument_of, name_of, sizes_of, source_of, tensor_of

if TYPE_CHECKING:
    from torch.fx import Node


def groups(rewriting: Rewriting, value: Lifted, order: Order, sizes: Sequence[Value]) -> list[Group]:
    """The groups of sorted slots. Raises NotRewritten if `sizes` are not the numbers of slots of the experts."""
    choice, builder = value.choice, rewriting.builder
    if [_counted(rewriting, one) for one in sizes] != [(choice, expert) for expert in range(choice.experts)]:
        raise NotRewritten("parts whose sizes depend on the choice")
    every = builder.expand(value.dense, value.full_sizes(choice.experts))
    kept = [value.outer, *value.sizes[1:]]
    return [
        Group(order, expert, builder.view(builder.call("select.int", every, 1, expert), kept))
        for expert in range(choice.experts)
    ]


def _counted(rewriting: Rewriting, size: Value) -> tuple[Choice, int] | None:
    """The choice and the expert whose slots a number counts: an element of the sum over the tokens of a mask."""
    element = _source(size, _COPIES)
    if element is None or name_of(element) != "<built-in function getitem>":
        return None
    counts = _source(source_of(element), ("unbind.int", *_COPIES))
    if counts is None or name_of(counts) != "sum.dim_IntList":
        return None
    mask = _source(source_of(counts), _COPIES)
    if mask not in rewriting.masks or argument_of(counts, 1, "dim") != list(range(len(sizes_of(mask)) - 1)):
        return None
    return rewriting.masks[mask], argument_of(element, 1, "index")


_COPIES = ("_to_copy.default", "to.dtype", "item.default", "_local_scalar_dense.default", "alias.default")


def _source(value: Value, names: Sequence[str]) -> Node | None:
    """The value that operators of some names pass on; None for what is no node."""
    from torch.fx import Node

    while isinstance(value, Node) and name_of(value) in names:
        value = source_of(value)
    return value if isinstance(value, Node) else None


LAYERS = ("linear.default", "matmul.default", "mm.default")


def of_group(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Group:
    """The result of a node that computes each row of a group by itself."""
    from torch.fx import Node

    group = next(one for one in values if isinstance(one, Group))
    rank = len(tensor_of(node).shape)
    for one in values:
        if isinstance(one, Group) and (one.order, one.expert) != (group.order, group.expert):
            raise NotRewritten("rows of different groups")
        differs = isinstance(one, Node) and name_of(node) not in LAYERS and len(sizes_of(one)) >= rank
        if isinstance(one, Lifted) or differs:
            raise NotRewritten("an operand that differs between rows")
    given = (one.every if isinstance(one, Group) else one for one in values)
    return Group(group.order, group.expert, rewriting.builder.call_target(node.target, *given, **node.kwargs))


def joined(rewriting: Rewriting, given: Sequence[Group], axis: int) -> Lifted:
    """The groups of all experts, one after the other: sorted slots."""
    builder, order = rewriting.builder, given[0].order
    ids = order.ids
    numbers = [one.expert for one in given]
    if axis != 0 or numbers != list(range(ids.choice.experts)) or any(one.order is not order for one in given):
        raise NotRewritten("groups that are not all experts'")
    rest = sizes_of(given[0].every)[1:]
    marks = ids.marks(lambda one: builder.view(one, [*sizes_of(one), *(1 for _ in rest)]))

    def dense() -> Node:
        stacked = builder.call("stack.default", [one.every for one in given], 1)
        return builder.view(stacked, [ids.outer, ids.choice.experts, 1, *rest])

    return Lifted(ids.choice, (ids.sizes[0], *rest), 0, 1, make_dense=dense, order=order, **marks)
