"""
Permutations of channels moved behind functions of each element.

A function of a permuted value is the permutation of the function: the value's rows stay next to each other, and the
permutation meets that of the next convolution, with which it cancels. Runs behind the recognition of attention, where a
function may stand between a permuted key and its product.
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
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.channels import first_order
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.sweep import sweep
from sta.passes.rewriting.torch_operations import TorchBuilder, literal_of


def sink_channels(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the functions of `module`; permuted constants go into `store`."""
    sweep(module, SinkChannels(store))
    erase_dead(module)


@dataclass(frozen=True)
class SinkChannels(RewritePattern):
    """`f(permute(x))` becomes `permute(f(x))`, also of several values permuted alike and constants."""

    store: WeightStore

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Rewrites `op` if it is a function of each element of permuted values."""
        row = torch.find_row(op)
        if row is None or not row.combines or not isinstance(op, torch.AtenOperation) or len(op.results) != 1:
            return
        result = torch.tensor_type(op.results[0])
        orders = {value.owner.axes for value in op.operands if isinstance(value.owner, torch.PermuteOp)}
        if len(orders) != 1:
            return
        (order,) = orders
        if order != first_order(result.rank):
            return
        builder = TorchBuilder(op, self.store, rewriter)
        operands = [self._before(builder, value, order) for value in op.operands]
        if any(value is None for value in operands):
            return
        inner = [result.sizes[order.index(axis)] for axis in range(len(order))]
        kind = torch.VTensorType(inner, result.element_type)
        made = type(op).with_operands([value for value in operands if value is not None], kind)
        made.attributes.update(op.attributes)
        rewriter.replace(op, (), [builder.permute(builder.insert(made), order)])

    def _before(self, builder: TorchBuilder, value: SSAValue, order: tuple[int, ...]) -> SSAValue | None:
        """`value` before the permutation `order`; None if it is neither permuted so nor constant."""
        if isinstance(value.owner, torch.PermuteOp):
            return value.owner.input
        if not isinstance(value.type, torch.VTensorType):
            return value
        literal = literal_of(value)
        if literal is None:
            return None
        array = literal.array(self.store)
        if array.size == 1:
            return value
        whole = array.reshape(*(1,) * (len(order) - array.ndim), *array.shape)
        moved = np.array(whole.transpose([order.index(axis) for axis in range(len(order))]), order="C")
        return builder.literal(moved, f"{literal.resource or 'constant'}.permuted")


@dataclass(frozen=True)
class TorchSinkChannelsPass(ModulePass):
    """Moves permutations of channels behind functions of each element."""

    name = "torch-sink-channels"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place; permuted constants go into the context's weight store."""
        sink_channels(op, weights_of(ctx))
