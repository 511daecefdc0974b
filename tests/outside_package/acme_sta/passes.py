"""Passes."""

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.torch_operations import TorchBuilder, literal_of, operations_of, replace


class DropDoubledNegation(ModulePass):
    """Leaves out a value's product with -1 and with -1 again."""

    name = "acme-drop-doubled-negation"
    after = "torch-canonicalize-views"
    kind = "close"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place."""
        for operation in operations_of(op):
            factor = _negated(operation.results[0]) if operation.results else None
            value = None if factor is None else _negated(factor)
            if value is not None:
                replace(operation, [value])
        erase_dead(op)


def _negated(value: SSAValue) -> SSAValue | None:
    """Value whose product with -1 is `value`; None if there is none."""
    product = value.owner
    if not isinstance(product, torch.MulScalarOp) or torch.number_of(product.operands[1]) != -1.0:
        return None
    return product.operands[0]


class ClearLowBits(ModulePass):
    """fewer bits in weights"""

    name = "acme-clear-low-bits"
    after = "torch-check-supported"
    kind = "lossy"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rounds the weights of linear layers to multiples of 1/64."""
        store = weights_of(ctx)
        for operation in operations_of(op):
            if not isinstance(operation, torch.LinearOp):
                continue
            literal = literal_of(operation.weight)
            if literal is not None:
                coarse = (np.rint(literal.array(store) * 64) / 64).astype(np.float32)
                weight = TorchBuilder(operation, store).literal(coarse, f"{literal.resource}.coarse")
                operation.operands = [operation.input, weight, operation.bias]
