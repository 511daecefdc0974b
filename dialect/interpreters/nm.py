"""
Interpreter of the `nm` dialect on xDSL's framework: NumPy arrays for tensors, `sta.spec` for every operation.

Its bits are the emulator's; a property test checks this.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import IntegerType, Signedness
from xdsl.interpreter import Interpreter, InterpreterFunctions, PythonValues, impl, register_impls
from xdsl.ir import Attribute, SSAValue

from sta.dialect import nm
from sta.dialect.interpreters.attention import attend
from sta.dialect.ir.parameter_blocks import (
    channel_map_parameters,
    epilogue_scalars,
    norm_parameters,
    scalar_map_parameters,
)
from sta.dialect.ir.weight_store import WeightStore
from sta.spec.integers import apply_scale_32, matrix_product, saturate
from sta.spec.parameters import MapParameters
from sta.spec.rotation import rotate_rows
from sta.spec.tables import table_16
from sta.spec.vector import combined, gated_product, map_tile, norm_tile
from sta.spec.wide_product import wide_accumulators, wide_product

Array = NDArray[Any]


def element_dtype(element: Attribute) -> np.dtype[Any]:
    """The NumPy dtype of an element type of the dialect (si8, ui8, si16, si32)."""
    integer = cast(IntegerType, element)
    kind = "uint" if integer.signedness.data == Signedness.UNSIGNED else "int"
    return np.dtype(f"{kind}{integer.width.data}")


def tensor_dtype(value: SSAValue) -> np.dtype[Any]:
    """The NumPy dtype of a tensor value."""
    return element_dtype(nm.tensor_of(value).element_type)


def _rows(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])


def _int32(values: NDArray[np.int64], what: str) -> Array:
    if values.size and (values.min() < -(2**31) or values.max() >= 2**31):
        raise OverflowError(f"{what} leaves int32")
    return values.astype(np.int32)


@register_impls
class NmFunctions(InterpreterFunctions):
    """Implementations of the `nm` operations; weights come from a `WeightStore`."""

    def __init__(self, weights: WeightStore):
        self.weights = weights

    @impl(nm.WeightOp)
    def run_weight(self, interpreter: Interpreter, op: nm.WeightOp, args: PythonValues) -> PythonValues:
        return (self.weights.get(op.store_name),)

    @impl(nm.ProductOp)
    def run_product(self, interpreter: Interpreter, op: nm.ProductOp, args: PythonValues) -> PythonValues:
        x, weight = args
        acc = _accumulators(_rows(x), weight)
        acc = wide_accumulators(acc) if nm.is_wide(op.x) else acc
        return (acc.astype(tensor_dtype(op.result)).reshape(nm.tensor_of(op.result).get_shape()),)

    @impl(nm.DynamicProductOp)
    def run_dynamic_product(
        self, interpreter: Interpreter, op: nm.DynamicProductOp, args: PythonValues
    ) -> PythonValues:
        acc = _rows(_accumulators(*args))
        acc = wide_accumulators(acc) if nm.is_wide(op.a) else acc
        return (acc.astype(tensor_dtype(op.result)).reshape(nm.tensor_of(op.result).get_shape()),)

    @impl(nm.RescaleOp)
    def run_rescale(self, interpreter: Interpreter, op: nm.RescaleOp, args: PythonValues) -> PythonValues:
        value = args[0].astype(np.int64) + op.bias.value.data
        scaled = apply_scale_32(value, *op.scale.pair)
        return (_int32(scaled, "a rescaled value"),)

    @impl(nm.RescaleChannelsOp)
    def run_rescale_channels(
        self, interpreter: Interpreter, op: nm.RescaleChannelsOp, args: PythonValues
    ) -> PythonValues:
        x, bias, multiplier, shift = args
        scaled = apply_scale_32(x.astype(np.int64) + bias, multiplier, shift.astype(np.int64))
        return (_int32(scaled, "a rescaled value"),)

    @impl(nm.TableOp)
    def run_table(self, interpreter: Interpreter, op: nm.TableOp, args: PythonValues) -> PythonValues:
        x, table = args
        return (table_16(saturate(x, np.dtype(np.int16)), table),)

    @impl(nm.AddOp)
    def run_add(self, interpreter: Interpreter, op: nm.AddOp, args: PythonValues) -> PythonValues:
        return _combined(op, args)

    @impl(nm.SubtractOp)
    def run_subtract(self, interpreter: Interpreter, op: nm.SubtractOp, args: PythonValues) -> PythonValues:
        return _combined(op, args)

    @impl(nm.MaximumOp)
    def run_maximum(self, interpreter: Interpreter, op: nm.MaximumOp, args: PythonValues) -> PythonValues:
        return _combined(op, args)

    @impl(nm.MinimumOp)
    def run_minimum(self, interpreter: Interpreter, op: nm.MinimumOp, args: PythonValues) -> PythonValues:
        return _combined(op, args)

    @impl(nm.MultiplyOp)
    def run_multiply(self, interpreter: Interpreter, op: nm.MultiplyOp, args: PythonValues) -> PythonValues:
        a, b = args
        scale = op.bias.value.data, *op.scale.pair
        return (_int32(gated_product(a, b, *scale), "a product"),)

    @impl(nm.ClampOp)
    def run_clamp(self, interpreter: Interpreter, op: nm.ClampOp, args: PythonValues) -> PythonValues:
        return (saturate(args[0].astype(np.int64) + op.zero_point.value.data, tensor_dtype(op.result)),)

    @impl(nm.LinearOp)
    def run_linear(self, interpreter: Interpreter, op: nm.LinearOp, args: PythonValues) -> PythonValues:
        table, residual, (x, weight, bias, multiplier, shift) = _epilogue_operands(op, args)
        parameters = channel_map_parameters(bias, multiplier, shift, epilogue_scalars(op))
        acc = _accumulators(_rows(x), weight)
        return (_map(op, acc, parameters, table, residual, wide=nm.is_wide(op.x)),)

    @impl(nm.MatmulOp)
    def run_matmul(self, interpreter: Interpreter, op: nm.MatmulOp, args: PythonValues) -> PythonValues:
        table, residual, factors = _epilogue_operands(op, args)
        parameters = scalar_map_parameters(op.bias.value.data, *op.scale.pair, epilogue_scalars(op))
        acc = _rows(_accumulators(*factors))
        return (_map(op, acc, parameters, table, residual, wide=nm.is_wide(op.a)),)

    @impl(nm.MapOp)
    def run_map(self, interpreter: Interpreter, op: nm.MapOp, args: PythonValues) -> PythonValues:
        table, residual, (x,) = _epilogue_operands(op, args)
        parameters = scalar_map_parameters(op.bias.value.data, *op.scale.pair, epilogue_scalars(op))
        return (_map(op, _rows(x), parameters, table, residual),)

    @impl(nm.NormOp)
    def run_norm(self, interpreter: Interpreter, op: nm.NormOp, args: PythonValues) -> PythonValues:
        x, gamma, beta = args
        stream, copy = norm_tile(_rows(x), norm_parameters(op, gamma, beta), op.kind.data)
        results = ((op.result, stream), (op.copy, copy))
        return tuple(array.reshape(x.shape) for value, array in results if value is not None)

    @impl(nm.RotateOp)
    def run_rotate(self, interpreter: Interpreter, op: nm.RotateOp, args: PythonValues) -> PythonValues:
        x, cosines, sines = args
        how = op.pairing.data, op.width.value.data, op.scale.pair
        return (rotate_rows(x, cosines, sines, *how, tensor_dtype(op.result)),)

    @impl(nm.GatherOp)
    def run_gather(self, interpreter: Interpreter, op: nm.GatherOp, args: PythonValues) -> PythonValues:
        table, indices = args
        if indices.min() < 0 or indices.max() >= table.shape[0]:
            raise IndexError(f"an index is outside the table of {table.shape[0]} rows")
        return (table[indices],)

    @impl(nm.AttentionOp)
    def run_attention(self, interpreter: Interpreter, op: nm.AttentionOp, args: PythonValues) -> PythonValues:
        q, k, v, *rest = args
        optional = dict(zip([value for value in (op.mask, op.bias) if value is not None], rest, strict=True))
        mask, bias = (None if value is None else optional[value] for value in (op.mask, op.bias))
        output = attend(op, q, k, v, mask, bias)
        return (saturate(output + op.zero_point.value.data, tensor_dtype(op.result)).transpose(op.axes),)

    @impl(nm.ViewOp)
    def run_view(self, interpreter: Interpreter, op: nm.ViewOp, args: PythonValues) -> PythonValues:
        return (args[0].reshape(nm.tensor_of(op.result).get_shape()),)

    @impl(nm.PermuteOp)
    def run_permute(self, interpreter: Interpreter, op: nm.PermuteOp, args: PythonValues) -> PythonValues:
        return (args[0].transpose(op.axes),)

    @impl(nm.SliceOp)
    def run_slice(self, interpreter: Interpreter, op: nm.SliceOp, args: PythonValues) -> PythonValues:
        positions = op.positions
        window = [slice(None)] * args[0].ndim
        window[op.axis.value.data] = slice(positions.start, positions.stop, positions.step)
        return (args[0][tuple(window)],)

    @impl(nm.BroadcastOp)
    def run_broadcast(self, interpreter: Interpreter, op: nm.BroadcastOp, args: PythonValues) -> PythonValues:
        return (np.broadcast_to(args[0], nm.tensor_of(op.result).get_shape()),)

    @impl(nm.ConcatenateOp)
    def run_concatenate(self, interpreter: Interpreter, op: nm.ConcatenateOp, args: PythonValues) -> PythonValues:
        return (np.concatenate(args, axis=op.axis.value.data),)

    @impl(nm.WindowsOp)
    def run_windows(self, interpreter: Interpreter, op: nm.WindowsOp, args: PythonValues) -> PythonValues:
        axis, size, step = op.numbers
        every = np.lib.stride_tricks.sliding_window_view(args[0], size, axis)
        return (np.moveaxis(np.moveaxis(every, axis, 0)[::step], 0, axis),)


def _combined(op: nm.CombinationOp, args: PythonValues) -> PythonValues:
    return (_int32(combined(args[0], args[1], op.COMBINE), "a sum"),)


def _accumulators(x: Array, weight: Array) -> NDArray[np.int64]:
    """
    The sums of a product in the form of the accumulators: sums over the high bytes of 16-bit activations, then over the
    low bytes.
    """
    return (matrix_product if x.dtype.itemsize == 1 else wide_product)(x, weight)


def _epilogue_operands(op: nm.EpilogueOp, args: PythonValues) -> tuple[Array | None, Array | None, PythonValues]:
    values = dict(zip(op.operands, args, strict=True))
    table = None if op.table is None else values[op.table]
    residual = None if op.residual is None else values[op.residual]
    optional = (op.table is not None) + (op.residual is not None)
    return table, residual, tuple(args[: len(args) - optional])


def _map(
    op: nm.EpilogueOp, rows: Array, parameters: MapParameters, table: Any, residual: Any, *, wide: bool = False
) -> Array:
    shape = nm.tensor_of(op.result).get_shape()
    added = None if residual is None else _rows(np.broadcast_to(residual, shape))
    dtype, combine = tensor_dtype(op.result), op.combine.data
    result = map_tile(rows, parameters, dtype, table=table, residual=added, wide=wide, combine=combine)
    return result.reshape(shape)
