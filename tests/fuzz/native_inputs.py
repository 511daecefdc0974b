"""
Inputs of the native engine's fuzzer: the description of a program, in bytes.

What ``runtime/native_engine.py`` tells the engine of a program is written down here as `tests/fuzz/fuzz_native.cpp`
reads it, so that the fuzzer starts from what the loader makes of real containers. ``python -m tests.fuzz.native_inputs
header`` prints what the reader has to know of the instruction table.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.runtime import native_engine
from sta.runtime.validate import ValidProgram
from sta.spec.instructions.definition import UNITS, Field, InstructionDefinition
from sta.spec.instructions.instruction import Instruction
from sta.spec.instructions.table import INSTRUCTIONS
from sta.spec.tables import EXPONENTIAL_BITS, exp2_results

HEADER_BYTES = 16
RECORD_BYTES = 176
LARGEST_MEMORY = 1 << 14
MOST_RECORDS = 32
SPACES = {"constants": 0, "writable": 1}

AffineValue = tuple[int, Sequence[tuple[int, int]]]


class DoesNotFitError(ValueError):
    """A program is too large for an input of the fuzzer."""


def kinds() -> list[InstructionDefinition]:
    """Returns the instructions that an engine is told of, in the order of their numbers."""
    return [definition for definition in INSTRUCTIONS if definition.name not in ("halt", "lea")]


def numbers(definition: InstructionDefinition) -> list[Field]:
    """Returns the fields that are told as numbers."""
    return [field for field in definition.fields if field.kind in ("unsigned", "signed", "flag")]


def choices(definition: InstructionDefinition) -> list[Field]:
    """Returns the fields that are told as words."""
    return [field for field in definition.fields if field.kind == "choice"]


def registers(definition: InstructionDefinition) -> list[str]:
    """Returns the registers that the engine reads itself; the others are addresses and strides of operands."""
    smallest = {field.name: field.minimum for field in definition.fields if field.default is None}
    accesses = definition.accesses(Instruction.make(definition.name, **smallest))
    return [*(access.rows_register for access in accesses if access.rows_register is not None), *definition.scalars]


class Recorder:
    """Takes the place of the native engine's builder, and writes down what it is told."""

    def __init__(
        self,
        sizes: dict[str, int],
        constants: NDArray[np.uint8],
        tile_rows: int,
        units: int,
        queue_depth: int,
        family: str,
    ) -> None:
        self.sizes = [sizes[space] for space in ("spad", "wbuf", "acc", "writable")]
        self.constants = constants.tobytes()
        self.tile_rows, self.queue_depth = tile_rows, queue_depth
        self.family = family
        self.records: list[dict[str, Any]] = []

    def exponentials(self, bits: int, results: bytes) -> None: ...

    def instruction(self, pc: int, kind: str, counts: Sequence[int], partner: int) -> None:
        self.records.append({"instruction": kind, "operands": {}, "sources": [], "results": {}, "registers": {}})

    def number(self, name: str, value: int) -> None:
        self.records[-1][name] = value

    def choice(self, name: str, value: str) -> None:
        self.records[-1][name] = value

    def register(self, name: str, value: AffineValue) -> None:
        self.records[-1]["registers"][name] = value

    def operand(
        self,
        name: str,
        space: str,
        address: AffineValue,
        stride: AffineValue,
        rows: int,
        row_bytes: int,
        writes: bool,
    ) -> None:
        self.records[-1]["operands"][name] = (space, address, stride)

    def job(self, unit: int, busy: int, latency: int, waits: int, posts: int) -> None:
        self.records[-1]["job"] = (unit, min(busy, 0xFFFF), min(latency, 0xFFFF), waits, posts)

    def one_piece(self, stride: AffineValue, row_bytes: int, busy: int) -> None:
        self.records[-1]["one_piece"] = True

    def taint(self, transfers: bool, always: bool, never: bool) -> None:
        self.records[-1]["taint"] = transfers | always << 1 | never << 2

    def taint_source(self, operand: str) -> None:
        self.records[-1]["sources"].append(operand)

    def taint_result(self, operand: str, may_leave: bool) -> None:
        self.records[-1]["results"][operand] = may_leave

    def to_bytes(self, poison: int, inputs: bytes) -> bytes:
        """Returns the input; raises DoesNotFitError if the program is too large for one."""
        known = native_engine.families()
        records = [record for record in self.records if record["instruction"] != "halt"]
        if len(records) > MOST_RECORDS or max(*self.sizes, len(self.constants)) > LARGEST_MEMORY:
            raise DoesNotFitError("too many instructions or too large memories")
        header = struct.pack(
            "<6B5H",
            *(known.index(self.family), poison, self.tile_rows, min(self.queue_depth, 256) - 1, len(records), 0),
            *self.sizes,
            len(self.constants),
        )
        return header + b"".join(map(_record, records)) + self.constants + inputs


def _record(record: dict[str, Any]) -> bytes:
    names = [definition.name for definition in kinds()]
    definition = kinds()[names.index(record["instruction"])]
    data = bytes([names.index(record["instruction"])])
    if record["instruction"] == "loop":
        data += _packed("B", record["count"])
    if not definition.is_sequencer:
        data += _unit(definition, record)
    if len(data) > RECORD_BYTES:
        raise DoesNotFitError("a record is too long")
    return data.ljust(RECORD_BYTES, b"\0")


def _unit(definition: InstructionDefinition, record: dict[str, Any]) -> bytes:
    data = b"".join(_packed(f"<{_form(field)}", record[field.name]) for field in numbers(definition))
    data += bytes(_options(field).index(record[field.name]) for field in choices(definition))
    data += b"".join(_affine(record["registers"][name], 1) for name in registers(definition))
    operands: dict[str, tuple[str, AffineValue, AffineValue]] = record["operands"]
    for space, address, stride in operands.values():
        flags = SPACES.get(space, 0) if definition.name != "st" else 0
        data += bytes([flags]) + _affine(address, 2) + _affine(stride, 1)
    data += struct.pack("<BHHHH", *record["job"])
    bits = {name: 1 << position for position, name in enumerate(operands)}
    data += bytes(
        [
            record["taint"] | ("one_piece" in record) << 3,
            sum(bits[name] for name in record["sources"]),
            sum(bits[name] for name in record["results"]),
            sum(bits[name] for name, may_leave in record["results"].items() if may_leave),
        ]
    )
    return data


def _form(field: Field) -> str:
    return "H" if field.maximum > 255 else "B"


def _options(field: Field) -> tuple[str, ...]:
    return field.choices[field.minimum :]


def _affine(value: AffineValue, most: int) -> bytes:
    base, terms = value
    if len(terms) > most:
        raise DoesNotFitError("an address with too many terms")
    data = _packed("<H", base)
    for depth, step in (*terms, *[(0, 0)] * (most - len(terms))):
        data += _packed("<Bh", depth, step)
    return data


def _packed(form: str, *values: int) -> bytes:
    try:
        return struct.pack(form, *values)
    except struct.error:
        raise DoesNotFitError(f"{values} do not fit") from None


def native_input(program: ValidProgram, family: str, poison: int, inputs: bytes) -> bytes:
    """
    Returns the fuzzer's input for a program.

    Args:
        program: a checked program.
        family: the kernels that it runs on.
        poison: the byte that memories hold at the start.
        inputs: the first bytes of writable DRAM at the start.

    Raises:
        DoesNotFitError: the program is too large for an input.
    """
    builder, code = native_engine.Builder, native_engine.NativeCode
    try:
        native_engine.Builder, native_engine.NativeCode = Recorder, lambda recorder: recorder  # type: ignore[assignment]
        recorder: Any = native_engine.NativeProgram(program, family).code
    finally:
        native_engine.Builder, native_engine.NativeCode = builder, code
    return recorder.to_bytes(poison, inputs)


def layout() -> list[dict[str, Any]]:
    """Returns how a record begins, by instruction: numbers with their bytes, choices with their options, registers."""
    return [
        {
            "name": definition.name,
            "numbers": {
                field.name: struct.calcsize(_form(field))
                for field in numbers(definition)
                if not definition.is_sequencer
            },
            "choices": {field.name: list(_options(field)) for field in choices(definition)},
            "registers": registers(definition),
        }
        for definition in kinds()
    ]


def translated(data: bytes, recorded: list[dict[str, Any]]) -> bytes:
    """
    Returns an input of an older instruction table as one of this.

    Fields that there were not are zero, others are left out. Records of instructions that there are no more stay as
    they are. Operands and rules follow the fields, and need no translation.

    Args:
        data: the input.
        recorded: the ``layout`` with which it was made.
    """
    known = {kind["name"]: (number, kind) for number, kind in enumerate(layout())}
    if recorded == layout():
        return data
    records = data[4] % (MOST_RECORDS + 1) if len(data) > HEADER_BYTES else 0
    changed = bytearray(data)
    for start in range(HEADER_BYTES, HEADER_BYTES + records * RECORD_BYTES, RECORD_BYTES):
        record = data[start : start + RECORD_BYTES]
        before = recorded[record[0] % len(recorded)] if len(record) == RECORD_BYTES else None
        if before is not None and before["name"] in known:
            number, after = known[before["name"]]
            fields = bytes([number]) + _translated_fields(record, before, after)
            rest = record[1 + _fields_size(before) :]
            changed[start : start + RECORD_BYTES] = (fields + rest).ljust(RECORD_BYTES, b"\0")[:RECORD_BYTES]
    return bytes(changed)


_REGISTER_BYTES = 5


def _fields_size(kind: dict[str, Any]) -> int:
    return sum(kind["numbers"].values()) + len(kind["choices"]) + _REGISTER_BYTES * len(kind["registers"])


def _translated_fields(record: bytes, before: dict[str, Any], after: dict[str, Any]) -> bytes:
    position = 1
    values: dict[str, bytes] = {}
    sizes: dict[str, int] = {**before["numbers"], **dict.fromkeys(before["choices"], 1)}
    sizes |= dict.fromkeys(before["registers"], _REGISTER_BYTES)
    for name, size in sizes.items():
        values[name] = record[position : position + size]
        position += size
    fields = b"".join(values.get(name, b"").ljust(size, b"\0")[:size] for name, size in after["numbers"].items())
    for name, options in after["choices"].items():
        chosen = before["choices"].get(name)
        word = chosen[values[name][0] % len(chosen)] if chosen else options[0]
        fields += bytes([options.index(word) if word in options else 0])
    return fields + b"".join(values.get(name, bytes(_REGISTER_BYTES)) for name in after["registers"])


def header() -> str:
    """Returns what the reader has to know, as C++."""
    lines = [
        "// Made by tests/fuzz/native_inputs.py from the instruction table.",
        "#pragma once",
        "#include <cstdint>",
        "#include <string>",
        "#include <vector>",
        "struct Number { std::string name; int highest; };",
        "struct Choice { std::string name; std::vector<std::string> options; };",
        "struct Kind { std::string name; std::vector<Number> numbers; std::vector<Choice> choices;",
        "              std::vector<std::string> registers; };",
        f"constexpr int unit_count = {len(UNITS)};",
        "inline const std::vector<Kind> kinds = {",
    ]
    for definition in kinds():
        if definition.is_sequencer:
            lines.append(f'    {{"{definition.name}", {{}}, {{}}, {{}}}},')
            continue
        told = ", ".join(f'{{"{field.name}", {field.maximum}}}' for field in numbers(definition))
        words = ", ".join(f'{{"{field.name}", {_braces(_options(field))}}}' for field in choices(definition))
        lines.append(f'    {{"{definition.name}", {{{told}}}, {{{words}}}, {_braces(registers(definition))}}},')
    lines.append("};")
    for bits in EXPONENTIAL_BITS:
        results = exp2_results(bits).astype(f"<u{bits // 8}").tobytes()
        lines.append(f"inline const std::uint8_t exponentials_{bits}[] = {{{','.join(map(str, results))}}};")
    return "\n".join(lines)


def _braces(words: Sequence[str]) -> str:
    return "{" + ", ".join(f'"{word}"' for word in words) + "}"


if __name__ == "__main__":
    if sys.argv[1:] != ["header"]:
        sys.exit("usage: python -m tests.fuzz.native_inputs header")
    print(header())
