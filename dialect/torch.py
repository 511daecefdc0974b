"""
The `torch` dialect: the part of torch-mlir's dialect that imports of Transformers use.

Operations and types have the names, operands and text of torch-mlir, so that this dialect parses its output. Three
things are ours: `torch.fake_quantize`, a quantize–dequantize pair in one operation; the meaning of
`torch.aten.scaled_dot_product_attention` with a mask *and* `is_causal`, which PyTorch refuses and which here admits the
pairs that both admit, and its ninth operand, a bias beside the mask; and the annotations that one pass leaves for
another, as discardable attributes (`ANNOTATIONS`).

Weights are `torch.vtensor.literal` operations whose value is a `dense_resource` named after the parameter; the array
itself is in a `sta.dialect.ir.weight_store.WeightStore`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import isfinite, prod
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import (
    AnyFloat,
    ArrayAttr,
    ComplexType,
    DenseIntOrFPElementsAttr,
    DenseResourceAttr,
    DictionaryAttr,
    Float16Type,
    Float64Type,
    FloatAttr,
    IntAttr,
    IntegerAttr,
    IntegerType,
    NoneAttr,
    Signedness,
    StringAttr,
    TensorType,
    UnitAttr,
    f32,
    f64,
    i1,
    i64,
)
from xdsl.ir import Attribute, Dialect, Operation, OpResult, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import (
    BaseAttr,
    IRDLOperation,
    VarConstraint,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    param_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.irdl.declarative_assembly_format import (
    AttributeVariable,
    CustomDirective,
    ParsingState,
    PrintingState,
    irdl_custom_directive,
)
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer
from xdsl.traits import ConstantLike, Pure
from xdsl.utils.exceptions import VerifyException

from sta.dialect.ir.format_directives import Word, float_text
from sta.dialect.ir.verification import expect
from sta.dialect.ir.weight_store import WeightStore
from sta.spec.operators.expression import Expression, parse
from sta.spec.operators.operator import Operator, Role
from sta.spec.operators.registry import operators
from sta.spec.rotation import partners
from sta.spec.tables import EXPONENTIAL_BITS, RealFunction

Array = NDArray[Any]
Constant = int | float | bool | str | None | list["Constant"]
"""A Python value of a constant operand: a scalar, a string, None, or a list of such."""

si8 = IntegerType(8, Signedness.SIGNED)
si16 = IntegerType(16, Signedness.SIGNED)
si32 = IntegerType(32, Signedness.SIGNED)
si64 = IntegerType(64, Signedness.SIGNED)
ui8 = IntegerType(8, Signedness.UNSIGNED)

_DTYPES: dict[Attribute, np.dtype[Any]] = {
    i1: np.dtype(np.bool_),
    si8: np.dtype(np.int8),
    ui8: np.dtype(np.uint8),
    si16: np.dtype(np.int16),
    si32: np.dtype(np.int32),
    si64: np.dtype(np.int64),
    Float16Type(): np.dtype(np.float16),
    f32: np.dtype(np.float32),
    f64: np.dtype(np.float64),
    ComplexType(f32): np.dtype(np.complex64),
    ComplexType(f64): np.dtype(np.complex128),
}


def numpy_dtype(element_type: Attribute) -> np.dtype[Any]:
    """The NumPy dtype of a tensor's element type. Raises ValueError if NumPy has none (bfloat16)."""
    if element_type not in _DTYPES:
        raise ValueError(f"no NumPy dtype for elements of type {element_type}")
    return _DTYPES[element_type]


def element_type_of(dtype: np.dtype[Any]) -> Attribute:
    """The element type of a tensor of NumPy dtype `dtype`. Raises ValueError if the dialect has none."""
    for element_type, candidate in _DTYPES.items():
        if candidate == dtype:
            return element_type
    raise ValueError(f"the torch dialect has no elements of dtype {dtype}")


_DTYPE_NUMBERS = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "", "", "", "bool")
"""PyTorch's numbering of dtypes; complex ones are left out."""


def dtype_number(dtype: np.dtype[Any]) -> int:
    """The number that stands for a NumPy dtype where an operator takes one. Raises ValueError for other dtypes."""
    return _DTYPE_NUMBERS.index(dtype.name)


# --- Types ---


@irdl_attr_definition
class IntType(ParametrizedAttribute, TypeAttribute):
    """A Python int: `!torch.int`."""

    name = "torch.int"


@irdl_attr_definition
class FloatType(ParametrizedAttribute, TypeAttribute):
    """A Python float: `!torch.float`."""

    name = "torch.float"


@irdl_attr_definition
class BoolType(ParametrizedAttribute, TypeAttribute):
    """A Python bool: `!torch.bool`."""

    name = "torch.bool"


@irdl_attr_definition
class NoneType(ParametrizedAttribute, TypeAttribute):
    """Python's None: `!torch.none`."""

    name = "torch.none"


@irdl_attr_definition
class StrType(ParametrizedAttribute, TypeAttribute):
    """A Python string: `!torch.str`."""

    name = "torch.str"


@irdl_attr_definition
class DeviceType(ParametrizedAttribute, TypeAttribute):
    """A torch.device: `!torch.Device`."""

    name = "torch.Device"


@irdl_attr_definition
class VTensorType(ParametrizedAttribute, TypeAttribute):
    """
    An immutable tensor of static shape: `!torch.vtensor<[1,128,384],f32>`.

    Without parameters it is any tensor, which only the element type of a list may be.
    """

    name = "torch.vtensor"

    shape: ArrayAttr[IntAttr] | NoneAttr = param_def()
    element_type: Attribute = param_def()

    def __init__(self, shape: Iterable[int] | None, element_type: Attribute | None) -> None:
        sizes = NoneAttr() if shape is None else ArrayAttr([IntAttr(size) for size in shape])
        super().__init__(sizes, NoneAttr() if element_type is None else element_type)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape. Raises ValueError for the type of any tensor."""
        if isinstance(self.shape, NoneAttr):
            raise ValueError("the type of any tensor has no shape")
        return tuple(size.data for size in self.shape)

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.sizes)

    @property
    def element_count(self) -> int:
        """The number of elements."""
        return prod(self.sizes)

    @property
    def is_float(self) -> bool:
        """True if the elements are floating-point numbers."""
        return isinstance(self.element_type, AnyFloat)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        if parser.parse_optional_punctuation("<") is None:
            return (NoneAttr(), NoneAttr())
        sizes = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: _parse_size(parser))
        parser.parse_punctuation(",")
        element_type = parser.parse_type()
        parser.parse_punctuation(">")
        return (ArrayAttr([IntAttr(size) for size in sizes]), element_type)

    def print_parameters(self, printer: Printer) -> None:
        if isinstance(self.shape, NoneAttr):
            return
        with printer.in_angle_brackets():
            printer.print_string(f"[{','.join(str(size) for size in self.sizes)}],")
            printer.print_attribute(self.element_type)

    def verify(self) -> None:
        if isinstance(self.shape, NoneAttr) != isinstance(self.element_type, NoneAttr):
            raise VerifyException("a tensor type has a shape and an element type, or neither")
        if isinstance(self.shape, NoneAttr):
            return
        if any(size < 0 for size in self.sizes):
            raise VerifyException(f"a tensor's sizes cannot be negative: {list(self.sizes)}")
        if not isinstance(self.element_type, IntegerType | AnyFloat | ComplexType):
            raise VerifyException(f"a tensor cannot have elements of type {self.element_type}")


def _parse_size(parser: AttrParser) -> int:
    if parser.parse_optional_punctuation("?") is not None:
        parser.raise_error("dynamic sizes are not supported: every size of a tensor is a number")
    return parser.parse_integer(allow_boolean=False, allow_negative=False)


_SCALAR_TYPES: dict[str, type[ParametrizedAttribute]] = {
    "int": IntType,
    "float": FloatType,
    "bool": BoolType,
    "none": NoneType,
    "str": StrType,
    "Device": DeviceType,
}


@irdl_attr_definition
class ListType(ParametrizedAttribute, TypeAttribute):
    """A Python list: `!torch.list<int>`. Element types are written without `!torch.`."""

    name = "torch.list"

    element_type: Attribute = param_def()

    def __init__(self, element_type: Attribute) -> None:
        super().__init__(element_type)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return (_parse_nested(parser),)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            _print_nested(printer, self.element_type)


@irdl_attr_definition
class OptionalType(ParametrizedAttribute, TypeAttribute):
    """A value or None: `!torch.optional<int>`."""

    name = "torch.optional"

    element_type: Attribute = param_def()

    def __init__(self, element_type: Attribute) -> None:
        super().__init__(element_type)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return (_parse_nested(parser),)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            _print_nested(printer, self.element_type)


def _parse_nested(parser: AttrParser) -> Attribute:
    """Parses a type of the dialect inside another one, where `!torch.` is omitted."""
    keyword = parser.parse_optional_keyword_in((*_SCALAR_TYPES, "vtensor", "list", "optional"))
    if keyword is None:
        return parser.parse_type()
    if keyword == "vtensor":
        return VTensorType.new(VTensorType.parse_parameters(parser))
    if keyword == "list":
        return ListType.new(ListType.parse_parameters(parser))
    if keyword == "optional":
        return OptionalType.new(OptionalType.parse_parameters(parser))
    return _SCALAR_TYPES[keyword].new(())


def _print_nested(printer: Printer, element_type: Attribute) -> None:
    if not isinstance(element_type, ParametrizedAttribute) or not element_type.name.startswith("torch."):
        printer.print_attribute(element_type)
        return
    printer.print_string(element_type.name.removeprefix("torch."))
    element_type.print_parameters(printer)


TENSOR = BaseAttr(VTensorType)
OPTIONAL_TENSOR = BaseAttr(VTensorType) | BaseAttr(NoneType)
INTEGER_LIST = BaseAttr(ListType)


# --- Annotations ---


@irdl_attr_definition
class RangeAttr(ParametrizedAttribute):
    """The lowest and highest number of a value: `#torch.range<-1.5, 2.25>`."""

    name = "torch.range"

    low: FloatAttr[Float64Type]
    high: FloatAttr[Float64Type]

    def __init__(self, low: float, high: float) -> None:
        super().__init__(FloatAttr(low, f64), FloatAttr(high, f64))

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest number."""
        return self.low.value.data, self.high.value.data

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            low = parser.parse_number(context_msg=" for the lowest number")
            parser.parse_punctuation(",")
            high = parser.parse_number(context_msg=" for the highest number")
        return (FloatAttr(float(low), f64), FloatAttr(float(high), f64))

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(", ".join(map(float_text, self.ends)))

    def verify(self) -> None:
        low, high = self.ends
        if not (isfinite(low) and isfinite(high)):
            raise VerifyException(f"the ends of a range are finite numbers, not {low} and {high}")
        if low > high:
            raise VerifyException(f"a range from {low} to {high}: the lowest number comes first")


@irdl_attr_definition
class DecibelsAttr(ParametrizedAttribute):
    """A ratio of signal to noise: `#torch.decibels<41.5>`."""

    name = "torch.decibels"

    number: FloatAttr[Float64Type]

    def __init__(self, number: float) -> None:
        super().__init__(FloatAttr(number, f64))

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return (FloatAttr(float(parser.parse_number(context_msg=" for decibels")), f64),)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(float_text(self.number.value.data))

    def verify(self) -> None:
        if not isfinite(self.number.value.data):
            raise VerifyException(f"decibels are a finite number, not {self.number.value.data}")


@irdl_attr_definition
class SoftmaxAttr(ParametrizedAttribute):
    """
    The softmax of an attention: the width of its exponentials, and its keys at a time.

    `#torch.softmax<8 bits>` is over whole rows, `#torch.softmax<16 bits, 128 keys>` chunk by chunk.
    """

    name = "torch.softmax"
    WIDTHS: ClassVar[tuple[int, ...]] = EXPONENTIAL_BITS

    bits: IntAttr
    keys: IntAttr | NoneAttr

    def __init__(self, bits: int, keys: int | None = None) -> None:
        super().__init__(IntAttr(bits), NoneAttr() if keys is None else IntAttr(keys))

    @property
    def chunk(self) -> int | None:
        """The keys of a chunk; None for a softmax over whole rows."""
        return None if isinstance(self.keys, NoneAttr) else self.keys.data

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        keys: IntAttr | NoneAttr = NoneAttr()
        with parser.in_angle_brackets():
            bits = IntAttr(parser.parse_integer(allow_boolean=False))
            parser.parse_keyword("bits")
            if parser.parse_optional_punctuation(",") is not None:
                keys = IntAttr(parser.parse_integer(allow_boolean=False))
                parser.parse_keyword("keys")
        return (bits, keys)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(f"{self.bits.data} bits" + ("" if self.chunk is None else f", {self.chunk} keys"))

    def verify(self) -> None:
        if self.bits.data not in self.WIDTHS:
            raise VerifyException(f"exponentials have 8 or 16 bits, not {self.bits.data}")
        if self.chunk is not None and self.chunk < 1:
            raise VerifyException(f"a chunk has at least one key, not {self.chunk}")


RANGE = "sta.range"
"""The calibrated range of an operation's or argument's value."""
NARROW_RANGE = "sta.narrow_range"
"""The range for 8 bits, if it differs from the range for 16 bits."""
BOUND = "sta.bound"
"""The bound of a value, if it is known without samples."""
NARROW_FIDELITY = "sta.narrow_fidelity"
"""Of an attention: the SQNR of its result with 8-bit exponentials."""
SOFTMAX = "sta.softmax"
"""Of an attention: its softmax."""
INT16_INPUT = "sta.int16_input"
"""Of a linear layer: its input has 16 bits, by sensitivity."""
DENSE_WEIGHT = "sta.dense_weight"
"""Of a linear layer with a pruned weight: the name of the weight before."""
ROUNDED_WEIGHT = "sta.rounded_weight"
"""Of a linear layer: the name of its weight as calibration has rounded it, which is to take the place of its own."""
SMOOTHED = "sta.smoothed"
"""
Of a normalization with columns that SmoothQuant has divided: "beside" the one of the float model, or "instead" of it.
"""
MASK_ERROR = "sta.mask_error"
"""Of an attention that keeps its mask: the reason why the mask has no supported form."""
SPELLED = "sta.spelled"
"""Of an attention with a mask that the model spells out: a row without a key is the mean of the values, or NaN."""
MASK_FILL = "sta.mask_fill"
"""Of an attention: the finite number that replaces the scores of keys that the model excludes."""
MASK_DEPTH = "sta.mask_depth"
"""Of an attention: the finite number that the model adds to the scores of keys that it excludes."""
MEANS = "sta.means"
"""Of an attention: what follows adds the mean of the values where a run admits no key, which padding does, too."""
HOLDS_MASK = "sta.holds_mask"
"""Of an argument: masks are made of its integers as if they were only 0 and 1."""
HOST_DTYPE = "sta.host_dtype"
"""Of an argument of the host prologue: the dtype of the model's input, where another is read."""

ANNOTATIONS: Mapping[str, type[Attribute]] = {
    RANGE: RangeAttr,
    NARROW_RANGE: RangeAttr,
    BOUND: RangeAttr,
    NARROW_FIDELITY: DecibelsAttr,
    SOFTMAX: SoftmaxAttr,
    INT16_INPUT: UnitAttr,
    DENSE_WEIGHT: StringAttr,
    ROUNDED_WEIGHT: StringAttr,
    SMOOTHED: StringAttr,
    MASK_ERROR: StringAttr,
    MEANS: UnitAttr,
    SPELLED: UnitAttr,
    MASK_FILL: FloatAttr,
    MASK_DEPTH: FloatAttr,
    HOLDS_MASK: UnitAttr,
    HOST_DTYPE: StringAttr,
}
"""An annotation of one pass for another, and the kind of its attribute."""
_KIND_TEXTS: Mapping[type[Attribute], str] = {
    UnitAttr: "without a value",
    StringAttr: "a string",
    FloatAttr: "a number",
}


def expect_annotations(attributes: Mapping[str, Attribute]) -> None:
    """Raises ValueError for an annotation among `attributes` that is not of its kind."""
    for name, kind in ANNOTATIONS.items():
        given = attributes.get(name)
        if given is not None and not isinstance(given, kind):
            wanted = _KIND_TEXTS.get(kind, f"a #{kind.name}")
            raise ValueError(f"{name} is {wanted}, not {given}")


# --- Constants ---


@irdl_custom_directive
class ExactFloat(CustomDirective):
    """
    A float64 attribute without its type, in text that is read back as the same number.

    Numbers are written as MLIR writes them, or else with all their digits; infinite and NaN as their bits, in
    hexadecimal, where xDSL's own format would not read its own output.
    """

    value: AttributeVariable

    def parse(self, parser: Parser, state: ParsingState) -> None:
        """Reads the number, or its bits."""
        number = parser.parse_number(context_msg=" for a float64")
        if isinstance(number, int):
            number = float(np.uint64(number).view(np.float64))
        self.value.set(state, FloatAttr(number, f64))

    def print(self, printer: Printer, state: PrintingState, op: IRDLOperation) -> None:
        """Writes the number, or its bits."""
        state.print_whitespace(printer)
        attribute = self.value.get(op)
        assert isinstance(attribute, FloatAttr)
        printer.print_string(_float_text(attribute.value.data))


def _float_text(number: float) -> str:
    if not np.isfinite(number):
        return f"0x{int(np.float64(number).view(np.uint64)):X}"
    short = f"{number:.6e}"
    if float(short) == number:
        return short
    digits, exponent, power = repr(number).partition("e")
    return f"{digits if '.' in digits else digits + '.0'}{exponent}{power}"


class _ConstantOperation(IRDLOperation):
    """An operation without operands and with a known result."""

    traits = traits_def(Pure(), ConstantLike())


@irdl_op_definition
class LiteralOp(_ConstantOperation):
    """
    A constant tensor: in the text when small, else named and kept in the weight store.

    ```mlir
    %0 = torch.vtensor.literal(dense<true> : tensor<i1>) : !torch.vtensor<[],i1>
    %1 = torch.vtensor.literal(dense_resource<pooler.dense.bias> : tensor<384xf32>) : !torch.vtensor<[384],f32>
    ```
    """

    name = "torch.vtensor.literal"

    value = prop_def(BaseAttr(DenseIntOrFPElementsAttr) | BaseAttr(DenseResourceAttr))
    """The tensor, or the name of an array in the weight store."""

    result = result_def(VTensorType)

    assembly_format = "`(` $value `)` attr-dict `:` type($result)"

    def __init__(self, value: DenseIntOrFPElementsAttr | DenseResourceAttr, result_type: VTensorType) -> None:
        super().__init__(properties={"value": value}, result_types=[result_type])

    @classmethod
    def named(cls, name: str, sizes: Iterable[int], dtype: np.dtype[Any]) -> LiteralOp:
        """The literal of the array called `name` in the weight store, of shape `sizes`."""
        sizes, element_type = tuple(sizes), element_type_of(dtype)
        return cls(
            DenseResourceAttr.from_params(name, TensorType(element_type, sizes)), VTensorType(sizes, element_type)
        )

    @property
    def resource(self) -> str | None:
        """The name of the array in the weight store; None if the value is in the text."""
        return self.value.resource_handle.data if isinstance(self.value, DenseResourceAttr) else None

    def array(self, store: WeightStore) -> Array:
        """The value, read-only. Raises ValueError if the stored array has another shape or dtype than the operation."""
        return self._stored(self.resource, store) if self.resource is not None else self._inline()

    def _stored(self, name: str, store: WeightStore) -> Array:
        array, expected = store.get(name), self._numpy_type()
        if (array.shape, array.dtype) != expected:
            raise ValueError(
                f"{name!r} is {array.dtype}{list(array.shape)} in the weight store, not {self.result.type}"
            )
        return array

    def _inline(self) -> Array:
        value = cast(DenseIntOrFPElementsAttr, self.value)
        sizes, dtype = self._numpy_type()
        numbers = value.get_values()
        if dtype == np.bool_:
            numbers = [number != 0 for number in numbers]
        array = np.array(numbers, dtype=dtype)
        # A splat is written, and kept, as one number.
        array = array.reshape(sizes) if array.size == prod(sizes) else np.full(sizes, array[0])
        array.flags.writeable = False
        return array

    def _numpy_type(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        return self.result.type.sizes, numpy_dtype(self.result.type.element_type)

    def verify_(self) -> None:
        shaped = cast(TensorType[Attribute], self.value.get_type())
        tensor = self.result.type
        if shaped.get_shape() != tensor.sizes or shaped.get_element_type() != tensor.element_type:
            raise VerifyException(f"the value is a {shaped}, the result a {tensor}")
        if isinstance(self.value, DenseIntOrFPElementsAttr) and not np.all(np.isfinite(self.value.get_values())):
            # xDSL would write their bits, and read those as an integer.
            raise VerifyException("numbers that are not finite must be in the weight store, not in the text")


@irdl_op_definition
class ConstantIntOp(_ConstantOperation):
    """A Python int: `%int5 = torch.constant.int 5`."""

    name = "torch.constant.int"

    value = prop_def(IntegerAttr.constr(i64))
    result = result_def(IntType)

    assembly_format = "$value attr-dict"

    def __init__(self, value: int) -> None:
        super().__init__(properties={"value": IntegerAttr(value, i64)}, result_types=[IntType()])


@irdl_op_definition
class ConstantFloatOp(_ConstantOperation):
    """A Python float: `%float = torch.constant.float 1.000000e-12`."""

    name = "torch.constant.float"

    value = prop_def(FloatAttr.constr(f64))
    result = result_def(FloatType)

    custom_directives = (ExactFloat,)

    assembly_format = "custom<ExactFloat>($value) attr-dict"

    def __init__(self, value: float) -> None:
        super().__init__(properties={"value": FloatAttr(value, f64)}, result_types=[FloatType()])


@irdl_op_definition
class ConstantBoolOp(_ConstantOperation):
    """A Python bool: `%false = torch.constant.bool false`."""

    name = "torch.constant.bool"

    value = prop_def(IntegerAttr.constr(i1))
    result = result_def(BoolType)

    assembly_format = "$value attr-dict"

    def __init__(self, value: bool) -> None:
        super().__init__(properties={"value": IntegerAttr.from_bool(value)}, result_types=[BoolType()])


@irdl_op_definition
class ConstantNoneOp(_ConstantOperation):
    """Python's None: `%none = torch.constant.none`."""

    name = "torch.constant.none"

    result = result_def(NoneType)

    assembly_format = "attr-dict"

    def __init__(self) -> None:
        super().__init__(result_types=[NoneType()])


@irdl_op_definition
class ConstantStrOp(_ConstantOperation):
    """A Python string: `%str = torch.constant.str "tanh"`."""

    name = "torch.constant.str"

    value = prop_def(StringAttr)
    result = result_def(StrType)

    assembly_format = "$value attr-dict"

    def __init__(self, value: str) -> None:
        super().__init__(properties={"value": StringAttr(value)}, result_types=[StrType()])


@irdl_op_definition
class ConstantDeviceOp(_ConstantOperation):
    """A torch.device: `%cpu = torch.constant.device "cpu"`."""

    name = "torch.constant.device"

    value = prop_def(StringAttr)
    result = result_def(DeviceType)

    assembly_format = "$value attr-dict"

    def __init__(self, value: str) -> None:
        super().__init__(properties={"value": StringAttr(value)}, result_types=[DeviceType()])


@irdl_op_definition
class ListConstructOp(IRDLOperation):
    """
    A Python list.

    ```mlir
    %0 = torch.prim.ListConstruct %int1, %int128 : (!torch.int, !torch.int) -> !torch.list<int>
    ```
    """

    name = "torch.prim.ListConstruct"

    elements = var_operand_def()
    result = result_def(ListType)

    traits = traits_def(Pure())

    assembly_format = "$elements attr-dict `:` functional-type(operands, results)"

    def __init__(self, elements: Sequence[SSAValue], element_type: Attribute) -> None:
        super().__init__(operands=[elements], result_types=[ListType(element_type)])


@irdl_op_definition
class ListUnpackOp(IRDLOperation):
    """
    The elements of a list.

    ```mlir
    %0:2 = torch.prim.ListUnpack %list : !torch.list<vtensor> -> !torch.vtensor<[2],f32>, !torch.vtensor<[2],f32>
    ```
    """

    name = "torch.prim.ListUnpack"

    list = operand_def(ListType)
    elements = var_result_def()

    traits = traits_def(Pure())

    assembly_format = "$list attr-dict `:` type($list) `->` type($elements)"


ScalarConstantOp = ConstantIntOp | ConstantFloatOp | ConstantBoolOp | ConstantStrOp | ConstantDeviceOp


def is_constant(value: SSAValue) -> bool:
    """True if `value` is a Python constant: a scalar, a string, None, or a list of those. Tensors never are."""
    operation = value.owner
    if isinstance(operation, ListConstructOp):
        return all(is_constant(element) for element in operation.elements)
    return isinstance(operation, ScalarConstantOp | ConstantNoneOp)


def constant_of(value: SSAValue) -> Constant:
    """The Python constant of `value`. Raises ValueError if it is none."""
    operation = value.owner
    if isinstance(operation, ListConstructOp):
        return [constant_of(element) for element in operation.elements]
    if isinstance(operation, ConstantNoneOp):
        return None
    if isinstance(operation, ConstantBoolOp):
        return bool(operation.value.value.data)
    if isinstance(operation, ConstantIntOp):
        return operation.value.value.data
    if isinstance(operation, ConstantFloatOp):
        return operation.value.value.data
    if isinstance(operation, ConstantStrOp | ConstantDeviceOp):
        return operation.value.data
    raise ValueError(f"a value of type {value.type} is not a constant")


def integer_of(value: SSAValue) -> int:
    """The Python int of `value`. Raises ValueError if it is not a constant int."""
    constant = constant_of(value)
    if not isinstance(constant, int) or isinstance(constant, bool):
        raise ValueError(f"expected a constant int, found {constant!r}")
    return constant


def number_of(value: SSAValue) -> float:
    """The Python int or float of `value`, as a float. Raises ValueError if it is neither."""
    constant = constant_of(value)
    if not isinstance(constant, int | float) or isinstance(constant, bool):
        raise ValueError(f"expected a constant number, found {constant!r}")
    return float(constant)


def integers_of(value: SSAValue) -> list[int]:
    """The list of Python ints of `value`. Raises ValueError if it is not a constant list of ints."""
    operation = value.owner
    if not isinstance(operation, ListConstructOp):
        raise ValueError("expected a constant list of ints")
    return [integer_of(element) for element in operation.elements]


def tensor_type(value: SSAValue) -> VTensorType:
    """The tensor type of `value`. Raises ValueError if it is not a tensor."""
    if not isinstance(value.type, VTensorType):
        raise ValueError(f"expected a tensor, found a value of type {value.type}")
    return value.type


def sizes_of(value: SSAValue) -> tuple[int, ...]:
    """The shape of the tensor `value`. Raises ValueError if it is not a tensor."""
    return tensor_type(value).sizes


# --- ATen ---


class AtenOperation(IRDLOperation):
    """
    One overload of an ATen operator: `torch.aten.add.Tensor` is `torch.ops.aten.add.Tensor`.

    Operands are the operator's arguments in the order of its schema. All are pure.
    """

    traits = traits_def(Pure())

    assembly_format: ClassVar[str | None] = "operands attr-dict `:` type(operands) `->` type(results)"

    @classmethod
    def with_operands(cls, operands: Sequence[SSAValue], result_type: Attribute) -> AtenOperation:
        """The operation on `operands`, one for each argument of the schema, with one result."""
        return cls(operands=list(operands), result_types=[result_type])


def row_of(operation: Operation) -> Operator:
    """The row of the operator of `operation`. Raises KeyError if there is none."""
    return operators()[operation.name.removeprefix("torch.")]


def name_attributes(names: Sequence[str]) -> ArrayAttr[DictionaryAttr]:
    """The attributes of arguments or results that give them these names."""
    return ArrayAttr([DictionaryAttr({"sta.name": StringAttr(name)}) for name in names])


def find_row(operation: Operation) -> Operator | None:
    """The row of the operator of `operation`; None if there is none."""
    return operators().get(_OPERATORS.get(operation.name, operation.name.removeprefix("torch.")))


def _shape_text(value: SSAValue) -> str:
    return str(list(sizes_of(value)))


class ElementwiseOperation(AtenOperation):
    """
    A function of each element of `input`, with a result of the same type; further operands are constant arguments.

    The classes follow from the rows of `sta.spec.operators`.
    """

    input = operand_def(TENSOR)
    arguments = var_operand_def()
    result = result_def(VTensorType)

    @classmethod
    def with_operands(cls, operands: Sequence[SSAValue], result_type: Attribute) -> AtenOperation:
        """The operation on `operands`, one for each argument of the schema, with one result."""
        value, *arguments = operands
        return cls(operands=[value, arguments], result_types=[result_type])

    @property
    def function(self) -> RealFunction:
        """The function on float64 arrays. Raises ValueError for arguments that are no constants."""
        return row_of(self).function(*self._constants)

    @property
    def table_name(self) -> str:
        """The name of the function's table. Raises ValueError for arguments that are no constants."""
        return row_of(self).table_name(*self._constants)

    @property
    def refusal(self) -> str | None:
        """Fault in the arguments; None if they are supported."""
        if not all(is_constant(argument) for argument in self.arguments):
            return "its arguments must be constants"
        return row_of(self).refusal(*self._constants)

    @property
    def _constants(self) -> list[Constant]:
        return [constant_of(argument) for argument in self.arguments]

    def verify_(self) -> None:
        expect(self.input.type == self.result.type, f"takes {self.input.type} and gives {self.result.type}")
        expected, given = len(row_of(self).defaults), len(self.arguments)
        expect(given == expected, f"takes {expected} arguments beside its input, not {given}")


@irdl_op_definition
class LinearOp(AtenOperation):
    """input [..., k] times the transpose of weight [n, k], plus bias [n] or None."""

    name = "torch.aten.linear"

    input = operand_def(TENSOR)
    weight = operand_def(TENSOR)
    bias = operand_def(OPTIONAL_TENSOR)
    result = result_def(VTensorType)

    def verify_(self) -> None:
        given, weight, result = sizes_of(self.input), sizes_of(self.weight), self.result.type.sizes
        expect(len(weight) == 2, f"the weight must have 2 axes, not shape {list(weight)}")
        expect(len(given) >= 1 and given[-1] == weight[1], f"input {list(given)} does not fit weight {list(weight)}")
        expect(result == (*given[:-1], weight[0]), f"the result must be {[*given[:-1], weight[0]]}, not {list(result)}")
        if isinstance(self.bias.type, VTensorType):
            expect(self.bias.type.sizes == weight[:1], f"bias {_shape_text(self.bias)} does not fit {list(weight)}")


@irdl_op_definition
class EmbeddingOp(AtenOperation):
    """The rows of weight [rows, n] named by the integers in indices [...]: [..., n]."""

    name = "torch.aten.embedding"

    weight = operand_def(TENSOR)
    indices = operand_def(TENSOR)
    padding_idx = operand_def(IntType)
    scale_grad_by_freq = operand_def(BoolType)
    sparse = operand_def(BoolType)
    result = result_def(VTensorType)

    def verify_(self) -> None:
        weight, expected = sizes_of(self.weight), [*sizes_of(self.indices), *sizes_of(self.weight)[1:]]
        expect(len(weight) == 2, f"the table must have 2 axes, not shape {list(weight)}")
        expect(not tensor_type(self.indices).is_float, "the indices must be integers")
        expect(list(self.result.type.sizes) == expected, f"the result must be {expected}, not {self.result.type}")


@irdl_op_definition
class LayerNormOp(AtenOperation):
    """Normalization over the last axes, given by normalized_shape, then weight and bias (or None)."""

    name = "torch.aten.layer_norm"

    input = operand_def(TENSOR)
    normalized_shape = operand_def(INTEGER_LIST)
    weight = operand_def(OPTIONAL_TENSOR)
    bias = operand_def(OPTIONAL_TENSOR)
    eps = operand_def(FloatType)
    cudnn_enable = operand_def(BoolType)
    result = result_def(VTensorType)

    def verify_(self) -> None:
        _verify_normalization(self)


@irdl_op_definition
class RmsNormOp(AtenOperation):
    """
    input divided by the root of (its mean square + eps), over the last axes, then times weight (or None).

    PyTorch interprets eps None as the smallest number that changes a one.
    """

    name = "torch.aten.rms_norm"

    input = operand_def(TENSOR)
    normalized_shape = operand_def(INTEGER_LIST)
    weight = operand_def(OPTIONAL_TENSOR)
    eps = operand_def(BaseAttr(FloatType) | BaseAttr(NoneType))
    result = result_def(VTensorType)

    def verify_(self) -> None:
        _verify_normalization(self)


NormOp = LayerNormOp | RmsNormOp


def _verify_normalization(op: NormOp) -> None:
    expect(op.input.type == op.result.type, f"takes {op.input.type} and gives {op.result.type}")
    if not is_constant(op.normalized_shape):
        return
    normalized = integers_of(op.normalized_shape)
    given = list(sizes_of(op.input))
    expect(given[len(given) - len(normalized) :] == normalized, f"{given} does not end in {normalized}")


def epsilon_of(op: NormOp) -> float:
    """The eps of a normalization. Raises ValueError if it is not a constant."""
    return float(np.finfo(np.float32).eps) if constant_of(op.eps) is None else number_of(op.eps)


@irdl_op_definition
class ScaledDotProductAttentionOp(AtenOperation):
    """
    softmax(query @ key^T * scale, over the admissible keys) @ value.

    query [..., m, d], key [..., n, d], value [..., n, e]; attn_mask is None, a bool tensor that is true where a key is
    admissible, or a float tensor that is added. With is_causal key j is admissible for query i iff j <= i. A mask and
    is_causal together admit what both admit (PyTorch accepts only one of them). A query without admissible key gives 0.
    A bias, which only passes give, is a float tensor that is added to the scores beside a mask.
    """

    name = "torch.aten.scaled_dot_product_attention"

    query = operand_def(TENSOR)
    key = operand_def(TENSOR)
    value = operand_def(TENSOR)
    attn_mask = operand_def(OPTIONAL_TENSOR)
    dropout_p = operand_def(FloatType)
    is_causal = operand_def(BoolType)
    scale = operand_def(BaseAttr(FloatType) | BaseAttr(NoneType))
    enable_gqa = operand_def(BoolType)
    bias = opt_operand_def(TENSOR)
    result = result_def(VTensorType)

    @classmethod
    def with_operands(cls, operands: Sequence[SSAValue], result_type: Attribute) -> AtenOperation:
        """The operation on `operands`: those of PyTorch, and a bias if there is one."""
        given, bias = operands[:8], operands[8:]
        return cls(operands=[*given, *(bias or [None])], result_types=[result_type])

    def verify_(self) -> None:
        query, key, value = sizes_of(self.query), sizes_of(self.key), sizes_of(self.value)
        expect(min(len(query), len(key), len(value)) >= 2, "query, key and value must have 2 axes at least")
        expect(query[-1] == key[-1], f"query {list(query)} and key {list(key)} differ in their last axis")
        expect(key[-2] == value[-2], f"key {list(key)} and value {list(value)} differ in their number of rows")
        expected = [*query[:-1], value[-1]]
        expect(list(self.result.type.sizes)[-2:] == expected[-2:], f"the result must end in {expected[-2:]}")
        if self.bias is not None:
            expect(tensor_type(self.bias).is_float, f"the bias must hold floats, not {self.bias.type}")


class CombinationOperation(AtenOperation):
    """A sum, difference, maximum or minimum of input and other, broadcast."""

    input = operand_def(TENSOR)
    other = operand_def(TENSOR)
    result = result_def(VTensorType)

    def verify_(self) -> None:
        _verify_broadcast(self.input, self.other, self.result)


@irdl_op_definition
class AddTensorOp(CombinationOperation):
    """input + alpha * other, broadcast."""

    name = "torch.aten.add.Tensor"

    input = operand_def(TENSOR)
    other = operand_def(TENSOR)
    alpha = operand_def(BaseAttr(IntType) | BaseAttr(FloatType))


@irdl_op_definition
class SubTensorOp(CombinationOperation):
    """input - alpha * other, broadcast."""

    name = "torch.aten.sub.Tensor"

    input = operand_def(TENSOR)
    other = operand_def(TENSOR)
    alpha = operand_def(BaseAttr(IntType) | BaseAttr(FloatType))


@irdl_op_definition
class MaximumOp(CombinationOperation):
    """The larger of input and other, broadcast."""

    name = "torch.aten.maximum"


@irdl_op_definition
class MinimumOp(CombinationOperation):
    """The smaller of input and other, broadcast."""

    name = "torch.aten.minimum"


@irdl_op_definition
class MulTensorOp(AtenOperation):
    """input * other, broadcast."""

    name = "torch.aten.mul.Tensor"

    input = operand_def(TENSOR)
    other = operand_def(TENSOR)
    result = result_def(VTensorType)

    def verify_(self) -> None:
        _verify_broadcast(self.input, self.other, self.result)


@irdl_op_definition
class DivTensorOp(AtenOperation):
    """input / other, broadcast."""

    name = "torch.aten.div.Tensor"

    input = operand_def(TENSOR)
    other = operand_def(TENSOR)
    result = result_def(VTensorType)

    def verify_(self) -> None:
        _verify_broadcast(self.input, self.other, self.result)


def _verify_broadcast(left: SSAValue, right: SSAValue, result: OpResult) -> None:
    try:
        expected = np.broadcast_shapes(sizes_of(left), sizes_of(right))
    except ValueError:
        raise VerifyException(f"{_shape_text(left)} and {_shape_text(right)} do not broadcast") from None
    expect(sizes_of(result) == expected, f"the result must be {list(expected)}, not {_shape_text(result)}")


@irdl_op_definition
class MulScalarOp(AtenOperation):
    """input * other, a Python number."""

    name = "torch.aten.mul.Scalar"

    input = operand_def(TENSOR)
    other = operand_def(BaseAttr(IntType) | BaseAttr(FloatType))
    result = result_def(VTensorType)


@irdl_op_definition
class DivScalarOp(AtenOperation):
    """input / other, a Python number."""

    name = "torch.aten.div.Scalar"

    input = operand_def(TENSOR)
    other = operand_def(BaseAttr(IntType) | BaseAttr(FloatType))
    result = result_def(VTensorType)


class ProductOperation(AtenOperation):
    """input [..., m, k] times other [..., k, n]."""

    input = operand_def(TENSOR)
    other = operand_def(TENSOR)
    result = result_def(VTensorType)

    def verify_(self) -> None:
        left, right = sizes_of(self.input), sizes_of(self.other)
        if min(len(left), len(right)) < 2:
            return
        expect(left[-1] == right[-2], f"{list(left)} cannot be multiplied with {list(right)}")
        expected = (left[-2], right[-1])
        expect(self.result.type.sizes[-2:] == expected, f"the result must end in {list(expected)}")


@irdl_op_definition
class MatmulOp(ProductOperation):
    """A matrix product, broadcast over leading axes."""

    name = "torch.aten.matmul"


@irdl_op_definition
class BmmOp(ProductOperation):
    """A batch of matrix products."""

    name = "torch.aten.bmm"


@irdl_op_definition
class MmOp(ProductOperation):
    """A matrix product."""

    name = "torch.aten.mm"


@irdl_op_definition
class AddmmOp(AtenOperation):
    """beta * input + alpha * (mat1 [m, k] times mat2 [k, n])."""

    name = "torch.aten.addmm"

    input = operand_def(TENSOR)
    mat1 = operand_def(TENSOR)
    mat2 = operand_def(TENSOR)
    beta = operand_def(BaseAttr(IntType) | BaseAttr(FloatType))
    alpha = operand_def(BaseAttr(IntType) | BaseAttr(FloatType))
    result = result_def(VTensorType)


@irdl_op_definition
class SumOp(AtenOperation):
    """`aten.sum.dim_IntList`: the sum along axes, which is supported along the last, kept with size 1."""

    name = "torch.aten.sum.dim_IntList"
    input = operand_def(TENSOR)
    dim = operand_def()
    keepdim = operand_def()
    dtype = operand_def()
    result = result_def(VTensorType)


@irdl_op_definition
class MeanOp(AtenOperation):
    """`aten.mean.dim`: the mean along axes, which is supported along the last, kept with size 1."""

    name = "torch.aten.mean.dim"
    input = operand_def(TENSOR)
    dim = operand_def()
    keepdim = operand_def()
    dtype = operand_def()
    result = result_def(VTensorType)


@irdl_op_definition
class CumsumOp(AtenOperation):
    """`aten.cumsum`: the sum up to each position of an axis, which is supported for the last."""

    name = "torch.aten.cumsum"
    input = operand_def(TENSOR)
    dim = operand_def()
    dtype = operand_def()
    result = result_def(VTensorType)


@irdl_op_definition
class ConvolutionOp(AtenOperation):
    """A convolution of input [b, c, ...] with a kernel [o, c / groups, ...], or transposed, plus bias [o] or None."""

    name = "torch.aten.convolution"

    input = operand_def(TENSOR)
    weight = operand_def(TENSOR)
    bias = operand_def(OPTIONAL_TENSOR)
    stride = operand_def(ListType)
    padding = operand_def(ListType)
    dilation = operand_def(ListType)
    transposed = operand_def(BoolType)
    output_padding = operand_def(ListType)
    groups = operand_def(IntType)
    result = result_def(VTensorType)


@irdl_op_definition
class SoftmaxIntOp(AtenOperation):
    """The softmax over axis dim."""

    name = "torch.aten.softmax.int"

    input = operand_def(TENSOR)
    dim = operand_def(IntType)
    dtype = operand_def(BaseAttr(IntType) | BaseAttr(NoneType))
    result = result_def(VTensorType)


@irdl_op_definition
class SoftmaxOp(AtenOperation):
    """The softmax over axis dim, in the form of decompositions."""

    name = "torch.aten._softmax"

    input = operand_def(TENSOR)
    dim = operand_def(IntType)
    half_to_float = operand_def(BoolType)
    result = result_def(VTensorType)


@irdl_op_definition
class ViewOp(AtenOperation):
    """The same elements in row-major order under another shape; one size may be -1."""

    name = "torch.aten.view"

    input = operand_def(TENSOR)
    size = operand_def(INTEGER_LIST)
    result = result_def(VTensorType)

    def verify_(self) -> None:
        _verify_same_count(self.input, self.result)


@irdl_op_definition
class ReshapeOp(AtenOperation):
    """As view, for tensors of any layout."""

    name = "torch.aten.reshape"

    input = operand_def(TENSOR)
    shape = operand_def(INTEGER_LIST)
    result = result_def(VTensorType)

    def verify_(self) -> None:
        _verify_same_count(self.input, self.result)


def _verify_same_count(source: SSAValue, result: OpResult) -> None:
    same = tensor_type(source).element_count == tensor_type(result).element_count
    expect(same, f"{_shape_text(source)} and {_shape_text(result)} differ in their number of elements")


@irdl_op_definition
class PermuteOp(AtenOperation):
    """The axes in another order: axis i of the result is axis dims[i] of the input."""

    name = "torch.aten.permute"

    input = operand_def(TENSOR)
    dims = operand_def(INTEGER_LIST)
    result = result_def(VTensorType)

    @property
    def axes(self) -> tuple[int, ...]:
        """The constant order of axes, counted from the front."""
        return tuple(axis % tensor_type(self.input).rank for axis in integers_of(self.dims))

    def verify_(self) -> None:
        if not is_constant(self.dims):
            return
        given = sizes_of(self.input)
        expect(sorted(self.axes) == list(range(len(given))), f"{list(self.axes)} is no order of {len(given)} axes")
        expected = [given[axis] for axis in self.axes]
        expect(list(self.result.type.sizes) == expected, f"the result must be {expected}, not {self.result.type}")


@irdl_op_definition
class SliceTensorOp(AtenOperation):
    """Positions start, start + step, ... below end along axis dim."""

    name = "torch.aten.slice.Tensor"

    input = operand_def(TENSOR)
    dim = operand_def(IntType)
    start = operand_def(BaseAttr(IntType) | BaseAttr(NoneType))
    end = operand_def(BaseAttr(IntType) | BaseAttr(NoneType))
    step = operand_def(IntType)
    result = result_def(VTensorType)

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """The constant axis, start, end and step, as non-negative numbers within the axis."""
        sizes = sizes_of(self.input)
        axis = integer_of(self.dim) % len(sizes)
        start, end = (cast(int | None, constant_of(bound)) for bound in (self.start, self.end))
        low, high, step = slice(start, end, integer_of(self.step)).indices(sizes[axis])
        return axis, low, max(low, high), step

    def verify_(self) -> None:
        if not all(is_constant(bound) for bound in (self.dim, self.start, self.end, self.step)):
            return
        axis, low, high, step = self.bounds
        expected = list(sizes_of(self.input))
        expected[axis] = len(range(low, high, step))
        expect(list(self.result.type.sizes) == expected, f"the result must be {expected}, not {self.result.type}")


@irdl_op_definition
class UnfoldOp(AtenOperation):
    """
    Windows of `size` elements along the axis `dimension`, each `step` behind the one before.

    The axis counts them, and a new last axis has their elements.
    """

    name = "torch.aten.unfold"

    input = operand_def(TENSOR)
    dimension = operand_def(IntType)
    size = operand_def(IntType)
    step = operand_def(IntType)
    result = result_def(VTensorType)

    @property
    def numbers(self) -> tuple[int, int, int]:
        """The axis, counted from the front, size and step. Raises ValueError if one is not constant."""
        rank = tensor_type(self.input).rank
        return integer_of(self.dimension) % rank, integer_of(self.size), integer_of(self.step)

    def verify_(self) -> None:
        axis, size, step = self.numbers
        sizes = list(sizes_of(self.input))
        expect(
            1 <= size <= sizes[axis] and step >= 1, f"windows of {size}, {step} apart, along an axis of {sizes[axis]}"
        )
        sizes[axis] = (sizes[axis] - size) // step + 1
        expect(self.result.type.sizes == (*sizes, size), f"the result must be {[*sizes, size]}")


@irdl_op_definition
class TransposeIntOp(AtenOperation):
    """Two axes exchanged."""

    name = "torch.aten.transpose.int"

    input = operand_def(TENSOR)
    dim0 = operand_def(IntType)
    dim1 = operand_def(IntType)
    result = result_def(VTensorType)


@irdl_op_definition
class TOp(AtenOperation):
    """The transpose of a matrix; a vector as it is."""

    name = "torch.aten.t"

    input = operand_def(TENSOR)
    result = result_def(VTensorType)


@irdl_op_definition
class SelectIntOp(AtenOperation):
    """Position index along axis dim, which disappears."""

    name = "torch.aten.select.int"

    input = operand_def(TENSOR)
    dim = operand_def(IntType)
    index = operand_def(IntType)
    result = result_def(VTensorType)


@irdl_op_definition
class ExpandOp(AtenOperation):
    """Axes of size 1 repeated without copying."""

    name = "torch.aten.expand"

    input = operand_def(TENSOR)
    size = operand_def(INTEGER_LIST)
    implicit = operand_def(BoolType)
    result = result_def(VTensorType)


@irdl_op_definition
class ToDtypeOp(AtenOperation):
    """The elements converted to another type, given by PyTorch's number for it (`dtype_number`)."""

    name = "torch.aten.to.dtype"

    input = operand_def(TENSOR)
    dtype = operand_def(IntType)
    non_blocking = operand_def(BoolType)
    copy = operand_def(BoolType)
    memory_format = operand_def(BaseAttr(IntType) | BaseAttr(NoneType))
    result = result_def(VTensorType)

    def verify_(self) -> None:
        same = sizes_of(self.input) == self.result.type.sizes
        expect(same, f"{_shape_text(self.input)} and {self.result.type} differ in shape")


@irdl_op_definition
class LogicalNotOp(AtenOperation):
    """True if each element is zero, or false."""

    name = "torch.aten.logical_not"

    input = operand_def(TENSOR)
    result = result_def(VTensorType)

    def verify_(self) -> None:
        expected = VTensorType(sizes_of(self.input), i1)
        expect(self.result.type == expected, f"gives {self.result.type}, not {expected}")


class GenericOperation(AtenOperation):
    """An operator that only folding, mask analysis or the rewriting of views inspects, by its name."""

    arguments = var_operand_def()
    outputs = var_result_def()

    @classmethod
    def with_operands(cls, operands: Sequence[SSAValue], result_type: Attribute) -> AtenOperation:
        """The operation on `operands`, one for each argument of the schema, with one result."""
        return cls(operands=[list(operands)], result_types=[[result_type]])


@irdl_op_definition
class PointwiseOp(IRDLOperation):
    """
    A function of each element of `input`, composed of operators and numbers: one table of the machine.

    ```mlir
    %1 = torch.pointwise %0 "v1=aten.sigmoid(x); aten.mul.Tensor(x, v1)" : !torch.vtensor<[1,128,384],f32>
    ```

    The text is an expression of `sta.spec.operators.expression`.
    """

    name = "torch.pointwise"

    TYPE: ClassVar = VarConstraint("TYPE", TENSOR)

    input = operand_def(TYPE)
    result = result_def(TYPE)

    expression = prop_def(StringAttr)
    """The function."""

    traits = traits_def(Pure())

    assembly_format = "$input $expression attr-dict `:` type($input)"

    def __init__(self, value: SSAValue, expression: Expression) -> None:
        super().__init__(
            operands=[value], result_types=[value.type], properties={"expression": StringAttr(str(expression))}
        )

    @property
    def function(self) -> Expression:
        """The function on float64 arrays, infinite or NaN where it has no value."""
        return parse(self.expression.data)

    @property
    def table_name(self) -> str:
        """The name of the function's table."""
        return self.function.table_name

    @property
    def refusal(self) -> str | None:
        """Fault in the arguments of the operators in it; None if they are supported."""
        try:
            self.function(np.zeros(1))
        except ValueError as error:
            return str(error)
        return None

    def verify_(self) -> None:
        expect(tensor_type(self.input).element_type == f32, f"takes float32 numbers, not {self.input.type}")
        expect(self.input.type == self.result.type, f"takes {self.input.type} and gives {self.result.type}")
        try:
            parse(self.expression.data)
        except ValueError as error:
            raise VerifyException(str(error)) from None


FunctionOperation = ElementwiseOperation | PointwiseOp
"""Functions of each element of one value, which tables compute."""


# --- Quantization ---


@irdl_op_definition
class FakeQuantizeOp(IRDLOperation):
    """
    A tensor rounded to the numbers that `storage` can hold: a quantize–dequantize pair in one operation.

    ```mlir
    %1 = torch.fake_quantize %0 to si8 scale 2.500000e-02 zero_point -3 : !torch.vtensor<[1,128,384],f32>
    ```

    result = (clamp(round_half_even(x / scale) + zero_point, low, high) - zero_point) * scale, computed in float32 as
    `torch.fake_quantize_per_tensor_affine` does. The range is that of `storage`: -128..127 or -32768..32767.
    """

    name = "torch.fake_quantize"

    STORAGES: ClassVar[tuple[IntegerType, ...]] = (si8, si16)
    TYPE: ClassVar = VarConstraint("TYPE", TENSOR)

    input = operand_def(TYPE)
    result = result_def(TYPE)

    scale = prop_def(FloatAttr.constr(f64))
    """The size of one step, positive and finite."""

    zero_point = prop_def(IntegerAttr.constr(i64))
    """The integer that stands for 0.0; 0 for si16."""

    storage = prop_def(IntegerType)
    """si8 or si16."""

    traits = traits_def(Pure())

    custom_directives = (ExactFloat,)

    assembly_format = (
        "$input `to` $storage `scale` custom<ExactFloat>($scale) `zero_point` $zero_point attr-dict `:` type($input)"
    )

    def __init__(self, value: SSAValue, scale: float, zero_point: int, storage: IntegerType) -> None:
        super().__init__(
            operands=[value],
            result_types=[value.type],
            properties={
                "scale": FloatAttr(scale, f64),
                "zero_point": IntegerAttr(zero_point, i64),
                "storage": storage,
            },
        )

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and largest stored number."""
        half = 1 << (self.storage.width.data - 1)
        return -half, half - 1

    def verify_(self) -> None:
        expect(tensor_type(self.input).element_type == f32, f"takes float32 numbers, not {self.input.type}")
        expect(self.input.type == self.result.type, f"takes {self.input.type} and gives {self.result.type}")
        expect(self.storage in self.STORAGES, f"stores numbers as si8 or si16, not {self.storage}")
        scale, (low, high) = self.scale.value.data, self.limits
        expect(0.0 < scale < float("inf"), f"the scale must be positive and finite, not {scale}")
        expect(low <= self.zero_point.value.data <= high, f"zero point outside {self.storage}: {low}..{high}")
        expect(self.storage == si8 or self.zero_point.value.data == 0, "si16 is symmetric: its zero point is 0")


@irdl_op_definition
class FakeQuantizeChannelsOp(IRDLOperation):
    """
    A weight [n, ...] rounded to 8 bits, with a scale for each of its first axis and no zero point.

    ```mlir
    %2 = torch.fake_quantize_channels %0, %1 : !torch.vtensor<[384,1536],f32>, !torch.vtensor<[384],f32>
    ```

    result = clamp(round_half_even(x / scale[n]), -128, 127) * scale[n], computed in float32 as
    `torch.fake_quantize_per_channel_affine` does. The scales are a literal of positive, finite numbers.
    """

    name = "torch.fake_quantize_channels"

    TYPE: ClassVar = VarConstraint("TYPE", TENSOR)

    input = operand_def(TYPE)
    scales = operand_def(TENSOR)
    result = result_def(TYPE)

    traits = traits_def(Pure())

    assembly_format = "$input `,` $scales attr-dict `:` type($input) `,` type($scales)"

    def __init__(self, value: SSAValue, scales: SSAValue) -> None:
        super().__init__(operands=[value, scales], result_types=[value.type])

    def verify_(self) -> None:
        expect(tensor_type(self.input).element_type == f32, f"takes float32 numbers, not {self.input.type}")
        given, scales = sizes_of(self.input), sizes_of(self.scales)
        expect(scales == given[:1], f"{list(scales)} scales for a weight of shape {list(given)}")


# --- Operations that stand for others ---


@irdl_op_definition
class ConcatenateOp(IRDLOperation):
    """
    Tensors one after the other along an axis: `aten.cat` with its tensors as operands instead of a list of them.

    ```mlir
    %2 = torch.concatenate %0, %1 axis 1 : (!torch.vtensor<[2,1,64],f32>, !torch.vtensor<[2,16,64],f32>) -> !torch.vtensor<[2,17,64],f32>
    ```
    """  # noqa: E501

    name = "torch.concatenate"

    parts = var_operand_def(TENSOR)
    result = result_def(VTensorType)

    axis = prop_def(IntegerAttr.constr(i64))
    """Counted from the front."""

    traits = traits_def(Pure())

    assembly_format = "$parts `axis` $axis attr-dict `:` functional-type(operands, results)"

    def __init__(self, parts: Sequence[SSAValue], axis: int) -> None:
        first = tensor_type(parts[0])
        sizes = list(first.sizes)
        sizes[axis] = sum(sizes_of(part)[axis] for part in parts)
        super().__init__(
            operands=[parts],
            properties={"axis": IntegerAttr(axis, i64)},
            result_types=[VTensorType(sizes, first.element_type)],
        )

    def verify_(self) -> None:
        axis, result = self.axis.value.data, self.result.type
        expect(bool(self.parts), "there is nothing to concatenate")
        expect(0 <= axis < result.rank, f"axis {axis} of a tensor with {result.rank} axes")
        expected = list(result.sizes)
        expected[axis] = sum(sizes_of(part)[axis] for part in self.parts if tensor_type(part).rank == result.rank)
        expect(list(result.sizes) == expected, f"the parts make {expected}, not {result}")
        for part in map(tensor_type, self.parts):
            fits = [*part.sizes[:axis], *part.sizes[axis + 1 :]] == [*expected[:axis], *expected[axis + 1 :]]
            expect(fits, f"a part of shape {list(part.sizes)} does not fit {expected} along axis {axis}")
            expect(part.element_type == result.element_type, f"a part of {part} in {result}")


@irdl_op_definition
class RotateOp(IRDLOperation):
    """
    A rotary position embedding: pairs of the first columns of `input` [..., columns], rotated by constant angles.

    ```mlir
    %3 = torch.rotate half %0 by %1, %2 : !torch.vtensor<[1,4,16,64],f32>, !torch.vtensor<[16,64],f32>, !torch.vtensor<[16,64],f32>
    ```

    result = input * cosines + turned(input) * sines in the columns [..., width] of the two tables, which broadcast to
    the input's; `turned` has the second column of a pair, negated, and then the first one
    (`sta.spec.rotation.partners`). Other columns stay.
    """  # noqa: E501

    name = "torch.rotate"

    TYPE: ClassVar = VarConstraint("TYPE", TENSOR)

    input = operand_def(TYPE)
    cosines = operand_def(TENSOR)
    sines = operand_def(TENSOR)
    pairing = prop_def(StringAttr)
    result = result_def(TYPE)

    custom_directives = (Word,)
    traits = traits_def(Pure())
    assembly_format = (
        "custom<Word>($pairing) $input `by` $cosines `,` $sines attr-dict `:` type($input) `,` type($cosines) `,` "
        "type($sines)"
    )

    def __init__(self, value: SSAValue, cosines: SSAValue, sines: SSAValue, pairing: str) -> None:
        super().__init__(
            operands=[value, cosines, sines],
            properties={"pairing": StringAttr(pairing)},
            result_types=[value.type],
        )

    @property
    def width(self) -> int:
        """The number of columns that are rotated."""
        return sizes_of(self.cosines)[-1]

    def verify_(self) -> None:
        given, cosines, sines = sizes_of(self.input), sizes_of(self.cosines), sizes_of(self.sines)
        try:
            partners(given[-1], self.width, self.pairing.data)
        except ValueError as error:
            raise VerifyException(str(error)) from None
        expect(cosines == sines, f"cosines {list(cosines)} and sines {list(sines)} differ in shape")
        fits = len(cosines) <= len(given) and all(
            one in (1, size) for one, size in zip(cosines[-2::-1], given[-2::-1], strict=False)
        )
        expect(fits, f"tables of shape {list(cosines)} do not broadcast to {list(given)}")


_OPERATORS: Mapping[str, str] = {ConcatenateOp.name: "aten.cat"}
"""Operators of the operations that stand for others."""

_OWN: tuple[type[Operation], ...] = (
    LiteralOp,
    ConstantIntOp,
    ConstantFloatOp,
    ConstantBoolOp,
    ConstantNoneOp,
    ConstantStrOp,
    ConstantDeviceOp,
    ListConstructOp,
    ListUnpackOp,
    PointwiseOp,
    FakeQuantizeOp,
    FakeQuantizeChannelsOp,
    ConcatenateOp,
    RotateOp,
)
"""Operations that are no operators of PyTorch."""

_TYPED: tuple[type[AtenOperation], ...] = (
    LinearOp,
    EmbeddingOp,
    LayerNormOp,
    RmsNormOp,
    ScaledDotProductAttentionOp,
    AddTensorOp,
    SubTensorOp,
    MaximumOp,
    MinimumOp,
    MulTensorOp,
    DivTensorOp,
    MulScalarOp,
    DivScalarOp,
    MatmulOp,
    BmmOp,
    MmOp,
    AddmmOp,
    SumOp,
    MeanOp,
    CumsumOp,
    ConvolutionOp,
    SoftmaxIntOp,
    SoftmaxOp,
    ViewOp,
    ReshapeOp,
    PermuteOp,
    SliceTensorOp,
    UnfoldOp,
    TransposeIntOp,
    TOp,
    SelectIntOp,
    ExpandOp,
    ToDtypeOp,
    LogicalNotOp,
)
"""Operators whose operands passes inspect; the classes of all others follow from their rows."""


def _class_of(row: Operator) -> type[AtenOperation]:
    """The class of an operator without a class of its own."""
    base = ElementwiseOperation if row.role is Role.ELEMENTWISE else GenericOperation
    summary = row.summary or f"`{row.name}`, as PyTorch defines it"
    members: dict[str, Any] = {"name": f"torch.{row.name}", "__doc__": f"{summary[:1].upper()}{summary[1:]}."}
    identifier = "".join(part.capitalize() for part in re.split(r"[._]", row.name)[1:]) + "Op"
    made: Any = type(identifier, (base,), members)
    return irdl_op_definition(made)


@cache
def _classes() -> dict[str, type[AtenOperation]]:
    typed = {operation.name.removeprefix("torch."): operation for operation in _TYPED}
    return {name: typed.get(name) or _class_of(row) for name, row in operators().items()}


def computing_class(name: str) -> type[Operation]:
    """The operation for the operator `name` that is lowered to integers: one that stands for it, or its own."""
    standing = next((own for own in _OWN if _OPERATORS.get(own.name) == name), None)
    return standing or operator_class(name)


def operator_class(name: str) -> type[AtenOperation]:
    """The operation of the operator `name`, spelled as in its row: `aten.relu`."""
    return _classes()[name]


@cache
def torch_dialect() -> Dialect:
    """
    The dialect, with the operations of all rows.

    Not made when this module is imported: a package that adds rows may itself import this module.
    """
    return Dialect(
        "torch",
        [*_OWN, *_classes().values()],
        [
            *(IntType, FloatType, BoolType, NoneType, StrType, DeviceType, VTensorType, ListType, OptionalType),
            *(RangeAttr, DecibelsAttr, SoftmaxAttr),
        ],
    )
