"""Scores of spelled-out attention: back from a softmax to a product, through masks, scales and views."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from xdsl.dialects.builtin import i1
from xdsl.ir import Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter

from sta.dialect import torch
from sta.dialect.interpreters.torch import operation_name
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.mask_analysis import EXCLUDED_BELOW
from sta.passes.rewriting.mask_terms import all_added, expanded
from sta.passes.rewriting.torch_operations import TorchBuilder, array_of, is_aten, single_use
from sta.passes.rewriting.uses_through_views import VIEWS

_PRODUCTS = torch.MatmulOp | torch.BmmOp


@dataclass(frozen=True)
class Scores:
    """Scores ``query @ key_transposed * scale + mask``, on `leading` axes before rows and keys."""

    query: SSAValue
    key_transposed: SSAValue
    scale: float
    mask: SSAValue | None
    """Bool, true for keys that count, or added; None if there is none."""
    leading: tuple[int, ...]
    fill: float | None
    """The highest number that scores are replaced by where the mask leaves keys out; None where they are not."""
    is_product: bool
    """False if all of the scores is added, and query and key are constants whose product is zero."""


@dataclass
class _Found:
    """Findings on the way back from the softmax."""

    builder: TorchBuilder
    scale: float = 1.0
    """The factor of what is still ahead."""
    masks: list[SSAValue] = field(default_factory=list[SSAValue])
    """Bool tensors that admit, and floats that are added."""
    views: list[torch.ViewOp] = field(default_factory=list[torch.ViewOp])
    """The views that what is still ahead goes through, the last first."""
    fill: float | None = None
    """The highest number that scores are replaced by."""

    def add_mask(self, mask: SSAValue, factor: float = 1.0) -> None:
        """Notes a bool mask, or `factor` times a float that is added."""
        if factor != 1 and torch.tensor_type(mask).element_type != i1:
            mask = self.builder.aten(torch.MulScalarOp, [mask, self.builder.number(factor)], mask.type)
        for view in reversed(self.views):
            inner, outer = torch.sizes_of(view.input), view.result.type.sizes
            if torch.tensor_type(mask).rank > 3 or inner[-3:] != outer[-3:]:
                mask = self.builder.view(expanded(self.builder, mask, inner), outer)
        self.masks.append(mask)

    def add_fill(self, number: float | None) -> bool:
        """Notes a number that replaces scores; False if there is none."""
        if number is not None:
            self.fill = number if self.fill is None else max(self.fill, number)
        return number is not None


def find_scores(builder: TorchBuilder, value: SSAValue, store: WeightStore, rewriter: PatternRewriter) -> Scores:
    """
    The product of query and key that `value`, masked and scaled in any order, was made from, and what is added to it.

    Views between the product and the softmax keep rows and keys.
    """
    leading = leading_axes(value)
    value = _below_views(value)
    found = _Found(builder)
    while not isinstance(value.owner, _PRODUCTS) and single_use(value):
        inner = _step(value, found, store)
        if inner is None:
            break
        value = inner
    factors = _factors(builder, value, found, leading, store, rewriter)
    if factors is not None:
        return Scores(*factors, _combined(builder, found), leading, found.fill, is_product=True)
    found.add_mask(value, found.scale)
    rows, keys = torch.sizes_of(value)[-2:]
    query = builder.literal(np.ones((*leading, rows, 1), np.float32), "attention_query")
    key = builder.literal(np.zeros((*leading, keys, 1), np.float32), "attention_key")
    return Scores(query, builder.transposed(key), 1.0, _combined(builder, found), leading, found.fill, is_product=False)


def _factors(
    builder: TorchBuilder,
    value: SSAValue,
    found: _Found,
    leading: tuple[int, ...],
    store: WeightStore,
    rewriter: PatternRewriter,
) -> tuple[SSAValue, SSAValue, float] | None:
    """Query, transposed key and scale of the product `value`; None if it is none that only the scores are made of."""
    product = value.owner
    if not isinstance(product, _PRODUCTS) or not single_use(value):
        return None
    rank = torch.tensor_type(value).rank
    if not all(torch.tensor_type(one).rank == rank for one in product.operands):
        return None
    factors = product.operands
    if torch.sizes_of(value)[:-2] != leading:
        counts = [math.prod(torch.sizes_of(one)[:-2]) for one in factors]
        if counts != [math.prod(leading)] * 2:
            return None
    query, query_scale = _unscaled_below_views(product.input, store, rewriter)
    key, key_scale = _unscaled_below_views(product.other, store, rewriter)
    if torch.sizes_of(value)[:-2] != leading:
        query, key = (on_leading_axes(builder, one, leading) for one in (query, key))
    return query, key, found.scale * query_scale * key_scale


def keeps_matrices(operation: object) -> bool:
    """True if `operation` is a view that keeps the last two axes."""
    if not isinstance(operation, torch.ViewOp):
        return False
    return torch.sizes_of(operation.input)[-2:] == operation.result.type.sizes[-2:]


def leading_axes(value: SSAValue) -> tuple[int, ...]:
    """The axes before rows and keys of the scores `value`, before views that join or split these axes."""
    return torch.sizes_of(_below_views(value))[:-2]


def _below_views(value: SSAValue) -> SSAValue:
    while keeps_matrices(value.owner) and single_use(value):
        value = _operand(value)
    return value


def on_leading_axes(builder: TorchBuilder, value: SSAValue, leading: tuple[int, ...]) -> SSAValue:
    """The matrices `value` under as many other leading axes."""
    return builder.view(value, (*leading, *torch.sizes_of(value)[-2:]))


def _step(value: SSAValue, found: _Found, store: WeightStore) -> SSAValue | None:
    """The operand of `value`, whose scale or mask `found` takes in; None if scores are not made so."""
    operation = value.owner
    unscaled, factor = _unscaled(value, store)
    if unscaled is not value:
        found.scale *= factor
        return unscaled
    if isinstance(operation, torch.ViewOp) and keeps_matrices(operation) and _leads_to_product(value, store):
        found.views.append(operation)
        return operation.input
    inner, mask, fill = _selection(found, operation)
    if inner is None or mask is None or inner.type != value.type:
        # A mask may not have axes that the scores lack.
        return _step_over_sum(value, found, store)
    if fill is None or not found.add_fill(_fill(fill, found.scale, store)):
        return None
    found.add_mask(mask)
    return inner


def _selection(found: _Found, operation: object) -> tuple[SSAValue | None, SSAValue | None, SSAValue | None]:
    """The scores, the bool mask that is true where they stay, and what else is put in their place."""
    if is_aten(operation, "masked_fill.Scalar", "masked_fill.Tensor") and isinstance(operation, Operation):
        scores, mask, fill = operation.operands
        return scores, _negated(found.builder, mask), fill
    if is_aten(operation, "where.self", "where.ScalarOther") and isinstance(operation, Operation):
        mask, scores, fill = operation.operands
        return scores, mask, fill
    return None, None, None


def _step_over_sum(value: SSAValue, found: _Found, store: WeightStore) -> SSAValue | None:
    operation = value.owner
    if not isinstance(operation, Operation) or not is_aten(operation, "add.Tensor", "sub.Tensor"):
        return None
    left, right, alpha = operation.operands
    if torch.constant_of(alpha) != 1:
        return None
    is_sum = isinstance(operation, torch.AddTensorOp)
    if not torch.tensor_type(left).is_float or not torch.tensor_type(right).is_float:
        # True is added as 1, and is no mask.
        return None
    if left.type == value.type and _leads_to_product(left, store):
        found.add_mask(right, found.scale if is_sum else -found.scale)
        return left
    if is_sum and right.type == value.type and _leads_to_product(right, store):
        found.add_mask(left, found.scale)
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


def _combined(builder: TorchBuilder, found: _Found) -> SSAValue | None:
    return all_added(builder, found.masks) if found.masks else None


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
