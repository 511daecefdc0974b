"""Sums, differences, maxima, minima and products of two values, of which one may be broadcast."""

from __future__ import annotations

from sta.dialect import nm, torch
from sta.passes.lowering.torch_to_nm.conversion import Conversion, Quantized, Storage, scale_pair
from sta.passes.lowering.torch_to_nm.linear import accumulated
from sta.passes.lowering.torch_to_nm.lowering import Lowering

_Binary = torch.CombinationOperation | torch.MulTensorOp


def _refused_combination(operation: torch.CombinationOperation) -> str | None:
    """It is of two float values, one of which has the shape of the result."""
    if isinstance(operation, torch.AddTensorOp | torch.SubTensorOp) and torch.constant_of(operation.alpha) != 1:
        return "only alpha = 1 is supported"
    return _refused_types(operation, _DONE[type(operation)]) or _refused_shapes(operation)


def _refused_multiply(operation: torch.MulTensorOp) -> str | None:
    """A product is of two float values, one of which has the shape of the result."""
    return _refused_types(operation, "multiplied") or _refused_shapes(operation)


_DONE: dict[type[torch.CombinationOperation], str] = {
    torch.AddTensorOp: "added",
    torch.SubTensorOp: "subtracted",
    torch.MaximumOp: "compared",
    torch.MinimumOp: "compared",
}


def _refused_types(operation: _Binary, done: str) -> str | None:
    if all(torch.tensor_type(value).is_float for value in (operation.input, operation.other)):
        return None
    return f"only float values can be {done}: convert an integer input on the host"


def _refused_shapes(operation: _Binary) -> str | None:
    shapes = torch.sizes_of(operation.input), torch.sizes_of(operation.other)
    return None if operation.result.type.sizes in shapes else "one of its operands must have the shape of the result"


_COMBINED: dict[type[torch.CombinationOperation], type[nm.CombinationOp]] = {
    torch.AddTensorOp: nm.AddOp,
    torch.SubTensorOp: nm.SubtractOp,
    torch.MaximumOp: nm.MaximumOp,
    torch.MinimumOp: nm.MinimumOp,
}


def _combine(conversion: Conversion, op: torch.CombinationOperation, storage: Storage) -> Quantized:
    """Both values in units of the result: a linear layer's straight from its accumulators."""
    terms = [
        conversion.rescaled(conversion.values[value], storage.scale)
        if value in conversion.values
        else accumulated(conversion, value, storage.scale)
        for value in (op.input, op.other)
    ]
    conversion.current = op
    if isinstance(op, torch.AddTensorOp):
        terms = conversion.whole_first(terms, op.result, "an addition")
    return conversion.clamp(conversion.emit(_COMBINED[type(op)](*terms)).result, storage)


def _multiply(conversion: Conversion, op: torch.MulTensorOp, storage: Storage) -> Quantized:
    """The product in units of the result."""
    factors = [conversion.quantized(value) for value in (op.input, op.other)]
    first, second = conversion.whole_first(factors, op.result, "a product")
    value = first.value if not first.zero_point else conversion.rescaled(first, first.scale)
    pair = scale_pair(first.scale * second.scale / storage.scale)
    product = conversion.emit(nm.MultiplyOp(value, second.value, -second.zero_point, *pair)).result
    return conversion.clamp(product, storage)


LOWERINGS = (
    Lowering(torch.CombinationOperation, _refused_combination, _combine),
    Lowering(torch.MulTensorOp, _refused_multiply, _multiply),
)
