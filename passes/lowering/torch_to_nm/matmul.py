"""Products of two values: the first of 8 or 16 bits, the second of 8 bits and symmetric."""

from __future__ import annotations

from xdsl.ir import SSAValue

from sta.dialect import nm, torch
from sta.passes.lowering.torch_to_nm.conversion import Conversion, Quantized, Storage, scale_pair
from sta.passes.lowering.torch_to_nm.linear import round_accumulators
from sta.passes.lowering.torch_to_nm.lowering import Lowering
from sta.spec.wide_product import LONGEST_SUM


def refusal(operation: torch.ProductOperation) -> str | None:
    """A product is of two float values, over at most LONGEST_SUM elements."""
    if not all(torch.tensor_type(value).is_float for value in (operation.input, operation.other)):
        return "only float values can be multiplied: convert an integer input on the host"
    depth = torch.sizes_of(operation.input)[-1]
    if depth > LONGEST_SUM:
        return f"sums over {depth:,} elements could leave int32: at most {LONGEST_SUM:,} are supported"
    return None


def accumulate(conversion: Conversion, op: torch.ProductOperation, scale: float, is_sum: bool) -> SSAValue:
    """The accumulators of a product of two values, in units of `scale`; a second factor of [K, N] is exchanged."""
    a, b = conversion.quantized(op.input), conversion.quantized(op.other)
    if a.zero_point:
        a = conversion.stream(a)
    b = _second(conversion, b)
    rank = len(nm.tensor_of(b.value).get_shape())
    exchanged = nm.PermuteOp(b.value, [*range(rank - 2), rank - 1, rank - 2])
    acc = conversion.emit(nm.DynamicProductOp(a.value, conversion.emit(exchanged).result)).result
    return conversion.emit(nm.RescaleOp(acc, 0, *scale_pair(a.scale * b.scale / scale))).result


def _second(conversion: Conversion, b: Quantized) -> Quantized:
    """The second factor as int8 without zero point, on a grid that may be coarser."""
    narrow = nm.element_of(b.value) == nm.si8
    if narrow and not b.zero_point:
        return b
    reach = (128 if narrow else 32768) + abs(b.zero_point)
    return conversion.requantized(b, Storage(nm.si8, b.scale * reach / 127, 0))


LOWERINGS = (Lowering(torch.ProductOperation, refusal, round_accumulators, accumulate=accumulate),)
