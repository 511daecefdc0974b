"""Shifts of rows of accumulators, between the chunks of an online softmax."""

from collections.abc import Iterable

from sta.spec.instructions.access import WORD, Access, read
from sta.spec.instructions.cycles import one_pass_cycles
from sta.spec.instructions.definition import (
    Execute,
    InstructionDefinition,
    Operands,
    Scalars,
    Settings,
    register,
    size,
    tile_size,
)
from sta.spec.softmax import shift_rows
from sta.spec.vector import RowStatistics


def _accesses(settings: Settings) -> Iterable[Access]:
    rows, columns = settings["rows"], settings["columns"]
    yield read("shifts", "spad", WORD, 1, rows)
    yield Access("acc", "acc", True, "acc", WORD, rows, columns, "acc_stride", updates=True)


def _semantics(settings: Settings) -> Execute:
    def execute(operands: Operands, scalars: Scalars, statistics: RowStatistics) -> None:
        acc = operands["acc"]
        acc[...] = shift_rows(acc, operands["shifts"].reshape(-1))

    return execute


DEFINITION = InstructionDefinition(
    "shift",
    42,
    "vp",
    "Shifts each row of accumulators right, in place: what a row has summed up is brought to its new maximum. A shift "
    "outside 0..31 stops the run.",
    (
        register("acc", "address of the int32 accumulators in acc"),
        register("shifts", "address of int32[rows], the shift of each row, in spad"),
        register("acc_stride", "bytes from one row of accumulators to the next", optional=True),
        tile_size("rows", "number of rows"),
        size("columns", 13, "number of columns"),
    ),
    details=(
        "Defined by `sta.spec.softmax.shift_rows`: in the online modes of `softmax`, between the product of one "
        "chunk's exponentials with the values and that of the next. Taint stays. Cycles: ceil(rows * columns / "
        "`vector_lanes`)."
    ),
    accesses=_accesses,
    semantics=_semantics,
    cycles=one_pass_cycles,
)
