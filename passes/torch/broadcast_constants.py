"""
Extension of added and multiplied constants to the last axis of the result, as the vector unit reads them.

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
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from sta.dialect import torch
from sta.dialect.interpreters.torch import operation_name
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.location import module_path
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.sweep import sweep
from sta.passes.rewriting.torch_operations import TorchBuilder, identifier, literal_of

_SIGNS = {"torch.aten.add.Scalar": 1.0, "torch.aten.sub.Scalar": -1.0}
"""Operators that add a number, and the number's factor."""


def broadcast_constants(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the functions of `module`; the rows go into `store`."""
    sweep(module, WidenConstants(store), SpreadNumber(store))
    erase_dead(module)


def _takes_rows(value: SSAValue) -> bool:
    return isinstance(value.type, torch.VTensorType) and value.type.is_float and bool(value.type.sizes)


@dataclass(frozen=True)
class WidenConstants(RewritePattern):
    """Constants that are added or multiplied get the last axis of the result."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.CombinationOperation | torch.MulTensorOp, rewriter: PatternRewriter) -> None:
        if not _takes_rows(op.result):
            return
        width = torch.sizes_of(op.result)[-1]
        for index, value in enumerate((op.input, op.other)):
            literal, is_float = literal_of(value), torch.tensor_type(value).is_float
            if literal is None or (is_float and torch.sizes_of(value)[-1:] == (width,)):
                continue
            array = literal.array(self.store)
            array = array if is_float else array.astype(np.float32)
            rows = np.array(np.broadcast_to(array, (*array.shape[:-1], width)), order="C")
            name = f"{literal.resource or _name(op)}.row"
            op.operands[index] = TorchBuilder(op, self.store, rewriter).literal(rows, name)
            rewriter.notify_op_modified(op)


@dataclass(frozen=True)
class SpreadNumber(RewritePattern):
    """An operation with a number becomes one with a row of that number."""

    store: WeightStore

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Rewrites the operators of which `_number` knows the number."""
        if not op.results or not _takes_rows(op.results[0]):
            return
        number = _number(op)
        value = op.operands[0] if op.operands else None
        if number is None or value is None or value.type != op.results[0].type:
            return
        builder = TorchBuilder(op, self.store, rewriter)
        width = torch.sizes_of(value)[-1]
        row = builder.literal(np.full(width, number, np.float32), f"{_name(op)}.row")
        is_product = isinstance(op, torch.MulScalarOp | torch.DivScalarOp)
        kind = torch.MulTensorOp if is_product else torch.AddTensorOp
        operands = [value, row] if is_product else [value, row, builder.integer(1)]
        rewriter.replace(op, (), [builder.aten(kind, operands, value.type)])


def _number(operation: Operation) -> np.float32 | None:
    """Number that is added to or multiplies the first operand; None if there is none, or float32 does not hold it."""
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
    """Writes added and multiplied constants as rows of the result's width."""

    name = "torch-broadcast-constants"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op`; its new arrays go into the context's weight store."""
        broadcast_constants(op, weights_of(ctx))
