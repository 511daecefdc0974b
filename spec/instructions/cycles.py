"""Cycles and latencies that several instructions have."""

from sta.spec import cost
from sta.spec.instructions.definition import Settings
from sta.spec.target import Target


def copy_cycles(settings: Settings, target: Target, dram_stride: int) -> int:
    """Returns the cycles of a copy between DRAM and the chip."""
    return cost.copy_cycles(target, settings["rows"], settings["row_bytes"], dram_stride)


def dma_latency(target: Target) -> int:
    """Returns the cycles until what DMA moved has arrived."""
    return target.dma_latency


def one_pass_cycles(settings: Settings, target: Target, _timed: int) -> int:
    """Returns the cycles of one pass of the vector unit over a tile."""
    return cost.vector_cycles(target, settings["rows"], settings["columns"], 1)
