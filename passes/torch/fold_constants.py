"""
Folding of operations that do not depend on the inputs, and removal of operations without effect.

Masks, positions and tables computed from constants become literals, as does what is looked up in a constant with one
number only, wherever. Operators that pass their operand on (dropout in evaluation, contiguous, a conversion to the same
type) disappear. Two constants added one after the other become one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.interpreters.torch import (
    TorchInterpretationError,
    evaluate,
    is_random,
    operation_name,
    tensor_from,
)
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.location import module_path
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.torch_operations import (
    TorchBuilder,
    identifier,
    is_aten,
    literal_of,
    operations_of,
    replace,
    single_use,
)
from sta.spec.operators.operator import Elements

_UNKNOWN = object()

_COMPUTED = ("torch.aten.", "torch.prim.ListUnpack")
"""Prefixes of the operations that may be folded, besides those of other packages; the others are constants."""


def fold_constants(module: ModuleOp, store: WeightStore) -> None:
    """Folds the function `main` of `module`; results that are still needed go into `store`."""
    folder = _Folder(store)
    for operation in operations_of(module):
        folder.visit(operation)
    # Leftovers of reassociation must not keep constants alive.
    erase_dead(module)
    folder.materialize()
    erase_dead(module)


class _Folder:
    """Values of everything that does not depend on an input; needed ones are materialized at the end only."""

    def __init__(self, store: WeightStore) -> None:
        self._store = store
        self._values: dict[SSAValue, Any] = {}
        self._bases: dict[SSAValue, str] = {}
        self._folded: list[Operation] = []

    def visit(self, operation: Operation) -> None:
        """Removes, reassociates or evaluates `operation`."""
        is_computed = operation_name(operation).startswith(_COMPUTED) or torch.find_row(operation) is not None
        if not is_computed or _waits_for_product(operation):
            return
        if (passed_on := self._passed_on(operation)) is not None:
            replace(operation, [passed_on])
            return
        if isinstance(operation, torch.AddTensorOp):
            self._visit_add(operation)
            return
        self._evaluate(operation)

    def materialize(self) -> None:
        """Replaces folded operations with other users by literals and constants."""
        folded = set(self._folded)
        for operation in self._folded:
            for value in operation.results:
                if not _is_needed(value, folded):
                    continue
                if (constant := self._constant(operation, value)) is not None:
                    value.replace_all_uses_with(constant)

    def _visit_add(self, operation: torch.AddTensorOp) -> None:
        """Constants to the right, and (x + c) + d to x + (c + d)."""
        self._evaluate(operation)
        if operation.result in self._values or torch.constant_of(operation.alpha) != 1:
            return
        left, right = operation.input, operation.other
        if self._is_constant(left):
            operation.operands = [right, left, operation.alpha]
            left, right = right, left
        inner = left.owner
        if not isinstance(inner, torch.AddTensorOp) or not single_use(left) or torch.constant_of(inner.alpha) != 1:
            return
        if not self._is_constant(right) or not self._is_constant(inner.other):
            return
        if not all(torch.tensor_type(value).is_float for value in (right, inner.other)):
            # Sums of bools and narrow integers are others than those of floats.
            return
        builder = TorchBuilder(operation, self._store)
        total = builder.aten(torch.AddTensorOp, [inner.other, right, operation.alpha], _sum_type(inner.other, right))
        assert isinstance(total.owner, Operation)
        self._evaluate(total.owner)
        replace(
            operation, [builder.aten(torch.AddTensorOp, [inner.input, total, operation.alpha], operation.result.type)]
        )

    def _evaluate(self, operation: Operation) -> None:
        values = [self._value(operand) for operand in operation.operands]
        if _reads_type_only(operation):
            values[0] = _zeros(operation.operands[0])
        if is_random(operation):
            return
        try:
            is_known = all(value is not _UNKNOWN for value in values)
            results = evaluate(operation, tuple(values), self._store) if is_known else _repeated(operation, values)
        except TorchInterpretationError:
            # Operations that cannot be evaluated stay, and are reported with all other unsupported ones.
            return
        if results is None:
            return
        base = self._base(operation)
        for value, result in zip(operation.results, results, strict=True):
            self._values[value] = result
            self._bases[value] = base
        self._folded.append(operation)

    def _value(self, value: SSAValue) -> Any:
        """The Python value or tensor of `value`; _UNKNOWN if it depends on an input."""
        if value in self._values:
            return self._values[value]
        operation = value.owner
        if isinstance(operation, torch.ListConstructOp):
            elements = [self._value(element) for element in operation.elements]
            return _UNKNOWN if any(element is _UNKNOWN for element in elements) else elements
        if torch.is_constant(value):
            return torch.constant_of(value)
        if isinstance(operation, torch.LiteralOp):
            self._values[value] = evaluate(operation, (), self._store)[0]
            return self._values[value]
        return _UNKNOWN

    def _is_constant(self, value: SSAValue) -> bool:
        return value in self._values or literal_of(value) is not None

    def _base(self, operation: Operation) -> str:
        """Name to derive a result's from: the largest named constant of `operation`, else its module."""
        largest, size = identifier(module_path(operation)) or "constant", -1
        for operand in operation.operands:
            literal = literal_of(operand)
            name = self._bases.get(operand) if literal is None else literal.resource
            if name is None or not isinstance(operand.type, torch.VTensorType):
                continue
            if operand.type.element_count > size:
                largest, size = name, operand.type.element_count
        return largest

    def _constant(self, operation: Operation, value: SSAValue) -> SSAValue | None:
        """`value` as a constant; None for a list, whose elements become constants where they are unpacked."""
        result = self._values[value]
        builder = TorchBuilder(operation, self._store)
        if isinstance(result, bool):
            return builder.boolean(result)
        if isinstance(result, int):
            return builder.integer(result)
        if isinstance(result, float):
            return builder.number(result)
        if not isinstance(value.type, torch.VTensorType):
            return None
        name = f"{self._bases[value].removesuffix('.folded')}.folded"
        return builder.literal(np.array(result.resolve_conj().resolve_neg().numpy(), order="C"), name)

    def _passed_on(self, operation: Operation) -> SSAValue | None:
        """The operand that the result of `operation` always equals; None if it computes something."""
        if not operation.results or not operation.operands:
            return None
        first, result = operation.operands[0], operation.results[0]
        if isinstance(operation, torch.AddTensorOp):
            return self._plus_zero(operation)
        if is_aten(operation, "roll"):
            return first if _rolls_nothing(operation) else None
        if first.type != result.type:
            return None
        if is_aten(operation, "dropout"):
            probability, training = (torch.constant_of(operand) for operand in operation.operands[1:])
            return first if not training or probability == 0 else None
        row = torch.find_row(operation)
        if row is None:
            return None
        has_neutral = row.neutral is not None and torch.is_constant(operation.operands[1])
        is_neutral = has_neutral and torch.constant_of(operation.operands[1]) == row.neutral
        return first if row.may_do_nothing or is_neutral else None

    def _plus_zero(self, operation: torch.AddTensorOp) -> SSAValue | None:
        for value, zero in ((operation.input, operation.other), (operation.other, operation.input)):
            if not self._is_constant(zero) or value.type != operation.result.type or bool(self._value(zero).any()):
                continue
            return value if zero is operation.other or torch.constant_of(operation.alpha) == 1 else None
        return None


def _repeated(operation: Operation, values: Sequence[Any]) -> tuple[Any] | None:
    """The result of `operation` if it takes elements of a constant that has one number only; None if it does not."""
    row = torch.find_row(operation)
    if row is None or row.elements is not Elements.MOVED or values[0] is _UNKNOWN or not values[0].numel():
        return None
    flat = values[0].reshape(-1)
    # Wherever they are from.
    return (flat[0].expand(torch.sizes_of(operation.results[0])),) if bool((flat == flat[0]).all()) else None


def _sum_type(left: SSAValue, right: SSAValue) -> torch.VTensorType:
    sizes = np.broadcast_shapes(torch.sizes_of(left), torch.sizes_of(right))
    return torch.VTensorType(sizes, torch.tensor_type(left).element_type)


def _rolls_nothing(roll: Operation) -> bool:
    """True if `roll` moves each axis by a multiple of its size."""
    sizes = torch.sizes_of(roll.operands[0])
    if not torch.is_constant(roll.operands[1]) or not torch.is_constant(roll.operands[2]):
        return False
    shifts, axes = (torch.integers_of(operand) for operand in roll.operands[1:])
    moduli = [sizes[axis] for axis in axes] or [torch.tensor_type(roll.operands[0]).element_count]
    return all(shift % size == 0 for shift, size in zip(shifts, moduli, strict=True))


def _is_needed(value: SSAValue, folded: set[Operation]) -> bool:
    """True if any remaining operation uses `value`, directly or in a list."""
    for use in value.uses:
        user = use.operation
        if user in folded:
            continue
        if not isinstance(user, torch.ListConstructOp) or _is_needed(user.result, folded):
            return True
    return False


def _reads_type_only(operation: Operation) -> bool:
    """True for a tensor of constants in the shape and dtype of another: `zeros_like`, `new_ones`."""
    row = torch.find_row(operation)
    is_filled = row is not None and (row.label.endswith("_like") or row.label.startswith("new_"))
    return is_filled and isinstance(operation.operands[0].type, torch.VTensorType)


def _zeros(value: SSAValue) -> Any:
    """A tensor of the type of `value`, whose numbers do not matter."""
    kind = torch.tensor_type(value)
    return tensor_from(np.zeros(kind.sizes, torch.numpy_dtype(kind.element_type)))


def _waits_for_product(operation: Operation) -> bool:
    """True if `operation` transposes a weight for a matrix product: a linear layer wants the original."""
    if not is_aten(operation, "t", "transpose.int", "permute") or literal_of(operation.operands[0]) is None:
        return False
    users = [use.operation for use in operation.results[0].uses]
    return any(is_aten(user, "mm", "matmul", "addmm") for user in users)


@dataclass(frozen=True)
class TorchFoldConstantsPass(ModulePass):
    """Evaluates operations that do not depend on an input, removes operators without effect, and drops unused ones."""

    name = "torch-fold-constants"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Folds `op` in place; its new arrays go into the context's weight store."""
        fold_constants(op, weights_of(ctx))
