"""
Operators on values in slots, as operations on values of experts.

A rule gets the rewriting and the node, and returns the node's new value: lifted, a node of the graph, or a mark. It
raises NotRewritten where there is no counterpart.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from sta.frontend.experts import dispatch, elements, indices, reductions, views
from sta.frontend.experts.rewriting import (
    Rewriting,
    Rule,
    Value,
)
from sta.frontend.graph_builder import NotRewritten, name_of

if TYPE_CHECKING:
    from torch.fx import Node


RULES = {**elements.RULES, **views.RULES, **reductions.RULES, **indices.RULES, **dispatch.RULES}


def rule_of(node: Node) -> Rule | None:
    """The rule of a node with lifted arguments; None if its operator has none."""
    import torch

    if node.target is operator.getitem:
        return _part_of_list
    found = RULES.get(name_of(node))
    is_pointwise = torch.Tag.pointwise in getattr(node.target, "tags", ())
    return elements.elementwise if found is None and is_pointwise else found


def _part_of_list(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    parts: Value = values[0]
    if not isinstance(parts, list):
        raise NotRewritten("a part of no list")
    return cast("list[Value]", parts)[values[1]]
