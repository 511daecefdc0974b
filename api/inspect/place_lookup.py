"""
Look-up from a place in a program, a dump of its IR, or the model's source to the module of the model, and on to
instructions and cycles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from sta.api.dump.ir_dump import INDEX, Dump
from sta.backend.container import Container
from sta.runtime import Program
from sta.spec.suggestion import suggestion

_LOCATION = re.compile(r'loc\("((?:[^"\\]|\\.)*)"(?!:)(?:\((?:"((?:[^"\\]|\\.)*)":(\d+):\d+|(#\w+))\))?')
_SOURCE = re.compile(r'^(#\w+) = loc\("((?:[^"\\]|\\.)*)":(\d+):\d+\)$', re.MULTILINE)
_ESCAPED = re.compile(r"(?:\\[89A-Fa-f][0-9A-Fa-f])+")
_DUMPED_LINE = re.compile(r"(.+\.mlir):(\d+)(?::\d+)?")
_SOURCE_LINE = re.compile(r"(.+\.py):(\d+)")
_INSTRUCTION = re.compile(r"@(\d+)")


@dataclass(frozen=True)
class Origin:
    """One module of the model, with its places and cycles."""

    path: str
    """Module path; empty for places outside of the model's modules, such as the end of the program."""
    source: tuple[str, ...]
    """The lines of the model's source, as `file:line`."""
    instructions: tuple[tuple[int, int], ...] = ()
    """Its instructions, as first and last address of each run of them."""
    cycles: int | None = None
    """Cycles of a run charged to it; None without a program."""


def locations(text: str, whole: str | None = None) -> list[tuple[str, str]]:
    """
    The module path and source line ("" where unknown) of every location in a text of IR, in order; `whole` is the text
    that it is a part of.
    """
    sources = {alias: (file, line) for alias, file, line in _SOURCE.findall(_unescaped(whole or text))}
    found: list[tuple[str, str]] = []
    for path, file, line, alias in _LOCATION.findall(_unescaped(text)):
        name, number = sources.get(alias, (file, line))
        found.append((path, f"{name}:{number}" if name else ""))
    return found


def _unescaped(text: str) -> str:
    """Text of IR with letters in place of the printed bytes of UTF-8."""
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[0].replace("\\", "")).decode(errors="replace"), text)


def find(place: str, program: Program | None) -> list[Origin]:
    """
    The modules of a place, in the order of the program.

    Args:
        place: `NN-pass.mlir:LINE` of a dump, `@ADDRESS` of an instruction, `FILE.py:LINE` of the model's source, or a
            pattern of the shell for module paths, of which one also stands for all that is in the module.
        program: what to look for instructions and cycles in; only a line of a dump can do without.

    Raises:
        ValueError: there is nothing at the place.
        OSError: the dump cannot be read.
    """
    if (line := _DUMPED_LINE.fullmatch(place)) is not None:
        folder = Path(line[1]).parent
        if program is not None and (folder / INDEX).is_file():
            Dump.read(folder).check_is_of(program.container)
        path, source = _at_line(Path(line[1]), int(line[2]))
        return [Origin(path, source)] if program is None else _origins(program, [path], place)
    if program is None:
        raise ValueError(
            f"{place}: give the program as well, as in `sta where layer.sta '{place}'`, for all but a line of a dump "
            "(NN-pass.mlir:LINE)"
        )
    if (address := _INSTRUCTION.fullmatch(place)) is not None:
        return _origins(program, [_path_of_instruction(program.container, int(address[1]))], place)
    _paths(program.container)
    if (line := _SOURCE_LINE.fullmatch(place)) is not None:
        wanted = [path for path, source in locations(program.container.ir) if _is_line(source, line[1], line[2])]
        if not wanted:
            raise ValueError(f"{place}: no operation of the program comes from this line")
        return _origins(program, wanted, place)
    return _origins(program, matching_modules(program.container, place), place)


def matching_modules(container: Container, place: str) -> list[str]:
    """
    The module paths of the debug map that a pattern of the shell matches, or that are in a module of this path, in the
    order of the program; raises ValueError if there are none.
    """
    known = _paths(container)
    matching = [path for path in known if fnmatchcase(path, place) or path.startswith(f"{place.rstrip('.')}.")]
    if not matching and place.isdecimal():
        raise ValueError(f"no module path matches {place!r}: an instruction is named by @ and its address: @{place}")
    if not matching:
        raise ValueError(f"no module path matches {place!r}{suggestion(place, known)}")
    return matching


def instruction_at(place: str) -> int | None:
    """The address of the instruction for a place of the form `@ADDRESS`; None for others."""
    address = _INSTRUCTION.fullmatch(place)
    return None if address is None else int(address[1])


def _is_line(source: str, file: str, line: str) -> bool:
    return source == f"{file}:{line}" or source.endswith(f"/{file}:{line}")


def _paths(container: Container) -> list[str]:
    """The module paths of the debug map, in their order; raises ValueError if there are none."""
    paths = dict.fromkeys(path for _, path, _ in container.debug["instructions"] if path)
    if not paths:
        raise ValueError("the program has no debug map from instructions to modules of the model")
    return list(paths)


def _path_of_instruction(container: Container, address: int) -> str:
    if address >= len(container.code):
        raise ValueError(f"@{address}: the program has {len(container.code):,} instructions, from @0 on")
    starts = [entry for entry in container.debug["instructions"] if entry[0] <= address]
    if not starts:
        raise ValueError(f"@{address}: the program has no debug map from instructions to modules of the model")
    return starts[-1][1]


def _at_line(file: Path, number: int) -> tuple[str, tuple[str, ...]]:
    """The module path and source line of an operation that begins at a line, or of a block there."""
    whole = file.read_text(encoding="utf-8")
    lines = whole.splitlines()
    if not 1 <= number <= len(lines):
        raise ValueError(f"{file}:{number}: the file has {len(lines):,} lines")
    line = lines[number - 1]
    # The location of an operation with a body stands at the body's end.
    depth = len(line) - len(line.lstrip())
    ends = (end for end in lines[number:] if end.startswith(" " * depth + "}"))
    text = next(ends, "") if line.endswith("{") else line
    found = locations(text, whole)
    if not found:
        raise ValueError(f"{file}:{number}: this line belongs to no module of the model")
    path, source = found[-1]
    return path, (source,) if source else ()


def _origins(program: Program, wanted: Iterable[str], place: str) -> list[Origin]:
    paths = set(wanted)
    cycles = {row.module_path: row.cycles for row in program.profile().rows}
    sources: dict[str, dict[str, None]] = {}
    for path, source in locations(program.container.ir):
        if source:
            sources.setdefault(path, {})[source] = None
    ranges = _ranges(program.container)
    found = [
        Origin(path, tuple(sources.get(path, {})), tuple(ranges.get(path, ())), cycles.get(path, 0))
        for path in dict.fromkeys([*ranges, *sorted(paths)])
        if path in paths
    ]
    if not found:
        raise ValueError(f"{place}: nothing in the program belongs to it")
    return found


def _ranges(container: Container) -> dict[str, list[tuple[int, int]]]:
    """First and last address of each run of instructions of every module."""
    entries = container.debug["instructions"]
    ends = [entry[0] for entry in entries[1:]] + [len(container.code)]
    ranges: dict[str, list[tuple[int, int]]] = {}
    for (start, path, _), end in zip(entries, ends, strict=True):
        runs = ranges.setdefault(path, [])
        if runs and runs[-1][1] == start - 1:
            start = runs.pop()[0]
        runs.append((start, end - 1))
    return ranges
