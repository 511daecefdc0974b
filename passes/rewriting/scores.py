"""Scores of spelled-out attention: back from a softmax to a product, through masks, scales and views."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from xdsl.dialects.builtin import f32, i1
from xdsl.ir import Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter

from sta.dialect import torch
from sta.dialect.interpreters.torch import operation_name
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.mask_analysis import EXCLUDED_BELOW
from sta.passes.rewriting.torch_operations import TorchBuilder, array_of, is_aten, single_use
from sta.passes.rewriting.uses_through_views import VIEWS

_PRODUCTS = torch.MatmulOp | torch.BmmOp


@dataclass(frozen=True)
class Scores:
    """Scores ``query @ key_transposed * scale`` with a mask, on `leading` axes before rows and keys."""

    query: SSAValue
    key_transposed: SSAValue
    scale: float
    mask: SSAValue | None
    leading: tuple[int, ...]
    fill: float | None
    """The highest number that scores are replaced by where the mask leaves keys out; None where they are not."""


@dataclass
class _Found:
    """Findings on the way back from the softmax."""

    scale: float = 1.0
    """The factor of what is still ahead."""
    masks: list[tuple[SSAValue, float]] = field(default_factory=list[tuple[SSAValue, float]])
    """Bool tensors that admit, and floats that are added, each with the factor of its sum."""
    fill: float | None = None
    """The highest number that scores are replaced by."""

    def add_fill(self, number: float | None) -> bool:
        """Notes a number that replaces scores; False if there is none."""
        if number is not None:
            self.fill = number if self.fill is None else max(self.fill, number)
        return number is not None


def find_scores(builder: TorchBuilder, value: SSAValue, store: WeightStore, rewriter: PatternRewriter) -> Scores | None:
    """
    The product of query and key that `value`, masked and scaled in any order, was made from; None if it was not.

    Views between the product and the softmax keep rows and keys.
    """
    while keeps_matrices(value.owner) and single_use(value):
        value = _operand(value)
    leading = torch.sizes_of(value)[:-2]
    found = _Found()
    while not isinstance(value.owner, torch.MatmulOp | torch.BmmOp):
        inner = _step(builder, value, found, store)
        if inner is None or not single_use(value):
            return None
        value = inner
    product = value.owner
    rank = torch.tensor_type(value).rank
    if not single_use(value) or not all(torch.tensor_type(one).rank == rank for one in product.operands):
        return None
    query, query_scale = _unscaled_below_views(product.input, store, rewriter)
    key, key_scale = _unscaled_below_views(product.other, store, rewriter)
    if torch.sizes_of(value)[:-2] != leading:
        query, key = (on_leading_axes(builder, one, leading) for one in (query, key))
    if query is None or key is None:
        return None
    scale = found.scale * query_scale * key_scale
    return Scores(query, key, scale, _combined(builder, found.masks), leading, found.fill)


def keeps_matrices(operation: object) -> bool:
    """True if `operation` is a view that keeps the last two axes."""
    if not isinstance(operation, torch.ViewOp):
        return False
    return torch.sizes_of(operation.input)[-2:] == operation.result.type.sizes[-2:]


def on_leading_axes(builder: TorchBuilder, value: SSAValue, leading: tuple[int, ...]) -> SSAValue | None:
    """The matrices `value` under other leading axes; None if their number differs."""
    sizes = torch.sizes_of(value)
    return builder.view(value, (*leading, *sizes[-2:])) if math.prod(sizes[:-2]) == math.prod(leading) else None


def _step(builder: TorchBuilder, value: SSAValue, found: _Found, store: WeightStore) -> SSAValue | None:
    """The operand of `value`, whose scale or mask `found` takes in; None if scores are not made so."""
    operation = value.owner
    unscaled, factor = _unscaled(value, store)
    if unscaled is not value:
        found.scale *= factor
        return unscaled
    inner: SSAValue | None = None
    if isinstance(operation, torch.AddTensorOp) or is_aten(operation, "sub.Tensor"):
        inner = _step_over_sum(value, found, store)
    elif is_aten(operation, "masked_fill.Scalar", "masked_fill.Tensor") and isinstance(operation, Operation):
        inner = operation.operands[0]
        if not found.add_fill(_fill(operation.operands[2], found.scale, store)):
            return None
        found.masks.append((_negated(builder, operation.operands[1]), 1.0))
    elif is_aten(operation, "where.self", "where.ScalarOther") and isinstance(operation, Operation):
        inner = operation.operands[1]
        if not found.add_fill(_fill(operation.operands[2], found.scale, store)):
            return None
        found.masks.append((operation.operands[0], 1.0))
    elif keeps_matrices(operation) and isinstance(_unscaled(_operand(value), store)[0].owner, _PRODUCTS):
        return _operand(value)
    # A mask may not have axes that the scores lack.
    return inner if inner is not None and inner.type == value.type else None


def _step_over_sum(value: SSAValue, found: _Found, store: WeightStore) -> SSAValue | None:
    operation = value.owner
    assert isinstance(operation, Operation)
    left, right, alpha = operation.operands
    if torch.constant_of(alpha) != 1:
        return None
    is_sum = isinstance(operation, torch.AddTensorOp)
    if not torch.tensor_type(left).is_float or not torch.tensor_type(right).is_float:
        # True is added as 1, and is no mask.
        return None
    if _leads_to_product(left, store):
        found.masks.append((right, found.scale if is_sum else -found.scale))
        return left
    if is_sum and _leads_to_product(right, store):
        found.masks.append((left, found.scale))
        return right
    return None


def _leads_to_product(value: SSAValue, store: WeightStore) -> bool:
    """True if `value` is a product, scaled and masked, that nothing else uses."""
    while single_use(value):
        value = _unscaled(value, store)[0]
        operation = value.owner
        if isinstance(operation, _PRODUCTS):
            return single_use(value)
        if isinstance(operation, torch.AddTensorOp):
            return any(_leads_to_product(side, store) for side in (operation.input, operation.other))
        if not isinstance(operation, Operation):
            return False
        if is_aten(operation, "masked_fill.Scalar", "masked_fill.Tensor", "sub.Tensor") or keeps_matrices(operation):
            value = operation.operands[0]
        elif is_aten(operation, "where.self", "where.ScalarOther"):
            value = operation.operands[1]
        else:
            return False
    return False


def _combined(builder: TorchBuilder, masks: list[tuple[SSAValue, float]]) -> SSAValue | None:
    """One mask for several: bool if all are, else a sum in which those that are not admitted are minus infinity."""
    if not masks:
        return None
    if all(torch.tensor_type(mask).element_type == i1 for mask, _ in masks):
        result = masks[0][0]
        both = torch.operator_class("aten.logical_and")
        for mask, _ in masks[1:]:
            result = builder.aten(both, [result, mask], torch.VTensorType(_broadcast(result, mask), i1))
        return result
    added = [_added(builder, mask, factor) for mask, factor in masks]
    result = added[0]
    for mask in added[1:]:
        kind = torch.VTensorType(_broadcast(result, mask), f32)
        result = builder.aten(torch.AddTensorOp, [result, mask, builder.integer(1)], kind)
    return result


def _added(builder: TorchBuilder, mask: SSAValue, factor: float) -> SSAValue:
    """The numbers that a mask adds to scores."""
    kind = torch.VTensorType(torch.sizes_of(mask), f32)
    if torch.tensor_type(mask).element_type == i1:
        choice = torch.operator_class("aten.where.Scalar")
        return builder.aten(choice, [mask, builder.number(0.0), builder.number(-math.inf)], kind)
    return mask if factor == 1 else builder.aten(torch.MulScalarOp, [mask, builder.number(factor)], mask.type)


def _broadcast(left: SSAValue, right: SSAValue) -> tuple[int, ...]:
    return np.broadcast_shapes(torch.sizes_of(left), torch.sizes_of(right))


def _operand(value: SSAValue) -> SSAValue:
    assert isinstance(value.owner, Operation)
    return value.owner.operands[0]


def _fill(value: SSAValue, factor: float, store: WeightStore) -> float | None:
    """The highest number of `factor` times the constant `value`, if it can exclude keys; None if there is none."""
    array = array_of(value, store)
    if array is None and not torch.is_constant(value):
        return None
    highest = factor * torch.number_of(value) if array is None else float(np.max(factor * array))
    return highest if highest <= EXCLUDED_BELOW else None


def _negated(builder: TorchBuilder, mask: SSAValue) -> SSAValue:
    return builder.aten(torch.LogicalNotOp, [mask], torch.VTensorType(torch.sizes_of(mask), i1))


def _unscaled(value: SSAValue, store: WeightStore) -> tuple[SSAValue, float]:
    """Value and factor of which `value` is the product; `value` and 1.0 if it is no constant multiple."""
    operation = value.owner
    if isinstance(operation, torch.MulScalarOp | torch.DivScalarOp | torch.MulTensorOp | torch.DivTensorOp):
        factor = _number(operation.other, store)
        if factor is not None and single_use(value) and operation.input.type == value.type:
            return operation.input, 1 / factor if "div" in operation_name(operation) else factor
    return value, 1.0


def _number(value: SSAValue, store: WeightStore) -> float | None:
    """The number of the constant `value`; None if it is no single number, or 0."""
    if torch.is_constant(value):
        return torch.number_of(value) or None
    array = array_of(value, store)
    return float(array.reshape(-1)[0]) or None if array is not None and array.size == 1 else None


def _unscaled_below_views(value: SSAValue, store: WeightStore, rewriter: PatternRewriter) -> tuple[SSAValue, float]:
    """
    `value` without a constant factor that is applied before its chain of views, and that factor.

    The factor is removed from the chain, so nothing else may use the values in between.
    """
    current = value
    while isinstance(current.owner, VIEWS) and single_use(current):
        current = current.owner.operands[0]
    unscaled, scale = _unscaled(current, store)
    if unscaled is current:
        return value, 1.0
    if current is value:
        return unscaled, scale
    rewriter.replace_all_uses_with(current, unscaled)
    return value, scale
