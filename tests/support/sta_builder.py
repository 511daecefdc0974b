"""Building allocated `sta` functions by hand, operation by operation."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, IntegerType, ModuleOp, UnknownLoc
from xdsl.ir import Block, Region, SSAValue
from xdsl.irdl import IRDLOperation

from sta.dialect import nm, sta
from sta.dialect.interpreters.nm import element_dtype
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.location import named
from sta.dialect.ir.parameter_blocks import scalar_map_parameters
from sta.dialect.ir.port_attribute import PORT, PortAttr
from sta.spec.alignment import aligned
from sta.spec.nm_format import DENSE
from sta.spec.signature import TensorSignature
from sta.spec.target import Target
from tests.support.nm_builder import PLAIN_TARGET, Case

Array = NDArray[Any]
OperationType = TypeVar("OperationType", bound=IRDLOperation)
DENSE_OPERAND = nm.PatternAttr(DENSE, "dense")


@dataclass
class StaBuilder:
    """
    Appends operations to the `main` function of a module.

    Buffers, constants and arguments lie one after the other in their memory, in the order in which they are asked for.
    """

    target: Target = PLAIN_TARGET
    seed: int = 0
    path: str = "model"
    function: Block = field(default_factory=Block)
    entries: list[DictionaryAttr] = field(default_factory=list[DictionaryAttr])
    inputs: dict[str, Array] = field(default_factory=dict[str, Array])
    sizes: dict[str, int] = field(default_factory=lambda: {"spad": 0, "wbuf": 0, "acc": 0, "dram": 0})

    def __post_init__(self) -> None:
        self.context = CompileContext(target=self.target)
        self.random = np.random.default_rng(self.seed)
        self.block = self.function

    def add(self, op: OperationType) -> OperationType:
        """Appends an operation to the current block."""
        op.location = named(self.path, UnknownLoc())
        self.block.add_op(op)
        return op

    def _place(self, space: str, size: int) -> int:
        offset = self.sizes[space]
        self.sizes[space] = offset + aligned(size)
        return offset

    def buffer(self, space: str, shape: Sequence[int], element: IntegerType, label: str = "") -> SSAValue:
        """A buffer of its own."""
        op = sta.AllocOp(label or f"{space}{self.sizes[space]}", sta.memref(shape, element, space))
        op.offset = nm.integer(self._place(space, prod(shape) * element.width.data // 8))
        self.function.insert_op_before(op, first) if (first := self.function.first_op) else self.function.add_op(op)
        return op.result

    def constant(self, name: str, values: Array, element: IntegerType, kind: str = "other") -> SSAValue:
        """Constant data in DRAM; constants come before any argument."""
        assert not self.entries
        values = np.ascontiguousarray(values, element_dtype(element))
        op = sta.ConstantOp(
            self.context.weights.put_unique(name, values), kind, sta.memref(values.shape, element, "dram")
        )
        op.offset = nm.integer(self._place("dram", values.nbytes))
        self.function.insert_op_before(op, first) if (first := self.function.first_op) else self.function.add_op(op)
        return op.result

    def argument(self, name: str, direction: str, shape: Sequence[int], element: IntegerType) -> SSAValue:
        """An input, with random integers, or an output."""
        dtype = element_dtype(element)
        limits = np.iinfo(dtype)
        if direction == "input":
            self.inputs[name] = self.random.integers(limits.min, limits.max + 1, shape).astype(np.float32)
        signature = TensorSignature(name, tuple(shape), "float32", dtype.name, "quantized")
        offset = self._place("dram", prod(shape) * dtype.itemsize)
        self.entries.append(DictionaryAttr({PORT: PortAttr(signature, direction, offset)}))
        return self.function.insert_arg(sta.memref(shape, element, "dram"), len(self.function.args))

    def identity(self) -> SSAValue:
        """The parameters of a map that changes nothing, in DRAM."""
        block = np.frombuffer(scalar_map_parameters(0, *nm.IDENTITY_SCALE).to_bytes(), np.uint8)
        return self.constant("identity", block, nm.ui8, "parameters")

    def view(
        self,
        source: SSAValue,
        shape: Sequence[int],
        offset: int = 0,
        terms: Sequence[tuple[SSAValue, int]] = (),
        strides: Sequence[int] | None = None,
    ) -> SSAValue:
        """A view of a buffer; rows keep the distance they have in the buffer unless `strides` says otherwise."""
        reference = sta.memref_of(source)
        steps = sta.strides_of(source)[-len(shape) :] if strides is None else strides
        type_ = sta.memref(shape, reference.element_type, sta.space_of(source), steps)
        return self.add(sta.ViewOp(source, terms, offset, type_)).result

    @contextmanager
    def loop(self, count: int) -> Generator[SSAValue]:
        """A loop; what is added inside belongs to its body."""
        op = self.add(sta.LoopOp(count))
        outer, self.block = self.block, op.body.block
        yield op.counter
        self.block = outer

    def case(self) -> Case:
        """The module, allocated; memories are as large as what lies in them."""
        assert self.block is self.function
        self.function.add_op(func.ReturnOp())
        function = func.FuncOp(
            "main",
            ([argument.type for argument in self.function.args], []),
            Region(self.function),
            arg_attrs=ArrayAttr(self.entries),
        )
        function.attributes["sta.memory"] = DictionaryAttr(
            {space: nm.integer(size) for space, size in self.sizes.items()}
        )
        module = ModuleOp([function])
        module.verify()
        return Case(module, self.context, self.inputs)
