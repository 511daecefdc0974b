"""
The `nm` dialect: a Transformer in integers, on tensors, with N:M sparsity in the type of a weight.

Every operation is thin over `sta.spec`: the interpreter in `sta.dialect.interpreters.nm` calls the specification and
nothing else, so the meaning of a module is defined once. Values carry their width and signedness in their element type
(`si8`, `ui8`, `si16`, `si32`); `si32` is an accumulator or a number before its clamp. A product with 16-bit activations
has two accumulators; `si64` stands for both together, before `nm.rescale_channels`.

Before fusion a product and its epilogue are separate operations (`nm.product`, `nm.rescale_channels`, `nm.table`,
`nm.add`, `nm.clamp`). `nm-fuse-epilogues` fuses them into `nm.linear`, `nm.matmul` and `nm.map`, which are one pass of
the machine's product array and vector unit. Fusion never changes a bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import isfinite
from typing import ClassVar, cast

from numpy import broadcast_shapes
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    I64,
    DenseArrayBase,
    Float64Type,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    Signedness,
    StringAttr,
    SymbolRefAttr,
    TensorType,
    UnitAttr,
    f64,
    i64,
)
from xdsl.ir import Attribute, Dialect, ParametrizedAttribute, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    AttrSizedResultSegments,
    EqAttrConstraint,
    IRDLOperation,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    opt_result_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from sta.dialect.ir.format_directives import OptionalTypes, Word, float_text
from sta.dialect.ir.verification import expect
from sta.spec.integers import IDENTITY_SCALE
from sta.spec.nm_format import DENSE, ENCODINGS, Pattern
from sta.spec.norm import EPSILON_LIMIT, KINDS, LARGEST_WIDTH
from sta.spec.rotation import partners
from sta.spec.softmax import most_keys
from sta.spec.tables import EXPONENTIAL_BITS, TABLE_ENTRIES
from sta.spec.tiling_policy import LOOP_ORDERS
from sta.spec.vector import ADD, COMBINATIONS
from sta.spec.wide_product import LONGEST_SUM

si8 = IntegerType(8, Signedness.SIGNED)
ui8 = IntegerType(8, Signedness.UNSIGNED)
si16 = IntegerType(16, Signedness.SIGNED)
ui16 = IntegerType(16, Signedness.UNSIGNED)
si32 = IntegerType(32, Signedness.SIGNED)
si64 = IntegerType(64, Signedness.SIGNED)
ELEMENT_TYPES: tuple[IntegerType, ...] = (si8, ui8, si16, si32)

Tensor = TensorType[Attribute]
Integer = IntegerAttr[IntegerType]
INTEGER = IntegerAttr.constr(EqAttrConstraint(i64))
INTEGERS = DenseArrayBase.constr(i64)
ZERO = IntegerAttr(0, i64)
ONE = IntegerAttr(1, i64)


@irdl_attr_definition
class PatternAttr(ParametrizedAttribute):
    """
    The N:M pattern of a weight along its reduction axis and its storage encoding: the encoding slot of the weight's
    tensor type.

    ```mlir
    tensor<384x384xsi8, #nm.pattern<2:4, bitmap>>
    ```
    """

    name = "nm.pattern"

    n: Integer
    m: Integer
    encoding: StringAttr

    def __init__(self, pattern: Pattern, encoding: str):
        super().__init__(IntegerAttr(pattern.n, i64), IntegerAttr(pattern.m, i64), StringAttr(encoding))

    @property
    def pattern(self) -> Pattern:
        """The pattern as the specification's type."""
        return Pattern(self.n.value.data, self.m.value.data)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return cls.parse_inner(parser).parameters

    @classmethod
    def parse_inner(cls, parser: AttrParser) -> PatternAttr:
        """The pattern, without angle brackets around it."""
        n = parser.parse_integer(allow_boolean=False, allow_negative=False)
        parser.parse_punctuation(":")
        m = parser.parse_integer(allow_boolean=False, allow_negative=False)
        parser.parse_punctuation(",")
        encoding = parser.parse_identifier("one of " + ", ".join(ENCODINGS))
        return cls.new((IntegerAttr(n, i64), IntegerAttr(m, i64), StringAttr(encoding)))

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            self.print_inner(printer)

    def print_inner(self, printer: Printer) -> None:
        """Writes the pattern without angle brackets around it."""
        printer.print_string(f"{self.n.value.data}:{self.m.value.data}, {self.encoding.data}")

    def verify(self) -> None:
        n, m = self.n.value.data, self.m.value.data
        if not 1 <= n <= m <= 32:
            raise VerifyException(f"pattern {n}:{m} is not 1 <= N <= M <= 32")
        if self.encoding.data not in ENCODINGS:
            raise VerifyException(f"encoding '{self.encoding.data}' is not one of {', '.join(ENCODINGS)}")
        if (n == m) != (self.encoding.data == "dense"):
            raise VerifyException(f"a {n}:{m} weight cannot be stored as '{self.encoding.data}'")


@irdl_attr_definition
class ScaleAttr(ParametrizedAttribute):
    """A scale in the form of `apply_scale_32`, `multiplier / 2^shift`: `#nm.scale<1073741824, 30>` is 1."""

    name = "nm.scale"

    multiplier: Integer
    shift: Integer

    def __init__(self, multiplier: int, shift: int):
        super().__init__(IntegerAttr(multiplier, i64), IntegerAttr(shift, i64))

    @property
    def pair(self) -> tuple[int, int]:
        """Multiplier and shift."""
        return self.multiplier.value.data, self.shift.value.data

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            multiplier = parser.parse_integer(allow_boolean=False)
            parser.parse_punctuation(",")
            shift = parser.parse_integer(allow_boolean=False)
        return (IntegerAttr(multiplier, i64), IntegerAttr(shift, i64))

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string("{}, {}".format(*self.pair))

    def verify(self) -> None:
        multiplier, shift = self.pair
        if not 0 <= multiplier < 2**31:
            raise VerifyException(f"multiplier {multiplier} is outside [0, 2^31)")
        if not 2 <= shift <= 62:
            raise VerifyException(f"shift {shift} is outside [2, 62]")


@irdl_attr_definition
class MeaningAttr(ParametrizedAttribute):
    """
    The meaning of a tensor of integers, real = (integer - zero_point) * scale, and its tensor in the float model, if
    there is one: `#nm.meaning<0.25, -3, "encoder.dense:linear">`.
    """

    name = "nm.meaning"

    scale: FloatAttr[Float64Type]
    zero_point: Integer
    source: StringAttr

    def __init__(self, scale: float, zero_point: int, source: str):
        super().__init__(FloatAttr(scale, f64), IntegerAttr(zero_point, i64), StringAttr(source))

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            scale = parser.parse_number()
            parser.parse_punctuation(",")
            zero_point = parser.parse_integer(allow_boolean=False)
            named = parser.parse_optional_punctuation(",") is not None
            source = parser.parse_str_literal() if named else ""
        return (FloatAttr(float(scale), f64), IntegerAttr(zero_point, i64), StringAttr(source))

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(f"{float_text(self.scale.value.data)}, {self.zero_point.value.data}")
            if self.source.data:
                printer.print_string(", ")
                printer.print_string_literal(self.source.data)

    def verify(self) -> None:
        if not isfinite(self.scale.value.data):
            raise VerifyException(f"a scale of {self.scale.value.data}")


IDENTITY = ScaleAttr(*IDENTITY_SCALE)
"""The scale of an unused stage."""


@irdl_attr_definition
class LinearTilingAttr(ParametrizedAttribute):
    """
    Tiling of a linear layer by `nm-plan-tiles`: rows, columns and depth of a tile, and the order of the loops,
    `columns`, `rows` or `reloaded` (docs/scheduling.md).

    ```mlir
    #nm.linear_tiling<128 x 64 x 768, columns>
    ```
    """

    name = "nm.linear_tiling"
    ORDERS: ClassVar[tuple[str, ...]] = LOOP_ORDERS

    rows: Integer
    columns: Integer
    depth: Integer
    order: StringAttr

    def __init__(self, rows: int, columns: int, depth: int, order: str):
        super().__init__(*(IntegerAttr(size, i64) for size in (rows, columns, depth)), StringAttr(order))

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            sizes: list[int] = []
            for separator in ("x", "x", ""):
                sizes.append(parser.parse_integer(allow_boolean=False, allow_negative=False))
                if separator:
                    parser.parse_keyword(separator)
            parser.parse_punctuation(",")
            order = parser.parse_identifier("one of " + ", ".join(cls.ORDERS))
        return (*(IntegerAttr(size, i64) for size in sizes), StringAttr(order))

    def print_parameters(self, printer: Printer) -> None:
        sizes = " x ".join(str(size.value.data) for size in (self.rows, self.columns, self.depth))
        with printer.in_angle_brackets():
            printer.print_string(f"{sizes}, {self.order.data}")

    def verify(self) -> None:
        for what, size in (("rows", self.rows), ("columns", self.columns), ("depth", self.depth)):
            if size.value.data < 1:
                raise VerifyException(f"a tile has at least one of its {what}, got {size.value.data}")
        if self.order.data not in self.ORDERS:
            raise VerifyException(f"order '{self.order.data}' is not one of {', '.join(self.ORDERS)}")


@irdl_attr_definition
class AttentionTilingAttr(ParametrizedAttribute):
    """
    Tiling of an attention by `nm-plan-tiles`: rows of queries of a tile, and the number of heads that alternate on a
    chunk of their shared keys.

    ```mlir
    #nm.attention_tiling<64 rows, 1 heads>
    ```
    """

    name = "nm.attention_tiling"

    rows: Integer
    heads: Integer

    def __init__(self, rows: int, heads: int):
        super().__init__(IntegerAttr(rows, i64), IntegerAttr(heads, i64))

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            rows = parser.parse_integer(allow_boolean=False, allow_negative=False)
            parser.parse_keyword("rows")
            parser.parse_punctuation(",")
            heads = parser.parse_integer(allow_boolean=False, allow_negative=False)
            parser.parse_keyword("heads")
        return (IntegerAttr(rows, i64), IntegerAttr(heads, i64))

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(f"{self.rows.value.data} rows, {self.heads.value.data} heads")

    def verify(self) -> None:
        for what, size in (("row", self.rows), ("head", self.heads)):
            if size.value.data < 1:
                raise VerifyException(f"a tile has at least one {what}, got {size.value.data}")


def pattern_of(weight: SSAValue) -> tuple[Pattern, str]:
    """Pattern and encoding of a weight value; a type without encoding is dense."""
    encoding = tensor_of(weight).encoding
    if isinstance(encoding, PatternAttr):
        return encoding.pattern, encoding.encoding.data
    return DENSE, "dense"


def tensor_of(value: SSAValue) -> Tensor:
    """
    The tensor type of a value.

    Raises VerifyException if the value is not a tensor of at least one axis and one element, of a static shape and with
    an integer element type of the dialect.
    """
    type_ = value.type
    if not isinstance(type_, TensorType):
        raise VerifyException(f"expected a tensor, got {type_}")
    tensor = cast(Tensor, type_)
    if tensor.element_type not in (*ELEMENT_TYPES, si64):
        raise VerifyException(f"element type {tensor.element_type} is none of si8, ui8, si16, si32")
    if DYNAMIC_INDEX in tensor.get_shape():
        raise VerifyException(f"{tensor} has a dynamic shape")
    if not tensor.get_shape() or 0 in tensor.get_shape():
        raise VerifyException(f"{tensor} has no axis or no elements")
    return tensor


def element_of(value: SSAValue) -> IntegerType:
    """The element type of a tensor value."""
    return cast(IntegerType, tensor_of(value).element_type)


def integer(value: int) -> Integer:
    """A 64-bit integer attribute."""
    return IntegerAttr(value, i64)


def integer_value(attribute: Attribute) -> int:
    """The value of an integer attribute."""
    return cast(Integer, attribute).value.data


def integers(values: Sequence[int]) -> DenseArrayBase[I64]:
    """An array of 64-bit integers."""
    return DenseArrayBase.from_list(i64, list(values))


def integer_values(array: DenseArrayBase) -> tuple[int, ...]:
    """The values of an array of integers."""
    return tuple(int(value) for value in cast("DenseArrayBase[IntegerType]", array).get_values())


def _expect_element(value: SSAValue, allowed: Sequence[IntegerType], what: str) -> Tensor:
    tensor = tensor_of(value)
    names = " or ".join(str(t) for t in allowed)
    expect(tensor.element_type in allowed, f"{what} must be {names}, got {tensor.element_type}")
    return tensor


def _expect_int32(value: int, what: str) -> None:
    expect(-(2**31) <= value < 2**31, f"{what} {value} does not fit int32")


@irdl_op_definition
class WeightOp(IRDLOperation):
    """
    A constant of the model, held by the weight store under its name and never spelt out in the IR.

    ```mlir
    %w = nm.weight @encoder.layer.0.output.dense.weight : tensor<384x1536xsi8, #nm.pattern<2:4, bitmap>>
    ```
    """

    name = "nm.weight"
    weight = prop_def(SymbolRefAttr)
    """Name in the weight store."""
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$weight attr-dict `:` type($result)"

    def __init__(self, weight: str, result_type: Attribute):
        super().__init__(properties={"weight": SymbolRefAttr(weight)}, result_types=[result_type])

    @property
    def store_name(self) -> str:
        """Name in the weight store."""
        return self.weight.root_reference.data

    def verify_(self) -> None:
        tensor = tensor_of(self.result)
        if isinstance(tensor.encoding, PatternAttr):
            expect(len(tensor.get_shape()) == 2, "a pattern needs a weight of two axes [N, K]")
            expect(tensor.element_type == si8, "a pattern needs a weight of si8")


@irdl_op_definition
class ProductOp(IRDLOperation):
    """
    Product of activations `[..., K]` with a weight `[N, K]`: `acc[..., n] = sum_k x[..., k] * w[n, k]`, in int32.

    Of 16-bit activations it is `256 * high + low` in int64, high and low being the int32 sums over the upper and the
    lower bytes (`sta.spec.wide_product`).

    ```mlir
    %acc = nm.product %x, %w : tensor<1x128x384xsi8>, tensor<384x384xsi8> -> tensor<1x128x384xsi32>
    %wide = nm.product %y, %w : tensor<1x128x384xsi16>, tensor<384x384xsi8> -> tensor<1x128x384xsi64>
    ```
    """

    name = "nm.product"
    x = operand_def(TensorType)
    weight = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x `,` $weight attr-dict `:` type($x) `,` type($weight) `->` type($result)"

    def __init__(self, x: SSAValue, weight: SSAValue):
        shape = (*tensor_of(x).get_shape()[:-1], tensor_of(weight).get_shape()[0])
        super().__init__(operands=[x, weight], result_types=[TensorType(si64 if is_wide(x) else si32, shape)])

    def verify_(self) -> None:
        accumulator = si64 if is_wide(self.x) else si32
        _verify_product(self.x, self.weight, _expect_element(self.result, (accumulator,), "the result"))


def is_wide(x: SSAValue) -> bool:
    """True if a product with these activations makes two passes: if they have 16 bits."""
    return element_of(x) == si16


def _verify_product(x: SSAValue, weight: SSAValue, result: Tensor) -> None:
    x_shape = _expect_element(x, (si8, ui8, si16), "the activations").get_shape()
    w_shape = _expect_element(weight, (si8,), "the weight").get_shape()
    expect(len(w_shape) == 2, f"the weight must have two axes [N, K], got {len(w_shape)}")
    expect(x_shape[-1] == w_shape[1], f"K is {x_shape[-1]} in the activations and {w_shape[1]} in the weight")
    expected = (*x_shape[:-1], w_shape[0])
    expect(result.get_shape() == expected, f"the result must have shape {expected}, got {result.get_shape()}")


@irdl_op_definition
class DynamicProductOp(IRDLOperation):
    """
    Product of two values, `[..., M, K]` and `[..., N, K]`: `acc[..., i, j] = sum_k a[..., i, k] * b[..., j, k]`, in
    int32 (`sta.spec.integers.matrix_product`). Leading axes broadcast.

    Of 16-bit `a` it is `256 * high + low` in int64, as for `nm.product`.

    ```mlir
    %acc = nm.dynamic_product %a, %b : tensor<2x8x6xsi8>, tensor<1x4x6xsi8> -> tensor<2x8x4xsi32>
    ```
    """

    name = "nm.dynamic_product"
    a = operand_def(TensorType)
    b = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$a `,` $b attr-dict `:` type($a) `,` type($b) `->` type($result)"

    def __init__(self, a: SSAValue, b: SSAValue):
        super().__init__(operands=[a, b], result_types=[TensorType(si64 if is_wide(a) else si32, dynamic_shape(a, b))])

    def verify_(self) -> None:
        accumulator = si64 if is_wide(self.a) else si32
        _verify_dynamic_product(self.a, self.b, _expect_element(self.result, (accumulator,), "the result"))


def dynamic_shape(a: SSAValue, b: SSAValue) -> tuple[int, ...]:
    """
    The shape `[..., M, N]` of the product of two values, `[..., M, K]` and `[..., N, K]`.

    Raises VerifyException if they have fewer than two axes, or leading axes that do not broadcast.
    """
    left, right = tensor_of(a).get_shape(), tensor_of(b).get_shape()
    expect(min(len(left), len(right)) >= 2, f"the factors must have two axes or more, got {left} and {right}")
    try:
        leading = broadcast_shapes(left[:-2], right[:-2])
    except ValueError:
        raise VerifyException(f"the leading axes of {left} and {right} do not broadcast") from None
    return (*leading, left[-2], right[-2])


def _verify_dynamic_product(a: SSAValue, b: SSAValue, result: Tensor) -> None:
    left = _expect_element(a, (si8, ui8, si16), "the first factor").get_shape()
    right = _expect_element(b, (si8,), "the second factor").get_shape()
    expected = dynamic_shape(a, b)
    expect(left[-1] == right[-1], f"K is {left[-1]} in the first factor and {right[-1]} in the second")
    expect(left[-1] <= LONGEST_SUM, f"sums over {left[-1]} elements could leave int32: at most {LONGEST_SUM} cannot")
    expect(result.get_shape() == expected, f"the result must have shape {expected}, got {result.get_shape()}")


@irdl_op_definition
class RescaleOp(IRDLOperation):
    """
    `apply_scale_32(x + bias, multiplier, shift)` with one bias and one scale for the tensor; the result is not
    saturated. The operand may be `si64` if it is the product of two values.

    ```mlir
    %y = nm.rescale %x bias -3 scale <1073741824, 31> : tensor<8x4xsi16> -> tensor<8x4xsi32>
    ```
    """

    name = "nm.rescale"
    x = operand_def(TensorType)
    bias = prop_def(INTEGER, default_value=ZERO)
    scale = prop_def(ScaleAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x (`bias` $bias^)? `scale` $scale attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue, bias: int, multiplier: int, shift: int):
        super().__init__(
            operands=[x],
            properties={"bias": integer(bias), "scale": ScaleAttr(multiplier, shift)},
            result_types=[TensorType(si32, tensor_of(x).get_shape())],
        )

    def verify_(self) -> None:
        _expect_int32(self.bias.value.data, "the bias")
        wide = (si64,) if isinstance(self.x.owner, DynamicProductOp) else ()
        _verify_elementwise(self.x, self.result, (*ELEMENT_TYPES, *wide))


def _verify_elementwise(x: SSAValue, result: SSAValue, allowed: Sequence[IntegerType] = ELEMENT_TYPES) -> None:
    shape = _expect_element(x, allowed, "the operand").get_shape()
    result_shape = _expect_element(result, (si32,), "the result").get_shape()
    expect(shape == result_shape, f"the result must have shape {shape}, got {result_shape}")


@irdl_op_definition
class RescaleChannelsOp(IRDLOperation):
    """
    `apply_scale_32(x + bias[n], multiplier[n], shift[n])` along the last axis; the result is not saturated.

    ```mlir
    %y = nm.rescale_channels %acc, %bias, %multiplier, %shift : tensor<8x4xsi32>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8> -> tensor<8x4xsi32>
    ```
    """  # noqa: E501

    name = "nm.rescale_channels"
    x = operand_def(TensorType)
    bias = operand_def(TensorType)
    multiplier = operand_def(TensorType)
    shift = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = (
        "$x `,` $bias `,` $multiplier `,` $shift attr-dict `:` type($x) `,` type($bias) `,` type($multiplier) `,` "
        "type($shift) `->` type($result)"
    )

    def __init__(self, x: SSAValue, bias: SSAValue, multiplier: SSAValue, shift: SSAValue):
        super().__init__(
            operands=[x, bias, multiplier, shift],
            result_types=[TensorType(si32, tensor_of(x).get_shape())],
        )

    def verify_(self) -> None:
        _verify_elementwise(self.x, self.result, (*ELEMENT_TYPES, si64))
        _verify_channels(tensor_of(self.x).get_shape()[-1], self.bias, self.multiplier, self.shift)


def _verify_channels(channels: int, bias: SSAValue, multiplier: SSAValue, shift: SSAValue) -> None:
    for value, element, what in ((bias, si32, "bias"), (multiplier, si32, "multiplier"), (shift, si8, "shift")):
        shape = _expect_element(value, (element,), f"the {what}").get_shape()
        expect(shape == (channels,), f"the {what} must have shape ({channels},), got {shape}")


@irdl_op_definition
class TableOp(IRDLOperation):
    """
    TOSA TABLE on the input saturated to 16 bits: 513 entries, linear interpolation, 7 fraction bits in the result.

    ```mlir
    %y = nm.table %x, %table : tensor<8x4xsi32>, tensor<513xsi16> -> tensor<8x4xsi32>
    ```
    """

    name = "nm.table"
    x = operand_def(TensorType)
    table = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x `,` $table attr-dict `:` type($x) `,` type($table) `->` type($result)"

    def __init__(self, x: SSAValue, table: SSAValue):
        super().__init__(operands=[x, table], result_types=[TensorType(si32, tensor_of(x).get_shape())])

    def verify_(self) -> None:
        _verify_elementwise(self.x, self.result)
        _verify_table(self.table)


def _verify_table(table: SSAValue) -> None:
    shape = _expect_element(table, (si16,), "the table").get_shape()
    expect(shape == (TABLE_ENTRIES,), f"the table must have {TABLE_ENTRIES} entries, got shape {shape}")


class CombinationOp(IRDLOperation):
    """
    Common base of operations on two int32 tensors, one of which broadcasts to the other's shape, by
    `sta.spec.vector.combined`.
    """

    COMBINE: ClassVar[str]
    """The combination, of `sta.spec.vector.COMBINATIONS`."""
    EXCHANGED: ClassVar[str]
    """The same with exchanged operands."""

    a = operand_def(TensorType)
    b = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$a `,` $b attr-dict `:` type($a) `,` type($b) `->` type($result)"

    def __init__(self, a: SSAValue, b: SSAValue):
        super().__init__(operands=[a, b], result_types=[max(a, b, key=_extent).type])

    def verify_(self) -> None:
        result = _expect_element(self.result, (si32,), "the result")
        operands = [_expect_element(value, (si32,), "an operand") for value in (self.a, self.b)]
        shapes = [operand.get_shape() for operand in operands]
        expect(result.get_shape() in shapes, f"neither operand has the result's shape {result.get_shape()}: {shapes}")
        for operand, what in zip(operands, ("the first operand", "the second operand"), strict=True):
            _verify_broadcast(operand, result, what)


def _extent(value: SSAValue) -> tuple[int, int]:
    """Axes and elements of a tensor: of two that broadcast, the result has the larger one's shape."""
    tensor = tensor_of(value)
    return tensor.get_num_dims(), tensor.element_count()


@irdl_op_definition
class AddOp(CombinationOp):
    """
    Sum of two int32 tensors; one of them broadcasts to the other.

    ```mlir
    %c = nm.add %a, %b : tensor<8x4xsi32>, tensor<4xsi32> -> tensor<8x4xsi32>
    ```
    """

    name = "nm.add"
    COMBINE: ClassVar[str] = "add"
    EXCHANGED: ClassVar[str] = "add"


@irdl_op_definition
class SubtractOp(CombinationOp):
    """
    Difference `a - b` of two int32 tensors; one of them broadcasts to the other.

    ```mlir
    %c = nm.subtract %a, %b : tensor<8x4xsi32>, tensor<8x1xsi32> -> tensor<8x4xsi32>
    ```
    """

    name = "nm.subtract"
    COMBINE: ClassVar[str] = "subtract"
    EXCHANGED: ClassVar[str] = "subtract_from"


@irdl_op_definition
class MaximumOp(CombinationOp):
    """
    The larger of two int32 tensors, element by element; one of them broadcasts to the other.

    ```mlir
    %c = nm.maximum %a, %b : tensor<8x4xsi32>, tensor<1x4xsi32> -> tensor<8x4xsi32>
    ```
    """

    name = "nm.maximum"
    COMBINE: ClassVar[str] = "maximum"
    EXCHANGED: ClassVar[str] = "maximum"


@irdl_op_definition
class MinimumOp(CombinationOp):
    """
    The smaller of two int32 tensors, element by element; one of them broadcasts to the other.

    ```mlir
    %c = nm.minimum %a, %b : tensor<8x4xsi32>, tensor<1xsi32> -> tensor<8x4xsi32>
    ```
    """

    name = "nm.minimum"
    COMBINE: ClassVar[str] = "minimum"
    EXCHANGED: ClassVar[str] = "minimum"


def _verify_broadcast(tensor: Tensor, full: Tensor, what: str) -> None:
    shape, target = tensor.get_shape(), full.get_shape()
    fits = len(shape) <= len(target) and all(
        a in (1, b) for a, b in zip(reversed(shape), reversed(target), strict=False)
    )
    expect(fits, f"{what} of shape {shape} does not broadcast to {target}")


@irdl_op_definition
class MultiplyOp(IRDLOperation):
    """
    `apply_scale_32(saturate16(a) * saturate16(b + bias), multiplier, shift)`, by `sta.spec.vector.gated_product`; the
    second factor is a stored tensor and broadcasts to the first. The result is not saturated.

    ```mlir
    %y = nm.multiply %a, %b bias -3 scale <1073741824, 45> : tensor<8x4xsi32>, tensor<8x4xsi16> -> tensor<8x4xsi32>
    ```
    """

    name = "nm.multiply"
    a = operand_def(TensorType)
    b = operand_def(TensorType)
    bias = prop_def(INTEGER, default_value=ZERO)
    scale = prop_def(ScaleAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$a `,` $b (`bias` $bias^)? `scale` $scale attr-dict `:` type($a) `,` type($b) `->` type($result)"

    def __init__(self, a: SSAValue, b: SSAValue, bias: int, multiplier: int, shift: int):
        super().__init__(
            operands=[a, b],
            properties={"bias": integer(bias), "scale": ScaleAttr(multiplier, shift)},
            result_types=[TensorType(si32, tensor_of(a).get_shape())],
        )

    def verify_(self) -> None:
        _expect_int32(self.bias.value.data, "the bias")
        _verify_elementwise(self.a, self.result)
        _verify_broadcast(_expect_element(self.b, (si8, si16), "a factor"), tensor_of(self.result), "the second factor")


@irdl_op_definition
class ClampOp(IRDLOperation):
    """
    `saturate(x + zero_point)` to the result's element type.

    ```mlir
    %y = nm.clamp %x zero_point -3 : tensor<8x4xsi32> -> tensor<8x4xsi8>
    ```
    """

    name = "nm.clamp"
    x = operand_def(TensorType)
    zero_point = prop_def(INTEGER, default_value=ZERO)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x (`zero_point` $zero_point^)? attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue, zero_point: int, element_type: IntegerType):
        super().__init__(
            operands=[x],
            properties={"zero_point": integer(zero_point)},
            result_types=[TensorType(element_type, tensor_of(x).get_shape())],
        )

    def verify_(self) -> None:
        shape = _expect_element(self.x, (si32,), "the operand").get_shape()
        result_shape = _expect_element(self.result, (si8, ui8, si16), "the result").get_shape()
        expect(shape == result_shape, f"the result must have shape {shape}, got {result_shape}")
        _expect_int32(self.zero_point.value.data, "the zero point")


class EpilogueOp(IRDLOperation):
    """Common base of `nm.linear` and `nm.map`: the vector unit's pipeline `sta.spec.vector.map_tile`."""

    table = opt_operand_def(TensorType)
    """513 entries, read by the value saturated to 16 bits."""
    residual = opt_operand_def(TensorType)
    """Combined with the value after its own rescaling; broadcasts to the result's shape."""
    combine = prop_def(StringAttr, default_value=StringAttr(ADD))
    """The combination with the residual, of `sta.spec.vector.COMBINATIONS`; a sum by default."""
    table_scale = prop_def(ScaleAttr, default_value=IDENTITY)
    residual_bias = prop_def(INTEGER, default_value=ZERO)
    residual_scale = prop_def(ScaleAttr, default_value=IDENTITY)
    zero_point = prop_def(INTEGER, default_value=ZERO)
    result = result_def(TensorType)

    def verify_epilogue(self) -> None:
        """Raises VerifyException if the vector unit does not accept the table, the residual or a scale."""
        _expect_int32(self.residual_bias.value.data, "the residual bias")
        _expect_int32(self.zero_point.value.data, "the zero point")
        result = _expect_element(self.result, ELEMENT_TYPES, "the result")
        if self.table is not None:
            _verify_table(self.table)
        combine = self.combine.data
        expect(combine in COMBINATIONS, f"combination '{combine}' is none of {', '.join(COMBINATIONS)}")
        expect(combine == ADD or self.residual is not None, f"there is nothing to combine by '{combine}'")
        if self.residual is not None:
            residual = _expect_element(self.residual, (si8, si16, si32), "the residual")
            _verify_broadcast(residual, result, "the residual")


_EPILOGUE = (
    "(`table` $table^)? (`table_scale` $table_scale^)? (`residual` $residual^)? "
    "(`combine` custom<Word>($combine)^)? (`residual_bias` $residual_bias^)? (`residual_scale` $residual_scale^)? "
    "(`zero_point` $zero_point^)? attr-dict"
)
_EPILOGUE_TYPES = "custom<OptionalTypes>(ref($table), type($table), ref($residual), type($residual)) `->` type($result)"


def epilogue_properties(
    *,
    table_scale: tuple[int, int] = IDENTITY_SCALE,
    residual_bias: int = 0,
    residual_scale: tuple[int, int] = IDENTITY_SCALE,
    zero_point: int = 0,
    combine: str = ADD,
) -> dict[str, Attribute]:
    """The properties of an epilogue, unused stages being the identity."""
    return {
        "table_scale": ScaleAttr(*table_scale),
        "residual_bias": integer(residual_bias),
        "residual_scale": ScaleAttr(*residual_scale),
        "zero_point": integer(zero_point),
        "combine": StringAttr(combine),
    }


@irdl_op_definition
class LinearOp(EpilogueOp):
    """
    A product with its epilogue: bias, requantization per channel, activation table and residual, applied as the
    accumulators drain.

    ```mlir
    %y = nm.linear %x, %w, %bias, %multiplier, %shift residual %r residual_scale <1073741824, 31> : tensor<8x6xsi8>, tensor<4x6xsi8>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi8>, tensor<8x4xsi16> -> tensor<8x4xsi16>
    ```
    """  # noqa: E501

    name = "nm.linear"
    x = operand_def(TensorType)
    weight = operand_def(TensorType)
    bias = operand_def(TensorType)
    multiplier = operand_def(TensorType)
    shift = operand_def(TensorType)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    custom_directives = (OptionalTypes, Word)
    assembly_format = (
        f"$x `,` $weight `,` $bias `,` $multiplier `,` $shift {_EPILOGUE} `:` type($x) `,` type($weight) `,` "
        f"type($bias) `,` type($multiplier) `,` type($shift) {_EPILOGUE_TYPES}"
    )
    traits = traits_def(Pure())

    def __init__(
        self,
        product: tuple[SSAValue, SSAValue],
        scales: tuple[SSAValue, SSAValue, SSAValue],
        table: SSAValue | None,
        residual: SSAValue | None,
        scalars: dict[str, Attribute],
        result_type: Attribute,
    ):
        super().__init__(
            operands=[*product, *scales, table, residual],
            properties=scalars,
            result_types=[result_type],
        )

    def verify_(self) -> None:
        _verify_product(self.x, self.weight, tensor_of(self.result))
        _verify_channels(tensor_of(self.weight).get_shape()[0], self.bias, self.multiplier, self.shift)
        self.verify_epilogue()


@irdl_op_definition
class MatmulOp(EpilogueOp):
    """
    A product of two values with its epilogue: bias and scale of the whole tensor, table and residual, applied as the
    accumulators drain.

    ```mlir
    %y = nm.matmul %a, %b scale <1073741824, 38> : tensor<2x8x6xsi16>, tensor<1x4x6xsi8> -> tensor<2x8x4xsi16>
    ```
    """

    name = "nm.matmul"
    a = operand_def(TensorType)
    b = operand_def(TensorType)
    bias = prop_def(INTEGER, default_value=ZERO)
    scale = prop_def(ScaleAttr, default_value=IDENTITY)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    custom_directives = (OptionalTypes, Word)
    assembly_format = (
        f"$a `,` $b (`bias` $bias^)? (`scale` $scale^)? {_EPILOGUE} `:` type($a) `,` type($b) {_EPILOGUE_TYPES}"
    )
    traits = traits_def(Pure())

    def __init__(
        self,
        factors: tuple[SSAValue, SSAValue],
        scale: tuple[int, int, int],
        table: SSAValue | None,
        residual: SSAValue | None,
        scalars: dict[str, Attribute],
        result_type: Attribute,
    ):
        super().__init__(
            operands=[*factors, table, residual],
            properties={"bias": integer(scale[0]), "scale": ScaleAttr(*scale[1:]), **scalars},
            result_types=[result_type],
        )

    def verify_(self) -> None:
        _expect_int32(self.bias.value.data, "the bias")
        _verify_dynamic_product(self.a, self.b, tensor_of(self.result))
        self.verify_epilogue()


@irdl_op_definition
class MapOp(EpilogueOp):
    """
    One pass of the vector unit over a tensor: bias and scale of the whole tensor, table, residual, saturation.

    ```mlir
    %y = nm.map %x scale <1073741824, 34> table %t zero_point -3 : tensor<8x4xsi16>, tensor<513xsi16> -> tensor<8x4xsi8>
    ```
    """

    name = "nm.map"
    x = operand_def(TensorType)
    bias = prop_def(INTEGER, default_value=ZERO)
    scale = prop_def(ScaleAttr, default_value=IDENTITY)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    custom_directives = (OptionalTypes, Word)
    assembly_format = f"$x (`bias` $bias^)? (`scale` $scale^)? {_EPILOGUE} `:` type($x) {_EPILOGUE_TYPES}"
    traits = traits_def(Pure())

    def __init__(
        self,
        x: SSAValue,
        scale: tuple[int, int, int],
        table: SSAValue | None,
        residual: SSAValue | None,
        scalars: dict[str, Attribute],
        result_type: Attribute,
    ):
        own = {"bias": integer(scale[0]), "scale": ScaleAttr(*scale[1:])}
        super().__init__(operands=[x, table, residual], properties={**scalars, **own}, result_types=[result_type])

    def verify_(self) -> None:
        _expect_int32(self.bias.value.data, "the bias")
        shape = _expect_element(self.x, ELEMENT_TYPES, "the operand").get_shape()
        expect(shape == tensor_of(self.result).get_shape(), f"the result must have shape {shape}")
        self.verify_epilogue()


@irdl_op_definition
class NormOp(IRDLOperation):
    """
    LayerNorm or RMSNorm over the last axis of the 16-bit stream (`sta.spec.norm`), and optionally its rescaled 8-bit
    copy, written together.

    ```mlir
    %y, %copy = nm.norm layer %x, %gamma, %beta epsilon 1 shift 30 copy_scale <1073741824, 38> : tensor<8x4xsi16>, tensor<4xsi32>, tensor<4xsi32> -> tensor<8x4xsi16> copy tensor<8x4xsi8>
    ```
    """  # noqa: E501

    name = "nm.norm"
    KINDS: ClassVar[tuple[str, ...]] = KINDS

    x = operand_def(TensorType)
    gamma = operand_def(TensorType)
    beta = operand_def(TensorType)
    kind = prop_def(StringAttr)
    epsilon = prop_def(INTEGER)
    shift = prop_def(INTEGER)
    copy_scale = prop_def(ScaleAttr, default_value=IDENTITY)
    copy_zero_point = prop_def(INTEGER, default_value=ZERO)
    result = opt_result_def(TensorType)
    copy = opt_result_def(TensorType)
    irdl_options = (AttrSizedResultSegments(as_property=True),)
    custom_directives = (Word,)
    assembly_format = (
        "custom<Word>($kind) $x `,` $gamma `,` $beta `epsilon` $epsilon `shift` $shift (`copy_scale` $copy_scale^)? "
        "(`copy_zero_point` $copy_zero_point^)? attr-dict `:` type($x) `,` type($gamma) `,` type($beta) "
        "(`->` type($result)^)? (`copy` type($copy)^)?"
    )
    traits = traits_def(Pure())

    def __init__(
        self,
        x: SSAValue,
        gamma: SSAValue,
        beta: SSAValue,
        kind: str,
        epsilon: int,
        shift: int,
        copy_scale: tuple[int, int, int] | None = None,
        stream: bool = True,
    ):
        shape = tensor_of(x).get_shape()
        multiplier, copy_shift, zero_point = copy_scale or (*IDENTITY_SCALE, 0)
        super().__init__(
            operands=[x, gamma, beta],
            properties={
                "kind": StringAttr(kind),
                "epsilon": integer(epsilon),
                "shift": integer(shift),
                "copy_scale": ScaleAttr(multiplier, copy_shift),
                "copy_zero_point": integer(zero_point),
            },
            result_types=[
                [TensorType(si16, shape)] if stream else [],
                [TensorType(si8, shape)] if copy_scale is not None else [],
            ],
        )

    def verify_(self) -> None:
        shape = _expect_element(self.x, (si16,), "the operand").get_shape()
        for value, what in ((self.gamma, "gamma"), (self.beta, "beta")):
            other = _expect_element(value, (si32,), what).get_shape()
            expect(other == shape[-1:], f"{what} must have shape {shape[-1:]}, got {other}")
        expect(self.kind.data in self.KINDS, f"kind '{self.kind.data}' is not one of {', '.join(self.KINDS)}")
        expect(shape[-1] <= LARGEST_WIDTH, f"a row of {shape[-1]} is longer than {LARGEST_WIDTH}")
        expect(self.epsilon.value.data >= 1, "epsilon must be at least 1")
        expect(self.epsilon.value.data < EPSILON_LIMIT, f"epsilon must be below {EPSILON_LIMIT}")
        expect(0 <= self.shift.value.data <= 63, f"shift {self.shift.value.data} is outside [0, 63]")
        _expect_int32(self.copy_zero_point.value.data, "the copy's zero point")
        expect(bool(self.results), "a norm without result")
        for value, element in ((self.result, si16), (self.copy, si8)):
            if value is not None:
                other = _expect_element(value, (element,), "the result").get_shape()
                expect(other == shape, f"the result must have shape {shape}, got {other}")


@irdl_op_definition
class RotateOp(IRDLOperation):
    """
    Rotary position embeddings: pairs of the first `width` elements of the last axis, rotated by angles
    (`sta.spec.rotation.rotate_rows`). Cosines and sines broadcast to `x` with the whole last axis; the signs of a
    rotation are in the sines (`sta.spec.rotation.rotation_tables`).

    ```mlir
    %y = nm.rotate half 4 of %x by %cosines, %sines scale <1073741824, 45> : tensor<1x2x6x4xsi16>, tensor<6x4xsi16>, tensor<6x4xsi16> -> tensor<1x2x6x4xsi8>
    ```
    """  # noqa: E501

    name = "nm.rotate"
    x = operand_def(TensorType)
    cosines = operand_def(TensorType)
    sines = operand_def(TensorType)
    pairing = prop_def(StringAttr)
    width = prop_def(INTEGER)
    scale = prop_def(ScaleAttr)
    result = result_def(TensorType)
    custom_directives = (Word,)
    assembly_format = (
        "custom<Word>($pairing) $width `of` $x `by` $cosines `,` $sines `scale` $scale attr-dict `:` type($x) `,` "
        "type($cosines) `,` type($sines) `->` type($result)"
    )
    traits = traits_def(Pure())

    def __init__(
        self,
        x: SSAValue,
        tables: tuple[SSAValue, SSAValue],
        pairing: str,
        width: int,
        scale: tuple[int, int],
        element_type: IntegerType,
    ):
        """`tables` are the cosines and the sines; `scale` takes products with them to units of the result."""
        super().__init__(
            operands=[x, *tables],
            properties={"pairing": StringAttr(pairing), "width": integer(width), "scale": ScaleAttr(*scale)},
            result_types=[TensorType(element_type, tensor_of(x).get_shape())],
        )

    def verify_(self) -> None:
        shape = _expect_element(self.x, (si8, si16), "the operand").get_shape()
        result = _expect_element(self.result, (si8, si16), "the result")
        expect(result.get_shape() == shape, f"the result must have shape {shape}, got {result.get_shape()}")
        for value, what in ((self.cosines, "the cosines"), (self.sines, "the sines")):
            table = _expect_element(value, (si16,), what)
            _verify_broadcast(table, result, what)
            expect(table.get_shape()[-1] == shape[-1], f"{what} must have all {shape[-1]} elements of the last axis")
        expect_rotation(shape[-1], self.width.value.data, self.pairing.data)


def expect_rotation(columns: int, width: int, pairing: str) -> None:
    """Raises VerifyException unless pairs of so many columns can be rotated."""
    try:
        partners(columns, width, pairing)
    except ValueError as error:
        raise VerifyException(str(error)) from None


@irdl_op_definition
class GatherOp(IRDLOperation):
    """
    Rows of an embedding table: `result[..., :] = table[indices[...], :]`.

    ```mlir
    %rows = nm.gather %table, %ids : tensor<30522x384xsi16>, tensor<1x128xsi32> -> tensor<1x128x384xsi16>
    ```
    """

    name = "nm.gather"
    table = operand_def(TensorType)
    indices = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$table `,` $indices attr-dict `:` type($table) `,` type($indices) `->` type($result)"

    def __init__(self, table: SSAValue, indices: SSAValue):
        table_type = tensor_of(table)
        shape = (*tensor_of(indices).get_shape(), table_type.get_shape()[1])
        super().__init__(operands=[table, indices], result_types=[TensorType(table_type.element_type, shape)])

    def verify_(self) -> None:
        table = tensor_of(self.table)
        expect(len(table.get_shape()) == 2, "the table must have two axes [rows, width]")
        indices = _expect_element(self.indices, (si32,), "the indices")
        expected = (*indices.get_shape(), table.get_shape()[1])
        result = tensor_of(self.result)
        expect(result.get_shape() == expected, f"the result must have shape {expected}, got {result.get_shape()}")
        expect(result.element_type == table.element_type, "the result's element type is not the table's")


@irdl_op_definition
class AttentionOp(IRDLOperation):
    """
    Scaled dot-product attention with its softmax, on `[B, H, S, D]` operands: int32 scores, un-normalized exponentials
    with their own sum, and the reciprocal of the sum applied as P.V drains (see `sta.spec.softmax`). Scores and
    exponentials are not values of the program: they never leave the chip. k and v may have fewer heads than q; each of
    their heads then serves several successive heads of q. v may have another width, which the result then has.

    The softmax is over whole rows (`row`), or, with a `chunk`, over that many keys at a time (`online`). Chunks
    determine bits, so they are fixed before anything is tiled.

    `permutation` names, for each axis of the result, an axis of `[B, H, S, D]`: attention writes its output in the
    layout of its consumer.

    ```mlir
    %y = nm.attention %q, %k, %v mask %m score_scale <1880514136, 35> output_scale <1646651973, 30> permutation [0, 2, 1, 3] : tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x2x6x4xsi8>, tensor<1x1x1x6xui8> -> tensor<1x6x2x4xsi8>
    ```
    """  # noqa: E501

    name = "nm.attention"
    q = operand_def(TensorType)
    k = operand_def(TensorType)
    v = operand_def(TensorType)
    mask = opt_operand_def(TensorType)
    """`ui8`, broadcastable to `[B, H, Sq, Sk]` with all keys; a key is admissible where it is not 0."""
    bias = opt_operand_def(TensorType)
    """`si16`, broadcastable to `[B, H, Sq, Sk]` with all keys: added to the scores, by `bias_scale`."""
    score_scale = prop_def(ScaleAttr)
    """Scale of a score to log2 units with 10 fraction bits."""
    bias_scale = opt_prop_def(ScaleAttr)
    """Likewise of a bias, if there is one."""
    output_scale = prop_def(ScaleAttr)
    zero_point = prop_def(INTEGER, default_value=ZERO)
    causal = opt_prop_def(UnitAttr)
    probability_bits = opt_prop_def(INTEGER)
    """Width of the exponentials, 8 or 16; 8 by default."""
    chunk = opt_prop_def(INTEGER)
    """Keys of a step of an `online` softmax."""
    permutation = prop_def(INTEGERS, default_value=DenseArrayBase.from_list(i64, (0, 1, 2, 3)))
    result = result_def(TensorType)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    custom_directives = (OptionalTypes,)
    traits = traits_def(Pure())
    assembly_format = (
        "$q `,` $k `,` $v (`mask` $mask^)? (`bias` $bias^)? (`causal` $causal^)? `score_scale` $score_scale "
        "(`bias_scale` $bias_scale^)? `output_scale` $output_scale (`zero_point` $zero_point^)? "
        "(`probability_bits` $probability_bits^)? (`chunk` $chunk^)? "
        "(`permutation` $permutation^)? attr-dict `:` type($q) `,` type($k) `,` type($v) "
        "custom<OptionalTypes>(ref($mask), type($mask), ref($bias), type($bias)) `->` type($result)"
    )

    def __init__(
        self,
        operands: tuple[SSAValue, SSAValue, SSAValue],
        mask: SSAValue | None,
        score_scale: tuple[int, int],
        output_scale: tuple[int, int, int],
        causal: bool,
        element_type: IntegerType,
        permutation: Sequence[int] = (0, 1, 2, 3),
        *,
        bits: int = 8,
        chunk: int | None = None,
        bias: tuple[SSAValue, tuple[int, int]] | None = None,
    ):
        """`bias` is a value and its scale, multiplier and shift."""
        shape = (*tensor_of(operands[0]).get_shape()[:3], tensor_of(operands[2]).get_shape()[3])
        properties: dict[str, Attribute] = {
            "score_scale": ScaleAttr(*score_scale),
            "output_scale": ScaleAttr(*output_scale[:2]),
            "zero_point": integer(output_scale[2]),
            "permutation": integers(permutation),
        }
        if causal:
            properties["causal"] = UnitAttr()
        if bits != 8:
            properties["probability_bits"] = integer(bits)
        if chunk is not None:
            properties["chunk"] = integer(chunk)
        if bias is not None:
            properties["bias_scale"] = ScaleAttr(*bias[1])
        super().__init__(
            operands=[*operands, mask, None if bias is None else bias[0]],
            properties=properties,
            result_types=[TensorType(element_type, [shape[axis] for axis in permutation])],
        )

    @property
    def axes(self) -> tuple[int, ...]:
        """The permutation as integers."""
        return integer_values(self.permutation)

    @property
    def bias_and_scale(self) -> tuple[SSAValue, tuple[int, int]] | None:
        """The bias, and the multiplier and the shift of its scale."""
        return None if self.bias is None or self.bias_scale is None else (self.bias, self.bias_scale.pair)

    @property
    def bits(self) -> int:
        """Width of the exponentials."""
        return 8 if self.probability_bits is None else self.probability_bits.value.data

    @property
    def chunk_keys(self) -> int | None:
        """Keys of a step of an online softmax; None for a softmax over whole rows."""
        return None if self.chunk is None else self.chunk.value.data

    def verify_(self) -> None:
        shapes = [_expect_element(value, (si8,), "q, k and v").get_shape() for value in (self.q, self.k, self.v)]
        expect(all(len(shape) == 4 for shape in shapes), "q, k and v must have four axes [B, H, S, D]")
        q, k, v = shapes
        fits = k[:3] == v[:3] and q[0] == k[0] and q[1] % k[1] == 0 and q[3] == k[3]
        expect(fits, f"q {q}, k {k} and v {v} do not belong together")
        self._verify_softmax(k[2])
        expect(sorted(self.axes) == [0, 1, 2, 3], f"{self.axes} is not a permutation of 0, 1, 2, 3")
        _expect_int32(self.zero_point.value.data, "the zero point")
        expected = tuple((*q[:3], v[3])[axis] for axis in self.axes)
        result = _expect_element(self.result, (si8, si16), "the result").get_shape()
        expect(result == expected, f"the result must have shape {expected}, got {result}")
        expect((self.bias is None) == (self.bias_scale is None), "a bias has a scale, and only a bias")
        full = (*q[:3], k[2])
        for value, element, what in ((self.mask, ui8, "mask"), (self.bias, si16, "bias")):
            if value is None:
                continue
            shape = _expect_element(value, (element,), f"the {what}").get_shape()
            fits = len(shape) == 4 and all(a in (1, b) for a, b in zip(shape, full, strict=True))
            expect(fits and shape[3] == full[3], f"a {what} of shape {shape} does not broadcast to {full}")

    def _verify_softmax(self, keys: int) -> None:
        """Verifies that the softmax exists, and that neither its sums nor P.V's can leave int32."""
        expect(
            self.bits in EXPONENTIAL_BITS,
            f"exponentials have {' or '.join(map(str, EXPONENTIAL_BITS))} bits, not {self.bits}",
        )
        expect(self.chunk_keys is None or self.chunk_keys >= 1, f"a chunk of {self.chunk_keys} keys")
        most = most_keys(self.bits)
        expect(keys <= most, f"{keys} keys; with exponentials of {self.bits} bits at most {most} have sums in int32")


@irdl_op_definition
class ViewOp(IRDLOperation):
    """
    The same elements in the same order under another shape.

    ```mlir
    %y = nm.view %x : tensor<1x128x384xsi8> -> tensor<1x128x12x32xsi8>
    ```
    """

    name = "nm.view"
    x = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue, shape: Sequence[int]):
        super().__init__(operands=[x], result_types=[TensorType(tensor_of(x).element_type, shape)])

    def verify_(self) -> None:
        x, result = tensor_of(self.x), tensor_of(self.result)
        expect(x.element_type == result.element_type, "a view keeps the element type")
        expect(x.element_count() == result.element_count(), f"a view keeps the element count: {x} -> {result}")


@irdl_op_definition
class PermuteOp(IRDLOperation):
    """
    The axes in another order: axis i of the result is axis `permutation[i]` of the operand.

    ```mlir
    %y = nm.permute %x by [0, 2, 1, 3] : tensor<1x128x12x32xsi8> -> tensor<1x12x128x32xsi8>
    ```
    """

    name = "nm.permute"
    x = operand_def(TensorType)
    permutation = prop_def(INTEGERS)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x `by` $permutation attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue, permutation: Sequence[int]):
        tensor = tensor_of(x)
        shape = [tensor.get_shape()[axis] for axis in permutation]
        super().__init__(
            operands=[x],
            properties={"permutation": integers(permutation)},
            result_types=[TensorType(tensor.element_type, shape)],
        )

    @property
    def axes(self) -> tuple[int, ...]:
        """The permutation as integers."""
        return integer_values(self.permutation)

    def verify_(self) -> None:
        x, result = tensor_of(self.x), tensor_of(self.result)
        expect(sorted(self.axes) == list(range(x.get_num_dims())), f"{self.axes} is not a permutation of the axes")
        expected = tuple(x.get_shape()[axis] for axis in self.axes)
        expect(result.get_shape() == expected, f"the result must have shape {expected}, got {result.get_shape()}")
        expect(x.element_type == result.element_type, "a permutation keeps the element type")


@irdl_op_definition
class SliceOp(IRDLOperation):
    """
    `x[..., start:stop:step, ...]` along one axis.

    ```mlir
    %y = nm.slice %x axis 1 from 0 to 1 : tensor<1x128x384xsi8> -> tensor<1x1x384xsi8>
    %z = nm.slice %x axis 1 from 1 to 128 step 2 : tensor<1x128x384xsi8> -> tensor<1x64x384xsi8>
    ```
    """

    name = "nm.slice"
    x = operand_def(TensorType)
    axis = prop_def(INTEGER)
    start = prop_def(INTEGER)
    stop = prop_def(INTEGER)
    step = prop_def(INTEGER, default_value=ONE)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = (
        "$x `axis` $axis `from` $start `to` $stop (`step` $step^)? attr-dict `:` type($x) `->` type($result)"
    )

    def __init__(self, x: SSAValue, axis: int, start: int, stop: int, step: int = 1):
        tensor = tensor_of(x)
        shape = list(tensor.get_shape())
        shape[axis] = len(range(start, stop, step))
        numbers = {"axis": axis, "start": start, "stop": stop, "step": step}
        super().__init__(
            operands=[x],
            properties={name: integer(number) for name, number in numbers.items()},
            result_types=[TensorType(tensor.element_type, shape)],
        )

    @property
    def positions(self) -> range:
        """The positions along the axis that are taken."""
        return range(self.start.value.data, self.stop.value.data, self.step.value.data)

    def verify_(self) -> None:
        x, result = tensor_of(self.x), tensor_of(self.result)
        axis, start, stop, step = (one.value.data for one in (self.axis, self.start, self.stop, self.step))
        expect(0 <= axis < x.get_num_dims(), f"axis {axis} of a tensor with {x.get_num_dims()} axes")
        expected = list(x.get_shape())
        expect(0 <= start < stop <= expected[axis], f"[{start}, {stop}) is outside axis {axis} of {x}")
        expect(step >= 1, f"a step of {step}, which must be at least 1")
        expected[axis] = len(self.positions)
        expect(list(result.get_shape()) == expected, f"the result must have shape {expected}")
        expect(x.element_type == result.element_type, "a slice keeps the element type")


@irdl_op_definition
class BroadcastOp(IRDLOperation):
    """
    NumPy's broadcasting of `x` to the result's shape: axes of size 1, and axes it has not, repeat.

    ```mlir
    %y = nm.broadcast %x : tensor<1x384xsi8> -> tensor<2x128x384xsi8>
    ```
    """

    name = "nm.broadcast"
    x = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue, shape: Sequence[int]):
        super().__init__(operands=[x], result_types=[TensorType(tensor_of(x).element_type, shape)])

    def verify_(self) -> None:
        x, result = tensor_of(self.x), tensor_of(self.result)
        given, full = x.get_shape(), result.get_shape()
        fits = len(given) <= len(full) and all(
            size in (1, whole) for size, whole in zip(reversed(given), reversed(full), strict=False)
        )
        expect(fits, f"{given} does not broadcast to {full}")
        expect(x.element_type == result.element_type, "broadcasting keeps the element type")


@irdl_op_definition
class ConcatenateOp(IRDLOperation):
    """
    Tensors one after the other along an axis: parts of one buffer. All have one element type, and the same integers
    mean the same in all.

    ```mlir
    %y = nm.concatenate %a, %b axis 1 : (tensor<1x1x384xsi16>, tensor<1x64x384xsi16>) -> tensor<1x65x384xsi16>
    ```
    """

    name = "nm.concatenate"
    parts = var_operand_def(TensorType)
    axis = prop_def(INTEGER)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$parts `axis` $axis attr-dict `:` functional-type(operands, results)"

    def __init__(self, parts: Sequence[SSAValue], axis: int):
        first = tensor_of(parts[0])
        shape = list(first.get_shape())
        shape[axis] = sum(tensor_of(part).get_shape()[axis] for part in parts)
        super().__init__(
            operands=[parts],
            properties={"axis": integer(axis)},
            result_types=[TensorType(first.element_type, shape)],
        )

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Start and stop of each part along the axis of the result."""
        axis = self.axis.value.data
        stops = list(accumulate(tensor_of(part).get_shape()[axis] for part in self.parts))
        return list(zip([0, *stops], stops, strict=False))

    def verify_(self) -> None:
        result, axis = tensor_of(self.result), self.axis.value.data
        expect(bool(self.parts), "there is nothing to concatenate")
        expect(0 <= axis < result.get_num_dims(), f"axis {axis} of a tensor with {result.get_num_dims()} axes")
        for part in map(tensor_of, self.parts):
            expect(part.element_type == result.element_type, "the parts and the result have one element type")
            given, full = list(part.get_shape()), list(result.get_shape())
            fits = len(given) == len(full) and given[:axis] + given[axis + 1 :] == full[:axis] + full[axis + 1 :]
            expect(fits, f"a part of shape {given} does not fit {full} along axis {axis}")
        total = self.ranges[-1][1]
        expect(result.get_shape()[axis] == total, f"the parts have {total} positions along axis {axis} of {result}")


@irdl_op_definition
class WindowsOp(IRDLOperation):
    """
    Windows along an axis: `y[..., i, ..., j] = x[..., step * i + j, ...]`. The axis counts the windows, and a new last
    axis has their `size` elements; windows may overlap.

    ```mlir
    %y = nm.windows %x axis 1 size 3 step 2 : tensor<1x9x384xsi8> -> tensor<1x4x384x3xsi8>
    ```
    """

    name = "nm.windows"
    x = operand_def(TensorType)
    axis = prop_def(INTEGER)
    size = prop_def(INTEGER)
    step = prop_def(INTEGER)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x `axis` $axis `size` $size `step` $step attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue, axis: int, size: int, step: int):
        tensor = tensor_of(x)
        shape = list(tensor.get_shape())
        shape[axis] = (shape[axis] - size) // step + 1
        super().__init__(
            operands=[x],
            properties={"axis": integer(axis), "size": integer(size), "step": integer(step)},
            result_types=[TensorType(tensor.element_type, [*shape, size])],
        )

    @property
    def numbers(self) -> tuple[int, int, int]:
        """The axis, the size of a window, and the distance from one to the next."""
        return self.axis.value.data, self.size.value.data, self.step.value.data

    def verify_(self) -> None:
        x, result = tensor_of(self.x), tensor_of(self.result)
        axis, size, step = self.numbers
        expect(0 <= axis < x.get_num_dims(), f"axis {axis} of a tensor with {x.get_num_dims()} axes")
        shape = list(x.get_shape())
        expect(1 <= size <= shape[axis], f"a window of {size} along an axis of {shape[axis]}")
        expect(step >= 1, f"windows {step} apart: each begins at least 1 behind the one before")
        shape[axis] = (shape[axis] - size) // step + 1
        expect(list(result.get_shape()) == [*shape, size], f"the result must have shape {[*shape, size]}")
        expect(x.element_type == result.element_type, "windows keep the element type")


View = ViewOp | PermuteOp | SliceOp | BroadcastOp | WindowsOp
"""Operations that move no element: their result is another layout of their operand's memory, where strides allow."""


NM = Dialect(
    "nm",
    [
        WeightOp,
        ProductOp,
        DynamicProductOp,
        RescaleOp,
        RescaleChannelsOp,
        TableOp,
        AddOp,
        SubtractOp,
        MaximumOp,
        MinimumOp,
        MultiplyOp,
        ClampOp,
        LinearOp,
        MatmulOp,
        MapOp,
        NormOp,
        RotateOp,
        GatherOp,
        AttentionOp,
        ViewOp,
        PermuteOp,
        SliceOp,
        BroadcastOp,
        ConcatenateOp,
        WindowsOp,
    ],
    [PatternAttr, ScaleAttr, MeaningAttr, LinearTilingAttr, AttentionTilingAttr],
)
