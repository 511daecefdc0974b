"""Linear layers: products with int8 weights, in accumulators that are rescaled for each channel."""

from __future__ import annotations

from xdsl.ir import Operation, SSAValue

from sta.dialect import nm, torch
from sta.passes.lowering.torch_to_nm.conversion import UNQUANTIZED, Conversion, Quantized, Storage, is_parameter
from sta.passes.lowering.torch_to_nm.lowering import Lowering, lowering_of
from sta.passes.quantization.integer_weights import LinearIntegers, quantize_linear, requantization
from sta.passes.rewriting.torch_operations import literal_of
from sta.passes.rewriting.uses_through_views import VIEWS


def refusal(operation: torch.LinearOp) -> str | None:
    """A linear layer has a weight and a bias that are constants."""
    weight = operation.weight
    if isinstance(weight.owner, torch.FakeQuantizeChannelsOp):
        weight = weight.owner.input
    constant = literal_of(weight) is not None and is_parameter(operation.bias)
    return None if constant else "its weight and bias must be constants"


def round_accumulators(
    conversion: Conversion,
    op: torch.LinearOp | torch.ProductOperation | VIEWS,
    storage: Storage,
) -> Quantized:
    """The product, rescaled to the format of the result; also seen through views."""
    return conversion.clamp(accumulated(conversion, op.result, storage.scale, is_sum=False), storage)


def accumulated(conversion: Conversion, value: SSAValue, scale: float, is_sum: bool = True) -> SSAValue:
    """A product's accumulators in units of `scale`, seen through views of its result; for a sum, or alone."""
    op = value.owner
    if isinstance(op, VIEWS):
        return conversion.rearranged(op, accumulated(conversion, op.input, scale, is_sum))
    lowering = lowering_of(op) if isinstance(op, Operation) else None
    if lowering is None or lowering.accumulate is None:
        raise conversion.error(UNQUANTIZED)
    assert isinstance(op, Operation)
    conversion.current = op
    return lowering.accumulate(conversion, op, scale, is_sum)


def _accumulate(conversion: Conversion, op: torch.LinearOp, scale: float, is_sum: bool) -> SSAValue:
    acc, integers = _product(conversion, op)
    if not is_sum and isinstance(op.weight.owner, torch.FakeQuantizeChannelsOp) and integers.vanishes(scale):
        raise conversion.error(
            f"the scales that it came with cannot be realised: every result rounds to zero with an output scale of "
            f"{scale:g}, since a unit of the product is at most {float(integers.scales.max()):g}"
        )
    multiplier, shift = requantization(integers.scales, scale)
    return conversion.emit(
        nm.RescaleChannelsOp(
            acc,
            conversion.constant(f"{conversion.path}.bias@int32", integers.bias, nm.si32),
            conversion.constant(f"{conversion.path}.multiplier", multiplier, nm.si32),
            conversion.constant(f"{conversion.path}.shift", shift, nm.si8),
        )
    ).result


def _product(conversion: Conversion, op: torch.LinearOp) -> tuple[SSAValue, LinearIntegers]:
    x = conversion.quantized(op.input)
    rounded = op.weight.owner
    scales, source = None, op.weight
    if isinstance(rounded, torch.FakeQuantizeChannelsOp):
        scales, source = conversion.array(rounded.scales), rounded.input
    weight = conversion.array(source)
    bias = conversion.array(op.bias)
    assert weight is not None
    try:
        integers = quantize_linear(
            weight[1],
            None if bias is None else bias[1],
            x.scale,
            x.zero_point,
            wide=nm.is_wide(x.value),
            given_scales=None if scales is None else scales[1],
        )
    except (OverflowError, ValueError) as error:
        raise conversion.error(str(error)) from error
    constant = conversion.constant(f"{weight[0]}@int8", integers.weights, nm.si8)
    return conversion.emit(nm.ProductOp(x.value, constant)).result, integers


LOWERINGS = (Lowering(torch.LinearOp, refusal, round_accumulators, accumulate=_accumulate),)
