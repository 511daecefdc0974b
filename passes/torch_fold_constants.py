"""
Fold what does not depend on the inputs, and remove what does nothing.

Masks, positions and tables that a model computes from constants become literals; operators that hand their operand on
(dropout in evaluation, contiguous, a conversion to the type it has) disappear; two constants added one after the other
become one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.context import weights_of
from sta.dialect.torch_interpreter import TorchInterpretationError, evaluate, is_random, operation_name
from sta.dialect.weight_store import WeightStore
from sta.passes.torch_rewriting import (
    TorchBuilder,
    array_of,
    derived_name,
    erase_dead,
    is_aten,
    literal_of,
    operations_of,
    replace,
    single_use,
)

_UNKNOWN = object()

_PASS_ON = (
    "alias",
    "broadcast_to",
    "clone",
    "contiguous",
    "detach",
    "dropout",
    "expand",
    "expand_as",
    "lift_fresh_copy",
    "reshape",
    "to.device",
    "to.dtype",
    "to.dtype_layout",
    "_to_copy",
    "type_as",
    "view",
)
"""Operators whose result is their first operand where both have the same type."""

_NEUTRAL = {"add.Scalar": 0, "sub.Scalar": 0, "mul.Scalar": 1, "div.Scalar": 1}
"""Operators with a number, and the number for which they do nothing."""


def fold_constants(module: ModuleOp, store: WeightStore) -> None:
    """Fold the function `main` of `module`; results go into `store`."""
    folder = _Folder(store)
    for operation in operations_of(module):
        if operation_name(operation).startswith("torch."):
            folder.visit(operation)
    erase_dead(module)


class _Folder:
    def __init__(self, store: WeightStore) -> None:
        self._store = store
        self._values: dict[SSAValue, Any] = {}

    def visit(self, operation: Operation) -> None:
        if isinstance(operation, torch.LiteralOp | torch.ListConstructOp) or not operation.operands:
            if not is_aten_name(operation):
                return
        if (passed_on := _passed_on(operation, self._store)) is not None:
            replace(operation, [passed_on])
            return
        if isinstance(operation, torch.AddTensorOp) and self._visit_add(operation):
            return
        self._evaluate(operation)

    def _visit_add(self, operation: torch.AddTensorOp) -> bool:
        """Constants to the right, and (x + c) + d to x + (c + d). Returns whether `operation` was replaced."""
        if torch.constant_of(operation.alpha) != 1:
            return False
        left, right = operation.input, operation.other
        if literal_of(left) is not None and literal_of(right) is None:
            operation.operands = [right, left, operation.alpha]
            left, right = right, left
        inner = left.owner
        if literal_of(right) is None or not isinstance(inner, torch.AddTensorOp) or not single_use(left):
            return False
        if literal_of(inner.other) is None or torch.constant_of(inner.alpha) != 1:
            return False
        first, second = array_of(inner.other, self._store), array_of(right, self._store)
        assert first is not None and second is not None
        builder = TorchBuilder(operation, self._store)
        total = builder.literal(first + second, derived_name(inner, "folded"))
        alpha = builder.integer(1)
        replace(operation, [builder.aten(torch.AddTensorOp, [inner.input, total, alpha], operation.result.type)])
        return True

    def _evaluate(self, operation: Operation) -> None:
        values = [self._value(operand) for operand in operation.operands]
        if any(value is _UNKNOWN for value in values) or is_random(operation):
            return
        try:
            results = evaluate(operation, tuple(values), self._store)
        except TorchInterpretationError:
            # Whatever cannot be evaluated stays, and is reported with all else that is not supported.
            return
        builder = TorchBuilder(operation, self._store)
        for value, result in zip(operation.results, results, strict=True):
            self._values[value] = result
            if (constant := _materialize(builder, operation, result)) is not None:
                value.replace_all_uses_with(constant)

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


def is_aten_name(operation: Operation) -> bool:
    """Whether `operation` is an operator of ATen."""
    return operation_name(operation).startswith("torch.aten.")


def _materialize(builder: TorchBuilder, operation: Operation, result: Any) -> SSAValue | None:
    """The constant `result` as a value; None for a list, whose elements become constants where they are unpacked."""
    if isinstance(result, bool):
        return builder.boolean(result)
    if isinstance(result, int):
        return builder.integer(result)
    if isinstance(result, float):
        return builder.number(result)
    if result is None or isinstance(result, list | tuple | str):
        return None
    return builder.literal(np.array(result.numpy(), order="C"), derived_name(operation, "folded"))


def _passed_on(operation: Operation, store: WeightStore) -> SSAValue | None:
    """The operand that the result of `operation` always equals; None if it computes something."""
    if not operation.results or not operation.operands:
        return None
    first, result = operation.operands[0], operation.results[0]
    if isinstance(operation, torch.AddTensorOp):
        return _plus_zero(operation, store)
    if first.type != result.type:
        return None
    if is_aten(operation, "dropout"):
        probability, training = (torch.constant_of(operand) for operand in operation.operands[1:])
        return first if not training or probability == 0 else None
    if is_aten(operation, *_PASS_ON):
        return first
    if is_aten(operation, *_NEUTRAL) and torch.is_constant(operation.operands[1]):
        neutral = _NEUTRAL[operation_name(operation).removeprefix("torch.aten.")]
        return first if torch.constant_of(operation.operands[1]) == neutral else None
    return None


def _plus_zero(operation: torch.AddTensorOp, store: WeightStore) -> SSAValue | None:
    for value, zero in ((operation.input, operation.other), (operation.other, operation.input)):
        array = array_of(zero, store)
        if array is None or value.type != operation.result.type or np.any(array):
            continue
        return value if zero is operation.other or torch.constant_of(operation.alpha) == 1 else None
    return None


@dataclass(frozen=True)
class TorchFoldConstantsPass(ModulePass):
    """Evaluate what does not depend on an input, remove operators that do nothing, and drop what is not used."""

    name = "torch-fold-constants"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Fold `op` in place; the arrays it comes to name go into the context's weight store."""
        fold_constants(op, weights_of(ctx))
