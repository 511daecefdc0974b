"""
Batch normalization with its running statistics: a factor and a term for each channel.

They become part of the convolution before it if nothing else uses that, else a product and a sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern

from sta.dialect import torch
from sta.dialect.interpreters.torch import operation_name
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.channels import channels_first, channels_last, constant_name
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.sweep import sweep
from sta.passes.rewriting.torch_operations import Array, TorchBuilder, array_of, single_use

_EPSILON = {"torch.aten.batch_norm": 7, "torch.aten._native_batch_norm_legit_no_training": 6}
"""The operators, and the operand that is their epsilon."""


def fold_batch_norm(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the functions of `module`; new weights go into `store`."""
    sweep(module, FoldBatchNorm(store))
    erase_dead(module)


@dataclass(frozen=True)
class FoldBatchNorm(RewritePattern):
    """A batch normalization by constants is part of the convolution before it, or a product and a sum."""

    store: WeightStore

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Rewrites `op` if it is a batch normalization in evaluation mode."""
        name = operation_name(op)
        if name not in _EPSILON or any(result.uses for result in op.results[1:]):
            return
        if name == "torch.aten.batch_norm" and torch.constant_of(op.operands[5]) is not False:
            return
        value, weight, bias, mean, variance = op.operands[:5]
        center, spread = self._array(mean), self._array(variance)
        if center is None or spread is None:
            return
        scale, offset = self._array(weight), self._array(bias)
        factor = (1.0 if scale is None else scale) / np.sqrt(spread + torch.number_of(op.operands[_EPSILON[name]]))
        term = (0.0 if offset is None else offset) - center * factor
        builder = TorchBuilder(op, self.store, rewriter)
        made = self._convolution(builder, value, factor, term) or self._scaled(builder, op, factor, term)
        rewriter.replace(op, (), [made, *(None for _ in op.results[1:])])

    def _array(self, value: SSAValue) -> Array | None:
        array = None if isinstance(value.type, torch.NoneType) else array_of(value, self.store)
        return None if array is None else array.astype(np.float64)

    def _convolution(self, builder: TorchBuilder, value: SSAValue, factor: Array, term: Array) -> SSAValue | None:
        """The convolution that makes `value`, with other weights; None if something else makes or uses it."""
        op = value.owner
        if not isinstance(op, torch.ConvolutionOp) or not single_use(value) or torch.constant_of(op.transposed):
            return None
        weight = self._array(op.weight)
        given = np.zeros(1) if isinstance(op.bias.type, torch.NoneType) else self._array(op.bias)
        if weight is None or given is None:
            return None
        constants = {"weight": weight * factor.reshape(-1, *(1,) * (weight.ndim - 1)), "bias": given * factor + term}
        made = [
            builder.literal(array.astype(np.float32), constant_name(op, f"{name}.normalized"))
            for name, array in constants.items()
        ]
        return builder.aten(torch.ConvolutionOp, [op.input, *made, *op.operands[3:]], op.result.type)

    def _scaled(self, builder: TorchBuilder, op: Operation, factor: Array, term: Array) -> SSAValue:
        """The first operand times a factor and plus a term of its channel."""
        x = channels_last(builder, op.operands[0])
        rows = [
            builder.literal(array.astype(np.float32), constant_name(op, name))
            for name, array in (("factor", factor), ("term", term))
        ]
        scaled = builder.aten(torch.MulTensorOp, [x, rows[0]], x.type)
        return channels_first(builder, builder.aten(torch.AddTensorOp, [scaled, rows[1], builder.integer(1)], x.type))


@dataclass(frozen=True)
class TorchFoldBatchNormPass(ModulePass):
    """Folds batch normalizations into the convolutions before them; others become a product and a sum."""

    name = "torch-fold-batch-norm"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place; new weights go into the context's weight store."""
        fold_batch_norm(op, weights_of(ctx))
