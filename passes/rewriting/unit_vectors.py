"""
Recognition of vectors scaled to length 1, which are norms by the root of the mean square, scaled.

`x / max(|x|, eps)`, as `torch.nn.functional.normalize` spells it, `x * rsqrt(sum(x ** 2) + eps)`, or `x` over the root
of that. With n elements
`x / |x|` is `rms_norm(x) / sqrt(n)`; its epsilon stands for the bound, and differs from it only for vectors that are as
short.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from sta.dialect import torch
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.reductions import Reductions
from sta.passes.rewriting.torch_operations import TorchBuilder, array_of, is_aten


@dataclass(frozen=True)
class RecognizeUnitVectors(RewritePattern):
    """A quotient by a length, or a product with its inverse, becomes a norm times a number."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.DivTensorOp | torch.MulTensorOp, rewriter: PatternRewriter) -> None:
        for value, other in ((op.input, op.other), (op.other, op.input)):
            found = self._length(op, other, value)
            if found is None or value.type != op.result.type:
                continue
            axis, epsilon = found
            builder = TorchBuilder(op, self.store, rewriter)
            made = Reductions(builder)
            rows = made.axes_last(value, [axis])
            count = torch.sizes_of(rows)[-1]
            operands = [rows, builder.integers([count]), builder.none(), builder.number(epsilon / count)]
            norm = builder.aten(torch.RmsNormOp, operands, rows.type)
            rewriter.replace(op, (), [made.axis_back(made.scaled(norm, 1 / math.sqrt(count)), axis)])
            return

    def _length(self, op: Operation, other: SSAValue, value: SSAValue) -> tuple[int, float] | None:
        """The axis along which `op` scales `value` to length 1, and what is added to the squared length."""
        if isinstance(op, torch.DivTensorOp) and value is not op.input:
            return None
        if isinstance(op, torch.DivTensorOp) and (found := _bounded_length(other, value)) is not None:
            return found
        root = _owner(other, "sqrt" if isinstance(op, torch.DivTensorOp) else "rsqrt")
        return None if root is None else self._squared_length(root.operands[0], value)

    def _squared_length(self, total: SSAValue, value: SSAValue) -> tuple[int, float] | None:
        epsilon = 0.0
        if (sum_ := _owner(total, "add.Scalar")) is not None and torch.constant_of(sum_.operands[2]) == 1:
            total, epsilon = sum_.operands[0], torch.number_of(sum_.operands[1])
        elif (sum_ := _owner(total, "add.Tensor")) is not None and torch.constant_of(sum_.operands[2]) == 1:
            array = array_of(sum_.operands[1], self.store)
            if array is None or array.size != 1:
                return None
            total, epsilon = sum_.operands[0], float(array.reshape(-1)[0])
        squares = total.owner
        if not isinstance(squares, torch.SumOp) or not torch.constant_of(squares.keepdim):
            return None
        axes = torch.integers_of(squares.dim) if isinstance(torch.constant_of(squares.dim), list) else []
        if len(axes) != 1 or not _is_square_of(squares.input, value):
            return None
        return axes[0] % torch.tensor_type(value).rank, epsilon


def _bounded_length(divisor: SSAValue, value: SSAValue) -> tuple[int, float] | None:
    """The axis along which `divisor` is the length of `value`, at least some number, and that number squared."""
    if (repeated := _owner(divisor, "expand", "expand_as", "broadcast_to")) is not None:
        divisor = repeated.operands[0]
    least = _owner(divisor, "clamp", "clamp_min")
    norm = _owner(divisor if least is None else least.operands[0], "linalg_vector_norm", "norm.ScalarOpt_dim")
    if norm is None or norm.operands[0] is not value or not torch.constant_of(norm.operands[3]):
        return None
    if torch.constant_of(norm.operands[1]) != 2 or (least is not None and _has_upper_bound(least)):
        return None
    axes = torch.constant_of(norm.operands[2])
    if not isinstance(axes, list) or len(axes) != 1:
        return None
    bound = 0.0 if least is None else torch.number_of(least.operands[1])
    return torch.integers_of(norm.operands[2])[0] % torch.tensor_type(value).rank, bound * bound


def _has_upper_bound(clamp: Operation) -> bool:
    return any(torch.constant_of(one) is not None for one in clamp.operands[2:])


def _is_square_of(square: SSAValue, value: SSAValue) -> bool:
    product = square.owner
    if isinstance(product, torch.MulTensorOp):
        return product.input is value and product.other is value
    power = _owner(square, "pow.Tensor_Scalar")
    return power is not None and power.operands[0] is value and torch.constant_of(power.operands[1]) == 2


def _owner(value: SSAValue, *overloads: str) -> Operation | None:
    """The operation that makes `value`, if it is one of these."""
    return value.owner if isinstance(value.owner, Operation) and is_aten(value.owner, *overloads) else None
