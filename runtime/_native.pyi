"""The compiled part of the native engine; see runtime/native/bindings/."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Affine = tuple[int, Sequence[tuple[int, int]]]
"""The base, and pairs (depth, step)."""

Integers = NDArray[np.int64]
Columns = tuple[Integers, Integers, Integers, Integers, Integers, Integers, Integers, Integers]
"""Those of ``sta.runtime.schedule.Schedule``, in its order."""

LARGEST_SIZE: int
"""Of the rows, columns, keys and depth of an instruction."""
LARGEST_ROW_BYTES: int
SEMAPHORES: int
"""How many there may be."""

def families() -> list[str]:
    """Returns the families of kernels that run on this processor, fastest first."""

def instruction_names() -> list[str]:
    """Returns the instructions of units, in alphabetical order."""

class BadDescription(ValueError):
    """A description leads outside a memory, or contradicts the tables that it is made from."""

class Builder:
    """Collects the description of a program, instruction by instruction."""

    def __init__(
        self,
        sizes: dict[str, int],
        constants: NDArray[np.uint8],
        tile_rows: int,
        units: int,
        queue_depth: int,
        family: str,
    ) -> None: ...
    def exponentials(self, bits: int, results: bytes) -> None: ...
    def instruction(self, pc: int, name: str, counts: Sequence[int], partner: int) -> None: ...
    def number(self, name: str, value: int) -> None: ...
    def choice(self, name: str, value: str) -> None: ...
    def register(self, name: str, value: Affine) -> None: ...
    def operand(
        self, name: str, space: str, address: Affine, stride: Affine, rows: int, row_bytes: int, writes: bool
    ) -> None: ...
    def job(self, unit: int, busy: int, latency: int, waits: int, posts: int) -> None: ...
    def one_piece(self, stride: Affine, row_bytes: int, busy: int) -> None: ...
    def taint(self, transfers: bool, always: bool, never: bool) -> None: ...
    def taint_source(self, operand: str) -> None: ...
    def taint_result(self, operand: str, may_leave: bool) -> None: ...

class Program:
    """A decoded program."""

    def __init__(self, builder: Builder) -> None: ...
    @property
    def family(self) -> str: ...
    def machine(self, threads: int) -> Machine: ...
    def scores_stay_on_chip(self) -> bool: ...
    def timing(self) -> tuple[int, list[int]] | None:
        """Returns the cycles of a run, and those in which each unit works; None if it ends in a deadlock."""

    def schedule(self) -> Columns | None:
        """Returns the columns of the schedule; None if the run ends in a deadlock."""

    def charges(self, columns: Sequence[Integers], products: int) -> tuple[Integers, Integers, NDArray[np.uint8]]:
        """Returns for each charge its end, its row and whether that is issued; takes the product unit's number."""

    def module_cycles(
        self, columns: Sequence[Integers], products: int, module_of_pc: Integers, modules: int
    ) -> tuple[list[int], list[list[int]], list[list[int]], list[list[int]]]:
        """Returns the cycles of each module: working, idle by cause, busy by unit, concurrent by unit."""

    def clocks(self, columns: Sequence[Integers]) -> NDArray[np.int32] | None:
        """Returns the vector clocks ``[rows, units]``; None if semaphores are shared."""

    def races(
        self, columns: Sequence[Integers], clocks: NDArray[np.int32], limit: int
    ) -> tuple[list[tuple[int, bool, int, int]], int, int, int] | None:
        """
        Returns races, each as earlier row, whether it writes, later row and the number of its access; and how many
        instructions, accesses and bytes were compared. None if the tiles are too many.
        """

    def write_trace(
        self,
        columns: Sequence[Integers],
        begins: Sequence[bytes],
        ends: Sequence[bytes],
        modules: Sequence[bytes],
        module_of_pc: Integers,
        times: Sequence[Integers],
        reasons: Sequence[bytes],
        shown: int,
        write: Callable[[bytes], object],
    ) -> None: ...

class Machine:
    """The state of a run."""

    def reset(self, poison: int, goes_ahead: bool) -> None:
        """Overwrites what is writable; threads stay at one instruction together unless they may go ahead."""

    def advance(self, seconds: float, executed: int) -> bool | None:
        """
        Runs for a time, or until so many instructions of units and fences have been executed since the start; returns
        None if the program goes on, True if it has ended, False if it has failed.
        """

    @property
    def has_gone_wrong(self) -> bool:
        """True if something has failed that threads had gone ahead of, so that the memories say nothing."""

    @property
    def executed(self) -> int:
        """Instructions of units and fences that have been executed since the start."""

    @property
    def pc(self) -> int:
        """The instruction that comes next, or has failed."""

    @property
    def counters(self) -> list[int]: ...
    def memory(self, space: str) -> NDArray[np.uint8]:
        """Returns a memory itself: ``spad``, ``wbuf``, ``acc`` or ``writable``."""

    def statistics(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
