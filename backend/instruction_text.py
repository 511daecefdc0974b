"""
The text form of one instruction: mnemonic, then ``field=value`` separated by commas.

Registers are written ``r5``, choices by name, semaphores ``{0,3}``, numbers decimal or hexadecimal; a flag that is set
by its name alone. Fields at their default are left out. ``parse_instruction(print_instruction(x)) == x``.

Example: ``mm acc=r1, a=r2, b=r3, rows=128, columns=64, depth=384, n=2, m=4, encoding=bitmap, wait={0,3}``
"""

from __future__ import annotations

import re

from sta.spec.instructions.definition import EncodingError, Field, FieldValue
from sta.spec.instructions.instruction import Instruction
from sta.spec.instructions.table import definition_of

_PART = re.compile(r"\s*(?P<name>\w+)\s*(?:=\s*(?P<value>\{[^{}]*\}|[^\s,={}]+)\s*)?(?P<end>,|$)", re.ASCII)
_LAST = ("wait", "post", "predicate")


def print_instruction(instruction: Instruction) -> str:
    """Returns the text of an instruction, in one line."""
    pairs = sorted(instruction, key=lambda pair: pair[0].name in _LAST)
    parts = [_print_field(field, value) for field, value in pairs if value != field.default]
    return " ".join([instruction.name, ", ".join(parts)]).rstrip()


def _print_field(field: Field, value: int) -> str:
    match field.kind:
        case "register":
            return f"{field.name}=r{value}"
        case "choice":
            return f"{field.name}={field.choices[value]}"
        case "mask":
            return f"{field.name}={{{','.join(str(bit) for bit in range(field.bits) if value >> bit & 1)}}}"
        case "flag":
            return field.name
        case _:
            return f"{field.name}={value}"


def parse_instruction(text: str) -> Instruction:
    """
    Returns the instruction in a line of text (without comment).

    Raises:
        EncodingError: unknown mnemonic or field (with a suggestion), a field given twice or left out, a bad value.
    """
    name, _, rest = text.strip().partition(" ")
    definition = definition_of(name)
    fields: dict[str, FieldValue] = {}
    position = 0
    more = bool(rest.strip())
    while more:
        part = _PART.match(rest, position)
        if part is None:
            raise EncodingError(f"{name}: cannot read {rest[position:].strip()!r}, expected field=value, ...")
        field = definition.field(part["name"])
        if field.name in fields:
            raise EncodingError(f"{name}: field '{field.name}' is given twice")
        fields[field.name] = _parse_value(name, field, part["value"])
        position = part.end()
        more = part["end"] == ","
    return Instruction.make(name, **fields)


def _parse_value(name: str, field: Field, text: str | None) -> FieldValue:
    if text is None and field.kind == "flag":
        return 1
    if text is None:
        raise EncodingError(f"{name}: field '{field.name}' has no value, expected {field.expected}")
    if field.kind in ("register", "choice"):
        return text
    try:
        if field.kind != "mask":
            return int(text, 0)
        if text[0] == "{":
            return [int(number, 0) for number in text[1:-1].split(",") if number.strip()]
    except ValueError:
        pass
    raise EncodingError(f"{name}: field '{field.name}' is {text!r}, expected {field.expected}")
