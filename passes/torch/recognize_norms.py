"""
Recognition of spelled-out norms as one operation.

`x * rsqrt(mean(x ** 2, last axis) + eps)`, and `weight *` that, is `aten.rms_norm`: LLaMA and its relatives spell it
out. With `x - mean(x)` in the place of x it is `aten.layer_norm`. The root may be `rsqrt`, one over `sqrt` or a power,
the mean square a variance. Vectors scaled to length 1 are such norms, too.
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
from sta.passes.rewriting.torch_operations import TorchBuilder, array_of, is_aten, literal_of, single_use
from sta.passes.rewriting.unit_vectors import RecognizeUnitVectors


def recognize_norms(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the functions of `module`."""
    sweep(module, RecognizeUnitVectors(store), RecognizeNorm(store), TakeInWeight(store), TakeInBias(store))
    erase_dead(module)


@dataclass(frozen=True)
class RecognizeNorm(RewritePattern):
    """`x * rsqrt(..)` becomes a norm without weight."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.MulTensorOp | torch.DivTensorOp, rewriter: PatternRewriter) -> None:
        for value, square in _normalized(op, self.store):
            epsilon = self._epsilon(square)
            if epsilon is None or value.type != op.result.type:
                continue
            builder = TorchBuilder(op, self.store, rewriter)
            shape = builder.integers([torch.sizes_of(value)[-1]])
            total, number = epsilon
            centred = _difference_from_mean(value)
            if _is_mean_square(total, value) and centred is None:
                operands = [value, shape, builder.none(), builder.number(number)]
                rewriter.replace(op, (), [builder.aten(torch.RmsNormOp, operands, value.type)])
                return
            if centred is not None and (_is_mean_square(total, value) or _is_variance(total, centred)):
                parameters = [builder.none(), builder.none(), builder.number(number), builder.boolean(False)]
                norm = builder.aten(torch.LayerNormOp, [centred, shape, *parameters], value.type)
                rewriter.replace(op, (), [norm])
                return

    def _epsilon(self, total: SSAValue) -> tuple[SSAValue, float] | None:
        """The value to which `total` adds a number, and the number."""
        if (scalar := _made_by(total, "add.Scalar")) is not None and torch.constant_of(scalar.operands[2]) == 1:
            return scalar.operands[0], torch.number_of(scalar.operands[1])
        tensor = _made_by(total, "add.Tensor")
        if tensor is None or torch.constant_of(tensor.operands[2]) != 1:
            return None
        for value, added in (tensor.operands[:2], (tensor.operands[1], tensor.operands[0])):
            array = array_of(added, self.store)
            if array is not None and array.size == 1:
                return value, float(array.reshape(-1)[0])
        return None


@dataclass(frozen=True)
class TakeInWeight(RewritePattern):
    """`weight * norm(x)` becomes a norm with that weight."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.MulTensorOp, rewriter: PatternRewriter) -> None:
        for weight, value in ((op.input, op.other), (op.other, op.input)):
            norm = value.owner
            if not isinstance(norm, torch.NormOp) or not _is_row_for(weight, value):
                continue
            if not isinstance(norm.weight.type, torch.NoneType) or _bias_of(norm) is not None:
                continue
            operands = [norm.input, norm.normalized_shape, weight, *norm.operands[3:]]
            rewriter.replace(op, (), [TorchBuilder(op, self.store, rewriter).aten(type(norm), operands, value.type)])
            return


@dataclass(frozen=True)
class TakeInBias(RewritePattern):
    """`layer_norm(x) + bias` becomes a norm with that bias."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.AddTensorOp, rewriter: PatternRewriter) -> None:
        for bias, value in ((op.input, op.other), (op.other, op.input)):
            norm = value.owner
            if not isinstance(norm, torch.LayerNormOp) or not _is_row_for(bias, value) or _bias_of(norm) is not None:
                continue
            if torch.constant_of(op.alpha) != 1:
                continue
            operands = [norm.input, norm.normalized_shape, norm.weight, bias, norm.eps, norm.cudnn_enable]
            builder = TorchBuilder(op, self.store, rewriter)
            rewriter.replace(op, (), [builder.aten(torch.LayerNormOp, operands, value.type)])
            return


def _is_row_for(row: SSAValue, value: SSAValue) -> bool:
    """True if `row` is a constant for each element of the last axis of `value`, which nothing else uses."""
    return literal_of(row) is not None and single_use(value) and torch.sizes_of(row) == torch.sizes_of(value)[-1:]


def _bias_of(norm: torch.NormOp) -> SSAValue | None:
    if not isinstance(norm, torch.LayerNormOp) or isinstance(norm.bias.type, torch.NoneType):
        return None
    return norm.bias


def _normalized(
    operation: torch.MulTensorOp | torch.DivTensorOp, store: WeightStore
) -> list[tuple[SSAValue, SSAValue]]:
    """Values that `operation` may divide by a root, each with the number under the root."""
    if isinstance(operation, torch.DivTensorOp):
        root = _under_root(operation.other)
        return [] if root is None else [(operation.input, root)]
    sides = ((operation.input, operation.other), (operation.other, operation.input))
    return [(value, root) for value, inverse in sides if (root := _under_inverse_root(inverse, store)) is not None]


def _under_root(value: SSAValue) -> SSAValue | None:
    """The value whose square root `value` is."""
    if (root := _made_by(value, "sqrt")) is not None:
        return root.operands[0]
    power = _made_by(value, "pow.Tensor_Scalar")
    return power.operands[0] if power is not None and torch.constant_of(power.operands[1]) == 0.5 else None


def _under_inverse_root(value: SSAValue, store: WeightStore) -> SSAValue | None:
    """The value one over whose square root `value` is."""
    if (root := _made_by(value, "rsqrt")) is not None:
        return root.operands[0]
    if (inverse := _made_by(value, "reciprocal")) is not None:
        return _under_root(inverse.operands[0])
    if (quotient := _made_by(value, "div.Tensor")) is not None:
        one = array_of(quotient.operands[0], store)
        return _under_root(quotient.operands[1]) if one is not None and one.size == 1 and bool(one == 1) else None
    power = _made_by(value, "pow.Tensor_Scalar")
    return power.operands[0] if power is not None and torch.constant_of(power.operands[1]) == -0.5 else None


def _is_mean_square(mean: SSAValue, value: SSAValue) -> bool:
    """True if `mean` is the mean of the squares of `value` over its last axis, which stays."""
    square = _mean_of(mean)
    return square is not None and _is_square_of(square, value)


def _is_variance(variance: SSAValue, value: SSAValue) -> bool:
    """True if `variance` is that of `value` over its last axis, which stays, without Bessel's correction."""
    made = _made_by(variance, "var.correction") or _made_by(variance, "var.dim")
    if made is None or made.operands[0] is not value or torch.constant_of(made.operands[3]) is not True:
        return False
    # Of the older overload it is whether there is one.
    has_correction = torch.constant_of(made.operands[2]) != 0
    return not has_correction and _is_last_axis(made.operands[1], value)


def _difference_from_mean(value: SSAValue) -> SSAValue | None:
    """The value from which `value` takes its mean over the last axis."""
    difference = _made_by(value, "sub.Tensor")
    if difference is None or torch.constant_of(difference.operands[2]) != 1:
        return None
    whole, mean = difference.operands[:2]
    return whole if _mean_of(mean) is whole else None


def _mean_of(mean: SSAValue) -> SSAValue | None:
    """The value whose mean over its last axis, which stays, `mean` is."""
    made = _made_by(mean, "mean.dim")
    if made is None or torch.constant_of(made.operands[2]) is not True or not _is_last_axis(made.operands[1], mean):
        return None
    return made.operands[0]


def _is_last_axis(axes: SSAValue, value: SSAValue) -> bool:
    rank = torch.tensor_type(value).rank
    given = [] if torch.constant_of(axes) is None else torch.integers_of(axes)
    return [axis % rank for axis in given] == [rank - 1]


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
    """Replaces spelled-out norms by `torch.aten.rms_norm` and `torch.aten.layer_norm`."""

    name = "torch-recognize-norms"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op`."""
        recognize_norms(op, weights_of(ctx))
