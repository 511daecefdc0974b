"""
Interpreter of the `sta` dialect on xDSL's framework, before and after allocation.

Before allocation every buffer is a memory of its own; afterwards buffers are windows of the machine's memories, as on
the machine. Either way memory starts poisoned. Semaphores and fences do nothing: the meaning is that of program order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.interpreter import Interpreter, InterpreterFunctions, PythonValues, impl, register_impls
from xdsl.ir import SSAValue

from sta.dialect import sta
from sta.dialect.interpreters.nm import element_dtype
from sta.dialect.ir.weight_store import WeightStore
from sta.spec.integers import check_int32, matrix_product
from sta.spec.nm_format import unpack
from sta.spec.parameters import MapParameters, NormParameters, SoftmaxParameters
from sta.spec.softmax import RowState, shift_rows, softmax_online, softmax_row
from sta.spec.vector import RowStatistics, map_tile, norm_tile
from sta.spec.wide_product import byte_plane

LARGEST_TILE = 255
"""
Rows of the largest tile an instruction can name.
"""
Bytes = NDArray[np.uint8]
Array = NDArray[Any]


@dataclass(frozen=True)
class MemoryWindow:
    """
    A memref at run time: bytes of a memory, the window's first byte, and its shape, strides (bytes) and dtype.
    """

    memory: Bytes
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    def array(self) -> Array:
        """
        The window as an array that shares the memory.

        Raises IndexError if the window leaves the memory.
        """
        span = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        end = self.offset + span + self.dtype.itemsize
        if self.offset < 0 or end > self.memory.size:
            raise IndexError(f"bytes {self.offset} to {end} of a memory of {self.memory.size}")
        return np.ndarray(self.shape, self.dtype, self.memory.data, self.offset, self.strides)


def _window(value: SSAValue, memory: Bytes, offset: int) -> MemoryWindow:
    reference = sta.memref_of(value)
    dtype = element_dtype(reference.element_type)
    strides = tuple(stride * dtype.itemsize for stride in sta.strides_of(value))
    return MemoryWindow(memory, offset, reference.get_shape(), strides, dtype)


def argument_window(value: SSAValue, array: Array | None, poison: int) -> MemoryWindow:
    """
    The memory of an input (its array) or of an output (poisoned).
    """
    window = _window(value, np.full(sta.buffer_bytes(value), poison, np.uint8), 0)
    if array is not None:
        window.array()[...] = array
    return window


@register_impls
class StaFunctions(InterpreterFunctions):
    """
    Implementations of the `sta` operations; `sizes` are the memories' bytes, once the program is allocated.
    """

    def __init__(self, weights: WeightStore, sizes: dict[str, int] | None = None, poison: int = 0xA5):
        self.weights = weights
        self.poison = poison
        self.statistics = RowStatistics(LARGEST_TILE)
        self.memories = {space: np.full(size, poison, np.uint8) for space, size in (sizes or {}).items()}

    @impl(sta.ConstantOp)
    def run_constant(self, interpreter: Interpreter, op: sta.ConstantOp, args: PythonValues) -> PythonValues:
        array = np.ascontiguousarray(self.weights.get(op.store_name))
        return (_window(op.result, array.view(np.uint8).reshape(-1), 0),)

    @impl(sta.AllocOp)
    def run_alloc(self, interpreter: Interpreter, op: sta.AllocOp, args: PythonValues) -> PythonValues:
        if op.offset is None:
            return (_window(op.result, np.full(sta.buffer_bytes(op.result), self.poison, np.uint8), 0),)
        return (_window(op.result, self.memories[sta.space_of(op.result)], op.offset.value.data),)

    @impl(sta.ViewOp)
    def run_view(self, interpreter: Interpreter, op: sta.ViewOp, args: PythonValues) -> PythonValues:
        source: MemoryWindow = args[0]
        position = op.offset.value.data
        for counter, (_, coefficient) in zip(args[1:], op.terms, strict=True):
            position += counter * coefficient
        return (_window(op.result, source.memory, source.offset + position * source.dtype.itemsize),)

    @impl(sta.LoopOp)
    def run_loop(self, interpreter: Interpreter, op: sta.LoopOp, args: PythonValues) -> PythonValues:
        for counter in range(op.count.value.data):
            interpreter.run_ssacfg_region(op.body, (counter,), "loop")
        return ()

    @impl(sta.FenceOp)
    def run_fence(self, interpreter: Interpreter, op: sta.FenceOp, args: PythonValues) -> PythonValues:
        return ()

    @impl(sta.SyncOp)
    def run_sync(self, interpreter: Interpreter, op: sta.SyncOp, args: PythonValues) -> PythonValues:
        return ()

    @impl(sta.LoadOp)
    def run_load(self, interpreter: Interpreter, op: sta.LoadOp, args: PythonValues) -> PythonValues:
        args[1].array()[...] = args[0].array()
        return ()

    @impl(sta.StoreOp)
    def run_store(self, interpreter: Interpreter, op: sta.StoreOp, args: PythonValues) -> PythonValues:
        args[1].array()[...] = args[0].array()
        return ()

    @impl(sta.GatherOp)
    def run_gather(self, interpreter: Interpreter, op: sta.GatherOp, args: PythonValues) -> PythonValues:
        table, indices, destination = (window.array() for window in args)
        if indices.min() < 0 or indices.max() >= table.shape[0]:
            raise IndexError(f"an index is outside the table of {table.shape[0]} rows")
        destination[...] = table[indices]
        return ()

    @impl(sta.ProductOp)
    def run_product(self, interpreter: Interpreter, op: sta.ProductOp, args: PythonValues) -> PythonValues:
        acc, a, b = (window.array() for window in args)
        if sta.space_of(op.b) == "wbuf":
            b = unpack(b, acc.shape[1], a.shape[1], op.pattern.pattern, op.pattern.encoding.data)
        elif op.transposed is not None:
            b = b.T
        if op.plane is not None:
            a = byte_plane(a, op.plane.data)
        product = matrix_product(a, np.ascontiguousarray(b), check=op.accumulate is None)
        if op.accumulate is not None:
            product += acc
            check_int32(product, "an accumulated sum of products is out of range:")
        acc[...] = product
        return ()

    @impl(sta.SoftmaxOp)
    def run_softmax(self, interpreter: Interpreter, op: sta.SoftmaxOp, args: PythonValues) -> PythonValues:
        values = dict(zip(op.operands, args, strict=True))
        scores, destination, sums, parameters = (window.array() for window in args[:4])
        admissible = np.ones((1, scores.shape[1]), bool) if op.mask is None else values[op.mask].array() != 0
        if op.causal is not None:
            past = op.first_row.at(values) - op.first_key.at(values)
            admissible = admissible & np.tri(*scores.shape, k=past, dtype=bool)
        block = SoftmaxParameters.from_bytes(parameters)
        scale, bits = (block.multiplier, block.shift), 8 * destination.itemsize
        if op.mode.data == "row":
            destination[...], sums[...] = softmax_row(scores, admissible, *scale, bits)
            return ()
        states = sums.reshape(3, -1)
        state = RowState.empty(states.shape[1:])
        if op.mode.data == "online":
            state = RowState(states[0].astype(np.int64), states[1].astype(np.int64), state.shifts)
        destination[...], state = softmax_online(scores, admissible, *scale, state, bits)
        states[...] = state
        return ()

    @impl(sta.RescaleOp)
    def run_rescale(self, interpreter: Interpreter, op: sta.RescaleOp, args: PythonValues) -> PythonValues:
        acc, shifts = (window.array() for window in args)
        acc[...] = shift_rows(acc, shifts)
        return ()

    @impl(sta.MapOp)
    def run_map(self, interpreter: Interpreter, op: sta.MapOp, args: PythonValues) -> PythonValues:
        values = dict(zip(op.operands, args, strict=True))
        source, destination, block = (window.array() for window in args[:3])
        columns = destination.shape[1] if op.per_channel is not None else 1
        extra = None if op.residual is None else values[op.residual].array()
        result = map_tile(
            source,
            MapParameters.from_bytes(block, columns),
            destination.dtype,
            table=None if op.table is None else values[op.table].array(),
            residual=extra if op.normalize is None else None,
            sums=extra if op.normalize is not None else None,
            wide=op.wide is not None,
            multiply=op.multiply is not None,
        )
        destination[...] = result
        if op.gather is not None:
            self.statistics.gather(result)
        return ()

    @impl(sta.NormOp)
    def run_norm(self, interpreter: Interpreter, op: sta.NormOp, args: PythonValues) -> PythonValues:
        values = dict(zip(op.operands, args, strict=True))
        source = args[0].array()
        parameters = NormParameters.from_bytes(args[1].array(), source.shape[1])
        known = None if op.gathered is None else self.statistics.take(source.shape[0])
        results = norm_tile(source, parameters, op.kind.data, known)
        for value, result in zip((op.destination, op.copy), results, strict=True):
            if value is not None:
                values[value].array()[...] = result
        return ()
