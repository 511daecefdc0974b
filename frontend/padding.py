"""
Padding that nothing reads, left out.

State-space models and linear attention pad a sequence to whole chunks, of 64 or 256 rows, and cut the result to its
length again. What they compute of the zeros in between is most of their work at short lengths. Two facts about each
value are leading extents of its axes: what is *filled*, behind which there are only zeros, and what is *needed*, behind
which nothing is read. Sums end where either factor is filled, everything else where it is needed; each operator is
then called on operands cut to that. Results are those of the model, up to the order of its sums; a zero of the padding
counts as zero whatever it is multiplied with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sta.frontend.graph_builder import GraphBuilder, NotRewritten, name_of, sizes_of
from sta.frontend.padding_rules import RULES, Extents, Rule, pointwise_rule

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node


def leave_out_padding(program: ExportedProgram) -> None:
    """Rewrites the graph of a functional program in place, where it pads a value with zeros at its end."""
    every = list(program.graph.nodes)
    nodes = [node for node in every if node.op == "call_function"]
    if not any(_pads_with_zeros(node) for node in nodes):
        return
    rules = {node: rule for node in nodes if (rule := _rule_of(node)) is not None}
    filled = _filled(every, rules)
    extents, operands = _needed(every, rules, filled)
    builder, cut = GraphBuilder(program), dict[Any, Any]()
    whole: dict[Any, Any] = {}
    for node in nodes:
        if node not in operands or not (
            extents[node] != tuple(sizes_of(node)) or any(one in cut for one in rules[node].operands)
        ):
            continue
        builder.current = node
        values = [
            None if wanted is None else _resized(builder, one, cut.get(one, one), wanted)
            for one, wanted in zip(rules[node].operands, operands[node], strict=True)
        ]
        zero = not all(extents[node])
        cut[node] = None if zero else rules[node].made(builder, extents[node], values)
        if any(user not in rules for user in node.users):
            whole[node] = _resized(builder, node, cut[node], tuple(sizes_of(node)))
    for node, value in whole.items():
        # Rules know the operands of before.
        node.replace_all_uses_with(value)
    for node in reversed(nodes):
        if not node.users and node in rules and (node in cut or node not in operands):
            program.graph.erase_node(node)


def _pads_with_zeros(node: Node) -> bool:
    return name_of(node) in ("pad.default", "constant_pad_nd.default") and _rule_of(node) is not None


def _rule_of(node: Node) -> Rule | None:
    """The rule of a node on tensors of known sizes; None where there is none."""
    import torch

    if not isinstance(node.meta.get("val"), torch.Tensor):
        return None
    try:
        for one in (node, *node.all_input_nodes):
            if isinstance(one.meta.get("val"), torch.Tensor):
                sizes_of(one)
    except NotRewritten:
        return None
    make: Callable[[Node], Rule | None] | None = RULES.get(name_of(node))
    if make is None and torch.Tag.pointwise in getattr(node.target, "tags", ()):
        make = pointwise_rule
    return None if make is None else make(node)


def _filled(nodes: Sequence[Node], rules: Mapping[Node, Rule]) -> dict[Node, Extents]:
    """The leading extents of each tensor behind which it is zero, as far as that is known."""
    import torch

    filled: dict[Node, Extents] = {}
    for node in nodes:
        if node in rules:
            rule = rules[node]
            extents = rule.filled([filled[one] for one in rule.operands])
            filled[node] = extents if all(extents) else (0,) * len(extents)
        elif isinstance(node.meta.get("val"), torch.Tensor):
            filled[node] = tuple(node.meta["val"].shape)
    return filled


def _needed(
    nodes: Sequence[Node], rules: Mapping[Node, Rule], filled: Mapping[Node, Extents]
) -> tuple[dict[Node, Extents], dict[Node, list[Extents | None]]]:
    """
    The leading extents of each tensor that are read and filled, and for each node with a rule those of its operands.

    What nothing reads has none; those of a tensor of zeros are zero, and it needs none of its operands.
    """
    needed: dict[Node, Extents] = {}
    operands: dict[Node, list[Extents | None]] = {}
    for node in reversed(nodes):
        rule = rules.get(node)
        if rule is None:
            for one in node.all_input_nodes:
                if one in filled:
                    needed[one] = tuple(one.meta["val"].shape)
            continue
        if node not in needed:
            continue
        needed[node] = tuple(map(min, needed[node], filled[node]))
        is_zero = not all(needed[node])
        operands[node] = (
            [None] * len(rule.operands)
            if is_zero
            else rule.needed(needed[node], [filled[one] for one in rule.operands])
        )
        for one, extents in zip(rule.operands, operands[node], strict=True):
            if extents is not None:
                needed[one] = tuple(map(max, needed.get(one, extents), extents))
    return needed, operands


def _resized(builder: GraphBuilder, node: Node, value: Node | None, extents: Extents) -> Node:
    """The leading extents of a node's tensor, of which `value` holds all that is filled; None if that is nothing."""

    if value is None:
        return builder.call("full.default", list(extents), 0, dtype=node.meta["val"].dtype)
    sizes = sizes_of(value)
    for axis, (size, extent) in enumerate(zip(sizes, extents, strict=True)):
        if extent < size:
            value = builder.call("slice.Tensor", value, axis, 0, extent)
    missing = [max(0, extent - size) for size, extent in zip(sizes, extents, strict=True)]
    if not any(missing):
        return value
    ends = [amount for one in reversed(missing) for amount in (0, one)]
    return builder.call("constant_pad_nd.default", value, ends, 0)
