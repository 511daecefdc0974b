"""
Quality of the schedules of published Transformers at their own sizes, with random weights.

    python -m benchmarks.real_sizes [--models GPT-2 ..] [--json FILE] [--docs]

Inputs of linear layers and exponentials have 8 bits, and ranges come from one sample: no choice of number formats
changes a figure. Exits with 1 if a figure that is required is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compile_time import machine
from benchmarks.measurement import Measurement, cost
from benchmarks.page import table, write_section
from benchmarks.real_models import export
from benchmarks.real_shapes import (
    CLIP_TEXT,
    CLIP_VISION,
    DEIT,
    GPT2,
    LLAMA,
    MODERN_BERT,
    REAL_SHAPES,
    SWIN,
    T5,
    VIT,
)
from benchmarks.requirements import Requirement
from benchmarks.shapes import Shape
from sta.spec.nm_format import DENSE
from sta.spec.target import Target, load_target

TARGET = "sta-base"
EFFICIENCY = {shape.name: 0.92 if shape is SWIN else 0.95 for shape in REAL_SHAPES}
"""The least MAC efficiency of shapes padded to the array."""
DRAM_RATIO = {
    **dict.fromkeys([shape.name for shape in (GPT2, CLIP_TEXT, CLIP_VISION, T5, MODERN_BERT, LLAMA)], 1.15),
    **dict.fromkeys([shape.name for shape in (VIT, DEIT, SWIN)], 1.5),
}
"""The largest ratio of DRAM traffic to its least; that of Whisper, whose activations do not fit, is only shown."""
COMPILE_SECONDS = 60
"""The longest compile, calibration apart."""
_CALIBRATION = "torch-calibrate"


class Stopwatch:
    """Processor time of each stage of a compile, from its reports of progress."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage = ""
        self._start = time.process_time()

    def report(self, stage: str, done: float | None) -> None:
        """Takes a report: the time since the last one is the last one's stage's."""
        now = time.process_time()
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._start
        self._stage, self._start = stage, now


def measure(shape: Shape, target: Target) -> Measurement:
    """
    Compiles a model, and takes its program's cost; the compile time is without calibration.

    Raises `ValueError` as `cost` does.
    """
    from sta.api.compiler.compilation import compile

    exported, examples = export(shape)
    calibration = {name: tensor.numpy()[None] for name, tensor in examples.items()}
    watch = Stopwatch()
    program = compile(
        exported, target=target, calibration=calibration, fast=True, probability_bits=8, report=watch.report
    )
    watch.report("", None)
    seconds = sum(spent for stage, spent in watch.seconds.items() if stage != _CALIBRATION)
    return cost(shape, DENSE, target, program, seconds)


def requirements(measurements: Sequence[Measurement]) -> list[Requirement]:
    """Returns all requirements on some measurements."""
    required: list[Requirement] = []
    for one in measurements:
        name = one.encoder.name
        required.append(Requirement(name, "dense", "MAC efficiency, padded", one.padded_efficiency, EFFICIENCY[name]))
        required.append(
            Requirement(name, "dense", "compile seconds", one.compile_seconds, COMPILE_SECONDS, at_most=True)
        )
        if name in DRAM_RATIO:
            required.append(Requirement(name, "dense", "DRAM ratio", one.dram_ratio, DRAM_RATIO[name], at_most=True))
    return required


def report(measurements: Sequence[Measurement], required: Sequence[Requirement]) -> str:
    """Returns the table, and what is missed."""
    missed = [requirement for requirement in required if not requirement.holds]
    names = [f"{one.model}: {one.figure} {one.value:.3f}, required {one.bound:g}" for one in missed]
    return "\n\n".join(
        [
            "Measured with " + ", ".join(f"{key} {value}" for key, value in machine().items()) + ".",
            _table(measurements),
            f"Required figures, {len(required) - len(missed)} of {len(required)} reached"
            + (".\nMissed:\n\n" + "\n".join(f"- {name}" for name in names) if names else "."),
        ]
    )


def _table(measurements: Sequence[Measurement]) -> str:
    header = ["model", "tokens", "cycles", "ms", "padded", "MAC efficiency", "DRAM KiB", "least", "ratio", "compile s"]
    rows = [
        [
            one.encoder.name,
            f"{one.encoder.sequence:,}",
            f"{one.cycles:,}",
            f"{1e3 * one.seconds:.2f}",
            f"{one.padded_efficiency:.4f}",
            f"{one.efficiency:.4f}",
            f"{one.dram_bytes / 1024:,.0f}",
            f"{one.least_dram_bytes / 1024:,.0f}",
            f"{one.dram_ratio:.3f}",
            f"{one.compile_seconds:.1f}",
        ]
        for one in measurements
    ]
    return table(header, rows)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    models = [shape.name for shape in REAL_SHAPES]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real_sizes", description="schedules of published models"
    )
    parser.add_argument("--models", nargs="+", choices=models, default=models, metavar="MODEL", help=", ".join(models))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/")
    chosen = parser.parse_args(arguments)
    if chosen.docs and set(chosen.models) != set(models):
        parser.error("--docs is for all models: the page shows one run")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns 1 if a required figure is missed."""
    chosen = _arguments(arguments)
    target = load_target(TARGET)
    measurements: list[Measurement] = []
    for shape in REAL_SHAPES:
        if shape.name in chosen.models:
            print(f"compiling {shape.name}", file=sys.stderr, flush=True)
            measurements.append(measure(shape, target))
    required = requirements(measurements)
    text = report(measurements, required)
    print(text)
    if chosen.json is not None:
        results = {
            "machine": machine(),
            "target": target.to_json(),
            "measurements": [measurement.to_json() for measurement in measurements],
            "requirements": [requirement.to_json() for requirement in required],
        }
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(results, indent=2) + "\n")
    if chosen.docs:
        write_section("real sizes", text)
    return 0 if all(requirement.holds for requirement in required) else 1


if __name__ == "__main__":
    sys.exit(main())
