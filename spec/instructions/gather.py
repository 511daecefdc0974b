"""Look-ups in a table in DRAM."""

from collections.abc import Iterable

import numpy as np

from sta.spec.cost import dma_cycles
from sta.spec.instructions.access import BYTE, WORD, Access, read, write
from sta.spec.instructions.cycles import dma_latency
from sta.spec.instructions.definition import (
    Execute,
    InstructionDefinition,
    Operands,
    Scalars,
    Settings,
    register,
    size,
)
from sta.spec.target import Target
from sta.spec.vector import RowStatistics


def _accesses(settings: Settings) -> Iterable[Access]:
    rows, columns = settings["rows"], settings["row_bytes"]
    yield Access("table", "dram", False, "table", BYTE, 1, columns, rows_register="limit", rows_taken=rows)
    yield read("indices", "spad", WORD, 1, rows)
    yield write("destination", "spad", BYTE, rows, columns, "destination_stride")


def _semantics(settings: Settings) -> Execute:
    def execute(operands: Operands, scalars: Scalars, statistics: RowStatistics) -> None:
        table, wanted = operands["table"], operands["indices"].reshape(-1)
        outside = np.flatnonzero((wanted < 0) | (wanted >= len(table)))
        if outside.size:
            raise ValueError(f"index {wanted[outside[0]]} at position {outside[0]} is outside 0..{len(table) - 1}")
        operands["destination"][...] = table[wanted]

    return execute


def _cycles(settings: Settings, target: Target, _timed: int) -> int:
    return dma_cycles(target, settings["rows"], settings["row_bytes"])


DEFINITION = InstructionDefinition(
    "gather",
    18,
    "ld",
    "Copies the rows of a DRAM table that indices in spad name: row i = table[indices[i]]. An index outside 0..limit-1 "
    "stops the run.",
    (
        register("table", "address of the table in DRAM; its rows lie next to each other"),
        register("indices", "address of int32[rows] in spad"),
        register("destination", "address of the first row in spad"),
        register("destination_stride", "bytes from one row to the next in spad", optional=True),
        register("limit", "number of rows in the table"),
        size("rows", 14, "number of indices, and of rows copied"),
        size("row_bytes", 20, "bytes in a row"),
    ),
    details=(
        "Reads the indices from spad and the rows from DRAM. Cycles: rows * ceil(row_bytes / `dma_bytes_per_cycle`)."
    ),
    accesses=_accesses,
    semantics=_semantics,
    cycles=_cycles,
    latency=dma_latency,
)
