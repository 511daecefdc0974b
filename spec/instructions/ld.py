"""Copies from DRAM to the chip."""

from collections.abc import Iterable

from sta.spec.instructions.access import BYTE, Access
from sta.spec.instructions.cycles import copy_cycles, dma_latency
from sta.spec.instructions.definition import (
    Execute,
    Field,
    InstructionDefinition,
    Operands,
    Scalars,
    Settings,
    register,
    size,
)
from sta.spec.vector import RowStatistics


def _accesses(settings: Settings) -> Iterable[Access]:
    rows, columns = settings["rows"], settings["row_bytes"]
    yield Access("dram", "dram", False, "dram", BYTE, rows, columns, "dram_stride")
    yield Access("sram", settings.choice("space"), True, "sram", BYTE, rows, columns, "sram_stride")


def _semantics(settings: Settings) -> Execute:
    def execute(operands: Operands, scalars: Scalars, statistics: RowStatistics) -> None:
        operands["sram"][...] = operands["dram"]

    return execute


DEFINITION = InstructionDefinition(
    "ld",
    16,
    "ld",
    "Two-dimensional copy from DRAM to an SRAM space.",
    (
        register("dram", "address of the first row in DRAM"),
        register("sram", "address of the first row in the SRAM space"),
        register("dram_stride", "bytes from one row to the next in DRAM", optional=True),
        register("sram_stride", "bytes from one row to the next in the SRAM space", optional=True),
        size("rows", 14, "number of rows"),
        size("row_bytes", 20, "bytes in a row"),
        Field("space", 1, "choice", "the SRAM space", choices=("spad", "wbuf"), default=0),
    ),
    details=(
        "Cycles: rows * ceil(row_bytes / `dma_bytes_per_cycle`); where dram_stride equals row_bytes all rows count as "
        "one long row."
    ),
    accesses=_accesses,
    semantics=_semantics,
    cycles=copy_cycles,
    timed_register="dram_stride",
    latency=dma_latency,
)
