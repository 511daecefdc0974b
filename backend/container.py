"""
The ``.sta`` container: one file with everything needed to run a compiled model and to explain it.

Layout, little endian: a 32-byte header (magic, version, number of sections, checksum of the section table, file size),
the section table (name, offset, size, CRC-32), then the sections in the order of ``SECTIONS``, each at the next
multiple of 64 bytes, gaps zero. Only a program with a host prologue has the sections of one (``PROLOGUE_SECTIONS``),
and the version that knows them. The layout follows from the sizes alone, so equal contents are equal bytes. JSON
sections are canonical: sorted keys, no spaces, UTF-8. Constants are memory-mapped, never copied.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import math
import mmap
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from sta.backend.isa import decode_program, encode_program
from sta.backend.new_file import new_file
from sta.spec.alignment import aligned
from sta.spec.host_prologue import HostPrologue
from sta.spec.instructions.definition import EncodingError
from sta.spec.instructions.instruction import Instruction
from sta.spec.pattern import Pattern

MAGIC = b"STA\x00"
VERSION = (2, 1)
PROLOGUE_SECTIONS = ("prologue", "tables")
"""Sections of the host prologue, with which version 2.1 begins."""
SECTIONS = ("code", "constants", "program", "signature", "debug", "ir", "target", *PROLOGUE_SECTIONS)
PROGRAM_KEYS = ("spad", "wbuf", "acc", "dram", "macs", "dense_macs")
"""Integers that the program section must have: bytes of the four memories, useful and dense-equivalent MACs."""

LARGEST_SECTIONS = {
    "code": 1 << 22,
    "program": 1 << 20,
    "signature": 1 << 20,
    "debug": 1 << 24,
    "ir": 1 << 26,
    "target": 1 << 20,
    "prologue": 1 << 22,
}
"""
Most bytes of the decoded sections, since decoding takes far more memory than their bytes; constants and tables are
mapped.
"""
LARGEST_INTEGER = (1 << 63) - 1
"""Limit of the integers in the sections ``program`` and ``signature``."""

_HEADER = struct.Struct("<4sHHIIQ8s")
_ENTRY = struct.Struct("<16sQQI4s")

Json = dict[str, Any]
Source = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
"""A container's origin: a path, the bytes of the file, or a file object that gives them."""


PROVENANCE = "provenance"
"""Key of the program section for how a program was made: objects `options` and `versions`."""


class ContainerError(ValueError):
    """A container is corrupt, truncated, of another version or inconsistent; the message names the section."""


@dataclass
class Container:
    """
    The contents of a ``.sta`` file.

    DRAM addresses [0, len(constants)) are the read-only constants; ``writable_base`` up to ``program["dram"]`` is
    scratch, inputs and outputs.
    """

    code: list[Instruction]
    constants: NDArray[np.uint8]
    """One-dimensional; read-only and backed by the file where it was read from one."""
    program: Json
    """
    The integers of ``PROGRAM_KEYS``. If the compile measured it, ``fidelity``: decibels for ``given`` and ``pruned``,
    as in ``sta.spec.accuracy.Fidelity``. If it pruned layers, ``pruned``: module paths with their patterns. Of a
    compiled model also `PROVENANCE`.
    """
    signature: Json
    """``inputs`` and ``outputs``: lists of TensorSignature as JSON, with ``address`` and ``bytes`` in DRAM."""
    debug: Json = field(default_factory=lambda: {"instructions": [], "buffers": [], "constants": []})
    """
    ``instructions``: [first pc, module path, operation] by ascending pc, each valid up to the next; ``buffers`` and
    ``constants``: places, with names; ``values``, if present: the model's values in buffers.
    """
    ir: str = ""
    """The final IR, as text."""
    target: Json = field(default_factory=dict[str, Any])
    """The target the program was compiled for, as JSON."""
    prologue: Json | None = None
    """The host prologue, as `sta.spec.host_prologue.HostPrologue.to_json` describes it; None for a program without."""
    tables: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    """The bytes of the prologue's tables: one-dimensional, read-only, backed by the file as the constants are."""

    def __repr__(self) -> str:
        """``<Container: 1,234 instructions, 25,000,000 bytes of constants>``."""
        return f"<Container: {len(self.code):,} instructions, {len(self.constants):,} bytes of constants>"

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections that the file has."""
        return SECTIONS if self.prologue is not None else SECTIONS[: -len(PROLOGUE_SECTIONS)]

    @property
    def version(self) -> tuple[int, int]:
        """The version of the file."""
        return _version(len(self.sections))

    @property
    def writable_base(self) -> int:
        """The first writable DRAM address: the size of the constants, rounded up to the alignment."""
        return aligned(len(self.constants))

    @property
    def options(self) -> Json:
        """The options that the program was compiled with, but for defaults; empty where that is not known."""
        return self.program.get(PROVENANCE, {}).get("options", {})

    @property
    def versions(self) -> Json:
        """The versions of the packages that made the program, by name; empty where that is not known."""
        return self.program.get(PROVENANCE, {}).get("versions", {})

    def module_path(self, pc: int) -> str:
        """Returns the module path of the instruction at ``pc``, or an empty string."""
        return self._location(pc)[0]

    def module_paths(self) -> list[str]:
        """Returns the module path of every instruction."""
        entries: list[tuple[int, str, str]] = [(0, "", ""), *self.debug["instructions"], (len(self.code), "", "")]
        paths: list[str] = []
        for (first, path, _), (end, _, _) in itertools.pairwise(entries):
            paths += [path] * (end - first)
        return paths

    def operation(self, pc: int) -> str:
        """Returns the operation of the instruction at ``pc``, or an empty string."""
        return self._location(pc)[1]

    def _location(self, pc: int) -> tuple[str, str]:
        entries: list[tuple[int, str, str]] = self.debug["instructions"]
        position = bisect.bisect_right(entries, pc, key=lambda entry: entry[0]) - 1
        return (entries[position][1], entries[position][2]) if position >= 0 else ("", "")

    def check(self) -> None:
        """Raises ContainerError unless every section has its documented form."""
        for name, data in (("constants", self.constants), ("tables", self.tables)):
            if data.dtype != np.uint8 or data.ndim != 1:
                raise ContainerError(f"section '{name}': not a one-dimensional array of bytes")
        _check_program(self.program)
        _check_signature(self.signature)
        _check_debug(self.debug, len(self.code))
        if not isinstance(cast(object, self.ir), str):
            raise ContainerError("section 'ir': not text")
        if not isinstance(cast(object, self.target), dict):
            raise ContainerError("section 'target': not a JSON object")
        if self.prologue is None and len(self.tables):
            raise ContainerError("section 'tables': there is no prologue that reads them")
        self.host_prologue()

    def host_prologue(self) -> HostPrologue | None:
        """Returns the host prologue; None for a program without. Raises ContainerError for a malformed one."""
        if self.prologue is None:
            return None
        try:
            return HostPrologue.from_json(self.prologue, self.tables)
        except ValueError as error:
            raise ContainerError(f"section 'prologue': {error}") from None


def is_integer(value: object) -> bool:
    """True if a value from JSON is an integer (``true`` is none)."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in cast(list[object], value))


def _check_program(program: object) -> None:
    if not isinstance(program, dict):
        raise ContainerError("section 'program': not a JSON object")
    entries = cast(Json, program)
    for key in PROGRAM_KEYS:
        if not is_integer(entries.get(key)) or not 0 <= entries[key] <= LARGEST_INTEGER:
            raise ContainerError(f"section 'program': '{key}' is missing or not an integer from 0 to 2^63-1")
    made: object = entries.get(PROVENANCE, {"options": {}, "versions": {}})
    parts = cast(Json, made) if isinstance(made, dict) else {}
    if not all(isinstance(parts.get(key), dict) for key in ("options", "versions")):
        raise ContainerError(f"section 'program': '{PROVENANCE}' has no objects 'options' and 'versions'")
    _check_fidelity(entries.get("fidelity", {"given": 0.0, "pruned": 0.0}))
    _check_pruned(entries.get("pruned", {}))


def _check_fidelity(fidelity: object) -> None:
    entries = cast(Json, fidelity) if isinstance(fidelity, dict) else {}
    figures = [entries.get("given"), entries.get("pruned")]
    if len(entries) != 2 or not all(isinstance(figure, float) and math.isfinite(figure) for figure in figures):
        raise ContainerError("section 'program': 'fidelity' is not decibels for 'given' and 'pruned'")


def _check_pruned(pruned: object) -> None:
    if not isinstance(pruned, dict):
        raise ContainerError("section 'program': 'pruned' is not module paths with patterns")
    for path, pattern in cast(Json, pruned).items():
        try:
            Pattern.parse(pattern)
        except (TypeError, ValueError) as error:
            raise ContainerError(f"section 'program': the pruned layer {path!r}: {error}") from None


def _check_signature(signature: object) -> None:
    if not isinstance(signature, dict):
        raise ContainerError("section 'signature': not a JSON object")
    for key in ("inputs", "outputs"):
        if not _is_list_of_objects(cast(Json, signature).get(key)):
            raise ContainerError(f"section 'signature': '{key}' is missing or not a list of objects")


def _check_debug(debug: object, instruction_count: int) -> None:
    if not isinstance(debug, dict):
        raise ContainerError("section 'debug': not a JSON object")
    entries = cast(Json, debug)
    for key in ("buffers", "constants"):
        if not _is_list_of_objects(entries.get(key)):
            raise ContainerError(f"section 'debug': '{key}' is missing or not a list of objects")
    if not isinstance(entries.get("instructions"), list):
        raise ContainerError("section 'debug': 'instructions' is missing or not a list")
    previous = -1
    for entry in entries["instructions"]:
        if not _is_location(entry):
            raise ContainerError("section 'debug': an instruction entry is not [pc, module path, operation]")
        if not previous < entry[0] < instruction_count:
            raise ContainerError(f"section 'debug': instruction {entry[0]} is out of order or beyond the code")
        previous = entry[0]


def _is_location(entry: object) -> bool:
    if not isinstance(entry, list | tuple):
        return False
    parts = cast(list[object], entry)
    return len(parts) == 3 and is_integer(parts[0]) and isinstance(parts[1], str) and isinstance(parts[2], str)


def canonical_json(value: object, section: str) -> bytes:
    """Returns the canonical bytes of a JSON value; ContainerError naming ``section`` if it is not JSON."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ContainerError(f"section '{section}': cannot be written as JSON: {error}") from None


def parse_json(data: bytes, section: str) -> Any:
    """Returns the JSON value in ``data``; ContainerError naming ``section`` if it is malformed or not canonical."""
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ContainerError(f"section '{section}': not JSON: {error}") from None
    if canonical_json(value, section) != data:
        raise ContainerError(f"section '{section}': the JSON is not in canonical form")
    return value


def _check_size(section: str, size: int) -> None:
    largest = LARGEST_SECTIONS.get(section, size)
    if size > largest:
        raise ContainerError(f"section '{section}': {size} bytes, at most {largest} are allowed")


def _payloads(container: Container) -> list[memoryview]:
    container.check()
    try:
        ir = container.ir.encode()
    except UnicodeEncodeError as error:
        raise ContainerError(f"section 'ir': cannot be written as UTF-8: {error}") from None
    contents: dict[str, bytes | memoryview] = {
        "code": encode_program(container.code),
        "constants": np.ascontiguousarray(container.constants).data,
        "program": canonical_json(container.program, "program"),
        "signature": canonical_json(container.signature, "signature"),
        "debug": canonical_json(container.debug, "debug"),
        "ir": ir,
        "target": canonical_json(container.target, "target"),
        "prologue": canonical_json(container.prologue, "prologue"),
        "tables": np.ascontiguousarray(container.tables).data,
    }
    payloads = {name: memoryview(contents[name]) for name in container.sections}
    for name, payload in payloads.items():
        _check_size(name, payload.nbytes)
    return list(payloads.values())


def _offsets(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Returns where sections of the given sizes start, and the size of the file."""
    offsets: list[int] = []
    position = _HEADER.size + _ENTRY.size * len(sizes)
    for size in sizes:
        offsets.append(aligned(position))
        position = offsets[-1] + size
    return offsets, position


def _pieces(container: Container) -> list[bytes | memoryview]:
    """Returns the consecutive pieces of the file: header and table, then for each section its gap and its bytes."""
    payloads = _payloads(container)
    names = container.sections
    offsets, file_size = _offsets([payload.nbytes for payload in payloads])
    table = b"".join(
        _ENTRY.pack(name.encode(), offset, payload.nbytes, zlib.crc32(payload), b"")
        for name, offset, payload in zip(names, offsets, payloads, strict=True)
    )
    header = _HEADER.pack(MAGIC, *container.version, len(names), zlib.crc32(table), file_size, b"")
    pieces: list[bytes | memoryview] = [header + table]
    position = len(header) + len(table)
    for offset, payload in zip(offsets, payloads, strict=True):
        pieces += [bytes(offset - position), payload]
        position = offset + payload.nbytes
    return pieces


def _version(sections: int) -> tuple[int, int]:
    """Returns the first version whose files have this number of sections."""
    return VERSION if sections == len(SECTIONS) else (VERSION[0], 0)


def container_bytes(container: Container) -> bytes:
    """Returns the bytes of the file; raises ContainerError if a section cannot be written."""
    return b"".join(_pieces(container))


def container_digest(container: Container) -> str:
    """Returns a hash by which a program is known: of all sections but ``program``, which says how it was made."""
    digest = hashlib.sha256()
    for name, payload in zip(container.sections, _payloads(container), strict=True):
        if name != "program":
            digest.update(_ENTRY.pack(name.encode(), 0, payload.nbytes, zlib.crc32(payload), b""))
    return digest.hexdigest()


def write_container(container: Container, path: str | os.PathLike[str]) -> None:
    """
    Writes a container. The file appears complete or not at all.

    Raises:
        ContainerError: a section cannot be written.
        OSError: the file cannot be written.
    """
    pieces = _pieces(container)
    with new_file(path) as file:
        file.writelines(pieces)


def read_container(source: Source) -> Container:
    """
    Reads a container. Given a path, its constants are mapped from the file, which must not be changed in place while in
    use; of a file object everything from its position on is read.

    Raises:
        ContainerError: the bytes are no container, or are corrupt, truncated or of another version.
        ValueError: the file object gives text.
        OSError: the file cannot be opened or read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return parse_container(np.frombuffer(bytes(source), np.uint8))
    read = getattr(source, "read", None)
    return _read_path(cast("str | os.PathLike[str]", source)) if read is None else read_container(_bytes_of(read()))


def _bytes_of(read: object) -> bytes:
    if not isinstance(read, bytes):
        raise ValueError(f"the file object gives {type(read).__name__}, not bytes: open the file with mode 'rb'")
    return read


def _read_path(path: str | os.PathLike[str]) -> Container:
    path = Path(path)
    with open(path, "rb") as file:
        # Nothing cannot be mapped.
        if os.fstat(file.fileno()).st_size == 0:
            return parse_container(np.zeros(0, np.uint8))
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    return parse_container(mapped)


def parse_container(data: NDArray[np.uint8]) -> Container:
    """
    Returns the container in the bytes of a file; its constants are a view of ``data``.

    Raises:
        ContainerError: as ``read_container``.
    """
    table = _read_table(data)
    sections = {name: data[offset : offset + size] for name, (offset, size, _) in table.items()}
    for name, (_, _, checksum) in table.items():
        if zlib.crc32(sections[name].data) != checksum:
            raise ContainerError(f"section '{name}': the checksum does not match; the file is corrupt")
    _check_gaps(data, table)
    try:
        code = decode_program(sections["code"].tobytes())
    except EncodingError as error:
        raise ContainerError(f"section 'code': {error}") from None
    try:
        ir = sections["ir"].tobytes().decode()
    except UnicodeDecodeError as error:
        raise ContainerError(f"section 'ir': not UTF-8: {error}") from None
    texts = [name for name in ("program", "signature", "debug", "target", "prologue") if name in sections]
    values = {name: parse_json(sections[name].tobytes(), name) for name in texts}
    if values.get("prologue", {}) is None:
        raise ContainerError("section 'prologue': not an object")
    container = Container(
        code, sections["constants"], ir=ir, tables=sections.get("tables", np.zeros(0, np.uint8)), **values
    )
    container.check()
    return container


def _read_table(data: NDArray[np.uint8]) -> Mapping[str, tuple[int, int, int]]:
    """Returns offset, size and checksum of every section, after checking header and table."""
    if not len(data):
        raise ContainerError("section 'header': the file is empty")
    if data[: len(MAGIC)].tobytes() != MAGIC:
        raise ContainerError("section 'header': not an STA container, which `sta compile` makes")
    if len(data) < _HEADER.size:
        raise ContainerError("section 'header': the file is truncated")
    _, major, minor, count, checksum, file_size, reserved = _HEADER.unpack(data[: _HEADER.size].tobytes())
    if (major, minor) > VERSION or major < VERSION[0]:
        raise ContainerError(
            f"section 'header': the container has version {major}.{minor}, this toolchain reads version "
            f"{VERSION[0]}.{VERSION[1]}; compile the model again, or use the toolchain that wrote it"
        )
    if count not in (len(SECTIONS), len(SECTIONS) - len(PROLOGUE_SECTIONS)) or any(reserved):
        raise ContainerError("section 'header': wrong number of sections or reserved bytes that are not zero")
    if (major, minor) != _version(count):
        raise ContainerError(f"section 'header': version {major}.{minor} does not go with {count} sections")
    if file_size != len(data):
        raise ContainerError(f"section 'header': the file has {len(data)} bytes, should have {file_size}")
    table = data[_HEADER.size : _HEADER.size + _ENTRY.size * count].tobytes()
    if len(table) != _ENTRY.size * count or zlib.crc32(table) != checksum:
        raise ContainerError("section 'table': the checksum does not match; the file is corrupt")
    return _check_table([_ENTRY.unpack_from(table, position * _ENTRY.size) for position in range(count)], file_size)


def _check_table(entries: list[tuple[bytes, int, int, int, bytes]], file_size: int) -> dict[str, tuple[int, int, int]]:
    offsets, end = _offsets([entry[2] for entry in entries])
    table: dict[str, tuple[int, int, int]] = {}
    for name, expected_offset, entry in zip(SECTIONS[: len(entries)], offsets, entries, strict=True):
        given_name, offset, size, checksum, reserved = entry
        if given_name != name.encode().ljust(16, b"\0") or any(reserved):
            raise ContainerError(f"section 'table': the entry of section '{name}' is malformed")
        if offset != expected_offset:
            raise ContainerError(f"section '{name}': starts at byte {offset}, expected {expected_offset}")
        _check_size(name, size)
        table[name] = (offset, size, checksum)
    if end != file_size:
        raise ContainerError(f"section 'table': the sections end at byte {end}, the file at {file_size}")
    return table


def _check_gaps(data: NDArray[np.uint8], table: Mapping[str, tuple[int, int, int]]) -> None:
    position = _HEADER.size + _ENTRY.size * len(table)
    for name, (offset, size, _) in table.items():
        if data[position:offset].any():
            raise ContainerError(f"section '{name}': the bytes before it are not zero")
        position = offset + size
