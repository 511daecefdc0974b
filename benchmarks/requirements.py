"""Required figures of the schedule, on `sta-base`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.measurement import Measurement
from benchmarks.shapes import pattern_name

EFFICIENCY = {
    "BERT-base": {"dense": 0.97, "2:4": 0.96, "1:4": 0.94, "1:8": 0.90, "1:16": 0.88},
    "BERT-base-512": {"dense": 0.95},
    "BERT-base-2048": {"dense": 0.90},
}
"""The least MAC efficiency of the whole model."""
PADDED_EFFICIENCY = {"TinyBERT-4": {"dense": 0.90}}
"""The same, of the shapes padded to the array: 26 and 312 are multiples of nothing here."""
SPEED_UP_MODELS = ("BERT-base",)
"""Models whose required speed-up is the ideal one times the ratio of the required efficiencies."""
DRAM_RATIO = 1.10
"""The largest ratio of DRAM traffic to its least, of a model whose activations fit on the chip."""
LONGEST_ON_CHIP = 128
"""The longest sequence whose activations fit on the chip, in all models measured."""


@dataclass(frozen=True)
class Requirement:
    """One figure that has a bound."""

    model: str
    pattern: str
    figure: str
    value: float
    bound: float
    at_most: bool = False
    """True if the bound is the largest value allowed, and not the smallest."""

    @property
    def holds(self) -> bool:
        """True if the value is inside the bound, without any tolerance."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def to_json(self) -> dict[str, Any]:
        """Returns the requirement as a dictionary that JSON can hold."""
        return {**self.__dict__, "holds": self.holds}


def requirements(measurements: Sequence[Measurement]) -> list[Requirement]:
    """Returns all requirements on some measurements."""
    return [requirement for m in measurements for requirement in _of(m, speed_up(m, measurements))]


def required_efficiency(measurement: Measurement) -> float | None:
    """Returns the least MAC efficiency of the whole model, if there is one."""
    return EFFICIENCY.get(measurement.encoder.name, {}).get(pattern_name(measurement.pattern))


def speed_up(measurement: Measurement, measurements: Sequence[Measurement]) -> float | None:
    """Returns the speed-up over the same encoder, dense, if that was measured as well."""
    dense = [m.cycles for m in measurements if m.encoder == measurement.encoder and m.pattern.is_dense]
    return dense[0] / measurement.cycles if dense else None


def _of(measurement: Measurement, speed_up: float | None) -> Iterator[Requirement]:
    model, pattern = measurement.encoder.name, pattern_name(measurement.pattern)
    efficiency = required_efficiency(measurement)
    if efficiency is not None:
        yield Requirement(model, pattern, "MAC efficiency", measurement.efficiency, efficiency)
    padded = PADDED_EFFICIENCY.get(model, {}).get(pattern)
    if padded is not None:
        yield Requirement(model, pattern, "MAC efficiency, padded", measurement.padded_efficiency, padded)
    if efficiency is not None and speed_up is not None and model in SPEED_UP_MODELS and pattern != "dense":
        ideal = float(measurement.encoder.ideal_speed_up(measurement.pattern))
        bound = ideal * efficiency / EFFICIENCY[model]["dense"]
        yield Requirement(model, pattern, "speed-up", speed_up, bound)
    if measurement.encoder.sequence <= LONGEST_ON_CHIP:
        yield Requirement(model, pattern, "DRAM ratio", measurement.dram_ratio, DRAM_RATIO, at_most=True)
    yield Requirement(model, pattern, "DRAM bytes of attention", measurement.dram["attention"], 0, at_most=True)
    yield Requirement(model, pattern, "bound by cycles", measurement.bound / measurement.cycles, 1, at_most=True)
