"""Modules as text, every operation with its location."""

from __future__ import annotations

import re
from io import StringIO

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Operation
from xdsl.printer import Printer

from sta.dialect import nm, sta, torch

_PLAIN = re.compile(rb"[ !#-\[\]-~]*")
"""Bytes that stand in a string as they are."""


class AttributeTexts:
    """Texts of attributes that have been printed, for the next module to use again: modules share most of them."""

    def __init__(self) -> None:
        self._texts: dict[int, tuple[Attribute, str]] = {}

    def get(self, attribute: Attribute) -> str | None:
        known = self._texts.get(id(attribute))
        return None if known is None else known[1]

    def put(self, attribute: Attribute, text: str) -> None:
        self._texts[id(attribute)] = attribute, text


class _LocationPrinter(Printer):
    """
    Prints what xDSL's printer prints, in a third of its time: text of an attribute that occurs again is used again, and
    columns, which only its diagnostics ask for, are not counted.

    Notes at which line each operation that names an array ends.
    """

    def __init__(self, stream: StringIO, texts: AttributeTexts) -> None:
        super().__init__(stream=stream, print_debuginfo=True)
        self.arrays: list[tuple[int, str]] = []
        self._texts = texts

    def print_string(self, text: str, *, indent: int | None = None) -> None:
        if "\n" in text or self.stream is None:
            super().print_string(text, indent=indent)
        else:
            self.stream.write(text)

    def print_bytes_literal(self, bytestring: bytes) -> None:
        if _PLAIN.fullmatch(bytestring):
            self.print_string(f'"{bytestring.decode()}"')
        else:
            super().print_bytes_literal(bytestring)

    def print_attribute(self, attribute: Attribute) -> None:
        # A location inside another is printed without the word `loc`.
        if self.printing_location:
            super().print_attribute(attribute)
            return
        text = self._texts.get(attribute)
        if text is None:
            text = self._text_of(attribute)
            self._texts.put(attribute, text)
        self.print_string(text)

    def _text_of(self, attribute: Attribute) -> str:
        whole, self.stream = self.stream, StringIO()
        super().print_attribute(attribute)
        text, self.stream = self.stream.getvalue(), whole
        return text

    def print_op(self, op: Operation) -> None:
        super().print_op(op)
        if (name := named_array(op)) is not None:
            self.arrays.append((self._current_line, name))


def named_array(operation: Operation) -> str | None:
    """The name of the array in the weight store that `operation` stands for; None if it stands for none."""
    match operation:
        case nm.WeightOp() | sta.ConstantOp():
            return operation.store_name
        case torch.LiteralOp():
            return operation.resource
        case _:
            return None


def print_with_locations(module: ModuleOp) -> str:
    """The module's text, every operation with its location."""
    return print_with_arrays(module, AttributeTexts())[0]


def print_with_arrays(module: ModuleOp, texts: AttributeTexts) -> tuple[str, list[tuple[int, str]]]:
    """
    The module's text, every operation with its location; and the arrays that it names, each with the number of its
    line, counted from 0.
    """
    stream = StringIO()
    printer = _LocationPrinter(stream, texts)
    printer.print_op(module)
    return stream.getvalue() + "\n", printer.arrays
