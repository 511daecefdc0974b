"""Inputs and outputs of the model, as an attribute of a function's arguments and results."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import BoolAttr, DictionaryAttr, Float64Type, FloatAttr, NoneAttr, StringAttr, f64
from xdsl.ir import Attribute, ParametrizedAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from sta.dialect.ir.format_directives import float_text
from sta.dialect.nm import Integer, integer
from sta.spec.signature import TensorSignature

PORT = "sta.port"
"""The attribute of an argument or result that says which input or output of the model it is."""
DIRECTIONS = ("input", "output")


@irdl_attr_definition
class PortAttr(ParametrizedAttribute):
    """
    An input or output of the model: its name, the meaning of its integers, and its dtypes on the host and on the
    device. Its shape is the value's own. Where inputs and outputs are both arguments, the direction comes first; `at`
    is the byte offset in DRAM, once allocated.

    ```mlir
    #sta.port<"x", quantized float32 as int8, scale 0.25, zero_point -3>
    #sta.port<input "ids", index int64 as int32, limit 30522, at 4096>
    #sta.port<input "padding", mask bool as uint8, inverted>
    ```
    """

    name = PORT

    direction: StringAttr | NoneAttr
    port: StringAttr
    kind: StringAttr
    host_dtype: StringAttr
    device_dtype: StringAttr
    scale: FloatAttr[Float64Type]
    zero_point: Integer
    limit: Integer
    inverted: BoolAttr
    offset: Integer | NoneAttr

    def __init__(self, signature: TensorSignature, direction: str | None = None, offset: int | None = None):
        super().__init__(
            NoneAttr() if direction is None else StringAttr(direction),
            *(StringAttr(text) for text in (signature.name, signature.kind)),
            *(StringAttr(dtype) for dtype in (signature.host_dtype, signature.device_dtype)),
            FloatAttr(signature.scale, f64),
            integer(signature.zero_point),
            integer(signature.limit),
            BoolAttr.from_bool(signature.inverted),
            NoneAttr() if offset is None else integer(offset),
        )

    def signature(self, shape: Sequence[int]) -> TensorSignature:
        """
        The signature of a port of `shape`.

        Raises ValueError for one that makes no sense.
        """
        return TensorSignature(
            name=self.port.data,
            shape=tuple(shape),
            host_dtype=self.host_dtype.data,
            device_dtype=self.device_dtype.data,
            kind=self.kind.data,
            scale=self.scale.value.data,
            zero_point=self.zero_point.value.data,
            limit=self.limit.value.data,
            inverted=bool(self.inverted),
        )

    @property
    def is_input(self) -> bool:
        """True if it is an input that is an argument among outputs."""
        return self.direction == StringAttr("input")

    @property
    def address(self) -> int | None:
        """Byte offset in DRAM; None before allocation."""
        return None if isinstance(self.offset, NoneAttr) else self.offset.value.data

    def directed(self, direction: str) -> PortAttr:
        """The port as an argument among inputs and outputs."""
        return PortAttr(self.signature(()), direction, self.address)

    def placed(self, offset: int) -> PortAttr:
        """The port at a byte offset in DRAM."""
        direction = None if isinstance(self.direction, NoneAttr) else self.direction.data
        return PortAttr(self.signature(()), direction, offset)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            direction = parser.parse_optional_keyword_in(DIRECTIONS)
            port = parser.parse_str_literal()
            parser.parse_punctuation(",")
            kind, host_dtype = parser.parse_identifier(), parser.parse_identifier()
            parser.parse_keyword("as")
            device_dtype = parser.parse_identifier()
            rest: dict[str, Attribute] = {
                "scale": FloatAttr(1.0, f64),
                "zero_point": integer(0),
                "limit": integer(0),
                "inverted": BoolAttr.from_bool(False),
                "at": NoneAttr(),
            }
            while parser.parse_optional_punctuation(","):
                word = parser.parse_keyword_in(rest)
                rest[word] = _value(parser, word)
        words = (StringAttr(text) for text in (port, kind, host_dtype, device_dtype))
        return (NoneAttr() if direction is None else StringAttr(direction), *words, *rest.values())

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            if isinstance(self.direction, StringAttr):
                printer.print_string(f"{self.direction.data} ")
            printer.print_string_literal(self.port.data)
            printer.print_string(f", {self.kind.data} {self.host_dtype.data} as {self.device_dtype.data}")
            if self.scale.value.data != 1.0:
                printer.print_string(f", scale {float_text(self.scale.value.data)}")
            for word, value in (("zero_point", self.zero_point), ("limit", self.limit)):
                printer.print_string(f", {word} {value.value.data}" if value.value.data else "")
            printer.print_string(", inverted" if bool(self.inverted) else "")
            printer.print_string("" if self.address is None else f", at {self.address}")

    def verify(self) -> None:
        try:
            self.signature(())
        except ValueError as error:
            raise VerifyException(str(error)) from error


def _value(parser: AttrParser, word: str) -> Attribute:
    match word:
        case "inverted":
            return BoolAttr.from_bool(True)
        case "scale":
            return FloatAttr(float(parser.parse_number()), f64)
        case _:
            return integer(parser.parse_integer(allow_boolean=False))


def port_of(entry: DictionaryAttr) -> PortAttr:
    """
    The port that the attributes of an argument or result name.

    Raises KeyError if they name none, ValueError if what they name is none.
    """
    port = entry.data[PORT]
    if not isinstance(port, PortAttr):
        raise ValueError(f"{PORT} is {port} and no #sta.port<...>")
    return port


def port_entry(signature: TensorSignature) -> DictionaryAttr:
    """The attributes of an argument or result that is an input or output of the model."""
    return DictionaryAttr({PORT: PortAttr(signature)})
