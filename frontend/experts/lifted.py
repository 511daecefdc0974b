"""
Values in slots, as values of experts.

A router fills the slots of each token with experts. Whatever the model computes in a slot depends on the token and on
the expert in it, so that it is a value of every token and every expert, `dense`; `count` says how many slots of a token
an expert has. The sum over the slots is that over the experts, times their counts.

In the model's tensor the slots are an axis, or a part of one: axis `axis` is `outer` times the slots times `inner`.
`dense` and `count` have three axes in its place, `outer`, the experts and `inner`. Their sizes are 1 where nothing
depends on the axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypedDict

from sta.frontend.graph_builder import GraphBuilder, NotRewritten, sizes_of

if TYPE_CHECKING:
    from torch.fx import Node


class Marks(TypedDict):
    """The experts of each token, as far as they are known."""

    count: Node
    ranks: Node | None


@dataclass(frozen=True, eq=False)
class Choice:
    """Slots that a router has filled: their number, that of the experts, and what makes them differ from others."""

    slots: int
    experts: int
    excluded: tuple[Choice, ...] = ()
    """Choices whose experts this one leaves out."""


@dataclass(frozen=True, eq=False)
class Order:
    """The order in which the flat slots `ids` are sorted by expert."""

    ids: Lifted


@dataclass(frozen=True, eq=False)
class Lifted:
    """A tensor with slots."""

    choice: Choice
    sizes: tuple[int, ...]
    """Sizes in the model."""
    axis: int
    inner: int
    count: Node
    make_dense: Callable[[], Node]
    order: Order | None = None
    """The order of its slots, where they are sorted by expert."""
    is_numbers: bool = False
    """True if the value of an expert is its number."""
    make_total: Callable[[Node], Node] | None = None
    """Makes the sum over the experts of `dense` times a weight that it may be given, where there is a cheaper way."""
    ranks: Node | None = None
    """The ranks of the experts, in the form of `count`, where the slots are in their order."""
    _made: list[Node] = field(default_factory=list["Node"])

    @property
    def outer(self) -> int:
        """The tokens in the axis of the slots."""
        return self.sizes[self.axis] // self.choice.slots // self.inner

    @property
    def dense(self) -> Node:
        """The value of every expert."""
        if not self._made:
            self._made.append(self.make_dense())
        return self._made[0]

    @property
    def is_slot_axis(self) -> bool:
        """True if the slots are an axis of their own."""
        return self.sizes[self.axis] == self.choice.slots

    def marks(self, moved: Callable[[Node], Node]) -> Marks:
        """`count` and `ranks` in another form."""
        return {"count": moved(self.count), "ranks": None if self.ranks is None else moved(self.ranks)}

    def dense_axis(self, axis: int) -> int:
        """The axis of `dense` for another axis than that of the slots."""
        return axis if axis < self.axis else axis + 2

    def total(self, builder: GraphBuilder, weight: Node | None = None) -> Node:
        """The sum over the slots of values times `weight`; the axis is `outer` times `inner` afterwards."""

        weight = self.count if weight is None else weight
        if self.make_total is not None:
            return self.make_total(weight)
        product = builder.call("mul.Tensor", self.dense, weight)
        sizes = list(self.sizes)
        spread = builder.total(
            builder.expand(product, self.full_sizes(sizes_of(product)[self.axis + 1])), [self.axis + 1]
        )
        sizes[self.axis] //= self.choice.slots
        return builder.view(spread, sizes)

    def full_sizes(self, experts: int) -> list[int]:
        """Sizes of `dense` where it depends on everything, and on so many experts."""
        return [*self.sizes[: self.axis], self.outer, experts, self.inner, *self.sizes[self.axis + 1 :]]


def viewed(builder: GraphBuilder, value: Lifted, sizes: Sequence[int]) -> Lifted:
    """The same elements in the same order under other sizes."""
    axis, inner = _place(value, sizes)
    after = replace(value, sizes=tuple(sizes), axis=axis, inner=inner)
    if value.order is not None and value.sizes[value.axis] != sizes[axis]:
        raise NotRewritten("sorted slots that are taken apart")

    def total(weight: Node) -> Node:
        return builder.view(value.total(builder, _reshaped(builder, weight, after, value)), _without_slots(after))

    return replace(
        after,
        **value.marks(lambda one: _reshaped(builder, one, value, after)),
        make_dense=lambda: _reshaped(builder, value.dense, value, after),
        make_total=None if value.make_total is None else total,
        _made=[],
    )


def _without_slots(value: Lifted) -> list[int]:
    sizes = list(value.sizes)
    sizes[value.axis] //= value.choice.slots
    return sizes


def _place(value: Lifted, sizes: Sequence[int]) -> tuple[int, int]:
    """The axis with the slots under other sizes, and the elements inside it that one slot holds."""
    stride = value.inner * math.prod(value.sizes[value.axis + 1 :])
    behind = 1
    for axis in reversed(range(len(sizes))):
        size = sizes[axis]
        inner = stride // behind
        if stride % behind == 0 and size % (inner * value.choice.slots) == 0 and size >= inner * value.choice.slots:
            return axis, inner
        behind *= size
    raise NotRewritten("slots that are taken apart")


def _reshaped(builder: GraphBuilder, node: Node, before: Lifted, after: Lifted) -> Node:
    """A tensor of experts in the form of `before` in the form of `after`."""
    given = sizes_of(node)
    experts = given[before.axis + 1]
    split = before.axis + 1
    front = _part(given[:split], before.full_sizes(experts)[:split], after.full_sizes(experts)[: after.axis + 1])
    back = _part(
        given[split + 1 :], before.full_sizes(experts)[split + 1 :], after.full_sizes(experts)[after.axis + 2 :]
    )
    node = builder.expand(node, [*front[0], experts, *back[0]])
    return builder.view(node, [*front[1], experts, *back[1]])


def _part(given: list[int], before: list[int], after: list[int]) -> tuple[list[int], list[int]]:
    """The sizes to expand to, and those afterwards, of the axes before or behind that of the experts."""
    if all(size == 1 for size in given):
        return given, [1] * len(after)
    # Axes that stay are not repeated.
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    rest = given[same:]
    if all(size == 1 for size in rest) and math.prod(before[same:]) == math.prod(after[same:]):
        return given, [*given[:same], *(1 for _ in after[same:])]
    return [*given[:same], *before[same:]], [*given[:same], *after[same:]]


def permuted(builder: GraphBuilder, value: Lifted, axes: Sequence[int]) -> Lifted:
    """The axes of the model's tensor in another order."""
    if value.order is not None:
        raise NotRewritten("sorted slots whose axis moves")
    triple = [value.axis, value.axis + 1, value.axis + 2]
    moved = [one for axis in axes for one in (triple if axis == value.axis else [value.dense_axis(axis)])]
    return replace(
        value,
        sizes=tuple(value.sizes[axis] for axis in axes),
        axis=list(axes).index(value.axis),
        **value.marks(lambda one: builder.permute(one, moved)),
        make_dense=lambda: builder.permute(value.dense, moved),
        make_total=None,
        _made=[],
    )


def aligned(builder: GraphBuilder, operand: Any, form: Lifted, rank: int) -> Callable[[], Any]:
    """
    Makes an operand of an elementwise operation, whose result has `rank` axes, one of the values of experts in the form
    of `form`. Raises NotRewritten if it differs between slots.
    """
    from torch.fx import Node

    if isinstance(operand, Lifted):
        missing = rank - len(operand.sizes)
        if operand.axis + missing != form.axis + rank - len(form.sizes):
            raise NotRewritten("slots along different axes")
        if (operand.inner, operand.outer, operand.choice.slots) != (form.inner, form.outer, form.choice.slots):
            raise NotRewritten("different slots")
        if operand.order is not form.order:
            raise NotRewritten("slots in different orders")
        return lambda: operand.dense
    if not isinstance(operand, Node) or not hasattr(operand.meta.get("val"), "shape"):
        return lambda: operand
    sizes = sizes_of(operand)
    behind = len(form.sizes) - form.axis
    if len(sizes) < behind:
        return lambda: operand
    at = len(sizes) - behind
    if sizes[at] != 1:
        raise NotRewritten("a value that differs between slots")
    return lambda: builder.view(operand, [*sizes[:at], 1, 1, 1, *sizes[at + 1 :]])
