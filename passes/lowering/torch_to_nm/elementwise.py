"""Functions of each element: tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, SSAValue

from sta.dialect import nm, torch
from sta.passes.lowering.torch_to_nm.conversion import Conversion, Quantized, Storage, scale_pair
from sta.passes.lowering.torch_to_nm.lowering import Lowering
from sta.passes.quantization.calibrate import range_of
from sta.passes.quantization.table_plan import TOLERANCE, Table, plain_error, plan_tables
from sta.passes.rewriting.uses_through_views import VIEWS
from sta.spec.integers import HEADROOM, STREAM_LIMIT
from sta.spec.tables import (
    TABLE_FRACTION_BITS,
    Float64Array,
    build_table_8,
    build_table_16,
    widened_table,
)

TABLE_UNITS = 1 << TABLE_FRACTION_BITS
"""Units of a 16-bit table's result."""


def refusal(operation: torch.FunctionOperation) -> str | None:
    """The arguments of a function of each element are constants that its definition has."""
    return operation.refusal


def look_up(conversion: Conversion, op: torch.FunctionOperation, storage: Storage) -> Quantized:
    """
    The function by a table of 512 intervals, or of the 256 values of 8 bits; by several tables of parts of the range
    where one would be too coarse.
    """
    x = conversion.quantized(op.input)
    narrow = nm.element_of(x.value) == nm.si8
    seen, window = _windows(op, x, narrow)

    def of_integers(integers: Float64Array) -> Float64Array:
        return op.function((integers - x.zero_point) * x.scale)

    if narrow and storage.element == nm.si8 and np.isfinite(of_integers(np.arange(-128.0, 128.0))).all():
        return _look_up_8(conversion, op, x, storage)
    # An activation is one table, which the epilogue of a linear layer takes in; its row bounds the error.
    is_bounded = isinstance(op, torch.ElementwiseOperation)
    if not is_bounded and plain_error(of_integers, seen, 1 if narrow else TABLE_UNITS) > TOLERANCE:
        low, high = (-128, 127) if storage.element == nm.si8 else (-STREAM_LIMIT, STREAM_LIMIT)
        reach = (low - storage.zero_point) * storage.scale, (high - storage.zero_point) * storage.scale
        tables = plan_tables(of_integers, window, seen, reach)
        return _look_up_parts(conversion, op, x, tables, storage)
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


def _look_up_8(conversion: Conversion, op: torch.FunctionOperation, x: Quantized, storage: Storage) -> Quantized:
    """The function of 8 bits to 8 bits: the correctly rounded result for each of 256 inputs."""
    narrow = build_table_8(op.function, x.scale, storage.scale, x.zero_point, storage.zero_point)
    table = conversion.constant(f"{conversion.path}.{op.table_name}@table", widened_table(narrow), nm.si16)
    wide = conversion.emit(nm.RescaleOp(x.value, 0, *scale_pair(256.0))).result
    looked_up = conversion.emit(nm.TableOp(wide, table)).result
    result = conversion.emit(nm.RescaleOp(looked_up, 0, *scale_pair(1 / TABLE_UNITS))).result
    # The table includes the zero point.
    return replace(conversion.clamp(result, replace(storage, zero_point=0)), zero_point=storage.zero_point)


def _look_up_parts(
    conversion: Conversion, op: torch.FunctionOperation, x: Quantized, tables: list[Table], storage: Storage
) -> Quantized:
    """The sum of several tables; what is summed so far has 16 bits of its own."""
    reach, total = 0.0, None
    for position, table in enumerate(tables):
        is_last = position == len(tables) - 1
        reach += float(np.abs(table.entries.astype(np.float64)).max()) * table.scale
        kind = storage if is_last else Storage(nm.si16, reach / STREAM_LIMIT or 1.0, 0)
        found = _look_up_part(conversion, op, x, table, kind.scale)
        if total is not None:
            found = conversion.emit(nm.AddOp(found, conversion.rescaled(total, kind.scale))).result
        total = conversion.clamp(found, kind)
    assert total is not None
    return total


def _look_up_part(
    conversion: Conversion, op: torch.FunctionOperation, x: Quantized, table: Table, scale: float
) -> SSAValue:
    """One table over its window, in units of `scale`."""
    constant = conversion.constant(f"{conversion.path}.{op.table_name}@table", table.entries, nm.si16)
    index = conversion.emit(nm.RescaleOp(x.value, -table.middle, *scale_pair(table.gain))).result
    looked_up = conversion.emit(nm.TableOp(index, constant)).result
    return conversion.emit(nm.RescaleOp(looked_up, 0, *scale_pair(table.scale / TABLE_UNITS / scale))).result


def _windows(op: torch.FunctionOperation, x: Quantized, narrow: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """The integers that the argument has on calibration samples, and as many more as its format has room for."""
    limits = (-128, 127) if narrow else (-STREAM_LIMIT, STREAM_LIMIT)
    found = None if narrow else _calibrated(op.input)
    if found is None:
        return limits, limits
    low, high = found
    wide = low * HEADROOM if low < 0 else low / HEADROOM, high * HEADROOM if high > 0 else high / HEADROOM
    return _integers(found, x.scale), _integers(wide, x.scale)


def _integers(ends: tuple[float, float], scale: float) -> tuple[int, int]:
    """The integers between two numbers, at least two."""
    low, high = (int(np.clip(np.rint(end / scale), -STREAM_LIMIT, STREAM_LIMIT)) for end in ends)
    return (low, high) if low < high else (low - 1, low) if low > 0 else (low, low + 1)


def _calibrated(value: SSAValue) -> tuple[float, float] | None:
    """The range that calibration has found for `value`; None if it has a format by other means."""
    while isinstance(value.owner, VIEWS | torch.FakeQuantizeOp):
        value = value.owner.input
    if isinstance(value.owner, torch.EmbeddingOp):
        # Its format has room for rows that no sample has named.
        return None
    block = value.owner if isinstance(value.owner, Block) else value.owner.parent
    function = None if block is None else block.parent_op()
    assert isinstance(function, FuncOp)
    return range_of(function, value)


LOWERINGS = (Lowering(torch.ElementwiseOperation, refusal, look_up), Lowering(torch.PointwiseOp, refusal, look_up))
