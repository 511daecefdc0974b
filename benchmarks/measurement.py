"""Cost of one program, beside the least cost of its model's shape."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.models import Inputs, compile_pruned
from benchmarks.shapes import Encoder, Shape, pattern_name
from sta.runtime import Program
from sta.spec.nm_format import Pattern
from sta.spec.target import Target


@dataclass(frozen=True)
class Measurement:
    """The cost of a model with all its linear layers pruned to a pattern."""

    encoder: Shape
    pattern: Pattern
    target: Target
    cycles: int
    busy: dict[str, int]
    """Cycles in which each unit works."""
    dram: dict[str, int]
    """DRAM bytes by class."""
    dma_bound: int
    """Least cycles of the DMA: bytes read or bytes written, whichever are more, at its full rate."""
    compile_seconds: float

    @property
    def macs(self) -> int:
        """Useful MACs, from the encoder's shape."""
        return int(self.encoder.macs(self.pattern))

    @property
    def compute_bound(self) -> int:
        """Cycles that the array needs for the products executed."""
        return self.busy["mm"]

    @property
    def bound(self) -> int:
        """Cycles that no schedule of the same instructions undercuts."""
        return max(self.compute_bound, self.dma_bound)

    @property
    def efficiency(self) -> float:
        """Useful MACs divided by the array's capacity in all cycles."""
        return self.macs / (self.cycles * self.target.macs_per_cycle)

    @property
    def padded_efficiency(self) -> float:
        """The same, with the MACs of shapes that are padded to the array."""
        return self.encoder.padded_macs(self.pattern, self.target) / (self.cycles * self.target.macs_per_cycle)

    @property
    def dram_bytes(self) -> int:
        """Bytes moved between DRAM and the chip."""
        return sum(self.dram.values())

    @property
    def least_dram_bytes(self) -> int:
        """The bytes that any schedule moves, from the model's shape."""
        return sum(self.encoder.least_dram_bytes(self.pattern).values())

    @property
    def dram_ratio(self) -> float:
        """Bytes moved divided by the least bytes."""
        return self.dram_bytes / self.least_dram_bytes

    @property
    def seconds(self) -> float:
        """The time that the target takes."""
        return self.cycles / (self.target.clock_mhz * 1e6)

    def to_json(self) -> dict[str, Any]:
        """Returns everything as a dictionary for JSON."""
        return {
            "model": self.encoder.name,
            "pattern": pattern_name(self.pattern),
            "cycles": self.cycles,
            "seconds": self.seconds,
            "macs": self.macs,
            "mac_efficiency": self.efficiency,
            "padded_mac_efficiency": self.padded_efficiency,
            "ideal_speed_up": float(self.encoder.ideal_speed_up(self.pattern)),
            "compute_bound": self.compute_bound,
            "dma_bound": self.dma_bound,
            "busy": self.busy,
            "dram": self.dram,
            "dram_bytes": self.dram_bytes,
            "least_dram": self.encoder.least_dram_bytes(self.pattern),
            "dram_ratio": self.dram_ratio,
            "compile_seconds": self.compile_seconds,
        }


def measure(
    encoder: Encoder, pattern: Pattern, target: Target, exported: torch.export.ExportedProgram, inputs: Inputs
) -> Measurement:
    """Compiles an exported encoder and takes its program's cost. Raises what `cost` raises."""
    start = time.process_time()
    program = compile_pruned(exported, inputs, target, pattern)
    return cost(encoder, pattern, target, program, time.process_time() - start)


def cost(shape: Shape, pattern: Pattern, target: Target, program: Program, compile_seconds: float) -> Measurement:
    """
    Takes a program's cost, which does not depend on data.

    Raises:
        ValueError: the program was credited with other useful MACs than the shape has, or what it moves does not sum
            up: the figures made of these would mean nothing.
    """
    useful = shape.macs(pattern)
    if program.macs != useful:
        raise ValueError(f"{shape.name} {pattern}: {program.macs} useful MACs, where its shape has {useful}")
    dram = program.profile().total.dram
    if sum(dram.values()) != program.dram_bytes:
        raise ValueError(f"{shape.name} {pattern}: {program.dram_bytes} DRAM bytes, but {dram} by class")
    timing = program.timing
    moved = max(timing.dram_bytes_read, timing.dram_bytes_written)
    return Measurement(
        encoder=shape,
        pattern=pattern,
        target=target,
        cycles=program.cycles,
        busy=dict(timing.busy),
        dram=dict(dram),
        dma_bound=-(-moved // target.dma_bytes_per_cycle),
        compile_seconds=compile_seconds,
    )
