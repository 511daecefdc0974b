"""
Causes of refusals that several operations share: one entry for each, at the operation to change.

A spelled-out norm that is not recognized leaves its parts, none of which can be compiled; a list of them would not say
what stands in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from xdsl.dialects.builtin import ComplexType
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Operation, SSAValue, Use

from sta.dialect import torch
from sta.dialect.ir.location import module_path
from sta.passes.rewriting.torch_operations import is_aten
from sta.spec.operators.operator import Role

NORM = "a norm that is spelled out in a form that is not recognized: use nn.LayerNorm or nn.RMSNorm"
COMPLEX = "complex numbers have no integer form beyond sums, products and views: write it with real ones"

_PRODUCTS = torch.MatmulOp | torch.BmmOp


@dataclass(frozen=True)
class Cause:
    """A cause of refusals."""

    operation: Operation
    """The operation to report."""
    note: str
    parts: frozenset[Operation]
    """The operations that are refused because of it, `operation` among them."""


def find_causes(operations: Iterable[Operation]) -> list[Cause]:
    """The causes that several of the remaining `operations` of a module share."""
    found: list[Cause] = []
    for operation in operations:
        finder = next((find for is_root, find in _FINDERS if is_root(operation)), None)
        if finder is not None and (cause := finder(operation)) is not None:
            _add(found, cause)
    return found


def _add(found: list[Cause], cause: Cause) -> None:
    """Adds `cause` to `found`, to the same norm if another of its reductions is there."""
    for index, other in enumerate(found):
        if other.note == cause.note == NORM and other.parts & cause.parts:
            found[index] = replace(other, parts=other.parts | cause.parts)
            return
    found.append(cause)


def serving(operations: list[Operation], is_end: Callable[[Use], bool]) -> set[Operation]:
    """Operations whose results are used only in the way `is_end` says, or by other such operations."""
    found: set[Operation] = set()
    for operation in reversed(operations):
        uses = [use for result in operation.results for use in result.uses]
        if uses and all(use.operation in found or is_end(use) for use in uses):
            found.add(operation)
    return found


# --- Norms ---


def _is_on_the_way(operation: Operation) -> bool:
    row = torch.find_row(operation)
    return row is None or row.combines or row.role in (Role.VIEW, Role.CONVERSION)


def _is_reduction(operation: Operation) -> bool:
    return is_aten(
        operation, "mean.dim", "var.correction", "var.dim", "std.correction", "std.dim", "linalg_vector_norm"
    )


def _of_reduction(reduction: Operation) -> Cause | None:
    """A norm around the reduction of a last axis that stays: its root divides what was reduced."""
    if torch.sizes_of(reduction.results[0])[-1:] != (1,):
        return None
    path = module_path(reduction)
    narrow = [reduction]
    wide: list[Operation] = []
    for operation in narrow:
        for use in (use for result in operation.results for use in result.uses):
            user = use.operation
            if isinstance(user, ReturnOp) or user in narrow or user in wide or module_path(user) != path:
                continue
            is_narrow = torch.sizes_of(user.results[0])[-1:] == (1,) or is_aten(user, "expand")
            (narrow if is_narrow and _is_on_the_way(user) else wide).append(user)
    has_root = any(is_aten(one, "sqrt", "rsqrt", "pow.Tensor_Scalar", "std.correction", "std.dim") for one in narrow)
    if not has_root and not is_aten(reduction, "linalg_vector_norm"):
        centring = [one for one in wide if is_aten(one, "sub.Tensor", "add.Tensor")]
        roots = [use.operation for one in centring for use in one.results[0].uses]
        if not roots:
            return None
    # A mean and a deviation of the same value are of one norm.
    others = [use.operation for use in reduction.operands[0].uses if _is_reduction(use.operation)]
    narrow += [one for one in others if module_path(one) == path and one not in narrow]
    source = [one for one in _before(reduction.operands[0], _is_on_the_way) if module_path(one) == path]
    return Cause(reduction, NORM, frozenset({*narrow, *wide, *source}))


# --- Others ---


def _is_complex(value: SSAValue) -> bool:
    return isinstance(value.type, torch.VTensorType) and isinstance(value.type.element_type, ComplexType)


def _becomes_complex(operation: Operation) -> bool:
    return any(map(_is_complex, operation.results)) and not isinstance(operation, torch.LiteralOp)


def _of_complex(operation: Operation) -> Cause | None:
    """Complex numbers, from where they begin to where they end."""
    if any(_is_complex(value) and not isinstance(value.owner, torch.LiteralOp) for value in operation.operands):
        return None
    parts = [operation]
    for one in parts:
        if any(map(_is_complex, one.results)):
            parts += [use.operation for use in one.results[0].uses if use.operation not in parts]
    return Cause(operation, COMPLEX, frozenset(one for one in parts if not isinstance(one, ReturnOp)))


def _of_concatenation(operation: Operation) -> Cause | None:
    """Parts of a value that are put together again, as rotary embeddings do."""
    elements = operation.operands[0]
    sources = _before(elements, lambda one: _is_on_the_way(one) or isinstance(one, torch.ListConstructOp))
    path = module_path(operation)
    parts = [one for one in sources if module_path(one) == path]
    row = torch.find_row(operation)
    return Cause(operation, "" if row is None else row.remedy, frozenset({operation, *parts}))


def _before(value: SSAValue, is_followed: Callable[[Operation], bool]) -> list[Operation]:
    """Operations from which `value` is made, products included, as far as each user `is_followed`; the last first."""
    found: list[Operation] = []
    pending = [value]
    while pending:
        operation = pending.pop(0).owner
        if not isinstance(operation, Operation) or operation in found or isinstance(operation, torch.LiteralOp):
            continue
        if isinstance(operation, _PRODUCTS):
            found.append(operation)
        elif any(isinstance(result.type, torch.VTensorType | torch.ListType) for result in operation.results):
            if is_followed(operation):
                found.append(operation)
                pending += operation.operands
    return found


_FINDERS: tuple[tuple[Callable[[Operation], bool], Callable[[Operation], Cause | None]], ...] = (
    (_is_reduction, _of_reduction),
    (_becomes_complex, _of_complex),
    (lambda one: is_aten(one, "cat"), _of_concatenation),
)
"""Roots of causes, and what is said about each."""
