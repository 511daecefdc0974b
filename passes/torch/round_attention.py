"""
Attention of quantized models with roundings at query, key and value, and none inside.

Quantizers that see single operators round scores and weights of attention to 8 bits as well. The machine reads scores
from the accumulators and normalizes weights after the product with the values, both at a higher resolution, so those
roundings are removed. A rounding of a scaled query or key moves in front of the scaling, with its step divided by the
factor, which changes no number: the factor can then join that of the scores.
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
from sta.passes.rewriting.torch_operations import array_of, single_use
from sta.passes.rewriting.uses_through_views import VIEWS

_PRODUCTS = torch.MatmulOp | torch.BmmOp
_SCALINGS = torch.MulScalarOp | torch.DivScalarOp | torch.MulTensorOp | torch.DivTensorOp


def round_attention(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the functions of `module`."""
    sweep(module, RoundAttention(store))
    erase_dead(module)


@dataclass(frozen=True)
class RoundAttention(RewritePattern):
    """Around a softmax that weighs values, nothing is rounded but query, key and value."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.SoftmaxIntOp | torch.SoftmaxOp, rewriter: PatternRewriter) -> None:
        if _weighs_values(op.result):
            _leave_out_after(op.result, rewriter)
            _follow_scores(op.input, self.store, rewriter)


def _weighs_values(weights: SSAValue) -> bool:
    """True if `weights`, rounded or not, are multiplied with values."""
    users = [use.operation for use in weights.uses]
    if len(users) == 1 and isinstance(users[0], torch.FakeQuantizeOp):
        users = [use.operation for use in users[0].result.uses]
    return len(users) == 1 and isinstance(users[0], _PRODUCTS)


def _leave_out_after(value: SSAValue, rewriter: PatternRewriter) -> None:
    user = next(iter(value.uses)).operation
    if isinstance(user, torch.FakeQuantizeOp):
        rewriter.replace(user, (), [value])


def _follow_scores(value: SSAValue, store: WeightStore, rewriter: PatternRewriter) -> None:
    """From the softmax back to the product of query and key, through scaling and mask."""
    operation = value.owner
    if not single_use(value) or not isinstance(operation, Operation):
        return
    if isinstance(operation, torch.FakeQuantizeOp):
        source = operation.input
        if single_use(source):
            rewriter.replace(operation, (), [source])
            _follow_scores(source, store, rewriter)
    elif isinstance(operation, _SCALINGS):
        _follow_scores(operation.input, store, rewriter)
    elif isinstance(operation, torch.AddTensorOp):
        _follow_scores(operation.input, store, rewriter)
        _follow_scores(operation.other, store, rewriter)
    elif isinstance(operation, _PRODUCTS):
        for factor in (operation.input, operation.other):
            _round_before_scaling(factor, store, rewriter)


def _round_before_scaling(factor: SSAValue, store: WeightStore, rewriter: PatternRewriter) -> None:
    """(x * c) rounded in steps of s is (x rounded in steps of s / c) * c."""
    rounding = _below_views(factor).owner
    if not isinstance(rounding, torch.FakeQuantizeOp) or not single_use(rounding.result):
        return
    scaling = _below_views(rounding.input).owner
    if not isinstance(scaling, _SCALINGS) or not single_use(scaling.result):
        return
    number = _factor(scaling, store)
    if number is None or scaling.input.type != scaling.result.type:
        return
    rewriter.replace(scaling, (), [scaling.input])
    scale = rounding.scale.value.data / number
    finer = torch.FakeQuantizeOp(rounding.input, scale, rounding.zero_point.value.data, rounding.storage)
    constant = torch.ConstantFloatOp(number)
    product = torch.MulScalarOp.with_operands([finer.result, constant.result], rounding.result.type)
    for operation in (finer, constant, product):
        operation.location = rounding.location
    rewriter.replace(rounding, [finer, constant, product])


def _below_views(value: SSAValue) -> SSAValue:
    """Value that `value` rearranges and that nothing else uses."""
    while isinstance(value.owner, VIEWS) and single_use(value):
        value = value.owner.operands[0]
    return value


def _factor(scaling: Operation, store: WeightStore) -> float | None:
    """The positive factor of `scaling`; None if it has none."""
    other = scaling.operands[1]
    if torch.is_constant(other):
        number = torch.number_of(other)
    else:
        array = array_of(other, store)
        if array is None or array.size != 1:
            return None
        number = float(array.reshape(-1)[0])
    if not 0.0 < number < float("inf"):
        return None
    return 1 / number if isinstance(scaling, torch.DivScalarOp | torch.DivTensorOp) else number


@dataclass(frozen=True)
class TorchRoundAttentionPass(ModulePass):
    """Removes the roundings inside attention of quantized models."""

    name = "torch-round-attention"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place."""
        round_attention(op, weights_of(ctx))
