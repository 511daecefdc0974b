"""``sta objdump``: a container as text."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sta.api.cli.argument_parser import UsageError, about
from sta.api.cli.standard_streams import write_data
from sta.api.cli.tables import json_text
from sta.api.files.output_file import check_output, write_text
from sta.api.inspect.place_lookup import matching_modules
from sta.backend.assembler import disassemble, section_lines
from sta.backend.container import PROLOGUE_SECTIONS, SECTIONS, Container, read_container
from sta.backend.instruction_text import print_instruction
from sta.backend.prologue_text import prologue_lines
from sta.spec.suggestion import suggestion


def execute(arguments: Namespace) -> None:
    """Runs the command; raises ValueError for a bad container, and OSError."""
    globs: list[str] | None = arguments.module
    if arguments.output is not None:
        check_output(Path(arguments.output), Path(arguments.program))
    sections: list[str] = [*(arguments.section or []), *(["code"] if arguments.code or arguments.module else [])]
    for section in sections:
        if section not in SECTIONS:
            known = f"known: {', '.join(SECTIONS)}"
            raise UsageError(f"argument --section: unknown section {section!r}{suggestion(section, SECTIONS)}; {known}")
    with about(arguments.program):
        container = read_container(arguments.program)
        if arguments.json:
            contents = _contents(container, globs)
            text = json_text({name: contents[name] for name in sections or contents}) + "\n"
        elif sections:
            text = _listing(container, list(dict.fromkeys(sections)), globs)
        else:
            text = disassemble(container)
    if arguments.output is None:
        write_data(text)
    else:
        write_text(Path(arguments.output), text)


def _addresses(container: Container, globs: Sequence[str] | None) -> list[int]:
    """The instructions of the modules that patterns match; all without patterns."""
    if globs is None:
        return list(range(len(container.code)))
    paths = container.module_paths()
    chosen = {path for glob in globs for path in matching_modules(container, glob)}
    return [pc for pc, path in enumerate(paths) if path in chosen]


def _listing(container: Container, sections: Sequence[str], globs: Sequence[str] | None) -> str:
    """The text of single sections; of the code with a line before the instructions of each module."""
    parts: list[str] = []
    for section in sections:
        lines = _section(container, section, globs)
        parts.append("\n".join([f".{section}", *lines]) + "\n")
    return "\n".join(parts)


def _section(container: Container, section: str, globs: Sequence[str] | None) -> Iterator[str]:
    if section == "code":
        return _code(container, globs)
    prologue = container.host_prologue()
    if section in PROLOGUE_SECTIONS and prologue is None:
        return iter(["# the program has no host prologue"])
    if section == "prologue" and prologue is not None:
        return prologue_lines(prologue)
    return section_lines(container, section)


def _code(container: Container, globs: Sequence[str] | None) -> Iterator[str]:
    previous: tuple[int, str, str] = (-1, "", "")
    for pc in _addresses(container, globs):
        path, operation = container.module_path(pc), container.operation(pc)
        if previous != (pc - 1, path, operation):
            yield f"\n{pc:>6} <{path or '-'}> {operation}".rstrip()
        yield f"{pc:>6}   {print_instruction(container.code[pc])}"
        previous = (pc, path, operation)


def _contents(container: Container, globs: Sequence[str] | None) -> dict[str, Any]:
    """Returns every section for JSON; of the constants, which are bytes, only their number."""
    return {
        "code": [
            {
                **({"address": pc, "module": container.module_path(pc)} if globs is not None else {}),
                "instruction": container.code[pc].name,
                **{field.name: value for field, value in container.code[pc]},
            }
            for pc in _addresses(container, globs)
        ],
        "constants": len(container.constants),
        "program": container.program,
        "signature": container.signature,
        "debug": container.debug,
        "ir": container.ir,
        "target": container.target,
        "prologue": container.prologue,
        "tables": len(container.tables),
    }
