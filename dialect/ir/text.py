"""Modules as text, every operation with its location."""

from __future__ import annotations

import re
from collections import Counter
from io import StringIO

from xdsl.dialects.builtin import FileLineColLoc, ModuleOp
from xdsl.ir import Attribute, Operation
from xdsl.printer import Printer

from sta.dialect import host, nm, sta, torch
from sta.dialect.ir.location import sources_of

_PLAIN = re.compile(rb"[ !#-\[\]-~]*")
"""Bytes of a string that need no escape."""


class AttributeTexts:
    """Texts of printed attributes, for later modules: modules share most of them."""

    def __init__(self) -> None:
        self._texts: dict[int, tuple[Attribute, str]] = {}
        self._sources: dict[FileLineColLoc, str] = {}

    def use(self, sources: dict[FileLineColLoc, str]) -> None:
        """Sets the aliases of a module's source lines; forgets texts that name one of them otherwise."""
        if any(self._sources.get(source, alias) != alias for source, alias in sources.items()):
            self._texts.clear()
            self._sources.clear()
        self._sources |= sources

    def get(self, attribute: Attribute) -> str | None:
        known = self._texts.get(id(attribute))
        return None if known is None else known[1]

    def put(self, attribute: Attribute, text: str) -> None:
        self._texts[id(attribute)] = attribute, text


class _LocationPrinter(Printer):
    """
    A printer with the output of xDSL's, in a third of its time: text of a repeated attribute is reused, and columns,
    which only diagnostics need, are not counted. Lines of the model's source stand at the top, and under an alias in
    locations.

    It notes the last line of each operation that names an array.
    """

    def __init__(self, stream: StringIO, texts: AttributeTexts, sources: dict[FileLineColLoc, str]) -> None:
        super().__init__(stream=stream, print_debuginfo=True)
        self.arrays: list[tuple[int, str]] = []
        self._texts = texts
        self._sources = sources

    def print_sources(self) -> None:
        """Prints the lines of the model's source with their aliases."""
        for source, alias in self._sources.items():
            self.print_string(f"{alias} = {self._text_of(source)}")
            self._print_new_line()

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
            alias = self._sources.get(attribute) if isinstance(attribute, FileLineColLoc) else None
            if alias is None:
                super().print_attribute(attribute)
            else:
                self.print_string(alias)
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
    """The name of the array in the weight store for `operation`; None if it names none."""
    match operation:
        case nm.WeightOp() | sta.ConstantOp() | host.TableOp():
            return operation.store_name
        case torch.LiteralOp():
            return operation.resource
        case _:
            return None


def source_aliases(module: ModuleOp) -> dict[FileLineColLoc, str]:
    """
    The lines of the model's source in a module, by file and line, with their aliases: `#L335` is line 335, and
    `#L335_2` line 335 of another file.
    """
    locations = {id(operation.location): operation.location for operation in module.walk()}
    found = {source for location in locations.values() for source in sources_of(location)}
    aliases: dict[FileLineColLoc, str] = {}
    uses: Counter[int] = Counter()
    for source in sorted(found, key=lambda one: (one.filename.data, one.line.data, one.column.data)):
        line = source.line.data
        uses[line] += 1
        aliases[source] = f"#L{line}" if uses[line] == 1 else f"#L{line}_{uses[line]}"
    return aliases


def print_with_locations(module: ModuleOp) -> str:
    """The module's text, every operation with its location."""
    return print_with_arrays(module, AttributeTexts())[0]


def print_with_arrays(module: ModuleOp, texts: AttributeTexts) -> tuple[str, list[tuple[int, str]]]:
    """
    The module's text, every operation with its location; and the arrays that it names, each with the number of its
    line, counted from 0.
    """
    stream = StringIO()
    sources = source_aliases(module)
    texts.use(sources)
    printer = _LocationPrinter(stream, texts, sources)
    printer.print_sources()
    printer.print_op(module)
    return stream.getvalue() + "\n", printer.arrays
