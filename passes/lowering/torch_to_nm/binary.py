"""Sums and products of two values, of which one may be broadcast."""

from __future__ import annotations

from sta.dialect import nm, torch
from sta.passes.lowering.torch_to_nm.conversion import Conversion, Quantized, Storage, scale_pair
from sta.passes.lowering.torch_to_nm.linear import accumulated
from sta.passes.lowering.torch_to_nm.lowering import Lowering


def _refused_add(operation: torch.AddTensorOp) -> str | None:
    """An addition is of two float values: one has the shape of the result, the other at least its last axis."""
    if torch.constant_of(operation.alpha) != 1:
        return "only alpha = 1 is supported"
    return _refused_types(operation, "added") or _refused_shapes(operation)


def _refused_multiply(operation: torch.MulTensorOp) -> str | None:
    """A product is of two float values, one of which has the shape of the result, the other at least its last axis."""
    return _refused_types(operation, "multiplied") or _refused_shapes(operation)


def _refused_types(operation: torch.AddTensorOp | torch.MulTensorOp, done: str) -> str | None:
    if all(torch.tensor_type(value).is_float for value in (operation.input, operation.other)):
        return None
    return f"only float values can be {done}: convert an integer input on the host"


def _refused_shapes(operation: torch.AddTensorOp | torch.MulTensorOp) -> str | None:
    shapes, whole = (torch.sizes_of(operation.input), torch.sizes_of(operation.other)), operation.result.type.sizes
    if whole not in shapes:
        return "one of its operands must have the shape of the result"
    return (
        None
        if all(sizes[-1:] == whole[-1:] for sizes in shapes)
        else "its operands must have the same last axis: expand the shorter on the host, or in a constant"
    )


def _add(conversion: Conversion, op: torch.AddTensorOp, storage: Storage) -> Quantized:
    """Both addends in units of the result: a linear layer's straight from its accumulators."""
    terms = [
        conversion.rescaled(conversion.values[value], storage.scale)
        if value in conversion.values
        else accumulated(conversion, value, storage.scale)
        for value in (op.input, op.other)
    ]
    conversion.current = op
    terms = conversion.whole_first(terms, op.result, "an addition")
    return conversion.clamp(conversion.emit(nm.AddOp(*terms)).result, storage)


def _multiply(conversion: Conversion, op: torch.MulTensorOp, storage: Storage) -> Quantized:
    """The product in units of the result."""
    factors = [conversion.quantized(value) for value in (op.input, op.other)]
    first, second = conversion.whole_first(factors, op.result, "a product")
    value = first.value if not first.zero_point else conversion.rescaled(first, first.scale)
    pair = scale_pair(first.scale * second.scale / storage.scale)
    product = conversion.emit(nm.MultiplyOp(value, second.value, -second.zero_point, *pair)).result
    return conversion.clamp(product, storage)


LOWERINGS = (
    Lowering(torch.AddTensorOp, _refused_add, _add),
    Lowering(torch.MulTensorOp, _refused_multiply, _multiply),
)
