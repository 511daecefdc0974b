"""A function of the `torch` dialect under construction from an ONNX graph: its values, and builders of new ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import UnknownLoc, UnregisteredOp, f32
from xdsl.ir import Block, Operation, SSAValue

from sta.dialect import torch
from sta.dialect.ir.weight_store import WeightStore
from sta.dialect.torch import VTensorType, element_type_of, sizes_of, tensor_type
from sta.frontend.errors import ModelError
from sta.frontend.importer import resource_name
from sta.frontend.onnx.weight import QuantizedConstant
from sta.frontend.samples import InputType

Array = NDArray[Any]


class UnsupportedForm(Exception):
    """There is no translation for a node; the message is the reason, and may be empty."""


class OnnxGraph:
    """Values by their names in the graph, and the operations that compute them."""

    def __init__(self, constants: dict[str, Array], inputs: Mapping[str, InputType], opset: int) -> None:
        self.opset = opset
        """The version of ONNX's own operators."""
        self.weights = WeightStore()
        self.constants = constants
        """Arrays of values that depend on no input."""
        self.quantized: dict[str, QuantizedConstant] = {}
        """Weights given as integers."""
        kinds = [VTensorType(kind.sizes, element_type_of(kind.dtype)) for kind in inputs.values()]
        self.block = Block(arg_types=kinds)
        self.values: dict[str, SSAValue] = dict(zip(inputs, self.block.args, strict=True))
        """Values that depend on an input."""
        self.used: frozenset[str] = frozenset()
        """Names that a node takes, or that are outputs."""
        self.location: Any = UnknownLoc()
        """Location of operations to come."""
        self._literals: dict[str, SSAValue] = {}

    def value(self, name: str) -> SSAValue:
        """The value called `name`: computed, an input, or a literal of its constant."""
        if name in self.values:
            return self.values[name]
        if name not in self._literals:
            array = self.constant(name)
            if array is None:
                raise UnsupportedForm("depends on an operator that cannot be compiled")
            self._literals[name] = self.literal(array, name)
        return self._literals[name]

    def constant(self, name: str) -> Array | None:
        """The constant called `name`, as numbers; None if it depends on an input."""
        if name in self.quantized and name not in self.constants:
            self.constants[name] = self.quantized[name].numbers()
        return self.constants.get(name)

    def set(self, name: str, value: SSAValue) -> None:
        """Gives `value` the name that it has in the graph."""
        self.values[name] = value

    def insert(self, operation: Operation) -> SSAValue:
        """Adds `operation`, and returns its first result."""
        operation.location = self.location
        self.block.add_op(operation)
        return operation.results[0]

    def aten(self, kind: type[torch.AtenOperation], operands: list[SSAValue], sizes: Any, like: Any = f32) -> SSAValue:
        """The result, of shape `sizes` and elements `like`, of an ATen operator."""
        return self.insert(kind.with_operands(operands, VTensorType(sizes, like)))

    def call(self, name: str, arguments: Sequence[Any], sizes: Any, like: Any = f32) -> SSAValue:
        """As `aten`, of the operator `name`; arguments are values, lists of integers, or other Python constants."""
        return self.aten(torch.operator_class(f"aten.{name}"), [self._argument(one) for one in arguments], sizes, like)

    def _argument(self, one: Any) -> SSAValue:
        if isinstance(one, SSAValue):
            return one  # pyright: ignore[reportUnknownVariableType]  # narrowed from Any, without its type of values
        return self.integers(one) if isinstance(one, list | tuple) else self.python(one)

    def literal(self, array: Array, name: str) -> SSAValue:
        """
        A constant tensor, kept in the store under `name`.

        Raises UnsupportedForm for floats other than float32, ModelError for elements that no tensor here has.
        """
        if array.dtype.kind not in "biu" and array.dtype != np.float32:
            raise UnsupportedForm(
                f"its operand {name!r} is {array.dtype}, and only float32 is supported: export the model in float32"
            )
        array = np.ascontiguousarray(array).reshape(array.shape)
        try:
            kept = self.weights.put_unique(resource_name(name), array)
            return self.insert(torch.LiteralOp.named(kept, array.shape, array.dtype))
        except ValueError as error:
            raise ModelError(f"{name}: {error}") from error

    def integer(self, number: int) -> SSAValue:
        """A constant int."""
        return self.insert(torch.ConstantIntOp(number))

    def number(self, number: float) -> SSAValue:
        """A constant float."""
        return self.insert(torch.ConstantFloatOp(number))

    def boolean(self, value: bool) -> SSAValue:
        """A constant bool."""
        return self.insert(torch.ConstantBoolOp(value))

    def text(self, text: str) -> SSAValue:
        """A constant string."""
        return self.insert(torch.ConstantStrOp(text))

    def python(self, constant: bool | int | float | str | None) -> SSAValue:
        """A constant bool, int, float or string, or None."""
        match constant:
            case None:
                return self.none()
            case bool():
                return self.boolean(constant)
            case int():
                return self.integer(constant)
            case float():
                return self.number(constant)
            case str():
                return self.text(constant)

    def none(self) -> SSAValue:
        """None."""
        return self.insert(torch.ConstantNoneOp())

    def integers(self, numbers: Any) -> SSAValue:
        """A constant list of ints."""
        elements = [self.integer(int(number)) for number in numbers]
        return self.insert(torch.ListConstructOp(elements, torch.IntType()))

    def tensors(self, values: Sequence[SSAValue]) -> SSAValue:
        """A list of tensors."""
        return self.insert(torch.ListConstructOp(values, VTensorType(None, None)))

    def view(self, value: SSAValue, sizes: Any) -> SSAValue:
        """`value` under the shape `sizes`."""
        return self.aten(torch.ViewOp, [value, self.integers(sizes)], sizes, tensor_type(value).element_type)

    def permuted(self, value: SSAValue, axes: Sequence[int]) -> SSAValue:
        """`value` with its axes in the order `axes`."""
        kind = tensor_type(value)
        sizes = [kind.sizes[axis] for axis in axes]
        return self.aten(torch.PermuteOp, [value, self.integers(axes)], sizes, kind.element_type)

    def part(self, value: SSAValue, axis: int, start: int, end: int, step: int = 1) -> SSAValue:
        """Positions start, start + step, … below end of an axis of `value`."""
        sizes = list(sizes_of(value))
        sizes[axis] = len(range(start, end, step))
        operands = [value, *(self.integer(number) for number in (axis % len(sizes), start, end, step))]
        return self.aten(torch.SliceTensorOp, operands, sizes, tensor_type(value).element_type)

    def converted(self, value: SSAValue, dtype: np.dtype[Any]) -> SSAValue:
        """`value` converted to elements of `dtype`; `value` itself if it has them."""
        if torch.numpy_dtype(tensor_type(value).element_type) == dtype:
            return value
        operands = [
            value,
            self.integer(torch.dtype_number(dtype)),
            self.boolean(False),
            self.boolean(False),
            self.none(),
        ]
        return self.aten(torch.ToDtypeOp, operands, sizes_of(value), element_type_of(dtype))

    def gelu(self, x: SSAValue, approximate: str = "none") -> SSAValue:
        """The GELU of `x`."""
        return self.aten(torch.operator_class("aten.gelu"), [x, self.text(approximate)], sizes_of(x))

    def pairs(self, operator: str, operands: list[SSAValue], sizes: Any, element: Any) -> SSAValue:
        """A quantization or dequantization, as PyTorch's export quantization spells it."""
        kind = UnregisteredOp.with_name(f"torch.quantized_decomposed.{operator}")
        return self.insert(kind.create(operands=operands, result_types=[VTensorType(sizes, element)]))
