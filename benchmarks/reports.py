"""
Cost of cycles, profile, race check and trace beside their run.

    python -m benchmarks.reports [--models MiniLM BERT-base] [--sparsity dense 1:16] [--runs 7] [--json]

Two comparisons, both as (plain + report) / plain, which is to be at most 2:

- in a process: `Program.run` of a program that has run before, and that with one report made from nothing: what a
  program keeps of earlier reports is dropped each time, the recorded schedule included. One thread.
- the command: `sta run` of a new process, and that with the option; starting Python and loading the program included.

All take turns; medians of the processor time are compared. Programs are compiled once, to `out/emulator`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import sta
from benchmarks.compile_time import MODELS, machine
from benchmarks.latency import WARM_UP
from benchmarks.peers import FOLDER, compiled, samples
from sta.runtime import Program

KEPT = ("timing", "schedule")
"""Reports that a program keeps."""
OPTIONS = {
    "plain": [],
    "profile": ["--profile"],
    "race check": ["--check-races"],
    "trace": ["--trace", str(FOLDER / "trace.json")],
    "all": ["--profile", "--check-races", "--trace", str(FOLDER / "trace.json")],
}

Times = dict[str, list[float]]


def seconds(work: Callable[[], object]) -> float:
    """Returns the processor time of some work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def reports(program: Program) -> dict[str, Callable[[], object]]:
    """Returns the function of each report, by name."""
    return {
        "cycles": lambda: program.timing,
        "profile": program.profile,
        "race check": program.check_races,
        "trace": lambda: program.write_trace(FOLDER / "trace.json"),
    }


def in_a_process(path: Path, runs: int) -> Times:
    """Returns seconds of plain runs, and of reports alone."""
    program = sta.load(path)
    inputs = next(samples(1))
    times: Times = {name: [] for name in ("plain", *reports(program))}
    for turn in range(WARM_UP + runs):
        found = {"plain": seconds(lambda: program.run(inputs))}
        for name, report in reports(program).items():
            for kept in KEPT if name == "cycles" else KEPT[1:]:
                vars(program).pop(kept, None)
            found[name] = seconds(report)
        if turn >= WARM_UP:
            for name, taken in found.items():
                times[name].append(taken)
    return times


def command(path: Path, options: list[str]) -> float:
    """Returns the processor time of `sta run` with options, in a process of its own."""
    output = FOLDER / "reports.npz"
    arguments = ["run", str(path), "--inputs", str(FOLDER / "inputs.npz"), "-o", str(output), *options]
    before = os.times()
    subprocess.run([sys.executable, "-m", "sta", *arguments], check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def of_the_command(path: Path, runs: int) -> Times:
    """Returns seconds of the command by options."""
    inputs: dict[str, Any] = next(samples(1))
    np.savez(FOLDER / "inputs.npz", **inputs)
    times: Times = {name: [] for name in OPTIONS}
    for _ in range(runs):
        for name, options in OPTIONS.items():
            times[name].append(command(path, options))
    return times


def measure(path: Path, runs: int) -> dict[str, dict[str, dict[str, float]]]:
    """Returns medians in milliseconds, and ratios to the plain run, by comparison and report."""
    inside, outside = in_a_process(path, runs), of_the_command(path, runs)
    medians = {
        "in a process": {name: 1e3 * statistics.median(times) for name, times in inside.items()},
        "command": {name: 1e3 * statistics.median(times) for name, times in outside.items()},
    }
    found: dict[str, dict[str, dict[str, float]]] = {}
    for comparison, by_name in medians.items():
        plain = by_name["plain"]
        # In a process, a report is measured alone.
        base = plain if comparison == "in a process" else 0.0
        found[comparison] = {
            name: {"milliseconds": taken, "ratio": 1.0 if name == "plain" else (base + taken) / plain}
            for name, taken in by_name.items()
        }
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="the cost of reports beside that of a run")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--sparsity", nargs="+", default=["dense", "1:16"])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    results = {
        f"{model} {sparsity}": measure(compiled(model, None if sparsity == "dense" else sparsity), arguments.runs)
        for model in arguments.models
        for sparsity in arguments.sparsity
    }
    if arguments.json:
        print(json.dumps({"machine": machine(), "results": results}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"{'processor time':40} {'milliseconds':>12} {'ratio':>6}")
    for name, comparisons in results.items():
        for comparison, found in comparisons.items():
            for report, figures in found.items():
                label = f"{name}, {comparison}, {report}"
                print(f"{label:40} {figures['milliseconds']:12.2f} {figures['ratio']:6.2f}")


if __name__ == "__main__":
    main()
