"""
Interpreter of the `sta` dialect on xDSL's framework, before and after allocation.

Before allocation every buffer is a memory of its own; afterwards buffers are views of the machine's memories, as on
the machine. Either way memory starts poisoned. Semaphores and fences have no effect: the meaning is that of program
order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.interpreter import Interpreter, InterpreterFunctions, PythonValues, impl, register_impls
from xdsl.ir import Operation, SSAValue

from sta.dialect import sta
from sta.dialect.interpreters.nm import element_dtype
from sta.dialect.ir.weight_store import WeightStore
from sta.spec.instructions.definition import Execute, Operands, Scalars
from sta.spec.instructions.instruction import Instruction
from sta.spec.instructions.table import definition_of
from sta.spec.vector import RowStatistics
from sta.spec.wide_product import byte_plane

Bytes = NDArray[np.uint8]
Array = NDArray[Any]


@dataclass(frozen=True)
class BufferView:
    """A memref at run time: bytes of a memory, the view's first byte, and its shape, strides (bytes) and dtype."""

    memory: Bytes
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    def array(self) -> Array:
        """
        The view as an array that shares the memory.

        Raises IndexError if the view leaves the memory.
        """
        span = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        end = self.offset + span + self.dtype.itemsize
        if self.offset < 0 or end > self.memory.size:
            raise IndexError(f"bytes {self.offset} to {end} of a memory of {self.memory.size}")
        return np.ndarray(self.shape, self.dtype, self.memory.data, self.offset, self.strides)


def _view(value: SSAValue, memory: Bytes, offset: int) -> BufferView:
    reference = sta.memref_of(value)
    dtype = element_dtype(reference.element_type)
    strides = tuple(stride * dtype.itemsize for stride in sta.strides_of(value))
    return BufferView(memory, offset, reference.get_shape(), strides, dtype)


def argument_view(value: SSAValue, array: Array | None, poison: int) -> BufferView:
    """The memory of an input (its array) or of an output (poisoned)."""
    view = _view(value, np.full(sta.buffer_bytes(value), poison, np.uint8), 0)
    if array is not None:
        view.array()[...] = array
    return view


@register_impls
class StaFunctions(InterpreterFunctions):
    """Implementations of the `sta` operations; `sizes` are the memories' bytes, once the program is allocated."""

    def __init__(self, weights: WeightStore, sizes: dict[str, int] | None = None, poison: int = 0xA5):
        self.weights = weights
        self.poison = poison
        self.statistics = RowStatistics(definition_of("norm").field("rows").maximum)
        self._semantics: dict[Operation, Execute] = {}
        self.memories = {space: np.full(size, poison, np.uint8) for space, size in (sizes or {}).items()}

    @impl(sta.ConstantOp)
    def run_constant(self, interpreter: Interpreter, op: sta.ConstantOp, args: PythonValues) -> PythonValues:
        array = np.ascontiguousarray(self.weights.get(op.store_name))
        return (_view(op.result, array.view(np.uint8).reshape(-1), 0),)

    @impl(sta.AllocOp)
    def run_alloc(self, interpreter: Interpreter, op: sta.AllocOp, args: PythonValues) -> PythonValues:
        if op.offset is None:
            return (_view(op.result, np.full(sta.buffer_bytes(op.result), self.poison, np.uint8), 0),)
        return (_view(op.result, self.memories[sta.space_of(op.result)], op.offset.value.data),)

    @impl(sta.ViewOp)
    def run_view(self, interpreter: Interpreter, op: sta.ViewOp, args: PythonValues) -> PythonValues:
        source: BufferView = args[0]
        position = op.offset.value.data
        for counter, (_, coefficient) in zip(args[1:], op.terms, strict=True):
            position += counter * coefficient
        return (_view(op.result, source.memory, source.offset + position * source.dtype.itemsize),)

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
        return self._execute(op, {"dram": args[0].array(), "sram": args[1].array()})

    @impl(sta.StoreOp)
    def run_store(self, interpreter: Interpreter, op: sta.StoreOp, args: PythonValues) -> PythonValues:
        return self._execute(op, {"sram": args[0].array(), "dram": args[1].array()})

    @impl(sta.GatherOp)
    def run_gather(self, interpreter: Interpreter, op: sta.GatherOp, args: PythonValues) -> PythonValues:
        table, indices, destination = (view.array() for view in args)
        return self._execute(op, {"table": table, "indices": indices, "destination": destination})

    @impl(sta.ProductOp)
    def run_product(self, interpreter: Interpreter, op: sta.ProductOp, args: PythonValues) -> PythonValues:
        acc, a, b = (view.array() for view in args)
        activations = a if op.plane is None else byte_plane(a, op.plane.data)
        return self._execute(op, {"acc": acc, "a": activations, "b": b})

    @impl(sta.SoftmaxOp)
    def run_softmax(self, interpreter: Interpreter, op: sta.SoftmaxOp, args: PythonValues) -> PythonValues:
        values = dict(zip(op.operands, args, strict=True))
        scores, destination, sums, parameters = (view.array() for view in args[:4])
        # One array after the other: sums, and in the online modes the rest of the rows' state.
        states = sums.reshape(-1, len(scores))
        operands = {"scores": scores, "destination": destination, "sums": states, "parameters": parameters}
        if op.mode.data == "online":
            operands["state"] = states[:2]
        if op.mask is not None:
            operands["mask"] = values[op.mask].array()
        scalars = {"row_offset": op.first_row.at(values), "key_offset": op.first_key.at(values)}
        return self._execute(op, operands, scalars)

    @impl(sta.ShiftOp)
    def run_shift(self, interpreter: Interpreter, op: sta.ShiftOp, args: PythonValues) -> PythonValues:
        return self._execute(op, {"acc": args[0].array(), "shifts": args[1].array()})

    @impl(sta.MapOp)
    def run_map(self, interpreter: Interpreter, op: sta.MapOp, args: PythonValues) -> PythonValues:
        values = dict(zip(op.operands, args, strict=True))
        source, destination, parameters = (view.array() for view in args[:3])
        operands = {"source": source, "destination": destination, "parameters": parameters}
        if op.residual is not None:
            operands["residual" if op.normalize is None else "sums"] = values[op.residual].array()
        if op.table is not None:
            operands["table"] = values[op.table].array()
        return self._execute(op, operands)

    @impl(sta.NormOp)
    def run_norm(self, interpreter: Interpreter, op: sta.NormOp, args: PythonValues) -> PythonValues:
        values = dict(zip(op.operands, args, strict=True))
        operands = {"source": args[0].array(), "parameters": args[1].array()}
        for name, value in (("destination", op.destination), ("copy", op.copy)):
            if value is not None:
                operands[name] = values[value].array()
        return self._execute(op, operands)

    def _execute(self, op: sta.UnitOp, operands: Operands, scalars: Scalars | None = None) -> PythonValues:
        """Executes the operation's instruction on arrays."""
        if op not in self._semantics:
            definition = op.definition
            # Where operands lie is no matter here.
            registers = {field.name: 0 for field in definition.fields if field.kind == "register"}
            instruction = Instruction.make(definition.name, **registers, **op.fields())
            self._semantics[op] = definition.semantics(instruction)
        self._semantics[op](operands, scalars or {}, self.statistics)
        return ()
