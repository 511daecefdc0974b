"""Parts of assembly formats for which xDSL's declarative formats have no directive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import (
    DenseArrayBase,
    IndexType,
    IntegerAttr,
    IntegerType,
    MemRefType,
    StridedLayoutAttr,
    StringAttr,
    i64,
)
from xdsl.ir import SSAValue
from xdsl.irdl import IRDLOperation
from xdsl.irdl.declarative_assembly_format import (
    AttributeVariable,
    CustomDirective,
    OptionalOperandVariable,
    ParsingState,
    PrintingState,
    RegionVariable,
    TypeDirective,
    VariadicOperandVariable,
    irdl_custom_directive,
)
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer

from sta.dialect.ir.buffer_types import MemRef, parse_buffer_type, parse_integers, print_buffer_type


@irdl_custom_directive
class Word(CustomDirective):
    """A string without its quotation marks: `layer`."""

    text: AttributeVariable

    def parse(self, parser: Parser, state: ParsingState) -> None:
        """Reads an identifier."""
        self.text.set(state, StringAttr(parser.parse_identifier()))

    def print(self, printer: Printer, state: PrintingState, op: IRDLOperation) -> None:
        """Writes the string."""
        state.print_whitespace(printer)
        printer.print_string(cast(StringAttr, self.text.get(op)).data)

    def is_present(self, op: IRDLOperation) -> bool:
        """True if the operation has the string."""
        return self.text.is_present(op)

    def is_anchorable(self) -> bool:
        """Lets an optional group depend on an optional string."""
        return self.text.is_anchorable()


class _Affine(CustomDirective, ABC):
    """An index that is affine in loop counters: `%i * 128 + %j * 8 + 3`, terms first; `0` for none."""

    @abstractmethod
    def _set(self, state: ParsingState, base: int, terms: Sequence[tuple[UnresolvedOperand, int]]) -> None: ...

    @abstractmethod
    def _get(self, op: IRDLOperation) -> tuple[int, tuple[tuple[SSAValue, int], ...]]: ...

    def parse(self, parser: Parser, state: ParsingState) -> None:
        """Reads a sum of products and integers."""
        base = 0
        terms: list[tuple[UnresolvedOperand, int]] = []
        while True:
            counter = parser.parse_optional_unresolved_operand()
            if counter is None:
                base += parser.parse_integer(allow_boolean=False)
            else:
                parser.parse_punctuation("*")
                terms.append((counter, parser.parse_integer(allow_boolean=False)))
            if parser.parse_optional_punctuation("+") is None:
                break
        self._set(state, base, terms)

    def print(self, printer: Printer, state: PrintingState, op: IRDLOperation) -> None:
        """Writes the terms, and the constant if it is not 0 or stands alone."""
        base, terms = self._get(op)
        state.print_whitespace(printer)
        for position, (counter, coefficient) in enumerate(terms):
            printer.print_string(" + " if position else "")
            printer.print_ssa_value(counter)
            printer.print_string(f" * {coefficient}")
        if base or not terms:
            printer.print_string(f" + {base}" if terms else str(base))

    def is_present(self, op: IRDLOperation) -> bool:
        """True if the index is something else than 0."""
        base, terms = self._get(op)
        return bool(base or terms)

    def is_anchorable(self) -> bool:
        """Lets an optional group omit an index of 0."""
        return True

    def set_empty(self, state: ParsingState) -> None:
        """Sets the index to 0."""
        self._set(state, 0, ())


@irdl_custom_directive
class Affine(_Affine):
    """An affine index stored as a constant, counters and their coefficients."""

    base: AttributeVariable
    counters: VariadicOperandVariable
    coefficients: AttributeVariable

    def _set(self, state: ParsingState, base: int, terms: Sequence[tuple[UnresolvedOperand, int]]) -> None:
        self.base.set(state, IntegerAttr(base, i64))
        self.counters.set(state, [counter for counter, _ in terms])
        self.coefficients.set(state, DenseArrayBase.from_list(i64, [coefficient for _, coefficient in terms]))

    def _get(self, op: IRDLOperation) -> tuple[int, tuple[tuple[SSAValue, int], ...]]:
        base = cast("IntegerAttr[IntegerType]", self.base.get(op)).value.data
        coefficients = cast("DenseArrayBase[IntegerType]", self.coefficients.get(op)).get_values()
        # An operation that does not verify is printed too, with its faults.
        return base, tuple(zip(self.counters.get(op), coefficients, strict=False))


@irdl_custom_directive
class Buffer(CustomDirective):
    """The type of a buffer: `spad<32x64xsi8, [768, 1]>`."""

    type: TypeDirective

    def parse(self, parser: Parser, state: ParsingState) -> None:
        """Reads the type."""
        self.type.set(state, (parse_buffer_type(parser),))

    def print(self, printer: Printer, state: PrintingState, op: IRDLOperation) -> None:
        """Writes the type."""
        state.print_whitespace(printer)
        for type_ in self.type.get(op):
            print_buffer_type(printer, type_)

    def is_present(self, op: IRDLOperation) -> bool:
        """True if the operand is given."""
        return self.type.is_present(op)

    def is_anchorable(self) -> bool:
        """Lets an optional group depend on the type of an optional operand."""
        return self.type.is_anchorable()

    def set_empty(self, state: ParsingState) -> None:
        """Omits the type of an absent operand."""
        self.type.set_empty(state)


@irdl_custom_directive
class SizesAndStrides(CustomDirective):
    """
    Shape and strides of a strided memref that shares memory and element type with another memref, and the other's type:
    `sizes [32, 64] strides [768, 1] : spad<1x128x768xsi8>`.
    """

    source: TypeDirective
    result: TypeDirective

    def parse(self, parser: Parser, state: ParsingState) -> None:
        """Reads both types."""
        parser.parse_keyword("sizes")
        sizes = parse_integers(parser)
        parser.parse_keyword("strides")
        strides = parse_integers(parser)
        parser.parse_punctuation(":")
        place = parser.pos
        source = parse_buffer_type(parser)
        if not isinstance(source, MemRefType):
            parser.raise_error("the source of a view is a memref", place)
        reference = cast(MemRef, source)
        layout = StridedLayoutAttr(strides, None)
        self.source.set(state, (reference,))
        self.result.set(state, (MemRefType(reference.element_type, sizes, layout, reference.memory_space),))

    def print(self, printer: Printer, state: PrintingState, op: IRDLOperation) -> None:
        """Writes both types."""
        (source,), (result,) = self.source.get(op), self.result.get(op)
        reference = cast(MemRef, result)
        state.print_whitespace(printer)
        shape, strides = list(reference.get_shape()), list(reference.get_strides() or ())
        printer.print_string(f"sizes {shape} strides {strides} : ")
        print_buffer_type(printer, source)


@irdl_custom_directive
class OptionalTypes(CustomDirective):
    """The types of the last two operands, each after a comma, if present."""

    first: OptionalOperandVariable
    first_type: TypeDirective
    second: OptionalOperandVariable
    second_type: TypeDirective

    def parse(self, parser: Parser, state: ParsingState) -> None:
        """Reads a type for each parsed operand."""
        for operand, type_ in ((self.first, self.first_type), (self.second, self.second_type)):
            if state.operands[operand.index]:
                parser.parse_punctuation(",")
                type_.set(state, (parse_buffer_type(parser),))
            else:
                type_.set(state, ())

    def print(self, printer: Printer, state: PrintingState, op: IRDLOperation) -> None:
        """Writes the types."""
        for type_ in (*self.first_type.get(op), *self.second_type.get(op)):
            printer.print_string(", ")
            print_buffer_type(printer, type_)


def float_text(value: float) -> str:
    """The shortest text that reads back as the same finite number of 64 bits."""
    text = repr(value)
    mantissa, exponent, rest = text.partition("e")
    return text if "." in mantissa else f"{mantissa}.0{exponent}{rest}"


@irdl_custom_directive
class CountedBody(CustomDirective):
    """A repeated body with its counter: `%i = 0 to 12 { ... }`."""

    count: AttributeVariable
    body: RegionVariable

    def parse(self, parser: Parser, state: ParsingState) -> None:
        """Reads the counter, its range and the body."""
        counter = parser.parse_argument(expect_type=False).resolve(IndexType())
        parser.parse_punctuation("=")
        place = parser.pos
        if parser.parse_integer(allow_boolean=False) != 0:
            parser.raise_error("a loop counts from 0", place)
        parser.parse_keyword("to")
        self.count.set(state, IntegerAttr(parser.parse_integer(allow_boolean=False), i64))
        self.body.set(state, parser.parse_region((counter,)))

    def print(self, printer: Printer, state: PrintingState, op: IRDLOperation) -> None:
        """Writes the counter, its range and the body."""
        body = self.body.get(op)
        state.print_whitespace(printer)
        printer.print_ssa_value(body.block.args[0])
        count = cast("IntegerAttr[IntegerType]", self.count.get(op)).value.data
        printer.print_string(f" = 0 to {count} ")
        printer.print_region(body, print_entry_block_args=False, print_empty_block=False)
