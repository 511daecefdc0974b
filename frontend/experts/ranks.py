"""
The experts that a router chooses, without indices: how often it takes each of them.

The best `count` of `size` scores are those with fewer than `count` better ones. Of equal scores the first is better,
where PyTorch leaves it open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sta.frontend.graph_builder import GraphBuilder, name_of, sizes_of

if TYPE_CHECKING:
    from torch.fx import Node

_RISING = (
    "sigmoid.default",
    "tanh.default",
    "exp.default",
    "softplus.default",
    "sqrt.default",
)
_RISING_ALONG_AXIS = ("softmax.int", "_softmax.default", "log_softmax.int", "_log_softmax.default")
_SAME = ("alias.default", "clone.default", "detach.default", "type_as.default")


def ranks_of(builder: GraphBuilder, scores: Node, axis: int, is_largest: bool) -> Node:
    """
    The number of better scores along an axis, for every score: a permutation of 0, 1, ….

    Each pair is compared once, so that a rounded difference cannot let both win or lose.
    """
    import torch

    scores = source_of_order(scores, axis)
    rank = len(sizes_of(scores))
    axis %= rank
    last = builder.permute(scores, [*(one for one in range(rank) if one != axis), axis])
    size = sizes_of(last)[-1]
    difference = builder.call(
        "sub.Tensor", builder.call("unsqueeze.default", last, -1), builder.call("unsqueeze.default", last, -2)
    )
    compared = builder.call("ge.Scalar" if is_largest else "le.Scalar", difference, 0)
    earlier = builder.constant(torch.ones(size, size).triu(1))
    # Element (j, e) is 1 where j comes first and is not worse.
    wins = builder.call("mul.Tensor", builder.call("to.dtype", compared, torch.float32), earlier)
    ahead, behind = builder.total(wins, [-2]), builder.total(wins, [-1])
    rest = builder.constant(torch.arange(size - 1, -1, -1, dtype=torch.float32))
    ranks = builder.call("add.Tensor", builder.call("sub.Tensor", ahead, behind), rest)
    order = list(range(rank - 1))
    order.insert(axis, rank - 1)
    return builder.permute(ranks, order)


def source_of_order(scores: Node, axis: int) -> Node:
    """The value whose order along an axis is that of `scores`: functions that rise keep it, and round it."""
    while scores.op == "call_function" and scores.args:
        name = name_of(scores)
        rises = name in _RISING or name in _SAME or _is_same_type(scores)
        if not rises and not (name in _RISING_ALONG_AXIS and _is_axis(scores.args[1], axis, scores)):
            break
        scores = scores.args[0]  # pyright: ignore[reportAssignmentType]  # the first argument of each is its tensor
    return scores


def _is_same_type(node: Node) -> bool:
    source: Any = node.args[0]
    names = ("_to_copy.default", "to.dtype")
    return name_of(node) in names and source.meta["val"].dtype == node.meta["val"].dtype


def _is_axis(given: Any, axis: int, node: Node) -> bool:
    rank = len(sizes_of(node))
    return given % rank == axis % rank


def between(builder: GraphBuilder, ranks: Node, first: int, stop: int, size: int) -> Node:
    """One for the ranks from `first` up to, without, `stop`, else zero."""
    import torch

    def below(bound: int) -> Node:
        return builder.call("to.dtype", builder.call("lt.Scalar", ranks, bound - 0.5), torch.float32)

    if first == 0 and stop == size:
        return builder.constant(torch.ones(sizes_of(ranks)))
    if first == 0:
        return below(stop)
    if stop == size:
        return builder.call("rsub.Scalar", below(first), 1)
    return builder.call("sub.Tensor", below(stop), below(first))
