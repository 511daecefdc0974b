"""Rearrangements, constants that are stored like values, and masks, which the host brings into their device form."""

from __future__ import annotations

import numpy as np
from xdsl.ir import BlockArgument, Operation, SSAValue

from sta.dialect import nm, torch
from sta.passes.lowering.torch_to_nm.conversion import Conversion, Quantized, Storage, shape_of
from sta.passes.lowering.torch_to_nm.linear import round_accumulators
from sta.passes.lowering.torch_to_nm.lowering import Lowering, every_form
from sta.passes.quantization.integer_weights import quantize_symmetric
from sta.passes.rewriting.uses_through_views import VIEWS


def users_through_views(value: SSAValue) -> list[Operation]:
    """Operations that consume `value` or a rearrangement or conversion of it, including those on the way."""
    users: list[Operation] = []
    for use in value.uses:
        users.append(use.operation)
        if isinstance(use.operation, VIEWS | torch.ToDtypeOp):
            users += users_through_views(use.operation.result)
    return users


def _refused_conversion(operation: torch.ToDtypeOp) -> str | None:
    """A conversion makes a mask, other integers, or floats, of an input or of what the host computes."""
    if not torch.tensor_type(operation.input).is_float:
        return None if _is_integer_input(operation.input) else "only integers that the host knows can be converted"
    if operation.result.type.is_float:
        return f"works on {operation.result.type.element_type}, and only f32 is supported: leave the conversion out"
    return "numbers that the model computes cannot become integers: leave this to the host"


def _refused_negation(operation: torch.LogicalNotOp) -> str | None:
    """The negation of an input makes a mask of one that is true where a key is left out."""
    return None if _is_integer_input(operation.input) else "only integer and bool inputs can be negated"


def _is_integer_input(value: SSAValue) -> bool:
    return isinstance(value, BlockArgument) and not torch.tensor_type(value).is_float


def _rearrange(conversion: Conversion, op: VIEWS) -> None:
    """The same integers at other places; accumulators are rearranged where they are rounded."""
    if op.input in conversion.values:
        quantized = conversion.values[op.input]
        viewed = conversion.rearranged(op, quantized.value)
        conversion.values[op.result] = Quantized(viewed, quantized.scale, quantized.zero_point)


def _pass_mask(conversion: Conversion, op: torch.ToDtypeOp | torch.LogicalNotOp) -> None:
    """The host brings masks, and integers that become numbers, into their device form: see the input's signature."""
    conversion.values[op.result] = conversion.quantized(op.input)


def _constant_stream(conversion: Conversion, op: torch.LiteralOp, storage: Storage) -> Quantized:
    """A constant that is stored like a value."""
    array = op.array(conversion.weights).reshape(shape_of(op.result))
    values = quantize_symmetric(array, storage.scale, bits=storage.element.width.data)
    name = f"{op.resource or conversion.path}@int{storage.element.width.data}"
    return Quantized(conversion.constant(name, values, storage.element), storage.scale)


def _mask_constant(conversion: Conversion, op: torch.LiteralOp) -> None:
    """A constant attention mask: bytes, non-zero where a key is admissible."""
    if not any(isinstance(user, torch.ScaledDotProductAttentionOp) for user in users_through_views(op.result)):
        return
    values = op.array(conversion.weights)
    if values.dtype == np.bool_:
        name = f"{op.resource or 'mask'}@mask"
        conversion.values[op.result] = Quantized(conversion.constant(name, values.astype(np.uint8), nm.ui8), 1.0)


LOWERINGS = (
    Lowering(torch.ViewOp, every_form, round_accumulators, _rearrange),
    Lowering(torch.PermuteOp, every_form, round_accumulators, _rearrange),
    Lowering(torch.SliceTensorOp, every_form, round_accumulators, _rearrange),
    Lowering(torch.ExpandOp, every_form, round_accumulators, _rearrange),
    Lowering(torch.UnfoldOp, every_form, round_accumulators, _rearrange),
    Lowering(torch.ToDtypeOp, _refused_conversion, follow=_pass_mask),
    Lowering(torch.LogicalNotOp, _refused_negation, follow=_pass_mask),
    Lowering(torch.LiteralOp, every_form, _constant_stream, _mask_constant),
)
