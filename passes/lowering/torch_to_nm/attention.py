"""Attention: one operation of the machine, on int8 query, key and value."""

from __future__ import annotations

import math

from xdsl.dialects.builtin import StringAttr, i1
from xdsl.ir import BlockArgument, Operation, SSAValue

from sta.dialect import nm, torch
from sta.passes.lowering.torch_to_nm.conversion import Conversion, Quantized, Storage, scale_pair
from sta.passes.lowering.torch_to_nm.lowering import Lowering
from sta.passes.lowering.torch_to_nm.norm import LARGEST_FLOAT32
from sta.passes.rewriting.torch_operations import literal_of
from sta.spec.integers import STREAM_LIMIT

LOG2_UNITS = 1024 / math.log(2)
"""Units of a score in the softmax: log2 with 10 fraction bits."""
LARGEST_BIAS = 2.0**13
"""The largest number that may be added to scores. In 16 bits the next to it are a quarter apart then."""


def refusal(operation: torch.ScaledDotProductAttentionOp) -> str | None:
    """Attention has four axes, heads of one width, no dropout, and one of the masks that torch-fold-masks makes."""
    if isinstance(reason := operation.attributes.get(torch.MASK_ERROR), StringAttr):
        return f"its mask is not supported: {reason.data}"
    scale = operation.scale
    if not isinstance(scale.type, torch.NoneType) and not 0.0 < torch.number_of(scale) <= LARGEST_FLOAT32:
        return f"its scale must be a positive number, not {torch.number_of(scale):g}"
    query, key, value = (torch.sizes_of(part) for part in (operation.query, operation.key, operation.value))
    if torch.number_of(operation.dropout_p) != 0.0:
        probability = torch.number_of(operation.dropout_p)
        return (
            f"its dropout_p is {probability:g} whatever the mode of the model: pass 0.0 outside of training "
            f"(dropout_p={probability:g} if self.training else 0.0)"
        )
    if key[:-1] != value[:-1] or len(query) != 4 or len(key) != 4:
        return "query, key and value must have four axes, and keys and values as many rows"
    shares = bool(torch.constant_of(operation.enable_gqa)) and query[1] % key[1] == 0
    if query[0] != key[0] or (query[1] != key[1] and not shares):
        return "query, key and value must have the same batch and heads, or several heads of queries for each of keys"
    return None if _is_mask(operation.attn_mask) else "its mask must be a constant, or a padding mask that is an input"


def _is_mask(value: SSAValue) -> bool:
    if isinstance(value.type, torch.NoneType):
        return True
    if torch.tensor_type(value).element_type != i1:
        return False
    while isinstance(value.owner, torch.ViewOp | torch.ToDtypeOp | torch.LogicalNotOp):
        value = value.owner.operands[0]
    return isinstance(value, BlockArgument) or literal_of(value) is not None


def attend(conversion: Conversion, op: torch.ScaledDotProductAttentionOp, storage: Storage) -> Quantized:
    """The attention; a zero point of the values is subtracted from its result."""
    q, k, v = (conversion.quantized(value) for value in (op.query, op.key, op.value))
    for part, name in ((q, "query"), (k, "key"), (v, "value")):
        if nm.tensor_of(part.value).element_type != nm.si8:
            raise conversion.error(f"its {name} must be quantized to 8 bits, not to 16")
    q = _centred(conversion, q)
    given = torch.constant_of(op.scale)
    width = torch.sizes_of(op.query)[-1]
    scale = float(given) if isinstance(given, int | float) else 1 / math.sqrt(width)
    mask = None
    if not isinstance(op.attn_mask.type, torch.NoneType):
        mask = _four_axes(conversion, conversion.quantized(op.attn_mask).value)
    result = Storage(nm.si16, v.scale * 128 / STREAM_LIMIT, 0) if v.zero_point else storage
    softmax = _softmax_of(op)
    attention = conversion.emit(
        nm.AttentionOp(
            (
                _four_axes(conversion, q.value),
                _four_axes(conversion, k.value),
                _four_axes(conversion, v.value),
            ),
            mask,
            scale_pair(q.scale * k.scale * scale * LOG2_UNITS),
            (*scale_pair(v.scale / result.scale), result.zero_point),
            torch.constant_of(op.is_causal) is True,
            result.element,
            bits=softmax.bits.data,
            chunk=softmax.chunk,
            bias=_bias(conversion, op),
        )
    )
    shape = torch.sizes_of(op.result)
    value: SSAValue = attention.result
    if nm.tensor_of(value).get_shape() != shape:
        value = conversion.emit(nm.ViewOp(value, shape)).result
    if not v.zero_point:
        return Quantized(value, storage.scale, storage.zero_point)
    # The weights of a row add up to one, so a zero point of the values passes through attention unchanged.
    offset = -round(v.zero_point * v.scale / result.scale)
    rescaled = conversion.emit(nm.RescaleOp(value, offset, *scale_pair(result.scale / storage.scale))).result
    return conversion.clamp(rescaled, storage)


def _bias(conversion: Conversion, op: torch.ScaledDotProductAttentionOp) -> tuple[SSAValue, tuple[int, int]] | None:
    """The bias of the scores and its scale, if there is one."""
    if op.bias is None:
        return None
    bias = conversion.stream(conversion.quantized(op.bias))
    reach = bias.scale * STREAM_LIMIT
    if reach > LARGEST_BIAS:
        raise conversion.error(
            f"numbers up to {reach:.4g} are added to its scores, which leaves keys out without saying so: pass a mask "
            "of bools, or of constants"
        )
    return _four_axes(conversion, bias.value), scale_pair(bias.scale * LOG2_UNITS)


def _centred(conversion: Conversion, q: Quantized) -> Quantized:
    """
    Queries without zero point.

    A zero point of the queries would add a term to each score that depends on the key. (A zero point of the keys adds
    the same to all scores of a row and cancels in the softmax.) Queries without it have up to 9 bits, so they are
    rounded to a grid that is up to twice as coarse.
    """
    if not q.zero_point:
        return q
    reach = max(128 + q.zero_point, 127 - q.zero_point)
    return conversion.requantized(q, Storage(nm.si8, q.scale * reach / 127, 0))


def _four_axes(conversion: Conversion, value: SSAValue) -> SSAValue:
    """`[..., S, D]` as `[B, H, S, D]`: missing axes are 1, additional ones join the batch."""
    shape = nm.tensor_of(value).get_shape()
    if len(shape) == 4:
        return value
    leading = (1,) * (4 - len(shape)) if len(shape) < 4 else (math.prod(shape[:-3]),)
    rest = shape if len(shape) < 4 else shape[-3:]
    return conversion.emit(nm.ViewOp(value, (*leading, *rest))).result


def _softmax_of(op: Operation) -> torch.SoftmaxAttr:
    """The softmax that torch-choose-softmax has chosen; over whole rows with 8 bits where it has not run."""
    found = op.attributes.get(torch.SOFTMAX)
    return found if isinstance(found, torch.SoftmaxAttr) else torch.SoftmaxAttr(8)


LOWERINGS = (Lowering(torch.ScaledDotProductAttentionOp, refusal, attend),)
