"""
Recognition of spelled-out RMSNorm as one operation.

`x * rsqrt(mean(x ** 2, last axis) + eps)`, and `weight *` that, is `aten.rms_norm`: LLaMA and its relatives spell it
out.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.sweep import sweep
from sta.passes.rewriting.torch_operations import TorchBuilder, is_aten, literal_of


def recognize_norms(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the functions of `module`."""
    sweep(module, RecognizeNorm(store), TakeInWeight(store))
    erase_dead(module)


@dataclass(frozen=True)
class RecognizeNorm(RewritePattern):
    """`x * rsqrt(..)` becomes a norm without weight."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.MulTensorOp, rewriter: PatternRewriter) -> None:
        for value, root in ((op.input, op.other), (op.other, op.input)):
            epsilon = _epsilon(value, root)
            if epsilon is None or value.type != op.result.type:
                continue
            builder = TorchBuilder(op, self.store, rewriter)
            width = torch.sizes_of(value)[-1]
            operands = [value, builder.integers([width]), builder.none(), builder.number(epsilon)]
            rewriter.replace(op, (), [builder.aten(torch.RmsNormOp, operands, value.type)])
            return


@dataclass(frozen=True)
class TakeInWeight(RewritePattern):
    """`weight * rms_norm(x)` becomes a norm with that weight."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.MulTensorOp, rewriter: PatternRewriter) -> None:
        for weight, value in ((op.input, op.other), (op.other, op.input)):
            norm = value.owner
            if literal_of(weight) is None or not isinstance(norm, torch.RmsNormOp) or not norm.result.has_one_use():
                continue
            if not isinstance(norm.weight.type, torch.NoneType) or torch.sizes_of(weight) != torch.sizes_of(value)[-1:]:
                continue
            operands = [norm.input, norm.normalized_shape, weight, norm.eps]
            builder = TorchBuilder(op, self.store, rewriter)
            rewriter.replace(op, (), [builder.aten(torch.RmsNormOp, operands, value.type)])
            return


def _epsilon(value: SSAValue, root: SSAValue) -> float | None:
    """Epsilon added to the mean square of `value` before its reciprocal root `root`; None for any other pattern."""
    reciprocal = _made_by(root, "rsqrt")
    total = None if reciprocal is None else _made_by(reciprocal.operands[0], "add.Scalar")
    mean = None if total is None else _made_by(total.operands[0], "mean.dim")
    if total is None or mean is None or not _is_square_of(mean.operands[0], value):
        return None
    axes, keeps = torch.integers_of(mean.operands[1]), torch.constant_of(mean.operands[2])
    rank = len(torch.sizes_of(value))
    if [axis % rank for axis in axes] != [rank - 1] or keeps is not True or torch.constant_of(total.operands[2]) != 1:
        return None
    return torch.number_of(total.operands[1])


def _made_by(value: SSAValue, overload: str) -> Operation | None:
    """The defining operation of `value`, if it has the given name."""
    return value.owner if isinstance(value.owner, Operation) and is_aten(value.owner, overload) else None


def _is_square_of(square: SSAValue, value: SSAValue) -> bool:
    if isinstance(square.owner, torch.MulTensorOp):
        return square.owner.input is value and square.owner.other is value
    power = _made_by(square, "pow.Tensor_Scalar")
    return power is not None and power.operands[0] is value and torch.constant_of(power.operands[1]) == 2


@dataclass(frozen=True)
class TorchRecognizeNormsPass(ModulePass):
    """Replaces spelled-out RMSNorm by `torch.aten.rms_norm`."""

    name = "torch-recognize-norms"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op`."""
        recognize_norms(op, weights_of(ctx))
