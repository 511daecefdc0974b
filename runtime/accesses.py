"""
What each unit instruction reads and writes: one table for the validator, the engines and the taint check.

An instruction reads all of its sources before it writes. Sources come first in the table; where an instruction has two
results they are written in the order of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sta.backend.isa import Instruction
from sta.spec.nm_format import Pattern, packed_size
from sta.spec.parameters import SOFTMAX_PARAMETERS_SIZE, map_parameters_size, norm_parameters_size
from sta.spec.tables import TABLE_ENTRIES

DTYPES: dict[str, np.dtype[Any]] = {
    "acc": np.dtype("<i4"),
    "s32": np.dtype("<i4"),
    "s16": np.dtype("<i2"),
    "s8": np.dtype("i1"),
    "u8": np.dtype("u1"),
    "u16": np.dtype("<u2"),
    "acc_wide": np.dtype("<i4"),
}
"""The element types of the instruction fields."""

_BYTE = DTYPES["u8"]
_WORD = DTYPES["s32"]


@dataclass(frozen=True, slots=True)
class Access:
    """A rectangle of memory that an instruction reads or writes."""

    name: str
    """The role: the name of the operand, ``sums`` of a map, ``dram`` and ``sram`` of a copy."""
    space: str
    """``dram``, ``spad``, ``wbuf`` or ``acc``."""
    writes: bool
    address: str
    """The register field with the address of the first row."""
    dtype: np.dtype[Any]
    rows: int
    columns: int
    """Elements in a row."""
    stride: str | None = None
    """The register field with the bytes from row to row; None: the rows lie next to each other."""
    alignment: int = 0
    """Bytes that address and stride must be multiples of; 0: the size of an element."""
    pitch: int = 0
    """Bytes from one element of a row to the next; 0: they lie next to each other."""
    rows_register: str | None = None
    """The register field that holds the number of rows where it is not fixed (the table of a gather)."""

    @property
    def row_bytes(self) -> int:
        """Bytes from the first of a row to its last; with a pitch also those between its elements."""
        pitch = self.pitch or self.dtype.itemsize
        return (self.columns - 1) * pitch + self.dtype.itemsize


def _read(name: str, space: str, dtype: np.dtype[Any], rows: int, columns: int, stride: str | None = None) -> Access:
    return Access(name, space, False, name, dtype, rows, columns, stride)


def _write(name: str, space: str, dtype: np.dtype[Any], rows: int, columns: int, stride: str | None = None) -> Access:
    return Access(name, space, True, name, dtype, rows, columns, stride)


def _block(name: str, size: int) -> Access:
    """Returns the access to a parameter block, which holds int32 words."""
    return Access(name, "wbuf", False, name, _BYTE, 1, size, alignment=4)


def _copy(instruction: Instruction, source: str, destination: str) -> Iterable[Access]:
    rows, columns = instruction["rows"], instruction["row_bytes"]
    for space, writes in ((source, False), (destination, True)):
        name = "dram" if space == "dram" else "sram"
        yield Access(name, space, writes, name, _BYTE, rows, columns, f"{name}_stride")


def _sync(instruction: Instruction) -> Iterable[Access]:
    return ()


def _ld(instruction: Instruction) -> Iterable[Access]:
    return _copy(instruction, "dram", instruction.choice("space"))


def _st(instruction: Instruction) -> Iterable[Access]:
    return _copy(instruction, "spad", "dram")


def _gather(instruction: Instruction) -> Iterable[Access]:
    rows, columns = instruction["rows"], instruction["row_bytes"]
    yield Access("table", "dram", False, "table", _BYTE, 1, columns, rows_register="limit")
    yield _read("indices", "spad", _WORD, 1, rows)
    yield _write("destination", "spad", _BYTE, rows, columns, "destination_stride")


def _mm(instruction: Instruction) -> Iterable[Access]:
    rows, columns, depth = instruction["rows"], instruction["columns"], instruction["depth"]
    pitch = 2 if instruction["a_wide"] else 0
    yield Access("a", "spad", False, "a", DTYPES[instruction.choice("a_type")], rows, depth, "a_stride", pitch=pitch)
    if instruction.choice("b_space") == "wbuf":
        pattern = Pattern(instruction["n"], instruction["m"])
        yield _read("b", "wbuf", _BYTE, 1, packed_size(columns, depth, pattern, instruction.choice("encoding")))
    elif instruction["b_transposed"]:
        yield _read("b", "spad", DTYPES["s8"], depth, columns, "b_stride")
    else:
        yield _read("b", "spad", DTYPES["s8"], columns, depth, "b_stride")
    yield _write("acc", "acc", _WORD, rows, columns, "acc_stride")


def _softmax(instruction: Instruction) -> Iterable[Access]:
    rows, keys = instruction["rows"], instruction["keys"]
    yield _read("scores", "acc", _WORD, rows, keys, "scores_stride")
    yield _block("parameters", SOFTMAX_PARAMETERS_SIZE)
    if instruction["has_mask"]:
        yield _read("mask", "spad", _BYTE, rows, keys, "mask_stride")
    mode = instruction.choice("mode")
    if mode == "online":
        yield Access("state", "spad", False, "sums", _WORD, 2, rows)
    yield _write("destination", "spad", DTYPES[f"u{instruction.choice('p_bits')}"], rows, keys, "destination_stride")
    yield _write("sums", "spad", _WORD, 1 if mode == "row" else 3, rows)


def _map(instruction: Instruction) -> Iterable[Access]:
    rows, columns = instruction["rows"], instruction["columns"]
    source_type, residual_type = instruction.choice("source_type"), instruction.choice("residual_type")
    source_space = "acc" if source_type.startswith("acc") else "spad"
    source_columns = 2 * columns if source_type == "acc_wide" else columns
    yield _read("source", source_space, DTYPES[source_type], rows, source_columns, "source_stride")
    yield _block("parameters", map_parameters_size(columns if instruction["per_channel"] else 1))
    if instruction["has_table"]:
        yield _read("table", "wbuf", DTYPES["s16"], 1, TABLE_ENTRIES)
    if residual_type != "none":
        yield _read("residual", "spad", DTYPES[residual_type], rows, columns, "residual_stride")
    if instruction["normalize"]:
        yield Access("sums", "spad", False, "residual", _WORD, 1, rows)
    destination_type = DTYPES[instruction.choice("destination_type")]
    yield _write("destination", "spad", destination_type, rows, columns, "destination_stride")


def _norm(instruction: Instruction) -> Iterable[Access]:
    rows, columns = instruction["rows"], instruction["columns"]
    yield _read("source", "spad", DTYPES["s16"], rows, columns, "source_stride")
    yield _block("parameters", norm_parameters_size(columns))
    if instruction["outputs"] & 1:
        yield _write("destination", "spad", DTYPES["s16"], rows, columns, "destination_stride")
    if instruction["outputs"] & 2:
        yield _write("copy", "spad", DTYPES["s8"], rows, columns, "copy_stride")


def _rescale(instruction: Instruction) -> Iterable[Access]:
    rows, columns = instruction["rows"], instruction["columns"]
    yield _read("shifts", "spad", _WORD, 1, rows)
    yield _write("acc", "acc", _WORD, rows, columns, "acc_stride")


_ACCESSES: dict[str, Callable[[Instruction], Iterable[Access]]] = {
    "sync": _sync,
    "ld": _ld,
    "st": _st,
    "gather": _gather,
    "mm": _mm,
    "softmax": _softmax,
    "map": _map,
    "norm": _norm,
    "rescale": _rescale,
}


def accesses(instruction: Instruction) -> tuple[Access, ...]:
    """
    Returns what a unit instruction reads and writes; an accumulating product and a rescale also read their ``acc``.

    Raises:
        ValueError: the pattern of a product is not one, or does not go with its encoding.
    """
    return tuple(_ACCESSES[instruction.name](instruction))
