"""
Constants that are added or multiplied get the last axis of the result, which is what the vector unit reads.

A number (`x + 1`, `x / 8`) becomes a row of it, and a tensor with one element along the last axis a row of each.
Constant integers and bools become the floats that PyTorch converts them to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.interpreters.torch import operation_name
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.location import module_path
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.torch_operations import TorchBuilder, identifier, literal_of, operations_of, replace

_SIGNS = {"torch.aten.add.Scalar": 1.0, "torch.aten.sub.Scalar": -1.0}
"""Operators that add a number, and what it is multiplied by."""


def broadcast_constants(module: ModuleOp, store: WeightStore) -> None:
    """Rewrite the function `main` of `module`; the rows go into `store`."""
    for operation in operations_of(module):
        if isinstance(operation, torch.AddTensorOp | torch.MulTensorOp):
            _widen(operation, store)
        elif operation.results and _takes_rows(operation.results[0]):
            _spread_number(operation, store)
    erase_dead(module)


def _takes_rows(value: SSAValue) -> bool:
    return isinstance(value.type, torch.VTensorType) and value.type.is_float and bool(value.type.sizes)


def _widen(operation: torch.AddTensorOp | torch.MulTensorOp, store: WeightStore) -> None:
    """Give constant operands the last axis of the result."""
    if not _takes_rows(operation.result):
        return
    width = torch.sizes_of(operation.result)[-1]
    for index, value in enumerate((operation.input, operation.other)):
        literal, is_float = literal_of(value), torch.tensor_type(value).is_float
        if literal is None or (is_float and torch.sizes_of(value)[-1:] == (width,)):
            continue
        array = literal.array(store)
        array = array if is_float else array.astype(np.float32)
        rows = np.array(np.broadcast_to(array, (*array.shape[:-1], width)), order="C")
        name = f"{literal.resource or _name(operation)}.row"
        operation.operands[index] = TorchBuilder(operation, store).literal(rows, name)


def _spread_number(operation: Operation, store: WeightStore) -> None:
    """Make an operation with a number one with a row of that number."""
    number = _number(operation)
    value = operation.operands[0] if operation.operands else None
    if number is None or value is None or value.type != operation.results[0].type:
        return
    builder = TorchBuilder(operation, store)
    width = torch.sizes_of(value)[-1]
    row = builder.literal(np.full(width, number, np.float32), f"{_name(operation)}.row")
    is_product = isinstance(operation, torch.MulScalarOp | torch.DivScalarOp)
    kind = torch.MulTensorOp if is_product else torch.AddTensorOp
    operands = [value, row] if is_product else [value, row, builder.integer(1)]
    replace(operation, [builder.aten(kind, operands, value.type)])


def _number(operation: Operation) -> np.float32 | None:
    """What is added to the first operand, or multiplies it; None if nothing is, or float32 does not hold the number."""
    name = operation_name(operation)
    number = None
    if isinstance(operation, torch.MulScalarOp):
        number = torch.number_of(operation.other)
    elif isinstance(operation, torch.DivScalarOp):
        divisor = torch.number_of(operation.other)
        number = 1 / divisor if divisor else None
    elif name in _SIGNS:
        number = _SIGNS[name] * torch.number_of(operation.operands[1]) * torch.number_of(operation.operands[2])
    if number is None or not abs(number) <= np.finfo(np.float32).max:
        return None
    return np.float32(number)


def _name(operation: Operation) -> str:
    return identifier(module_path(operation)) or "constant"


@dataclass(frozen=True)
class TorchBroadcastConstantsPass(ModulePass):
    """Write constants that are added or multiplied as rows of the result's width."""

    name = "torch-broadcast-constants"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite `op`; the arrays it comes to name go into the context's weight store."""
        broadcast_constants(op, weights_of(ctx))
