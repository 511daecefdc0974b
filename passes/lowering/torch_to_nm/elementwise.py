"""Functions of each element: tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sta.dialect import nm, torch
from sta.passes.lowering.torch_to_nm.conversion import Conversion, Quantized, Storage, scale_pair
from sta.passes.lowering.torch_to_nm.lowering import Lowering
from sta.spec.integers import STREAM_LIMIT
from sta.spec.tables import TABLE_FRACTION_BITS, build_table_8, build_table_16, widened_table

TABLE_UNITS = 1 << TABLE_FRACTION_BITS
"""Units of a 16-bit table's result."""


def refusal(operation: torch.ElementwiseOperation) -> str | None:
    """The arguments of a function of each element are constants that its definition has."""
    return operation.refusal


def look_up(conversion: Conversion, op: torch.ElementwiseOperation, storage: Storage) -> Quantized:
    """The function by a table of 512 intervals, or of the 256 values of 8 bits."""
    x = conversion.quantized(op.input)
    narrow = nm.element_of(x.value) == nm.si8
    if narrow and storage.element == nm.si8:
        return _look_up_8(conversion, op, x, storage)
    if narrow:
        # Every value is an entry.
        wide = nm.RescaleOp(x.value, -x.zero_point, *scale_pair(TABLE_UNITS))
        x = Quantized(conversion.emit(wide).result, x.scale / TABLE_UNITS)
    samples = op.function(np.arange(-256, 257, dtype=np.float64) * (128.0 * x.scale))
    table_scale = float(np.abs(samples).max()) / STREAM_LIMIT or 1.0
    table = build_table_16(op.function, x.scale, table_scale)
    constant = conversion.constant(f"{conversion.path}.{op.table_name}@table", table, nm.si16)
    looked_up = conversion.emit(nm.TableOp(x.value, constant)).result
    pair = scale_pair(table_scale / TABLE_UNITS / storage.scale)
    return conversion.clamp(conversion.emit(nm.RescaleOp(looked_up, 0, *pair)).result, storage)


def _look_up_8(conversion: Conversion, op: torch.ElementwiseOperation, x: Quantized, storage: Storage) -> Quantized:
    """The function of 8 bits to 8 bits: the correctly rounded result for each of 256 inputs."""
    narrow = build_table_8(op.function, x.scale, storage.scale, x.zero_point, storage.zero_point)
    table = conversion.constant(f"{conversion.path}.{op.table_name}@table", widened_table(narrow), nm.si16)
    wide = conversion.emit(nm.RescaleOp(x.value, 0, *scale_pair(256.0))).result
    looked_up = conversion.emit(nm.TableOp(wide, table)).result
    result = conversion.emit(nm.RescaleOp(looked_up, 0, *scale_pair(1 / TABLE_UNITS))).result
    # The table includes the zero point.
    return replace(conversion.clamp(result, replace(storage, zero_point=0)), zero_point=storage.zero_point)


LOWERINGS = (Lowering(torch.ElementwiseOperation, refusal, look_up),)
