"""
Quality of the compiled schedules: cycles, MAC efficiency, speed-up and DRAM traffic of encoders, dense and pruned.

    python -m benchmarks.schedule [--models BERT-base ..] [--sparsities dense 2:4 ..] [--json FILE] [--docs]

Exits with 1 if a figure that is required is missed. Everything but the compile time is a property of the programs: it
does not depend on the machine that this runs on, and needs no repetition.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.compile_time import machine
from benchmarks.measurement import Measurement, measure
from benchmarks.models import export
from benchmarks.page import PAGE, table, write_section
from benchmarks.picture import draw
from benchmarks.requirements import Requirement, required_efficiency, requirements, speed_up
from benchmarks.shapes import ENCODERS, PATTERNS, Encoder, pattern_name
from sta.spec.nm_format import Pattern
from sta.spec.target import Target, load_target

TARGET = "sta-base"


def measure_all(encoders: Sequence[Encoder], patterns: Sequence[Pattern], target: Target) -> Iterator[Measurement]:
    """Iterates over the measurements of encoders with patterns; reports progress on standard error."""
    for encoder in encoders:
        exported, inputs = export(encoder)
        for pattern in patterns:
            print(f"compiling {encoder.name}, {pattern_name(pattern)}", file=sys.stderr, flush=True)
            yield measure(encoder, pattern, target, exported, inputs)


def report(measurements: Sequence[Measurement], required: Sequence[Requirement]) -> str:
    """Returns all tables."""
    missed = [requirement for requirement in required if not requirement.holds]
    parts = [
        "Measured with " + ", ".join(f"{key} {value}" for key, value in machine().items()) + ".",
        "Cycles, and what is made of them:\n\n" + _cycles_table(measurements),
        "DRAM traffic, in KiB:\n\n" + _dram_table(measurements),
        "Part of the cycles in which each unit works, and bounds in cycles:\n\n" + _units_table(measurements),
        f"Required figures, {len(required) - len(missed)} of {len(required)} reached:\n\n" + _required_table(required),
    ]
    return "\n\n".join(parts)


def _names(measurement: Measurement) -> tuple[str, str]:
    return measurement.encoder.name, pattern_name(measurement.pattern)


def _cycles_table(measurements: Sequence[Measurement]) -> str:
    header = [
        "model",
        "sparsity",
        "cycles",
        "ms",
        "MAC efficiency",
        "required",
        "padded",
        "speed-up",
        "ideal",
        "compile s",
    ]
    rows = [
        [
            *_names(m),
            f"{m.cycles:,}",
            f"{1e3 * m.seconds:.2f}",
            f"{m.efficiency:.4f}",
            _optional(required_efficiency(m)),
            f"{m.padded_efficiency:.4f}",
            _optional(speed_up(m, measurements)),
            f"{float(m.encoder.ideal_speed_up(m.pattern)):.2f}",
            f"{m.compile_seconds:.1f}",
        ]
        for m in measurements
    ]
    return table(header, rows, 2)


def _optional(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _dram_table(measurements: Sequence[Measurement]) -> str:
    classes = list(measurements[0].dram)
    rows = [
        [
            *_names(m),
            *(f"{m.dram[kind] / 1024:,.0f}" for kind in classes),
            f"{m.dram_bytes / 1024:,.0f}",
            f"{m.least_dram_bytes / 1024:,.0f}",
            f"{m.dram_ratio:.3f}",
        ]
        for m in measurements
    ]
    return table(["model", "sparsity", *classes, "all", "least", "ratio"], rows, 2)


def _units_table(measurements: Sequence[Measurement]) -> str:
    units = list(measurements[0].busy)
    rows = [
        [
            *_names(m),
            *(f"{100 * m.busy[unit] / m.cycles:.1f} %" for unit in units),
            f"{m.compute_bound:,}",
            f"{m.dma_bound:,}",
            f"{m.cycles / m.bound:.4f}",
        ]
        for m in measurements
    ]
    return table(["model", "sparsity", *units, "compute bound", "DMA bound", "cycles by bound"], rows, 2)


def _shown(required: Sequence[Requirement]) -> list[Requirement]:
    """
    Returns the requirements on single programs, the worst figure for each requirement on all of them, and the missed
    ones.
    """
    worst: dict[str, Requirement] = {}
    for requirement in required:
        if requirement.at_most:
            worst[requirement.figure] = max(worst.get(requirement.figure, requirement), requirement, key=_value)
    return [r for r in required if not r.at_most or not r.holds or r is worst[r.figure]]


def _value(requirement: Requirement) -> float:
    return requirement.value


def _required_table(required: Sequence[Requirement]) -> str:
    rows = [
        [
            requirement.model,
            requirement.pattern,
            requirement.figure,
            "yes" if requirement.holds else "**no**",
            f"{requirement.value:.4f}",
            f"{'at most' if requirement.at_most else 'at least'} {requirement.bound:.4f}",
        ]
        for requirement in _shown(required)
    ]
    return table(["model", "sparsity", "figure", "reached", "value", "required"], rows, 4)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    models, sparsities = [encoder.name for encoder in ENCODERS], [pattern_name(pattern) for pattern in PATTERNS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schedule", description="quality of compiled schedules")
    parser.add_argument("--models", nargs="+", choices=models, default=models, metavar="MODEL", help=", ".join(models))
    parser.add_argument(
        "--sparsities", nargs="+", choices=sparsities, default=sparsities, metavar="N:M", help=", ".join(sparsities)
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    parser.add_argument("--docs", action="store_true", help="write tables and picture into docs/")
    chosen = parser.parse_args(arguments)
    if chosen.docs and (set(chosen.models) != set(models) or set(chosen.sparsities) != set(sparsities)):
        parser.error("--docs is for all models and sparsities: the page shows one run")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns 1 if a required figure is missed."""
    chosen = _arguments(arguments)
    encoders = [encoder for encoder in ENCODERS if encoder.name in chosen.models]
    patterns = [pattern for pattern in PATTERNS if pattern_name(pattern) in chosen.sparsities]
    target = load_target(TARGET)
    measurements = list(measure_all(encoders, patterns, target))
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
        write_section("schedule", text)
        draw(measurements, PAGE.with_name("benchmarks.svg"))
    return 0 if all(requirement.holds for requirement in required) else 1


if __name__ == "__main__":
    sys.exit(main())
