"""Rules for operators on single elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sta.frontend.experts.groups import of_group
from sta.frontend.experts.lifted import Lifted, Order, aligned
from sta.frontend.experts.rewriting import (
    Ends,
    Group,
    Inverse,
    Rewriting,
    Rule,
    Tokens,
    Value,
    lifted,
    registrar,
)
from sta.frontend.graph_builder import NotRewritten, name_of, sizes_of, source_of, tensor_of

if TYPE_CHECKING:
    from torch.fx import Node

RULES: dict[str, Rule] = {}
_rule = registrar(RULES)


def elementwise(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    builder = rewriting.builder
    if any(isinstance(one, Group) for one in values):
        return of_group(rewriting, node, values)
    form = next((one for one in values if isinstance(one, Lifted)), None)
    if form is None or any(isinstance(one, list | Order | Tokens | Inverse | Ends) for one in values):
        raise NotRewritten("an operation on what is no tensor with slots")
    sizes = _joint_sizes(values)
    axis = form.axis + len(sizes) - len(form.sizes)
    if sizes[axis] != form.sizes[form.axis]:
        raise NotRewritten("slots that are repeated")
    operands = [aligned(builder, one, form, len(sizes)) for one in values]
    keywords = {name: one for name, one in node.kwargs.items() if name not in ("memory_format", "layout", "pin_memory")}
    added = [1] * (axis - form.axis)
    result = replace(
        form,
        sizes=tuple(sizes),
        axis=axis,
        **form.marks(lambda one: builder.view(one, [*added, *sizes_of(one)])),
        make_dense=lambda: builder.call_target(node.target, *(one() for one in operands), **keywords),
        is_numbers=False,
        _made=[],
    )
    return replace(result, make_total=_total_of(rewriting, node, values, operands, result))


def _joint_sizes(values: Sequence[Value]) -> list[int]:
    """The sizes to which operands broadcast; those of the node may be unknown, of slots in groups."""
    from torch.fx import Node

    nodes = [sizes_of(one) for one in values if isinstance(one, Node) and hasattr(one.meta.get("val"), "shape")]
    return list(np.broadcast_shapes(*(one.sizes for one in values if isinstance(one, Lifted)), *nodes))


def _total_of(
    rewriting: Rewriting, node: Node, values: Sequence[Value], operands: Sequence[Callable[[], Any]], result: Lifted
) -> Callable[[Node], Node] | None:
    """The sum over the experts of a product or a sum of which a part has a cheap one."""
    builder, sizes = rewriting.builder, result.sizes
    cheap = next((index for index, one in enumerate(values) if isinstance(one, Lifted) and one.make_total), None)
    if cheap is None or values[cheap].sizes != sizes or len(values) > 2:
        return None
    if name_of(node) in _COPIES:
        return values[cheap].make_total
    if len(values) != 2 or node.kwargs:
        return None
    part, other = values[cheap], values[1 - cheap]
    if name_of(node) == "mul.Tensor":
        factor = operands[1 - cheap]
        return lambda weight: part.total(builder, builder.call("mul.Tensor", weight, factor()))
    if name_of(node) == "add.Tensor" and isinstance(other, Lifted) and other.sizes == sizes:
        return lambda weight: builder.call("add.Tensor", part.total(builder, weight), other.total(builder, weight))
    return None


_COPIES = ("alias.default", "clone.default", "detach.default")


@_rule("alias.default", "clone.default", "detach.default", "contiguous.default")
def _copy(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    return values[0]


@_rule("_to_copy.default", "to.dtype", "type_as.default")
def _converted(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:

    value, dtype = lifted(values[0]), tensor_of(node).dtype
    if tensor_of(source_of(node)).dtype == dtype:
        return value
    builder = rewriting.builder
    dense = lambda: builder.call("to.dtype", value.dense, dtype)  # noqa: E731
    return replace(value, make_dense=dense, make_total=None, _made=[])
