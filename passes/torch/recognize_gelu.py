"""
Recognition of spelled-out GELU as one operation.

`0.5 * x * (1 + erf(x / sqrt(2)))` and `0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))` have many
spellings. A product whose factors depend on one value only, element by element, is run on a grid of numbers: it is a
GELU if it has the numbers of one. Roundings between its parts, which quantizers put there, do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from sta.dialect import torch
from sta.dialect.interpreters.torch import TorchInterpretationError, evaluate, tensor_from
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.sweep import sweep
from sta.passes.rewriting.torch_operations import TorchBuilder, is_aten, literal_of
from sta.spec.operators.registry import operators

_GRID = np.concatenate([np.linspace(-9.0, 9.0, 181), [-40.0, 40.0]])
_TOLERANCE = 2e-6
"""Largest error, relative to the argument: constants of a spelling are rounded to seven digits or so."""
_ROUNDED_TOLERANCE = 1e-2
"""The same for constants that a quantizer has rounded to 8 bits."""
_LONGEST = 24
"""Most operations of a spelling."""


def recognize_gelu(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the functions of `module`."""
    sweep(module, RecognizeGelu(store), reverse=True)
    erase_dead(module)


@dataclass(frozen=True)
class RecognizeGelu(RewritePattern):
    """The last product of a spelled-out GELU becomes one."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.MulTensorOp | torch.MulScalarOp, rewriter: PatternRewriter) -> None:
        spelled = _made_elementwise(op)
        if op.result.type.element_type != f32 or not any(is_aten(one, "erf", "tanh") for one in spelled):
            return
        for argument in dict.fromkeys(value for one in spelled for value in one.operands):
            if (
                not _is_alike(argument, op.result)
                or (approximate := self._approximation(op, argument, spelled)) is None
            ):
                continue
            builder = TorchBuilder(op, self.store, rewriter)
            operands = [argument, builder.string(approximate)]
            gelu = builder.aten(torch.operator_class("aten.gelu"), operands, argument.type)
            rewriter.replace(op, (), [builder.view(gelu, op.result.type.sizes)])
            return

    def _approximation(self, op: Operation, argument: SSAValue, spelled: Sequence[Operation]) -> str | None:
        """The kind of GELU that `op` computes of `argument`; None if it is none."""
        values: dict[SSAValue, Any] = {argument: tensor_from(_GRID.copy())}
        result = self._run(op.results[0], values, set(spelled))
        if result is None:
            return None
        row = operators()["aten.gelu"]
        is_rounded = any(isinstance(value.owner, torch.FakeQuantizeOp) for value in values if value is not argument)
        tolerance = _ROUNDED_TOLERANCE if is_rounded else _TOLERANCE
        scale = np.maximum(1.0, np.abs(_GRID))
        errors = {kind: np.abs(np.asarray(result) - row.function(kind)(_GRID)) / scale for (kind,) in row.examples}
        nearest = min(errors, key=lambda kind: float(errors[kind].max()))
        return nearest if np.all(errors[nearest] <= tolerance) else None

    def _run(self, value: SSAValue, values: dict[SSAValue, Any], spelled: set[Operation]) -> Any:
        """The number, or the numbers on the grid, of `value`; None if it depends on anything but the argument."""
        if value in values:
            return values[value]
        operation, literal = value.owner, literal_of(value)
        if torch.is_constant(value):
            return torch.constant_of(value)
        if literal is not None:
            number = literal.array(self.store).reshape(-1)
            return float(number[0]) if number.size == 1 else None
        if operation not in spelled or not isinstance(operation, Operation):
            return None
        operands = [self._run(operand, values, spelled) for operand in operation.operands]
        if any(operand is None for operand in operands):
            return None
        if isinstance(operation, torch.FakeQuantizeOp):
            values[value] = operands[0]
            return values[value]
        try:
            values[value] = evaluate(operation, tuple(map(_tensor, operands, operation.operands)), self.store)[0]
        except TorchInterpretationError:
            return None
        return values[value]


def _is_alike(argument: SSAValue, result: SSAValue) -> bool:
    """True if `argument` is a tensor like `result`, up to axes of size 1 before the others: constants may have more."""
    if not isinstance(argument.type, torch.VTensorType):
        return False
    sizes, given = torch.sizes_of(result), torch.sizes_of(argument)
    leading = (1,) * (len(sizes) - len(given))
    return argument.type.element_type == torch.tensor_type(result).element_type and (*leading, *given) == sizes


def _tensor(given: Any, value: SSAValue) -> Any:
    """A number as a tensor, where `value` is one."""
    is_number = isinstance(given, float) and isinstance(value.type, torch.VTensorType)
    return tensor_from(np.array(given)) if is_number else given


def _made_elementwise(operation: Operation) -> list[Operation]:
    """`operation` and those before it from which its result is made element by element, at most `_LONGEST`."""
    found: list[Operation] = []
    pending = [operation]
    while pending and len(found) < _LONGEST:
        current = pending.pop(0)
        row = torch.find_row(current)
        is_followed = isinstance(current, torch.FakeQuantizeOp) or (row is not None and row.combines)
        if current in found or not is_followed:
            continue
        found.append(current)
        pending += [operand.owner for operand in current.operands if isinstance(operand.owner, Operation)]
    return found


@dataclass(frozen=True)
class TorchRecognizeGeluPass(ModulePass):
    """Replaces spelled-out GELU by `torch.aten.gelu`."""

    name = "torch-recognize-gelu"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op`."""
        recognize_gelu(op, weights_of(ctx))
