"""The integer function under construction: its values so far, and conversions shared by the lowerings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import IntegerType, TensorType
from xdsl.ir import Block, Operation, SSAValue

from sta.dialect import nm, torch
from sta.dialect.ir.location import module_path
from sta.dialect.ir.quantized_value import Meaning
from sta.dialect.ir.tensor_names import origin
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.uses_through_views import VIEWS
from sta.spec.integers import encode_scale

Array = NDArray[Any]

UNQUANTIZED = "a value is used without being quantized: run torch-quantize first"


class ConversionError(ValueError):
    """A module in a form that the conversion does not accept; names the layer."""


@dataclass(frozen=True)
class Quantized:
    """An integer tensor and the meaning of its integers: real = (integer - zero_point) * scale."""

    value: SSAValue
    scale: float
    zero_point: int = 0


@dataclass(frozen=True)
class Storage:
    """The number format of a `torch.fake_quantize`."""

    element: IntegerType
    scale: float
    zero_point: int


def storage_of(op: torch.FakeQuantizeOp) -> Storage:
    """The number format that `op` asks for."""
    return Storage(op.storage, op.scale.value.data, op.zero_point.value.data)


def scale_pair(real: float) -> tuple[int, int]:
    """The multiplier and the shift of a factor."""
    multiplier, shift = encode_scale(real)
    return int(multiplier), int(shift)


@dataclass
class Conversion:
    """The integer form of one function, as far as it is converted."""

    weights: WeightStore
    names: dict[SSAValue, str]
    """The names of the tensors of the float model."""
    block: Block = field(default_factory=Block)
    values: dict[SSAValue, Quantized] = field(default_factory=dict[SSAValue, Quantized])
    current: Operation | None = None
    """The operation being converted: the location of emitted operations."""

    @property
    def path(self) -> str:
        """Module path of the operation being converted."""
        return "" if self.current is None else module_path(self.current)

    def error(self, reason: str) -> ConversionError:
        """The error for the operation being converted."""
        return ConversionError(f"{self.path}: {reason}")

    def emit(self, op: Any) -> Any:
        """Adds an operation of the `nm` dialect."""
        assert self.current is not None
        op.location = self.current.location
        self.block.add_op(op)
        return op

    def constant(self, name: str, values: Array, element: IntegerType, encoding: Any = None) -> SSAValue:
        """A constant tensor, kept in the store under `name` (made unique)."""
        type_ = TensorType(element, values.shape, *([encoding] if encoding else []))
        return self.emit(nm.WeightOp(self.weights.put_unique(name, values), type_)).result

    def quantized(self, value: SSAValue) -> Quantized:
        """The integers of `value`. Raises ConversionError if it has none."""
        if value not in self.values:
            raise self.error(UNQUANTIZED)
        return self.values[value]

    def array(self, value: SSAValue) -> tuple[str, Array] | None:
        """Name and array of a constant operand; None for Python's None."""
        if isinstance(value.type, torch.NoneType):
            return None
        op = value.owner
        if not isinstance(op, torch.LiteralOp):
            raise self.error("a parameter is not a constant of the model")
        return op.resource or f"{self.path}.constant", op.array(self.weights)

    def meaning(self, quantized: Quantized, value: SSAValue) -> Meaning:
        """The meaning of the integers of `value`, for the inspection of runs."""
        return Meaning(quantized.scale, quantized.zero_point, self.names.get(origin(value), ""))

    def rearranged(self, op: VIEWS, value: SSAValue) -> SSAValue:
        """The integers `value`, rearranged as `op` rearranges its input."""
        match op:
            case torch.ViewOp():
                return self.emit(nm.ViewOp(value, shape_of(op.result))).result
            case torch.PermuteOp():
                return self.emit(nm.PermuteOp(value, op.axes)).result
            case torch.SliceTensorOp():
                return self.emit(nm.SliceOp(value, *op.bounds)).result
            case torch.ExpandOp():
                return self.emit(nm.BroadcastOp(value, torch.sizes_of(op.result))).result
            case torch.UnfoldOp():
                return self.emit(nm.WindowsOp(value, *op.numbers)).result

    def clamp(self, value: SSAValue, storage: Storage) -> Quantized:
        """`value`, which is in units of the storage's scale, clamped to its range."""
        clamped = self.emit(nm.ClampOp(value, storage.zero_point, storage.element)).result
        return Quantized(clamped, storage.scale, storage.zero_point)

    def rescaled(self, quantized: Quantized, scale: float) -> SSAValue:
        """The value without its zero point, in units of `scale`."""
        pair = scale_pair(quantized.scale / scale)
        return self.emit(nm.RescaleOp(quantized.value, -quantized.zero_point, *pair)).result

    def requantized(self, quantized: Quantized, storage: Storage) -> Quantized:
        """The value in another number format; itself if that is its own."""
        same = (quantized.scale, quantized.zero_point) == (storage.scale, storage.zero_point)
        if same and nm.tensor_of(quantized.value).element_type == storage.element:
            return quantized
        return self.clamp(self.rescaled(quantized, storage.scale), storage)

    def stream(self, quantized: Quantized) -> Quantized:
        """A value as int16 without zero point, as norms require. 8-bit values keep their numbers."""
        if nm.element_of(quantized.value) == nm.si16 and quantized.zero_point == 0:
            return quantized
        return self.clamp(self.rescaled(quantized, quantized.scale), Storage(nm.si16, quantized.scale, 0))

    def whole_first(self, values: list[Any], result: SSAValue, kind: str) -> list[Any]:
        """
        Two operands (integers or `Quantized`), the one of the result's shape first.

        Raises ConversionError, naming the `kind` of operation, where both broadcast.
        """
        full = shape_of(result)

        def is_part(one: Any) -> bool:
            return nm.tensor_of(one.value if isinstance(one, Quantized) else one).get_shape() != full

        first, second = sorted(values, key=is_part)
        if is_part(first):
            raise self.error(f"{kind} in which both operands broadcast is not supported")
        return [first, second]


def shape_of(value: SSAValue) -> tuple[int, ...]:
    """The shape of the integers of `value`: one element if it has no axes."""
    return torch.sizes_of(value) or (1,)


def is_parameter(value: SSAValue) -> bool:
    """True if `value` is a constant tensor or None."""
    return isinstance(value.type, torch.NoneType) or isinstance(value.owner, torch.LiteralOp)


def float_array(found: tuple[str, Array] | None, default: Array) -> Array:
    """A parameter in float64; `default` if it is absent."""
    return default if found is None else found[1].astype(np.float64)
