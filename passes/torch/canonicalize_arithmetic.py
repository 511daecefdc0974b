"""
Differences from constants, and quotients by constants, as sums and products.

`x - c`, `x / c` and a sum with a factor (`alpha`) become what the machine adds and multiplies: constants are negated or
inverted here, and values multiplied by a number. Runs behind the recognition of attention, norms and
masks, which know the operators that a model is spelled with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.sweep import sweep
from sta.passes.rewriting.torch_operations import TorchBuilder, literal_of


def canonicalize_arithmetic(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the functions of `module`; new constants go into `store`."""
    sweep(module, SpellArithmetic(store))
    erase_dead(module)


@dataclass(frozen=True)
class SpellArithmetic(RewritePattern):
    """One difference, quotient or sum with a factor."""

    store: WeightStore

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Rewrites `op` if it is one of these, on floats."""
        result = op.results[0].type if len(op.results) == 1 else None
        if not isinstance(result, torch.VTensorType) or result.element_type != f32 or _takes_integers(op):
            return
        builder = TorchBuilder(op, self.store, rewriter)
        if (made := self._made(builder, op, result)) is not None:
            rewriter.replace(op, (), [made])

    def _made(self, builder: TorchBuilder, op: Operation, result: torch.VTensorType) -> SSAValue | None:
        row = torch.find_row(op)
        match "" if row is None else row.spelling, list(op.operands):
            case "difference", [left, right, alpha] if literal_of(right) is not None or torch.number_of(alpha) != 1:
                return self._difference(builder, left, right, torch.number_of(alpha), result)
            case "sum", [left, right, alpha] if _is_tensor(right) and torch.number_of(alpha) != 1:
                return self._sum(builder, left, self._scaled(builder, right, torch.number_of(alpha)), result)
            case "difference from", [right, left, alpha] if _is_tensor(left):
                return self._difference(builder, left, right, torch.number_of(alpha), result)
            case "quotient", [value, divisor]:
                return self._product_with_inverse(builder, value, divisor, result)
            case _:
                return None

    def _difference(
        self, builder: TorchBuilder, left: SSAValue, right: SSAValue, alpha: float, result: torch.VTensorType
    ) -> SSAValue:
        """A sum with a constant; of two values a difference."""
        if literal_of(right) is not None:
            return self._sum(builder, left, self._scaled(builder, right, -alpha), result)
        right = right if alpha == 1 else self._scaled(builder, right, alpha)
        return builder.aten(torch.SubTensorOp, [left, right, builder.integer(1)], result)

    def _sum(self, builder: TorchBuilder, left: SSAValue, right: SSAValue, result: torch.VTensorType) -> SSAValue:
        return builder.aten(torch.AddTensorOp, [left, right, builder.integer(1)], result)

    def _scaled(self, builder: TorchBuilder, value: SSAValue, factor: float) -> SSAValue:
        """`value` times `factor`: a constant at once, as a float."""
        literal = literal_of(value)
        if literal is not None:
            array = literal.array(self.store).astype(np.float32) * np.float32(factor)
            return builder.literal(array, f"{literal.resource or 'constant'}.scaled")
        return builder.aten(torch.MulScalarOp, [value, builder.number(factor)], value.type)

    def _product_with_inverse(
        self, builder: TorchBuilder, value: SSAValue, divisor: SSAValue, result: torch.VTensorType
    ) -> SSAValue | None:
        """`value` times one over a constant divisor; None for another, or one without a finite inverse."""
        literal = literal_of(divisor)
        if literal is None:
            return None
        with np.errstate(divide="ignore", over="ignore"):
            inverse = np.float32(1) / literal.array(self.store).astype(np.float32)
        if not np.isfinite(inverse).all():
            return None
        row = builder.literal(inverse, f"{literal.resource or 'constant'}.inverse")
        return builder.aten(torch.MulTensorOp, [value, row], result)


def _is_tensor(value: SSAValue) -> bool:
    return isinstance(value.type, torch.VTensorType)


def _takes_integers(operation: Operation) -> bool:
    """True if an operand is a tensor of integers that is no constant: it depends on an integer input."""
    tensors = [value for value in operation.operands if isinstance(value.type, torch.VTensorType)]
    return any(not torch.tensor_type(value).is_float and literal_of(value) is None for value in tensors)


@dataclass(frozen=True)
class TorchCanonicalizeArithmeticPass(ModulePass):
    """Spells differences from constants, and quotients by them, as sums and products."""

    name = "torch-canonicalize-arithmetic"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place; new constants go into the context's weight store."""
        canonicalize_arithmetic(op, weights_of(ctx))
