"""
Operands that an instruction reads and writes: rectangles of memory.

An instruction reads all of its sources before it writes. Two results are written in the order of its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

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

BYTE = DTYPES["u8"]
WORD = DTYPES["s32"]


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
    """The register field with the bytes from row to row; None: the rows are adjacent."""
    alignment: int = 0
    """Divisor of address and stride in bytes; 0: the size of an element."""
    pitch: int = 0
    """Bytes from one element of a row to the next; 0: they are adjacent."""
    rows_register: str | None = None
    """The register field with the number of rows if it is not fixed (the table of a gather)."""
    rows_taken: int = 0
    """Number of these rows that are read; data decides which."""
    updates: bool = False
    """True if the result depends on its former contents."""
    may_leave: bool = False
    """True if the result may leave the chip, whatever its sources."""

    @property
    def row_bytes(self) -> int:
        """Bytes from the first of a row to its last; with a pitch including those between its elements."""
        pitch = self.pitch or self.dtype.itemsize
        return (self.columns - 1) * pitch + self.dtype.itemsize

    @property
    def bytes_moved(self) -> int:
        """Bytes that pass between the memory and the unit; of a memory without pitch."""
        return (self.rows if self.rows_register is None else self.rows_taken) * self.row_bytes


def read(name: str, space: str, dtype: np.dtype[Any], rows: int, columns: int, stride: str | None = None) -> Access:
    """Returns a source whose address is in the register field of the same name."""
    return Access(name, space, False, name, dtype, rows, columns, stride)


def write(name: str, space: str, dtype: np.dtype[Any], rows: int, columns: int, stride: str | None = None) -> Access:
    """Returns a result whose address is in the register field of the same name."""
    return Access(name, space, True, name, dtype, rows, columns, stride)


def parameter_block(size: int) -> Access:
    """Returns the access to a parameter block of `size` bytes, which holds int32 words."""
    return Access("parameters", "wbuf", False, "parameters", BYTE, 1, size, alignment=4)
