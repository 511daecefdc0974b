"""
Mutations of containers: they change what a container means, and lay the file out anew with right checksums.

A file whose bytes are changed at random is nearly always refused for a checksum or a reserved bit. Here sections are
taken apart: instructions change field by field, JSON value by value.
"""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any, cast

from sta.backend.container import MAGIC, PROLOGUE_SECTIONS, SECTIONS, VERSION
from sta.spec.alignment import ALIGNMENT
from sta.spec.instructions.definition import (
    OPCODE_BITS,
    REGISTER_BITS,
    REGISTER_COUNT,
    WORD_BITS,
    WORD_BYTES,
    InstructionDefinition,
)
from sta.spec.instructions.table import INSTRUCTIONS, definition_of
from tests.fuzz.containers import ENTRY_BYTES, HEADER_BYTES, repaired, section_count

OPCODE_MASK = (1 << OPCODE_BITS) - 1
JSON_SECTIONS = ("program", "signature", "debug", "target", "prologue")
LARGEST_NUMBER = 10**4300 - 1
"""Python reads and writes no more digits."""
NUMBERS = (
    *(0, 1, 2, 3, 4, 7, 8, 16, 63, 64, 127, 128, 255, 256, 1000, 4096),
    *(1 << 16, 1 << 20, 1 << 31, 1 << 62, 1 << 63, LARGEST_NUMBER),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "x", [], {}, 0.5, -1, 1e300, [1], {"a": 1}, "int8", "uint8", "int16", "int32"),
    *("float32", "mask", "index", "quantized", "\u00e9", 10**40, [2, 3], [0], "a\nb"),
)

Bytes = Callable[[bytes], bytes]
"""Changes bytes somehow; the fuzzer's own mutation."""


def sections_of(data: bytes) -> dict[str, bytearray] | None:
    """Returns the contents of the sections, whatever they are worth; nothing if the table leads nowhere."""
    if len(data) < _table_end(data):
        return None
    sections: dict[str, bytearray] = {}
    for position, name in enumerate(SECTIONS[: section_count(data)]):
        entry = HEADER_BYTES + position * ENTRY_BYTES
        offset, size = (int.from_bytes(data[entry + at : entry + at + 8], "little") for at in (16, 24))
        sections[name] = bytearray(data[offset : offset + size])
    return sections


def _table_end(data: bytes) -> int:
    return HEADER_BYTES + section_count(data) * ENTRY_BYTES


def file_of(sections: dict[str, bytearray]) -> bytes:
    """Returns the file with these sections: right layout, right checksums."""
    names = [name for name in SECTIONS if name in sections]
    table, body, position = b"", b"", HEADER_BYTES + len(names) * ENTRY_BYTES
    version = VERSION if PROLOGUE_SECTIONS[0] in sections else (VERSION[0], 0)
    for name in names:
        gap = -position % ALIGNMENT
        size = len(sections[name])
        body += bytes(gap) + bytes(sections[name])
        table += name.encode().ljust(16, b"\0") + (position + gap).to_bytes(8, "little") + size.to_bytes(8, "little")
        table += zlib.crc32(sections[name]).to_bytes(4, "little") + bytes(4)
        position += gap + size
    header = struct.pack("<4sHHI", MAGIC, *version, len(names))
    header += zlib.crc32(table).to_bytes(4, "little") + position.to_bytes(8, "little") + bytes(8)
    return header + table + body


def mutate(data: bytes, seed: int, change: Bytes) -> bytes:
    """
    Returns a changed container.

    Args:
        data: a container, or any bytes.
        seed: of the choice of what is changed, and how.
        change: changes bytes.
    """
    chooser = random.Random(seed)
    sections = sections_of(data)
    if sections is None or chooser.random() < 0.01:
        return change(data)
    if chooser.random() < 0.02:
        # Header and table, where checksums are right.
        end = _table_end(data)
        return repaired(change(data[:end])[:end].ljust(end, b"\0") + data[end:])
    for _ in range(chooser.choice((1, 1, 1, 2))):
        kind = chooser.random()
        if kind < 0.45:
            _change_code(sections, chooser)
        elif kind < 0.57 or (kind < 0.8 and "prologue" in sections):
            _change_json(sections, chooser, change)
        elif kind < 0.98:
            sections["constants"] = _of_same_size(change, sections["constants"], chooser)
        else:
            name = chooser.choice(list(sections))
            sections[name] = bytearray(change(bytes(sections[name])))
    return file_of(sections)


def _of_same_size(change: Bytes, data: bytearray, chooser: random.Random) -> bytearray:
    """Returns changed bytes, most of the time as many: other sizes move what lies behind them."""
    changed = bytearray(change(bytes(data)))
    return changed if chooser.random() < 0.1 else changed[: len(data)].ljust(len(data), b"\0")


def _change_code(sections: dict[str, bytearray], chooser: random.Random) -> None:
    """Changes a field of an instruction, or moves, doubles, drops or adds one."""
    code = sections["code"]
    words = [bytes(code[start : start + WORD_BYTES]) for start in range(0, len(code), WORD_BYTES)]
    if not words:
        sections["code"] = bytearray(_random_word(chooser))
        return
    position, other = chooser.randrange(len(words)), chooser.randrange(len(words))
    kind = chooser.random()
    if kind < 0.7:
        words[position] = _changed_word(words[position], _written(words[:position]), chooser)
    elif kind < 0.78:
        words[position], words[other] = words[other], words[position]
    elif kind < 0.86:
        words.insert(position, words[other])
    elif kind < 0.93:
        del words[position]
    else:
        words.insert(position, _random_word(chooser))
    sections["code"] = bytearray(b"".join(words))


def _written(words: list[bytes]) -> list[int]:
    """Returns r0 and the registers that address arithmetic has written."""
    lea = definition_of("lea")
    place = OPCODE_BITS + sum(field.bits for field in lea.fields[: lea.index["rd"]])
    numbers = [int.from_bytes(word, "little") for word in words]
    return [0] + [bits >> place & REGISTER_COUNT - 1 for bits in numbers if bits & OPCODE_MASK == lea.opcode]


def _changed_word(word: bytes, written: list[int], chooser: random.Random) -> bytes:
    """Returns an instruction with one field changed; a register most of the time to one that has been written."""
    bits = int.from_bytes(word, "little")
    definition = _definition(bits & OPCODE_MASK)
    if definition is None or not definition.fields or chooser.random() < 0.05:
        bit = chooser.randrange(WORD_BITS)
        return (bits ^ 1 << bit).to_bytes(len(word), "little") if len(word) == WORD_BYTES else word
    position = OPCODE_BITS
    # The first field of a unit's instruction is reserved, and a counter is hardly ever another one.
    likely = [number for number, field in enumerate(definition.fields) if field.name not in ("predicate", "c1", "c2")]
    chosen = chooser.choice(likely) if chooser.random() < 0.95 else chooser.randrange(len(definition.fields))
    for field in definition.fields[:chosen]:
        position += field.bits
    field = definition.fields[chosen]
    mask = (1 << field.bits) - 1
    value = bits >> position & mask
    ways = (
        value ^ 1 << chooser.randrange(field.bits),
        value ^ 1 << chooser.randrange(min(field.bits, 3)),
        value + chooser.choice((-64, -8, -4, -2, -1, 1, 2, 4, 8, 64)),
        value + chooser.choice((-2, -1, 1, 2)),
        chooser.getrandbits(field.bits),
        chooser.choice(NUMBERS),
        chooser.choice((0, 1, mask, 1 << (field.bits - 1))),
    )
    known = field.kind == "register" and chooser.random() < 0.8
    changed = chooser.choice(written if known else ways) & mask
    return (bits & ~(mask << position) | changed << position).to_bytes(WORD_BYTES, "little")


def _definition(opcode: int) -> InstructionDefinition | None:
    return next((definition for definition in INSTRUCTIONS if definition.opcode == opcode), None)


def _random_word(chooser: random.Random) -> bytes:
    """Returns an instruction with legal fields, most of them small."""
    definition = chooser.choice(INSTRUCTIONS)
    bits, position = definition.opcode, OPCODE_BITS
    for field in definition.fields:
        highest = min(field.maximum, chooser.choice((1, 4, 64, 1 << REGISTER_BITS)))
        value = chooser.randint(field.minimum, max(field.minimum, highest))
        value = 0 if field.kind == "mask" or field.name == "predicate" else value
        bits |= (value - field.bias & (1 << field.bits) - 1) << position
        position += field.bits
    return bits.to_bytes(WORD_BYTES, "little")


def _change_json(sections: dict[str, bytearray], chooser: random.Random, change: Bytes) -> None:
    """Changes a value in one of the JSON sections, or drops or doubles one."""
    name = chooser.choice([name for name in JSON_SECTIONS if name in sections])
    try:
        value: Any = json.loads(sections[name].decode())
    except (ValueError, RecursionError):
        value = None
    if not _places(value) or chooser.random() < 0.05:
        sections[name] = bytearray(change(bytes(sections[name])))
        return
    sections[name] = bytearray(_mutated(value, chooser))


def mutated_json(value: Any, seed: int) -> bytes:
    """Returns a JSON value with one of the values in it changed, dropped or doubled, as canonical bytes."""
    return _mutated(json.loads(json.dumps(value)), random.Random(seed))


def _mutated(value: Any, chooser: random.Random) -> bytes:
    parent, key = chooser.choice(_places(value))
    kind = chooser.random()
    if kind < 0.15:
        del parent[key]
    elif kind < 0.25 and isinstance(parent, list):
        cast("list[Any]", parent).append(parent[key])
    elif kind < 0.25:
        parent[chooser.choice(("extra", "inverted", "limit", "queue_depth"))] = parent[key]
    else:
        parent[key] = _changed_value(parent[key], chooser)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Returns where values lie in a JSON value: pairs of a list or object and a key."""
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if not isinstance(item, dict | list):
            continue
        container = cast("dict[Any, Any] | list[Any]", item)
        keys: list[Any] = list(container) if isinstance(container, dict) else list(range(len(container)))
        places += [(item, key) for key in keys]
        waiting += [item[key] for key in keys]
    return places


def _changed_value(value: Any, chooser: random.Random) -> Any:
    """Returns another JSON value, most of the time of the same kind."""
    if isinstance(value, int) and not isinstance(value, bool) and chooser.random() < 0.8:
        ways = (value + chooser.choice((-64, -8, -1, 1, 8, 64)), chooser.choice(NUMBERS), -value, value * 2, value // 2)
        return max(min(chooser.choice(ways), LARGEST_NUMBER), -LARGEST_NUMBER)
    return chooser.choice(VALUES)
