"""Concatenation: parts in the number format of the result."""

from __future__ import annotations

from sta.dialect import nm, torch
from sta.passes.lowering.torch_to_nm.conversion import Conversion, Quantized, Storage
from sta.passes.lowering.torch_to_nm.lowering import Lowering


def refusal(operation: torch.ConcatenateOp) -> str | None:
    """A concatenation is of float values."""
    return None if operation.result.type.is_float else "only float values can be concatenated: leave it to the host"


def concatenate(conversion: Conversion, op: torch.ConcatenateOp, storage: Storage) -> Quantized:
    """The parts, rounded to the format of the result where they have another one, one after the other."""
    parts = [conversion.requantized(conversion.quantized(part), storage).value for part in op.parts]
    joined = conversion.emit(nm.ConcatenateOp(parts, op.axis.value.data)).result
    return Quantized(joined, storage.scale, storage.zero_point)


LOWERINGS = (Lowering(torch.ConcatenateOp, refusal, concatenate),)
