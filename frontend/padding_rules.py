"""
Leading extents of tensors through operators: what is filled of a result, and what is needed of the operands.

A rule is made of a node; it is None where the node's arguments have a form without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sta.frontend.graph_builder import GraphBuilder, name_of, sizes_of

if TYPE_CHECKING:
    from torch.fx import Node

Extents: TypeAlias = tuple[int, ...]
"""The first so many elements along each axis of a tensor."""
Axes: TypeAlias = tuple[int | None, ...]
"""For each axis of an operand the axis of the result along which it lies; None for one that is read whole."""


@dataclass(frozen=True)
class Rule:
    """The extents of a node's tensors."""

    operands: Sequence[Node]
    filled: Callable[[Sequence[Extents]], Extents]
    """Of the result, from those of the operands."""
    needed: Callable[[Extents, Sequence[Extents]], list[Extents | None]]
    """Of the operands, from those of the result and what is filled of each; None for one that is not read."""
    made: Callable[[GraphBuilder, Extents, Sequence[Node | None]], Node]
    """A node with at least the needed extents of the result, of operands cut to what is needed of them."""


RULES: dict[str, Callable[[Node], Rule | None]] = {}


def _rule(*names: str) -> Callable[[Callable[[Node], Rule | None]], Callable[[Node], Rule | None]]:
    def register(make: Callable[[Node], Rule | None]) -> Callable[[Node], Rule | None]:
        RULES.update((name, make) for name in names)
        return make

    return register


def _along(operand: Node, axes: Axes, result: Extents, extents: Extents) -> Extents:
    """The extents of an operand that lie along those of a result of sizes `result`; repeated axes are whole."""
    sizes = sizes_of(operand)
    return tuple(
        extents[axis] if axis is not None and size == result[axis] else size
        for size, axis in zip(sizes, axes, strict=True)
    )


def _against(operand: Node, axes: Axes, result: Extents, extents: Extents) -> Extents:
    """The extents of a result of sizes `result` along those of an operand; other axes are whole."""
    found = list(result)
    for size, axis, extent in zip(sizes_of(operand), axes, extents, strict=True):
        if axis is not None and size == result[axis]:
            found[axis] = extent
    return tuple(found)


def _arguments(node: Node) -> Any:
    """The arguments of a node, each of the type that its operator takes."""
    return node.args


def _called(node: Node, operands: Sequence[Node]) -> Callable[[GraphBuilder, Extents, Sequence[Node | None]], Node]:
    """A call with the same arguments, but for the tensors."""

    def made(builder: GraphBuilder, needed: Extents, values: Sequence[Node | None]) -> Node:
        from torch.fx.node import map_arg

        cut = dict(zip(operands, values, strict=True))
        arguments, keywords = map_arg((node.args, dict(node.kwargs)), lambda one: cut[one])
        return builder.call_target(node.target, *arguments, **keywords)

    return made


def _along_axes(node: Node, axes: Axes, made: Any = None) -> Rule:
    """The rule of one operand whose zeros stay zeros, along axes of the result."""
    operand, sizes = _arguments(node)[0], tuple(sizes_of(node))
    return Rule(
        [operand],
        lambda filled: _against(operand, axes, sizes, filled[0]),
        lambda needed, filled: [_along(operand, axes, sizes, needed)],
        made or _called(node, [operand]),
    )


def _axis(node: Node, axis: Any) -> int:
    return int(axis) % max(len(sizes_of(node)), 1)


# --- Elements ---


def pointwise_rule(node: Node) -> Rule | None:
    """The rule of an operator on each element, with broadcasting."""
    operands = list(node.all_input_nodes)
    sizes = tuple(sizes_of(node))
    if not operands or any(not hasattr(one.meta.get("val"), "dtype") for one in operands):
        return None
    axes = {one: _aligned(len(sizes_of(one)), len(sizes)) for one in operands}
    alone, together = _zeros(node, operands)

    def filled(given: Sequence[Extents]) -> Extents:
        reached = [_against(one, axes[one], sizes, extents) for one, extents in zip(operands, given, strict=True)]
        boxes = [box for box, is_zero in zip(reached, alone, strict=True) if is_zero]
        if together:
            boxes.append(tuple(map(max, zip(*reached, strict=True))))
        return tuple(map(min, zip(sizes, *boxes, strict=True)))

    return Rule(
        operands,
        filled,
        lambda needed, filled: [_along(one, axes[one], sizes, needed) for one in operands],
        _called(node, operands),
    )


def _aligned(rank: int, of: int) -> Axes:
    """Axes of an operand that is broadcast to a result of more axes."""
    return tuple(range(of - rank, of))


def _zeros(node: Node, operands: Sequence[Node]) -> tuple[list[bool], bool]:
    """For each operand whether the result is zero where it is, and whether it is where all are."""
    import torch
    from torch.fx.node import map_arg

    target: Any = node.target

    def is_zero(zeros: Sequence[bool]) -> bool:
        drawn = {one: _numbers(one, zero) for one, zero in zip(operands, zeros, strict=True)}
        arguments, keywords = map_arg((node.args, dict(node.kwargs)), lambda one: drawn[one])
        try:
            return not torch.count_nonzero(target(*arguments, **keywords))
        except (RuntimeError, TypeError):
            return False

    alone = [is_zero([other == index for other in range(len(operands))]) for index in range(len(operands))]
    return alone, is_zero([True] * len(operands))


def _numbers(node: Node, zero: bool) -> Any:
    import torch

    numbers = torch.tensor([0.0] * 4 if zero else [-1.5, 0.0, 0.7, 2.0])
    return numbers.to(node.meta["val"].dtype)


@_rule("clone.default", "alias.default", "detach.default", "contiguous.default", "_to_copy.default", "to.dtype")
def _copied(node: Node) -> Rule:
    return _along_axes(node, tuple(range(len(sizes_of(node)))))


@_rule("copy.default")
def _overwritten(node: Node) -> Rule:
    """A tensor that takes its sizes from one operand, and its elements from another."""

    source, sizes = _arguments(node)[1], tuple(sizes_of(node))
    axes = _aligned(len(sizes_of(source)), len(sizes))

    def made(builder: GraphBuilder, needed: Extents, values: Sequence[Node | None]) -> Node:
        return builder.call("expand.default", values[0], list(needed))

    return Rule(
        [source],
        lambda filled: _against(source, axes, sizes, filled[0]),
        lambda needed, filled: [_along(source, axes, sizes, needed)],
        made,
    )


@_rule("zeros.default", "zeros_like.default", "new_zeros.default")
def _zero(node: Node) -> Rule:
    return Rule([], lambda filled: (0,) * len(sizes_of(node)), lambda needed, filled: [], _called(node, []))


@_rule("tril.default", "triu.default")
def _triangle(node: Node) -> Rule:
    return _along_axes(node, tuple(range(len(sizes_of(node)))))


# --- Movements ---


@_rule("view.default", "reshape.default", "_unsafe_view.default", "unsqueeze.default", "flatten.using_ints")
@_rule("squeeze.default", "squeeze.dim", "squeeze.dims")
def _viewed(node: Node) -> Rule:
    """Axes that stay whole axes between others."""

    given, result = sizes_of(_arguments(node)[0]), sizes_of(node)
    axes = _corresponding(given, result)

    def made(builder: GraphBuilder, needed: Extents, values: Sequence[Node | None]) -> Node:
        sizes = [needed[axis] if axis in axes else size for axis, size in enumerate(result)]
        return builder.call("reshape.default", values[0], sizes)

    return _along_axes(node, axes, made)


def _corresponding(given: Sequence[int], result: Sequence[int]) -> Axes:
    """For each axis the one of another shape that counts the same elements; None for one that is cut or joined."""
    import math

    found: list[int | None] = [None] * len(given)
    for axis, size in enumerate(given):
        before, after = math.prod(given[:axis]), math.prod(given[axis + 1 :])
        for other, count in enumerate(result):
            same = (
                count == size != 1 and math.prod(result[:other]) == before and math.prod(result[other + 1 :]) == after
            )
            found[axis] = other if same else found[axis]
    return tuple(found)


@_rule("permute.default")
def _permuted(node: Node) -> Rule:
    order = [_axis(node, axis) for axis in _arguments(node)[1]]
    return _along_axes(node, tuple(order.index(axis) for axis in range(len(order))))


@_rule("transpose.int")
def _transposed(node: Node) -> Rule:
    axes = list(range(len(sizes_of(node))))
    first, second = (_axis(node, axis) for axis in _arguments(node)[1:3])
    axes[first], axes[second] = second, first
    return _along_axes(node, tuple(axes))


@_rule("expand.default")
def _expanded(node: Node) -> Rule:

    def made(builder: GraphBuilder, needed: Extents, values: Sequence[Node | None]) -> Node:
        return builder.call("expand.default", values[0], list(needed))

    return _along_axes(node, _aligned(len(sizes_of(_arguments(node)[0])), len(sizes_of(node))), made)


@_rule("repeat_interleave.self_int")
def _repeated(node: Node) -> Rule | None:
    axis = _arguments(node)[2] if len(_arguments(node)) > 2 else node.kwargs.get("dim")
    if axis is None:
        return None
    axis = _axis(node, axis)
    return _along_axes(node, tuple(None if one == axis else one for one in range(len(sizes_of(node)))))


@_rule("slice.Tensor")
def _sliced(node: Node) -> Rule | None:

    source = _arguments(node)[0]
    axis, start, end, step = [*_arguments(node)[1:], *(0, None, None, 1)[len(_arguments(node)) - 1 :]]
    axis = _axis(source, axis)
    size, sizes = sizes_of(source)[axis], tuple(sizes_of(node))
    start, _, step = slice(start, end, step).indices(size)
    if not sizes[axis]:
        return None

    def filled(given: Sequence[Extents]) -> Extents:
        left = max(given[0][axis] - start, 0)
        return (*given[0][:axis], min(-(-left // step), sizes[axis]), *given[0][axis + 1 :])

    def needed(wanted: Extents, given: Sequence[Extents]) -> list[Extents | None]:
        return [(*wanted[:axis], start + (wanted[axis] - 1) * step + 1, *wanted[axis + 1 :])]

    def made(builder: GraphBuilder, wanted: Extents, values: Sequence[Node | None]) -> Node:
        end = start + (wanted[axis] - 1) * step + 1
        return builder.call("slice.Tensor", values[0], axis, start, end, step)

    return Rule([source], filled, needed, made)


@_rule("select.int")
def _selected(node: Node) -> Rule:

    source, axis, index = _arguments(node)
    axis = _axis(source, axis)
    index = index % sizes_of(source)[axis]

    def filled(given: Sequence[Extents]) -> Extents:
        rest = (*given[0][:axis], *given[0][axis + 1 :])
        return rest if index < given[0][axis] else (0,) * len(rest)

    def needed(wanted: Extents, given: Sequence[Extents]) -> list[Extents | None]:
        return [(*wanted[:axis], index + 1, *wanted[axis:])]

    def made(builder: GraphBuilder, wanted: Extents, values: Sequence[Node | None]) -> Node:
        return builder.call("select.int", values[0], axis, index)

    return Rule([source], filled, needed, made)


@_rule("pad.default", "constant_pad_nd.default")
def _padded(node: Node) -> Rule | None:
    """Zeros at the ends of axes."""

    source, amounts, *rest = _arguments(node)
    value = rest[-1] if rest and not isinstance(rest[-1], str) else node.kwargs.get("value")
    if (rest and isinstance(rest[0], str) and rest[0] != "constant") or value or min(amounts) < 0 or any(amounts[::2]):
        return None
    sizes = sizes_of(source)

    def needed(wanted: Extents, given: Sequence[Extents]) -> list[Extents | None]:
        return [tuple(map(min, wanted, sizes))]

    def made(builder: GraphBuilder, wanted: Extents, values: Sequence[Node | None]) -> Node:
        # More than the source's own is never filled.
        assert values[0] is not None
        return values[0]

    return Rule([source], lambda given: given[0], needed, made)


@_rule("cat.default")
def _concatenated(node: Node) -> Rule | None:

    parts = list(_arguments(node)[0])
    axis = _arguments(node)[1] if len(_arguments(node)) > 1 else node.kwargs.get("dim", 0)
    rank = len(sizes_of(node))
    if any(len(sizes_of(one)) != rank for one in parts) or len(set(parts)) != len(parts):
        return None
    axis = _axis(node, axis)
    offsets = [sum(sizes_of(one)[axis] for one in parts[:index]) for index in range(len(parts))]

    def filled(given: Sequence[Extents]) -> Extents:
        ends = [offset + one[axis] for offset, one in zip(offsets, given, strict=True) if all(one)]
        return tuple(max(ends, default=0) if at == axis else max(one[at] for one in given) for at in range(rank))

    def needed(wanted: Extents, given: Sequence[Extents]) -> list[Extents | None]:
        found: list[Extents | None] = []
        for offset, one in zip(offsets, parts, strict=True):
            count = min(wanted[axis] - offset, sizes_of(one)[axis])
            found.append((*wanted[:axis], count, *wanted[axis + 1 :]) if count > 0 else None)
        return found

    def made(builder: GraphBuilder, wanted: Extents, values: Sequence[Node | None]) -> Node:
        left = [one for one in values if one is not None]
        return left[0] if len(left) == 1 else builder.call("cat.default", left, axis)

    return Rule(parts, filled, needed, made)


@_rule("slice_scatter.default", "select_scatter.default")
def _scattered(node: Node) -> Rule | None:
    """A part of a tensor in the place of its own."""

    base, part, axis, *place = _arguments(node)
    is_slice = name_of(node) == "slice_scatter.default"
    axis = _axis(base, axis)
    size = sizes_of(base)[axis]
    if base is part:
        return None
    if is_slice:
        first, _, step = slice(*[*place, *(None, None, 1)[len(place) :]]).indices(size)
        count = sizes_of(part)[axis]
    else:
        first, step, count = place[0] % size, 1, 1

    def taken(extent: int) -> int:
        """The elements of the part that lie in an extent."""
        return max(0, min(count, -(-(extent - first) // step)))

    def of_part(extents: Extents, count: int) -> Extents:
        return (*extents[:axis], *((count,) if is_slice else ()), *extents[axis + 1 :])

    def filled(given: Sequence[Extents]) -> Extents:
        ours, theirs = given
        if theirs and not all(theirs):
            return ours
        end = first + (count - 1) * step + 1
        whole = theirs if is_slice else (*theirs[:axis], 1, *theirs[axis:])
        return tuple(max(ours[at], end if at == axis else whole[at]) for at in range(len(ours)))

    def needed(wanted: Extents, given: Sequence[Extents]) -> list[Extents | None]:
        number = taken(wanted[axis])
        return [wanted, of_part(wanted, number) if number else None]

    def made(builder: GraphBuilder, wanted: Extents, values: Sequence[Node | None]) -> Node:
        whole, cut = values
        assert whole is not None
        if cut is None:
            return whole
        if not is_slice:
            return builder.call("select_scatter.default", whole, cut, axis, first)
        end = min(first + (taken(wanted[axis]) - 1) * step + 1, wanted[axis])
        return builder.call("slice_scatter.default", whole, cut, axis, first, end, step)

    return Rule([base, part], filled, needed, made)


# --- Sums ---


@_rule("sum.dim_IntList", "mean.dim")
def _summed(node: Node) -> Rule:
    source = _arguments(node)[0]
    rank = len(sizes_of(source))
    axes = {_axis(source, axis) for axis in (_arguments(node)[1] or range(rank))}
    keeps = bool(_arguments(node)[2]) if len(_arguments(node)) > 2 else bool(node.kwargs.get("keepdim", False))
    is_sum = name_of(node) == "sum.dim_IntList"
    kept = [axis for axis in range(rank) if keeps or axis not in axes]

    def filled(given: Sequence[Extents]) -> Extents:
        return tuple(1 if axis in axes else given[0][axis] for axis in kept)

    def needed(wanted: Extents, given: Sequence[Extents]) -> list[Extents | None]:
        found = [max(1, extent) for extent in given[0]] if is_sum else sizes_of(source)
        for axis, extent in zip(kept, wanted, strict=True):
            if axis not in axes:
                found[axis] = extent
        return [tuple(found)]

    return Rule([source], filled, needed, _called(node, [source]))


@_rule("cumsum.default", "softmax.int", "_softmax.default")
def _along_one_axis(node: Node) -> Rule:
    """Running totals need no more than they give; a softmax all of its axis."""
    axis, rank = _axis(node, _arguments(node)[1]), len(sizes_of(node))
    is_sum = name_of(node) == "cumsum.default"
    every = tuple(range(rank))
    others = tuple(None if one == axis else one for one in every)
    rule = _along_axes(node, every if is_sum else others)
    size = sizes_of(node)[axis]

    def filled(given: Sequence[Extents]) -> Extents:
        if is_sum:
            return (*given[0][:axis], size, *given[0][axis + 1 :])
        return tuple(sizes_of(node))

    return Rule(rule.operands, filled, rule.needed, rule.made)


@_rule("matmul.default", "bmm.default", "mm.default")
def _product(node: Node) -> Rule | None:
    a, b = _arguments(node)
    sizes = tuple(sizes_of(node))
    ranks = len(sizes_of(a)), len(sizes_of(b))
    if min(ranks) < 2 or a is b:
        return None
    rank = len(sizes)
    of_a: Axes = (*range(rank - ranks[0], rank - 2), rank - 2, None)
    of_b: Axes = (*range(rank - ranks[1], rank - 2), None, rank - 1)

    def filled(given: Sequence[Extents]) -> Extents:
        first, second = _against(a, of_a, sizes, given[0]), _against(b, of_b, sizes, given[1])
        return tuple(map(min, first, second))

    def needed(wanted: Extents, given: Sequence[Extents]) -> list[Extents | None]:
        depth = max(1, min(given[0][-1], given[1][-2]))
        first, second = _along(a, of_a, sizes, wanted), _along(b, of_b, sizes, wanted)
        return [(*first[:-1], depth), (*second[:-2], depth, second[-1])]

    return Rule([a, b], filled, needed, _called(node, [a, b]))


@_rule("einsum.default")
def _summation(node: Node) -> Rule | None:
    """Products of several tensors, summed over the letters that the result lacks."""
    equation, operands = _arguments(node)[0].replace(" ", ""), list(_arguments(node)[1])
    given, _, result = equation.partition("->")
    letters = given.split(",")
    if "." in equation or "->" not in equation or len(set(operands)) != len(operands):
        return None
    sizes = {
        letter: size
        for operand, one in zip(operands, letters, strict=True)
        for letter, size in zip(one, sizes_of(operand), strict=True)
        if size > 1
    }

    def reached(extents: Sequence[Extents]) -> dict[str, int]:
        """The extent of each letter behind which a factor is zero."""
        ends = dict(sizes)
        for operand, one, extent in zip(operands, letters, extents, strict=True):
            for letter, size, end in zip(one, sizes_of(operand), extent, strict=True):
                if size > 1:
                    ends[letter] = min(ends[letter], end)
        return ends

    def filled(extents: Sequence[Extents]) -> Extents:
        ends = reached(extents)
        return tuple(ends.get(letter, 1) for letter in result)

    def needed(wanted: Extents, extents: Sequence[Extents]) -> list[Extents | None]:
        ends = {letter: max(1, end) for letter, end in reached(extents).items()} | dict(
            zip(result, wanted, strict=True)
        )
        return [
            tuple(ends[letter] if size > 1 else 1 for letter, size in zip(one, sizes_of(operand), strict=True))
            for operand, one in zip(operands, letters, strict=True)
        ]

    return Rule(operands, filled, needed, _called(node, operands))
