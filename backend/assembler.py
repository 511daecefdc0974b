"""
The text form of a whole container, for reading and editing: ``assemble(disassemble(c))`` has the bytes of c.

A text is a version line, a summary in comments, then sections in any order. Each begins with a line ``.name``:

- ``.target``, ``.program``, ``.signature``, ``.debug``, ``.prologue``: JSON.
- ``.code``: one instruction a line (see ``instruction_text``). ``.location "module path" "operation"`` says where the
  instructions from there on come from, so that the debug map stays right when lines are added.
- ``.constants``, ``.tables``: base64, each line for itself.
- ``.ir``: each line of the IR after a ``|``, or as a JSON string where it has control characters.

``#`` begins a comment in ``.code``, ``.constants`` and ``.tables``, and before the first section; empty lines mean
nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sta.backend.container import PROLOGUE_SECTIONS, VERSION, Container, Json
from sta.backend.instruction_text import parse_instruction, print_instruction
from sta.spec.instructions.definition import EncodingError
from sta.spec.instructions.instruction import Instruction
from sta.spec.suggestion import suggestion

_JSON_SECTIONS = ("target", "program", "signature", "debug")
_SECTIONS = ("code", *_JSON_SECTIONS, "constants", "ir", *PROLOGUE_SECTIONS)
"""In the order in which they are written: what people look for is first."""
_TOLD = ("shape", "host_dtype", "device_dtype", "kind")
"""Facts of inputs and outputs in the summary, where a signature has them."""
_REQUIRED = ("target", "program", "signature", "code")
_BYTES_PER_LINE = 90
_INSTRUCTION_WIDTH = 100

Line = tuple[int, str]
"""Number, counted from 1, and text."""


END = ".end"
"""The last line of the text: its absence shows that a text is truncated."""


class AssemblyError(ValueError):
    """An assembly text is malformed; the message begins with the line number."""

    def __init__(self, line: int, message: str) -> None:
        """Keeps the line number and the message."""
        super().__init__(f"line {line}: {message}")
        self.line = line


def disassemble(container: Container) -> str:
    """
    Returns the text of a container.

    Raises:
        ContainerError: a section does not have its documented form.
    """
    container.check()
    lines = [f".version {_version_text(container.version)}", "", *_summary(container)]
    for name in (name for name in _SECTIONS if name in container.sections):
        lines += ["", f".{name}", *section_lines(container, name)]
    lines += ["", END]
    return "\n".join(lines) + "\n"


def _summary(container: Container) -> Iterator[str]:
    """Yields what the program is, as comments."""
    yield f"# for {_compact(container.target.get('name'))}: {len(container.code)} instructions"
    for direction in ("inputs", "outputs"):
        for port in cast(list[Json], container.signature[direction]):
            told = ", ".join(f"{key} {_compact(port[key])}" for key in _TOLD if key in port)
            yield f"# {direction[:-1]} {_compact(port.get('name'))}: {told}"
    sizes = ", ".join(f"{space} {container.program[space]}" for space in ("spad", "wbuf", "acc", "dram"))
    yield f"# bytes: {sizes}, of these constants {len(container.constants)}"


def section_lines(container: Container, name: str) -> Iterator[str]:
    """Returns the lines of one section, without its title."""
    match name:
        case "code":
            return print_code(container.code, container.debug["instructions"])
        case "constants":
            return _print_constants(container.constants, container.debug["constants"])
        case "tables":
            return _print_bytes(container.tables)
        case "ir":
            return _print_ir(container.ir)
        case "debug":
            return _print_json({key: value for key, value in container.debug.items() if key != "instructions"})
        case _:
            return _print_json(getattr(container, name))


def _compact(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _print_json(value: Json) -> Iterator[str]:
    """Yields an object with one line a key, and one line an item of a list."""
    yield "{"
    for position, key in enumerate(sorted(value)):
        comma = "," if position < len(value) - 1 else ""
        if not isinstance(value[key], list) or not value[key]:
            yield f" {_compact(key)}: {_compact(value[key])}{comma}"
            continue
        rows = cast(list[object], value[key])
        yield f" {_compact(key)}: ["
        yield from (f"  {_compact(item)}," for item in rows[:-1])
        yield f"  {_compact(rows[-1])}]{comma}"
    yield "}"


def print_code(code: Sequence[Instruction], places: Iterable[Sequence[int | str]]) -> Iterator[str]:
    """
    Yields the lines of a code section.

    `places` says of instructions, by number, which module path and operation they and those behind them come from.
    """
    locations = {entry[0]: entry for entry in places}
    depth = 0
    for pc, instruction in enumerate(code):
        if pc in locations:
            _, path, operation = locations[pc]
            yield f".location {_compact(path)} {_compact(operation)}"
        depth -= instruction.definition.control == "end"
        text = "  " * max(depth, 0) + print_instruction(instruction)
        yield f"{text:<{_INSTRUCTION_WIDTH}}  # {pc}"
        depth += instruction.definition.control == "loop"


def _print_constants(constants: NDArray[np.uint8], names: list[Json]) -> Iterator[str]:
    """Yields base64 lines; each constant that the debug map knows starts a new line, after a comment."""
    titles = {entry.get("offset"): f"# {entry.get('class')} {_compact(entry.get('name'))}" for entry in names}
    inside = (offset for offset in titles if isinstance(offset, int) and 0 < offset < len(constants))
    starts = sorted({0, *inside})
    for start, end in zip(starts, [*starts[1:], len(constants)], strict=True):
        if start in titles:
            yield titles[start]
        yield from _print_bytes(constants[start:end])


def _print_bytes(data: NDArray[np.uint8]) -> Iterator[str]:
    for position in range(0, len(data), _BYTES_PER_LINE):
        yield base64.b64encode(data[position : position + _BYTES_PER_LINE].tobytes()).decode()


def _version_text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _print_ir(ir: str) -> Iterator[str]:
    for line in ir.split("\n") if ir else ():
        plain = all(character >= " " or character == "\t" for character in line)
        yield f"|{line}" if plain else json.dumps(line)


def assemble(text: str) -> Container:
    """
    Returns the container that a text describes.

    Raises:
        AssemblyError: the text is malformed; names the line, with a suggestion for misspelt words.
        ContainerError: a section does not have its documented form.
    """
    sections = _split(text)
    for name in _REQUIRED:
        if name not in sections:
            raise AssemblyError(text.count("\n") + 1, f"section '.{name}' is missing")
    code, locations = _parse_code(sections["code"][1])
    debug: object = _parse_json(*sections["debug"]) if "debug" in sections else {"buffers": [], "constants": []}
    if not isinstance(debug, dict):
        raise AssemblyError(sections["debug"][0], "not a JSON object")
    container = Container(
        code=code,
        constants=_parse_constants(sections["constants"][1] if "constants" in sections else ()),
        program=_parse_json(*sections["program"]),
        signature=_parse_json(*sections["signature"]),
        debug={**cast(Json, debug), "instructions": locations},
        ir=_parse_ir(sections["ir"][1] if "ir" in sections else ()),
        target=_parse_json(*sections["target"]),
        prologue=_parse_json(*sections["prologue"]) if "prologue" in sections else None,
        tables=_parse_constants(sections["tables"][1] if "tables" in sections else ()),
    )
    container.check()
    return container


def _split(text: str) -> dict[str, tuple[int, list[Line]]]:
    """Returns for each section the line number of its title, and its lines."""
    sections: dict[str, tuple[int, list[Line]]] = {}
    lines: list[Line] | None = None
    texts = text.rstrip().split("\n")
    complete = texts[-1].strip() == END
    for number, raw in enumerate(texts[:-1] if complete else texts, 1):
        line = raw.removesuffix("\r")
        words = line.split()
        if line.startswith(".") and words[0] not in (".location", ".version"):
            name = words[0][1:]
            if name not in _SECTIONS:
                raise AssemblyError(number, f"unknown section '.{name}'{suggestion(name, (*_SECTIONS, 'location'))}")
            if name in sections:
                raise AssemblyError(number, f"section '.{name}' is given twice")
            lines = []
            sections[name] = (number, lines)
        elif lines is not None:
            lines.append((number, line))
        else:
            _check_preamble(number, line)
    if not complete:
        raise AssemblyError(len(texts), f"the text breaks off: its last line must be '{END}'")
    return sections


def _check_preamble(number: int, line: str) -> None:
    words = line.partition("#")[0].split()
    if words and words[0] != ".version":
        raise AssemblyError(number, "expected a section")
    known = [_version_text((VERSION[0], minor)) for minor in range(VERSION[1] + 1)]
    if words and words[1:] not in [[one] for one in known]:
        raise AssemblyError(number, f"the version is {' '.join(words[1:])}, expected {' or '.join(known)}")


def _parse_json(title: int, lines: list[Line]) -> Any:
    try:
        return json.loads("\n".join(line for _, line in lines))
    except json.JSONDecodeError as error:
        raise AssemblyError(title + error.lineno, f"not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise AssemblyError(title, f"not JSON: {error}") from None


def _parse_code(lines: list[Line]) -> tuple[list[Instruction], list[list[Any]]]:
    code: list[Instruction] = []
    locations: list[list[Any]] = []
    for number, line in lines:
        if line.lstrip().startswith(".location"):
            locations.append([len(code), *_parse_location(number, line)])
            continue
        text = line.partition("#")[0]
        if not text.strip():
            continue
        try:
            code.append(parse_instruction(text))
        except EncodingError as error:
            raise AssemblyError(number, str(error)) from None
    return code, locations


def _parse_location(number: int, line: str) -> tuple[str, str]:
    rest = line.strip().removeprefix(".location").lstrip()
    decoder = json.JSONDecoder()
    parts: list[Any] = []
    try:
        while rest and not rest.startswith("#"):
            part, end = decoder.raw_decode(rest)
            parts.append(part)
            rest = rest[end:].lstrip()
    except ValueError:
        parts = []
    if len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise AssemblyError(number, 'expected .location "module path" "operation"')
    return parts[0], parts[1]


def _parse_constants(lines: Iterable[Line]) -> NDArray[np.uint8]:
    data = bytearray()
    for number, line in lines:
        try:
            data += base64.b64decode(line.partition("#")[0].strip(), validate=True)
        except (binascii.Error, ValueError) as error:
            raise AssemblyError(number, f"not base64: {error}") from None
    return np.frombuffer(bytes(data), np.uint8)


def _parse_ir(lines: Iterable[Line]) -> str:
    texts: list[str] = []
    for number, line in lines:
        if line.startswith("|"):
            texts.append(line[1:])
        elif line.startswith('"'):
            texts.append(_parse_ir_string(number, line))
        elif line.strip():
            raise AssemblyError(number, "a line of the IR begins with '|'")
    return "\n".join(texts)


def _parse_ir_string(number: int, line: str) -> str:
    try:
        text = json.loads(line)
    except ValueError as error:
        raise AssemblyError(number, f"not a JSON string: {error}") from None
    return str(text)
