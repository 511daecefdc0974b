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
from sta.passes.rewriting.torch_operations import TorchBuilder, is_aten, literal_of, operations_of, replace
from sta.spec.operators.operator import Role


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
    calls = values.calls_of(value)
    if len(calls) == 1 and _stays(calls[0]):
        return False
    return any(_is_outside(use.operation, value, values) for use in value.uses)


def _is_outside(user: Operation, value: SSAValue, values: PointwiseValues) -> bool:
    """True if `user` is no part of a larger function of the argument of `value`."""
    if len(user.results) != 1 or not isinstance(user.results[0].type, torch.VTensorType):
        return True
    return values.argument_of(user.results[0]) is not values.argument_of(value)


def _stays(operation: Operation) -> bool:
    """True for a single operator that is computed without a table, or with the one of its row."""
    if is_aten(operation, "div.Tensor"):
        return literal_of(operation.operands[1]) is not None
    row = torch.find_row(operation)
    linear = is_aten(operation, "add.Scalar", "sub.Scalar", "rsub.Scalar", "sub.Tensor", "rsub.Tensor", "neg")
    return linear or (
        row is not None and row.role in (Role.ELEMENTWISE, Role.ADDITION, Role.MULTIPLICATION, Role.SCALING)
    )


@dataclass(frozen=True)
class TorchFusePointwisePass(ModulePass):
    """Joins operators on the elements of one value, and numbers, into `torch.pointwise`."""

    name = "torch-fuse-pointwise"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place."""
        fuse_pointwise(op, weights_of(ctx))
