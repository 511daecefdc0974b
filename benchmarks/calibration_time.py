"""
Time and memory of calibration: a BERT-base with random weights, 8 samples of 128 tokens.

    python -m benchmarks.calibration_time [--samples 8] [--layers 12] [--fast] [--docs]

Compiles in a process of its own, which gets its model from `transformers`, and prints seconds and processor seconds of
calibration and of the whole compile, the peak memory of the process, the methods with their SQNR, the machine and the
versions. Ends with exit code 1 if calibration takes more than 30 s or the process more than 3 GB; wall time means
something on an idle machine only, processor time on a busy one, too. With `--docs` the section of docs/benchmarks.md is
written.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compile_time import machine
from benchmarks.page import replace_section, table

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
TOKENS = 128
MOST_SECONDS = 30.0
MOST_BYTES = 3e9
STEP = "torch-calibrate"


def measure(layers: int, samples: int, fast: bool) -> dict[str, Any]:
    """Compiles in this process; returns what it cost and which methods were kept."""
    import torch
    from transformers import BertConfig, BertModel

    from sta.api.compiler.compilation import compile_model

    warnings.simplefilter("ignore")
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    make: Any = BertConfig
    model = BertModel(make(num_hidden_layers=layers)).eval()
    ids = np.random.default_rng(0).integers(0, 30522, (samples, 1, TOKENS))
    arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    marks: list[tuple[str, float]] = []

    def note(stage: str, done: float | None) -> None:
        # Steps are named by their passes; stages of calibration are within its step.
        marks.append((stage, time.process_time()))

    example = {name: array[0] for name, array in arrays.items()}
    start, processor = time.perf_counter(), time.process_time()
    compilation = compile_model(model, example, calibration=arrays, report=note, fast=fast)
    seconds, spent = time.perf_counter() - start, time.process_time() - processor
    choice = compilation.quantization
    assert choice is not None
    names = [stage for stage, _ in marks]
    begin, end = marks[names.index(STEP)][1], marks[names.index("torch-quantize")][1]
    return {
        "seconds": seconds,
        "processor_seconds": spent,
        "calibration_seconds": dict(compilation.seconds)[STEP],
        "calibration_processor_seconds": end - begin,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "trials": [[trial.method, trial.decibels, trial.kept] for trial in choice.trials],
        "threads": torch.get_num_threads(),
    }


def page_section(rows: dict[str, dict[str, Any]]) -> str:
    """Returns the section of the page: cost, and methods."""
    header = ["options", "calibration", "processor", "whole compile", "processor", "peak memory"]
    lines = [
        [
            title,
            *(
                f"{row[name]:.1f} s"
                for name in (
                    "calibration_seconds",
                    "calibration_processor_seconds",
                    "seconds",
                    "processor_seconds",
                )
            ),
            f"{row['peak_memory_bytes'] / 1e9:.2f} GB",
        ]
        for title, row in rows.items()
    ]
    trials = next(iter(rows.values()))["trials"]
    methods = [[method, f"{decibels:.1f} dB", "kept" if kept else ""] for method, decibels, kept in trials]
    versions = ", ".join(f"{key} {value}" for key, value in machine().items())
    return f"Measured with {versions}.\n\n{table(header, lines)}\n\n{table(['method', 'SQNR', ''], methods)}"


def main() -> int:
    """Measures, prints and returns the exit code."""
    parser = argparse.ArgumentParser(description="time and memory of calibration")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--fast", action="store_true", help="calibrate ranges only")
    parser.add_argument("--docs", action="store_true", help="write the section of docs/benchmarks.md, with both")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.layers, arguments.samples, arguments.fast)))
        return 0
    titles = {"default": False, "--fast": True}
    wanted = {title: fast for title, fast in titles.items() if arguments.docs or fast == arguments.fast}
    rows = {title: _in_child(arguments.layers, arguments.samples, fast) for title, fast in wanted.items()}
    section = page_section(rows)
    print(section)
    if arguments.docs:
        PAGE.write_text(replace_section(PAGE.read_text(encoding="utf-8"), "calibration", section), encoding="utf-8")
    missed = [
        title
        for title, row in rows.items()
        if row["calibration_seconds"] > MOST_SECONDS or row["peak_memory_bytes"] > MOST_BYTES
    ]
    for title in missed:
        print(f"FAILED {title}: more than {MOST_SECONDS:g} s or {MOST_BYTES / 1e9:g} GB", file=sys.stderr)
    return 1 if missed else 0


def _in_child(layers: int, samples: int, fast: bool) -> dict[str, Any]:
    """Measurements of a process that has compiled nothing before."""
    command = [sys.executable, "-m", "benchmarks.calibration_time", "--child"]
    command += ["--layers", str(layers), "--samples", str(samples), *(["--fast"] if fast else [])]
    printed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
    return json.loads(printed.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
