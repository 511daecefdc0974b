"""
Rows that a mask chooses, `x[mask]`, as all rows.

Their number depends on the mask, but what a model computes of each does not depend on the others. So each node behind a
choice becomes one on all rows, up to where the model puts the rows back in their places: a selection by the mask. What
has no rule here stays as it is, and is refused for its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sta.frontend.graph_builder import Argument, GraphBuilder, NotRewritten, erase_dead, name_of, sizes_of, tensor_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node


@dataclass(frozen=True)
class Rows:
    """The rows `[chosen, ...]` of `every`, of which the first axes are those of `mask`."""

    mask: Node
    every: Node


def keep_all_rows(program: ExportedProgram) -> None:
    """Rewrites the graph of a functional program in place."""
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    if not any(_chooses(node) for node in calls):
        return
    builder = GraphBuilder(program)
    chosen: dict[Node, Rows] = {}
    for node in calls:
        builder.current = node
        try:
            value = _value_of(builder, node, [_argument(one, chosen) for one in node.args])
        except NotRewritten:
            continue
        if isinstance(value, Rows):
            chosen[node] = value
        elif value is not None:
            node.replace_all_uses_with(value)
    erase_dead(program.graph.nodes)


def _argument(given: Argument, chosen: Mapping[Node, Rows]) -> Argument:
    from torch.fx import Node

    return chosen.get(given, given) if isinstance(given, Node) else given


def _chooses(node: Node) -> bool:
    """True for rows at a mask."""
    import torch

    if name_of(node) != "index.Tensor":
        return False
    indices: Argument = node.args[1]
    return len(indices) == 1 and tensor_of(indices[0]).dtype == torch.bool


def _value_of(builder: GraphBuilder, node: Node, arguments: Sequence[Argument]) -> Rows | Node | None:
    """The value of a node that chooses rows, or reads chosen ones; None for others. Raises NotRewritten."""
    if _chooses(node):
        if isinstance(arguments[0], Rows):
            raise NotRewritten("rows of chosen rows")
        return Rows(arguments[1][0], arguments[0])
    rows = [one for one in arguments if isinstance(one, Rows)]
    if not rows:
        return None
    if name_of(node) == "masked_scatter.default":
        return _put(builder, arguments[0], arguments[1], arguments[2])
    if name_of(node) == "index_put.default":
        return _put_at(builder, arguments)
    if any(_origin(one.mask) != _origin(rows[0].mask) for one in rows):
        raise NotRewritten("rows that different masks choose")
    return Rows(rows[0].mask, _of_each_row(builder, node, arguments, rows[0]))


_ROW_BY_ROW = ("linear.default", "layer_norm.default", "rms_norm.default")
_ALONG_AXES = ("mean.dim", "sum.dim_IntList", "amax.default", "softmax.int")


def _of_each_row(builder: GraphBuilder, node: Node, arguments: Sequence[Argument], rows: Rows) -> Node:
    """The result of a node that computes each row by itself, for all rows."""
    import torch

    name, given = name_of(node), list(arguments)
    if name in _ALONG_AXES:
        given[1] = _from_the_end(node, given[1])
    elif torch.Tag.pointwise in getattr(node.target, "tags", ()):
        _check_same_for_all(node, given)
    elif name not in _ROW_BY_ROW:
        raise NotRewritten("an operation on more than one row")
    return builder.call_target(
        node.target, *(one.every if isinstance(one, Rows) else one for one in given), **node.kwargs
    )


def _from_the_end(node: Node, axes: Argument) -> Argument:
    """Axes counted from the end, where chosen rows have those of all rows."""
    rank = len(tensor_of(node.all_input_nodes[0]).shape)
    given: list[int] = [axes] if isinstance(axes, int) else list(axes or range(rank))
    moved = [axis % rank - rank for axis in given]
    if -rank in moved:
        raise NotRewritten("an operation on more than one row")
    return moved[0] if isinstance(axes, int) else moved


def _check_same_for_all(node: Node, arguments: Sequence[Argument]) -> None:
    """Raises NotRewritten for an operand that differs between rows."""
    from torch.fx import Node

    rank = len(tensor_of(node).shape)
    if any(isinstance(one, Node) and len(tensor_of(one).shape) >= rank for one in arguments):
        raise NotRewritten("an operand that differs between rows")


# --- Back in their places ---


def _put(builder: GraphBuilder, base: Argument, mask: Node, rows: Argument) -> Node:
    """`rows` in the places that a mask `[..., 1]` chooses."""
    if isinstance(base, Rows) or not isinstance(rows, Rows) or _origin(mask) != _origin(rows.mask):
        raise NotRewritten("values put where other rows were")
    sizes = sizes_of(rows.mask)
    if sizes_of(mask) != [*sizes, *(1 for _ in sizes_of(base)[len(sizes) :])] or sizes_of(base) != sizes_of(rows.every):
        raise NotRewritten("values put where other rows were")
    return builder.call("where.self", mask, rows.every, base)


def _put_at(builder: GraphBuilder, arguments: Sequence[Argument]) -> Node:
    base, indices, rows, *accumulates = arguments
    if len(indices) != 1 or any(accumulates) or isinstance(base, Rows):
        raise NotRewritten("values put somewhere")
    mask = indices[0]
    return _put(
        builder, base, builder.view(mask, [*sizes_of(mask), *(1 for _ in sizes_of(base)[len(sizes_of(mask)) :])]), rows
    )


def _origin(mask: Node) -> tuple[Node, bool]:
    """The mask of which another is a view, and whether it is its negation."""
    is_negated = False
    while name_of(mask) in (*_NEGATIONS, *_VIEWS):
        is_negated ^= name_of(mask) in _NEGATIONS
        (mask,) = mask.all_input_nodes
    return mask, is_negated


_NEGATIONS = ("bitwise_not.default", "logical_not.default")
_VIEWS = ("alias.default", "unsqueeze.default", "view.default", "reshape.default")
