"""The memories of the machine as byte arrays, and views of the rectangles that instructions touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.runtime.steps import Step
from sta.runtime.validate import Port, ValidProgram
from sta.spec.affine import Affine
from sta.spec.instructions.access import Access

Array = NDArray[Any]


class Tile:
    """
    A rectangle of memory whose place depends on the loop counters.

    ``at(counters)`` returns it as an array ``[rows, columns]`` that shares memory: reading and writing it reads and
    writes the machine's memory.
    """

    __slots__ = ("_address", "_columns", "_dtype", "_fixed", "_memory", "_pitch", "_rows", "_stride")

    def __init__(
        self,
        memory: NDArray[np.uint8],
        address: Affine[int],
        stride: Affine[int],
        rows: Affine[int],
        columns: int,
        dtype: np.dtype[Any],
        pitch: int = 0,
    ) -> None:
        self._memory = memory
        self._address = address
        self._stride = stride
        self._rows = rows
        self._columns = columns
        self._dtype = dtype
        self._pitch = pitch or dtype.itemsize
        # Most operands do not move: their view is created once.
        self._fixed = None if address.terms or stride.terms or rows.terms else self._view(())

    def at(self, counters: Sequence[int]) -> Array:
        """Returns the rectangle for the given loop counters."""
        return self._view(counters) if self._fixed is None else self._fixed

    def _view(self, counters: Sequence[int]) -> Array:
        shape, strides = (self._rows.at(counters), self._columns), (self._stride.at(counters), self._pitch)
        return np.ndarray(shape, self._dtype, self._memory, self._address.at(counters), strides)


@dataclass
class Memories:
    """The on-chip memories and the two parts of DRAM, as bytes."""

    program: ValidProgram
    spad: NDArray[np.uint8]
    wbuf: NDArray[np.uint8]
    acc: NDArray[np.uint8]
    constants: NDArray[np.uint8]
    """The read-only part of DRAM, from address 0."""
    writable: NDArray[np.uint8]
    """The writable part of DRAM, from the container's ``writable_base``."""

    @staticmethod
    def allocate(program: ValidProgram) -> Memories:
        """Returns zeroed memories of the sizes in the program's header; the constants are the container's own."""
        sizes = program.memories
        spad, wbuf, acc = (np.zeros(sizes[space], np.uint8) for space in ("spad", "wbuf", "acc"))
        scratch = max(sizes["dram"] - program.container.writable_base, 0)
        return Memories(program, spad, wbuf, acc, program.container.constants, np.zeros(scratch, np.uint8))

    def poison(self, byte: int) -> None:
        """Overwrites everything writable with a byte, so that results cannot depend on earlier contents."""
        for memory in (self.spad, self.wbuf, self.acc, self.writable):
            memory.fill(byte)

    def tile(self, step: Step, access: Access) -> Tile:
        """Returns the rectangle that an instruction accesses."""
        memory, address, stride = place(self.program, step, access)
        rows = Affine(access.rows) if access.rows_register is None else step.registers[access.rows_register]
        return Tile(getattr(self, memory), address, stride, rows, access.columns, access.dtype, access.pitch)

    def port(self, port: Port) -> Array:
        """Returns an input or output as an array of its device dtype and shape that shares memory."""
        return port_view(self.program, self.writable, port)


def place(program: ValidProgram, step: Step, access: Access) -> tuple[str, Affine[int], Affine[int]]:
    """
    Returns the place of an access: the memory, the address in it, and the bytes from row to row.

    The memory is a field of ``Memories``: ``spad``, ``wbuf``, ``acc``, ``constants`` or ``writable``.
    """
    address = step.registers[access.address]
    stride = Affine(access.row_bytes) if access.stride is None else step.registers[access.stride]
    if access.space != "dram":
        return access.space, address, stride
    base = program.container.writable_base
    # The validator made sure that an access stays in one part of DRAM.
    if address.bounds(step.ranges)[0] >= base and program.memories["dram"] > base:
        return "writable", address - base, stride
    return "constants", address, stride


def port_view(program: ValidProgram, writable: NDArray[np.uint8], port: Port) -> Array:
    """Returns an input or output as an array of its device dtype and shape in the bytes of writable DRAM."""
    start = port.address - program.container.writable_base
    return writable[start : start + port.bytes].view(port.signature.device_dtype).reshape(port.signature.shape)
