"""
Mixtures of experts as every expert on every token, weighted.

The routing of Hugging Face's models (the best of the router's scores, their experts, slots sorted by expert, grouped
products, the way back) has sizes and orders that depend on numbers. What it computes does not: what is in a slot is a
function of its token and its expert. So each node behind a choice is rewritten as one on all experts
(`sta.frontend.experts.lifted`), up to the sum over the slots, or whatever else tells slots no longer apart. Each
rewritten value is that of the model, up to the rounding of floats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sta.frontend.experts.choices import choose_best, choose_first, choose_listed
from sta.frontend.experts.lifted import Lifted
from sta.frontend.experts.rewriting import Rewriting, Value
from sta.frontend.experts.rules import rule_of
from sta.frontend.experts.views import slots_of
from sta.frontend.graph_builder import GraphBuilder, NotRewritten, argument_of, erase_dead, name_of, sizes_of, source_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

_CHOICES = {
    "topk.default": choose_best,
    "max.dim": choose_first,
    "argmax.default": choose_first,
}


def densify_experts(program: ExportedProgram) -> None:
    """Rewrites the graph of a functional program in place, where it chooses by numbers."""
    graph = program.graph
    calls = [node for node in graph.nodes if node.op == "call_function"]
    if not any(_is_choice(node) or _is_listed(node) for node in calls):
        return
    rewriting = Rewriting(GraphBuilder(program))
    for node in calls:
        rewriting.builder.current = node
        try:
            _rewrite(rewriting, node)
        except NotRewritten:
            _take_slots(rewriting, node)
    end = graph.output_node()
    rewriting.builder.current = end
    _take_slots(rewriting, end)
    erase_dead(program.graph.nodes)


def _take_slots(rewriting: Rewriting, node: Node) -> None:
    """Lets a node that is not rewritten read slot after slot, where they are numbers; else it reads the model's own."""
    for read in node.all_input_nodes:
        value = rewriting.values.get(read)
        if isinstance(value, Lifted) and read.meta["val"].is_floating_point():
            try:
                node.replace_input_with(read, slots_of(rewriting, value))
            except NotRewritten:
                continue


def _rewrite(rewriting: Rewriting, node: Node) -> None:
    from torch.fx import Node

    if _is_listed(node) and (indices := _indices(node)) not in rewriting.values:
        axis: int = argument_of(node, 1, "dim")
        experts = sizes_of(source_of(node))[axis]
        rewriting.values[indices] = choose_listed(rewriting, indices, experts)
    value = _value_of(rewriting, node)
    if isinstance(value, Node):
        node.replace_all_uses_with(value)
    elif value is not None:
        rewriting.values[node] = value


def _value_of(rewriting: Rewriting, node: Node) -> Value:
    """The value of a node that is or follows a choice; None for others. Raises NotRewritten."""
    if _is_choice(node):
        return _CHOICES[name_of(node)](rewriting, node)
    values = [rewriting.value_of(argument) for argument in node.args]
    if not any(map(_has_slots, values)):
        return None
    rule = rule_of(node)
    if rule is None:
        raise NotRewritten("an operation without a rule")
    return rule(rewriting, node, values)


def _has_slots(value: Value) -> bool:
    from torch.fx import Node

    if isinstance(value, list):
        return any(map(_has_slots, cast("list[Value]", value)))
    return not isinstance(value, Node) and hasattr(value, "__dataclass_fields__")


def _is_choice(node: Node) -> bool:
    """True if the node's indices are read."""
    name = name_of(node)
    if name not in _CHOICES:
        return False
    return name == "argmax.default" or name == "topk.default" or any(user.args[1] == 1 for user in node.users)


def _indices(gather: Node) -> Node:
    return argument_of(gather, 2, "index")


def _is_listed(node: Node) -> bool:
    """True for scores at indices by which slots are sorted."""
    if name_of(node) != "gather.default":
        return False
    flat = [user for user in _indices(node).users if name_of(user) == "view.default"]
    return any(name_of(user) == "sort.default" for one in flat for user in one.users)
