"""The machine's memories, and the text of a memref in one of them: `spad<32x64xsi8, [768, 1]>`."""

from __future__ import annotations

from typing import cast

from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerType, MemRefType, NoneAttr, Signedness, StridedLayoutAttr
from xdsl.ir import Attribute, ParametrizedAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import Parser
from xdsl.printer import Printer

MemRef = MemRefType[Attribute]


class SpaceAttr(ParametrizedAttribute):
    """A memory of the machine, the memory space of a memref: `#sta.dram`, `#sta.spad`, `#sta.wbuf` or `#sta.acc`."""

    @property
    def space(self) -> str:
        """The memory's name."""
        return self.name.removeprefix("sta.")


@irdl_attr_definition
class DramAttr(SpaceAttr):
    """The memory outside the chip."""

    name = "sta.dram"


@irdl_attr_definition
class SpadAttr(SpaceAttr):
    """The memory of activations, exponentials and masks."""

    name = "sta.spad"


@irdl_attr_definition
class WbufAttr(SpaceAttr):
    """The memory of packed weights, parameter blocks and tables."""

    name = "sta.wbuf"


@irdl_attr_definition
class AccAttr(SpaceAttr):
    """The memory of accumulators."""

    name = "sta.acc"


MEMORIES: dict[str, SpaceAttr] = {memory.space: memory for memory in (DramAttr(), SpadAttr(), WbufAttr(), AccAttr())}
"""The memories by name."""
_SIGNS = {Signedness.SIGNLESS: "i", Signedness.SIGNED: "si", Signedness.UNSIGNED: "ui"}


def parse_buffer_type(parser: Parser) -> Attribute:
    """Reads the type of a buffer, in short or as a memref; any other type unchanged."""
    name = parser.parse_optional_keyword_in(MEMORIES)
    if name is None:
        return parser.parse_type()
    with parser.in_angle_brackets():
        shape, element = parser.parse_ranked_shape()
        if parser.parse_optional_punctuation(",") is None:
            return MemRefType(element, shape, memory_space=MEMORIES[name])
        return MemRefType(element, shape, StridedLayoutAttr(parse_integers(parser), None), MEMORIES[name])


def print_buffer_type(printer: Printer, type_: Attribute) -> None:
    """
    Writes the type of a buffer in short: memory, shape, element type and, of a view, strides in elements.

    A type with more than that, or of another kind, is written unchanged.
    """
    text = _short_text(type_)
    if text is None:
        printer.print_attribute(type_)
    else:
        printer.print_string(text)


def _short_text(type_: Attribute) -> str | None:
    if not isinstance(type_, MemRefType):
        return None
    reference = cast(MemRef, type_)
    memory, shape, layout = reference.memory_space, reference.get_shape(), reference.layout
    element = _element_text(reference.element_type)
    if not isinstance(memory, SpaceAttr) or DYNAMIC_INDEX in shape or element is None:
        return None
    strides = ""
    if isinstance(layout, StridedLayoutAttr):
        steps = layout.get_strides()
        if None in steps or layout.get_offset() is not None:
            return None
        strides = f", {list(steps)}"
    elif not isinstance(layout, NoneAttr):
        return None
    sizes = "".join(f"{size}x" for size in shape)
    return f"{memory.space}<{sizes}{element}{strides}>"


def _element_text(element: Attribute) -> str | None:
    if not isinstance(element, IntegerType):
        return None
    integer = cast(IntegerType, element)
    return f"{_SIGNS[integer.signedness.data]}{integer.width.data}"


def parse_integers(parser: Parser) -> list[int]:
    """Reads integers in brackets."""
    return parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
