"""Passes."""

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.passes.rewriting.torch_operations import TorchBuilder, erase_dead, literal_of, operations_of, replace


class DropDoubledNegation(ModulePass):
    """Leave out a value's product with -1 and with -1 again."""

    name = "acme-drop-doubled-negation"
    after = "torch-canonicalize-views"
    kind = "close"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite `op` in place."""
        for operation in operations_of(op):
            if not _is_negation(operation):
                continue
            inner = operation.operands[0].owner
            if _is_negation(inner):
                replace(operation, [inner.operands[0]])
        erase_dead(op)


def _is_negation(operation: object) -> bool:
    return isinstance(operation, torch.MulScalarOp) and torch.number_of(operation.operands[1]) == -1.0


class ClearLowBits(ModulePass):
    """fewer bits in weights"""

    name = "acme-clear-low-bits"
    after = "torch-check-supported"
    kind = "lossy"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Round the weights of linear layers to multiples of 1/64."""
        store = weights_of(ctx)
        for operation in operations_of(op):
            literal = literal_of(operation.weight) if isinstance(operation, torch.LinearOp) else None
            if literal is not None:
                coarse = (np.rint(literal.array(store) * 64) / 64).astype(np.float32)
                weight = TorchBuilder(operation, store).literal(coarse, f"{literal.resource}.coarse")
                operation.operands = [operation.input, weight, operation.bias]
