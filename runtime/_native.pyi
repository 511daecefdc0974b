"""The compiled part of the native engine; see runtime/native/module.cpp."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Affine = tuple[int, Sequence[tuple[int, int]]]
"""The base, and pairs (depth, step)."""

def families() -> list[str]:
    """Returns the families of kernels that run on this processor, fastest first."""

class BadDescription(ValueError):
    """A description leads outside a memory, or contradicts the tables that it is made from."""

class Builder:
    """Collects the description of a program, instruction by instruction."""

    def __init__(self, sizes: dict[str, int], constants: NDArray[np.uint8], tile_rows: int, family: str) -> None: ...
    def exponentials(self, bits: int, results: bytes) -> None: ...
    def instruction(self, pc: int, kind: str, counts: Sequence[int], partner: int) -> None: ...
    def number(self, name: str, value: int) -> None: ...
    def choice(self, name: str, value: str) -> None: ...
    def register(self, name: str, value: Affine) -> None: ...
    def operand(self, name: str, space: str, address: Affine, stride: Affine, rows: int, row_bytes: int) -> None: ...

class Program:
    """A decoded program."""

    def __init__(self, builder: Builder) -> None: ...
    @property
    def family(self) -> str: ...
    def machine(self, threads: int) -> Machine: ...

class Machine:
    """The state of a run."""

    def reset(self, poison: int) -> None: ...
    def advance(self, seconds: float) -> bool | None:
        """Runs for a time; returns None if the program goes on, True if it has ended, False if it has failed."""

    @property
    def pc(self) -> int:
        """The instruction that comes next, or has failed."""

    @property
    def counters(self) -> list[int]: ...
    def memory(self, space: str) -> NDArray[np.uint8]:
        """Returns a memory itself: ``spad``, ``wbuf``, ``acc`` or ``writable``."""

    def statistics(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
