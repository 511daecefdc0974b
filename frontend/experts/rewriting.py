"""Values of nodes while a graph is rewritten, and the form of rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from sta.frontend.experts.lifted import Choice, Lifted, Order
from sta.frontend.graph_builder import GraphBuilder, NotRewritten, sizes_of

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


@dataclass(frozen=True, eq=False)
class Group:
    """The sorted slots of one expert: its value of every token, `[tokens, ...]`."""

    order: Order
    expert: int
    every: Node


Value: TypeAlias = Any
"""A Lifted, an Order, one of the marks, a Python constant, a node of the graph, or a list of those."""
Rule = Callable[["Rewriting", "Node", Sequence[Value]], Value]


@dataclass
class Rewriting:
    """Values of the nodes of a graph, as far as they are rewritten."""

    builder: GraphBuilder
    values: dict[Node, Value] = field(default_factory=dict["Node", Value])
    excluded: dict[Node, Choice] = field(default_factory=dict["Node", Choice])
    """Scores of which those that a choice took are -inf, and that choice."""
    masks: dict[Node, Choice] = field(default_factory=dict["Node", Choice])
    """Ones at the experts of each token `[tokens, experts]`, zeros elsewhere, and their choice."""
    joined: dict[tuple[Choice, ...], Choice] = field(default_factory=dict[tuple[Choice, ...], Choice])
    """The slots of several choices, one after the other."""

    def value_of(self, argument: Any) -> Value:
        """The value of an argument of a node."""
        from torch.fx import Node

        if isinstance(argument, list | tuple):
            return [self.value_of(one) for one in cast("Sequence[Any]", argument)]
        return self.values.get(argument, argument) if isinstance(argument, Node) else argument


def registrar(rules: dict[str, Rule]) -> Callable[..., Callable[[Rule], Rule]]:
    """Makes a decorator that enters a rule for operators of ATen's."""

    def rule(*names: str) -> Callable[[Rule], Rule]:
        def register(rule: Rule) -> Rule:
            rules.update((name, rule) for name in names)
            return rule

        return register

    return rule


def axis_of(value: Lifted, axis: int) -> int:
    return axis % len(value.sizes)


def lifted(value: Value) -> Lifted:
    if not isinstance(value, Lifted):
        raise NotRewritten("an operand without slots")
    return value


def own_axis(value: Lifted, axis: int) -> int:
    """An axis that is not that of the slots."""
    axis = axis_of(value, axis)
    if axis == value.axis:
        raise NotRewritten("slots that are told apart")
    return axis


def spread(builder: GraphBuilder, node: Node, axis: int) -> Node:
    """The axis of the experts between two of size 1."""
    sizes = sizes_of(node)
    return builder.view(node, [*sizes[:axis], 1, sizes[axis], 1, *sizes[axis + 1 :]])
