"""
Functions of one value as one operation: any combination of operators on its elements, and of numbers.

`x * sigmoid(1.702 * x)`, `where(x > 0, x, 0.1 * x)` or `1 / (x + 1)` is a table of x, `torch.pointwise`, whatever it is
spelled with. Single operators that the machine computes anyway stay: a sum with a number, a product, an activation.
Runs behind the recognition of attention, norms and masks.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.pointwise import PointwiseValues
from sta.passes.rewriting.torch_operations import TorchBuilder, literal_of, operations_of, replace
from sta.spec.operators.operator import Operator, Role


def fuse_pointwise(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the function `main` of `module`."""
    values = PointwiseValues(store)
    needed = [op for op in operations_of(module) if len(op.results) == 1 and _is_needed(op.results[0], values)]
    expressions = [(op, values.argument_of(op.results[0]), values.expression_of(op.results[0])) for op in needed]
    for operation, argument, expression in expressions:
        assert argument is not None
        builder = TorchBuilder(operation, store)
        replace(operation, [builder.insert(torch.PointwiseOp(argument, expression))])
    erase_dead(module)


def _is_needed(value: SSAValue, values: PointwiseValues) -> bool:
    """True if `value` is a function that a table is to compute: others need it than functions of the same value."""
    if not isinstance(value.type, torch.VTensorType) or value.type.element_type != f32 or not values.is_function(value):
        return False
    if _stays(values.calls_of(value)):
        return False
    return any(_is_outside(use.operation, value, values) for use in value.uses)


def _is_outside(user: Operation, value: SSAValue, values: PointwiseValues) -> bool:
    """True if `user` is no part of a larger function of the argument of `value`."""
    if len(user.results) != 1 or not isinstance(user.results[0].type, torch.VTensorType):
        return True
    return values.argument_of(user.results[0]) is not values.argument_of(value)


def _stays(calls: list[Operation]) -> bool:
    """
    True for sums with numbers, which become one, and for a single operator that is computed without a table, or with
    the one of its row.
    """
    rows = [row for row in map(torch.find_row, calls) if row is not None]
    if all(row.spelling == "sum" for row in rows):
        return True
    if len(calls) > 1:
        return False
    (row,), (call,) = rows, calls
    if row.spelling == "quotient":
        return literal_of(call.operands[1]) is not None
    return row.role in (Role.ELEMENTWISE, Role.COMBINATION, Role.MULTIPLICATION, Role.SCALING) and not _is_limit(row)


def _is_limit(row: Operator) -> bool:
    """True for a maximum or a minimum, which with a number is a function like any other."""
    return row.role is Role.COMBINATION and row.spelling != "difference"


@dataclass(frozen=True)
class TorchFusePointwisePass(ModulePass):
    """Joins operators on the elements of one value, and numbers, into `torch.pointwise`."""

    name = "torch-fuse-pointwise"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place."""
        fuse_pointwise(op, weights_of(ctx))
