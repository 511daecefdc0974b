"""Normalizations: one operation of the machine, on int16 without zero point."""

from __future__ import annotations

import numpy as np

from sta.dialect import nm, torch
from sta.dialect.ir.quantized_value import Meaning, set_meaning
from sta.passes.lowering.torch_to_nm.conversion import (
    Conversion,
    Quantized,
    Storage,
    float_array,
    is_parameter,
)
from sta.passes.lowering.torch_to_nm.lowering import Lowering
from sta.spec.integers import STREAM_LIMIT
from sta.spec.norm import LARGEST_WIDTH, quantize_norm_parameters

LARGEST_FLOAT32 = 3.4e38
"""Bound of float32, in which PyTorch computes: larger numbers are infinite there."""


def refusal(operation: torch.NormOp) -> str | None:
    """A normalization is over the last axis, with constant parameters."""
    if len(torch.integers_of(operation.normalized_shape)) != 1:
        return "only the last axis can be normalized over"
    if not is_parameter(operation.weight):
        return "its weight must be a constant"
    if isinstance(operation, torch.LayerNormOp) and not is_parameter(operation.bias):
        return "its bias must be a constant"
    epsilon = torch.epsilon_of(operation)
    if not 0.0 <= epsilon <= LARGEST_FLOAT32:
        return f"its eps must be a number that is not negative, not {epsilon}"
    width = torch.sizes_of(operation.input)[-1]
    return None if width <= LARGEST_WIDTH else f"rows of {width} are longer than {LARGEST_WIDTH}"


def normalize(conversion: Conversion, op: torch.NormOp, storage: Storage) -> Quantized:
    """The norm with its parameters in integers; its result has 16 bits, or 8 bits on request."""
    x = conversion.stream(conversion.quantized(op.input))
    width = torch.sizes_of(op.input)[-1]
    kind = "layer" if isinstance(op, torch.LayerNormOp) else "rms"
    gamma = conversion.array(op.weight)
    beta = conversion.array(op.bias) if isinstance(op, torch.LayerNormOp) else None
    stream = storage
    if storage.element != nm.si16:
        reach = max(storage.zero_point + 128, 127 - storage.zero_point) * storage.scale
        stream = Storage(nm.si16, reach / STREAM_LIMIT, 0)
    gamma_q, beta_q, epsilon, shift = quantize_norm_parameters(
        float_array(gamma, np.ones(width)),
        float_array(beta, np.zeros(width)),
        x.scale,
        stream.scale,
        torch.epsilon_of(op),
        width,
        kind,
    )
    norm = conversion.emit(
        nm.NormOp(
            x.value,
            conversion.constant(f"{conversion.path}.gamma@int32", gamma_q, nm.si32),
            conversion.constant(f"{conversion.path}.beta@int32", beta_q, nm.si32),
            kind,
            epsilon,
            shift,
        )
    )
    set_meaning(norm.result, Meaning(stream.scale, source=conversion.names.get(op.result, "")))
    return conversion.requantized(Quantized(norm.result, stream.scale), storage)


LOWERINGS = (Lowering(torch.LayerNormOp, refusal, normalize), Lowering(torch.RmsNormOp, refusal, normalize))
