"""Copies from the chip to DRAM."""

from collections.abc import Iterable

from sta.spec.instructions.access import BYTE, Access
from sta.spec.instructions.cycles import copy_cycles, dma_latency
from sta.spec.instructions.definition import (
    Execute,
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
    yield Access("sram", "spad", False, "sram", BYTE, rows, columns, "sram_stride")
    yield Access("dram", "dram", True, "dram", BYTE, rows, columns, "dram_stride")


def _semantics(settings: Settings) -> Execute:
    def execute(operands: Operands, scalars: Scalars, statistics: RowStatistics) -> None:
        operands["dram"][...] = operands["sram"]

    return execute


DEFINITION = InstructionDefinition(
    "st",
    17,
    "st",
    "Two-dimensional copy from spad to the writable part of DRAM.",
    (
        register("dram", "address of the first row in DRAM"),
        register("sram", "address of the first row in spad"),
        register("dram_stride", "bytes from one row to the next in DRAM", optional=True),
        register("sram_stride", "bytes from one row to the next in spad", optional=True),
        size("rows", 14, "number of rows"),
        size("row_bytes", 20, "bytes in a row"),
    ),
    details="Cycles: as `ld`.",
    accesses=_accesses,
    semantics=_semantics,
    cycles=copy_cycles,
    timed_register="dram_stride",
    latency=dma_latency,
)
