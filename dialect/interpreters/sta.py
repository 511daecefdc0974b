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
from xdsl.ir import SSAValue

from sta.dialect import sta
from sta.dialect.interpreters.nm import element_dtype
from sta.dialect.ir.weight_store import WeightStore
from sta.spec.instructions.access import Access
from sta.spec.instructions.definition import Execute
from sta.spec.instructions.instruction import Instruction
from sta.spec.instructions.table import definition_of
from sta.spec.vector import RowStatistics

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


def _with_units(functions: type[StaFunctions]) -> type[StaFunctions]:
    """The class, with `run_unit` for every operation that runs on a unit."""
    for kind in sta.UNIT_OPERATIONS:
        setattr(functions, f"run_{kind.MNEMONIC}", impl(kind)(functions.run_unit))
    return functions


@register_impls
@_with_units
class StaFunctions(InterpreterFunctions):
    """Implementations of the `sta` operations; `sizes` are the memories' bytes, once the program is allocated."""

    def __init__(self, weights: WeightStore, sizes: dict[str, int] | None = None, poison: int = 0xA5):
        self.weights = weights
        self.poison = poison
        self.statistics = RowStatistics(definition_of("norm").field("rows").maximum)
        self._executions: dict[sta.UnitOp, tuple[Execute, tuple[tuple[Access, SSAValue], ...]]] = {}
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

    def run_unit(self, interpreter: Interpreter, op: sta.UnitOp, args: PythonValues) -> PythonValues:
        """Executes the operation's instruction on arrays."""
        if op not in self._executions:
            self._executions[op] = _execution(op)
        execute, accesses = self._executions[op]
        values = dict(zip(op.operands, args, strict=True))
        operands = {access.name: _operand(op, access, operand, values[operand]) for access, operand in accesses}
        scalars = {name: form.at(values) for name, form in op.scalars().items()}
        execute(operands, scalars, self.statistics)
        return ()


def _execution(op: sta.UnitOp) -> tuple[Execute, tuple[tuple[Access, SSAValue], ...]]:
    """The semantics of the operation's instruction, and its accesses."""
    # Where operands lie is no matter here.
    registers = {field.name: 0 for field in op.definition.fields if field.kind == "register"}
    instruction = Instruction.make(op.MNEMONIC, **registers, **op.fields())
    return op.definition.semantics(instruction), tuple(op.accesses())


def _operand(op: sta.UnitOp, access: Access, operand: SSAValue, view: BufferView) -> Array:
    """The rectangle of an access, as an array `[rows, columns]` that shares the memory."""
    row_stride = access.row_bytes if access.stride is None else op.row_stride(access, operand)
    shape = (op.rows(access, operand), access.columns)
    strides = (row_stride, access.pitch or access.dtype.itemsize)
    return BufferView(view.memory, view.offset + op.first_byte(access), shape, strides, access.dtype).array()
