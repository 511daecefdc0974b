"""Rules for operators on single elements."""
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# Operators of torch.ops and arguments of nodes have no public types.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sta.frontend.experts.lifted import Lifted, Order, aligned
from sta.frontend.experts.rewriting import (
    Ends,
    Inverse,
    Rewriting,
    Rule,
    Tokens,
    Value,
    lifted,
    registrar,
)
from sta.frontend.graph_builder import NotRewritten, name_of, sizes_of

if TYPE_CHECKING:
    from torch.fx import Node

RULES: dict[str, Rule] = {}
_rule = registrar(RULES)


def elementwise(rewriting: Rewriting, node: Node, values: Sequence[Value]) -> Value:
    builder = rewriting.builder
    form = next((one for one in values if isinstance(one, Lifted)), None)
    if form is None or any(isinstance(one, list | Order | Tokens | Inverse | Ends) for one in values):
        raise NotRewritten("an operation on what is no tensor with slots")
    sizes = sizes_of(node)
    axis = form.axis + len(sizes) - len(form.sizes)
    if sizes[axis] != form.sizes[form.axis]:
        raise NotRewritten("slots that are repeated")
    operands = [aligned(builder, one, form, len(sizes)) for one in values]
    keywords = {name: one for name, one in node.kwargs.items() if name not in ("memory_format", "layout", "pin_memory")}
    count = builder.view(form.count, [*(1 for _ in range(axis - form.axis)), *sizes_of(form.count)])
    result = Lifted(
        form.choice,
        tuple(sizes),
        axis,
        form.inner,
        count,
        lambda: builder.call_target(node.target, *(one() for one in operands), **keywords),
        form.order,
    )
    return replace(result, make_total=_total_of(rewriting, node, values, operands))


def _total_of(
    rewriting: Rewriting, node: Node, values: Sequence[Value], operands: Sequence[Callable[[], Any]]
) -> Callable[[Node], Node] | None:
    """The sum over the experts of a product or a sum of which a part has a cheap one."""

    builder, sizes = rewriting.builder, tuple(sizes_of(node))
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

    value, dtype = lifted(values[0]), node.meta["val"].dtype
    if node.args[0].meta["val"].dtype == dtype:
        return value
    builder = rewriting.builder
    dense = lambda: builder.call("to.dtype", value.dense, dtype)  # noqa: E731
    return replace(value, make_dense=dense, make_total=None, _made=[])
