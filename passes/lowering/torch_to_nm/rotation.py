"""Rotary position embeddings: tables of cosines and sines with 16 bits."""

from __future__ import annotations

import numpy as np

from sta.dialect import nm, torch
from sta.passes.lowering.torch_to_nm.conversion import Conversion, Quantized, Storage, scale_pair
from sta.passes.lowering.torch_to_nm.lowering import Lowering
from sta.passes.rewriting.torch_operations import literal_of
from sta.spec.rotation import rotation_tables


def refusal(operation: torch.RotateOp) -> str | None:
    """Cosines and sines are constants."""
    if literal_of(operation.cosines) is not None and literal_of(operation.sines) is not None:
        return None
    return "its cosines and sines must be constants"


def rotate(conversion: Conversion, op: torch.RotateOp, storage: Storage) -> Quantized:
    """Rotated columns in units of the result; the other columns go through the same product, by one."""
    value = conversion.quantized(op.input)
    if value.zero_point:
        value = conversion.stream(value)
    name, cosines = conversion.array(op.cosines) or ("", np.ones(0))
    _, sines = conversion.array(op.sines) or ("", np.ones(0))
    columns, pairing = torch.sizes_of(op.input)[-1], op.pairing.data
    *tables, unit = rotation_tables(cosines.astype(np.float64), sines.astype(np.float64), pairing, columns)
    first, second = (
        conversion.constant(f"{name}@{suffix}", table, nm.si16)
        for suffix, table in zip(("cosines", "sines"), tables, strict=True)
    )
    scale = scale_pair(value.scale * unit / storage.scale)
    if storage.zero_point:
        wide = Storage(nm.si16, storage.scale, 0)
        made = conversion.emit(nm.RotateOp(value.value, (first, second), pairing, op.width, scale, nm.si16)).result
        return conversion.requantized(Quantized(made, wide.scale), storage)
    made = conversion.emit(nm.RotateOp(value.value, (first, second), pairing, op.width, scale, storage.element)).result
    return Quantized(made, storage.scale)


LOWERINGS = (Lowering(torch.RotateOp, refusal, rotate),)
