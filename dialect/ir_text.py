"""Modules as text, every operation with its location."""

from __future__ import annotations

from io import StringIO

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Operation
from xdsl.printer import Printer

from sta.dialect import nm, sta, torch


class _LocationPrinter(Printer):
    """
    Prints what xDSL's printer prints, at twice its speed: text of an attribute that occurs again is used again.

    Notes at which line each operation that names an array ends.
    """

    def __init__(self, stream: StringIO) -> None:
        super().__init__(stream=stream, print_debuginfo=True)
        self.arrays: list[tuple[int, str]] = []
        self._texts: dict[Attribute, str] = {}

    def print_attribute(self, attribute: Attribute) -> None:
        # A location inside another is printed without the word `loc`.
        if self.printing_location:
            super().print_attribute(attribute)
            return
        text = self._texts.get(attribute)
        if text is None:
            text = self._texts[attribute] = self._text_of(attribute)
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
    return print_with_arrays(module)[0]


def print_with_arrays(module: ModuleOp) -> tuple[str, list[tuple[int, str]]]:
    """
    The module's text, every operation with its location; and the arrays that it names, each with the number of its
    line, counted from 0.
    """
    stream = StringIO()
    printer = _LocationPrinter(stream)
    printer.print_op(module)
    return stream.getvalue() + "\n", printer.arrays
