"""Choices: slots filled with the experts of the best scores, or with those that integers name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sta.frontend.experts.lifted import Choice, Lifted, viewed
from sta.frontend.experts.ranks import between, ranks_of
from sta.frontend.experts.rewriting import (
    Rewriting,
    Value,
    spread,
)
from sta.frontend.graph_builder import GraphBuilder, NotRewritten, argument_of, name_of, sizes_of, source_of

if TYPE_CHECKING:
    from torch.fx import Node


def choose_best(rewriting: Rewriting, node: Node) -> list[Value]:
    """The values and indices of topk."""
    axis, is_largest = argument_of(node, 2, "dim", -1), argument_of(node, 3, "largest", True)
    is_sorted = argument_of(node, 4, "sorted", True)
    return _chosen(rewriting, source_of(node), axis, argument_of(node, 1, "k"), is_largest, is_sorted)


def choose_first(rewriting: Rewriting, node: Node) -> Value:
    """The index of the largest element, and for `max.dim` its value."""
    scores, axis, keeps = source_of(node), argument_of(node, 1, "dim"), argument_of(node, 2, "keepdim", False)
    if axis is None:
        raise NotRewritten("the largest of all elements")
    _, index = _chosen(rewriting, scores, axis, 1, True, True)
    sizes = list(index.sizes)
    if not keeps:
        del sizes[axis % len(sizes)]
        if not sizes:
            raise NotRewritten("an index without axes")
        index = viewed(rewriting.builder, index, sizes)
    if name_of(node) == "argmax.default":
        return index
    largest = rewriting.builder.call("amax.default", scores, [axis], keeps)
    return [largest, index]


def _chosen(
    rewriting: Rewriting, scores: Any, axis: int, count: int, is_largest: bool, is_sorted: bool
) -> list[Lifted]:
    builder = rewriting.builder
    sizes = sizes_of(scores)
    if not scores.meta["val"].is_floating_point() or not sizes:
        raise NotRewritten("a choice among integers")
    axis %= len(sizes)
    experts = sizes[axis]
    ranks = spread(builder, ranks_of(builder, scores, axis, is_largest), axis)
    excluded = rewriting.excluded.get(scores)
    choice = Choice(count, experts, () if excluded is None else (excluded,))
    slots = [*sizes[:axis], count, *sizes[axis + 1 :]]
    mask = between(builder, ranks, 0, count, experts)
    values = Lifted(
        choice,
        tuple(slots),
        axis,
        1,
        mask,
        lambda: spread(builder, scores, axis),
        ranks=ranks if is_sorted else None,
    )
    numbers = _numbers(builder, experts, axis, len(sizes))
    return [values, replace(values, make_dense=lambda: numbers, is_numbers=True, _made=[])]


def choose_listed(rewriting: Rewriting, indices: Any, experts: int) -> Lifted:
    """Slots that are filled with integers, which may be equal; along their last axis."""
    import torch

    builder = rewriting.builder
    sizes = sizes_of(indices)
    axis = len(sizes) - 1
    every = builder.constant(torch.arange(experts, dtype=indices.meta["val"].dtype))
    equal = builder.call("eq.Tensor", builder.call("unsqueeze.default", indices, -1), every)
    count = builder.total(builder.call("to.dtype", equal, torch.float32), [-2])
    numbers = _numbers(builder, experts, axis, len(sizes))
    return Lifted(
        Choice(sizes[-1], experts),
        tuple(sizes),
        axis,
        1,
        spread(builder, count, axis),
        lambda: numbers,
        is_numbers=True,
    )


def _numbers(builder: GraphBuilder, experts: int, axis: int, rank: int) -> Node:
    """The numbers of the experts, the same for all tokens."""
    import torch

    sizes = [1] * (rank + 2)
    sizes[axis + 1] = experts
    return builder.constant(torch.arange(experts).reshape(sizes))
