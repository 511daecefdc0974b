"""
Cost of `--dump-ir` on a BERT-base with random weights: time beside a compile without it, and bytes.

    python -m benchmarks.ir_dump [--runs 3] [--json]

Compiles with and without in turn, each in a process of its own. Prints the median of the ratios, of elapsed and of
processor time, the bytes of the dump with and without its weights, and those of each module's text. A thread writes the
dump while the compile goes on, so that on an idle computer less time passes than processors work. The second dump of a
model finds its weights there already, so that it shows what the dump costs apart from them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.compile_time import export, machine


@dataclass(frozen=True)
class Seconds:
    """Time of a compile."""

    elapsed: float
    processor: float


def compile_seconds(model: Path, *options: str) -> Seconds:
    """Compiles in a process of its own; returns the time that passed, and its user and system time."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "sta", "compile", str(model), "-o", str(model.with_suffix(".sta"))]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"sta compile {model.name} failed")
    return Seconds(time.perf_counter() - start, usage.ru_utime + usage.ru_stime)


def measure(model: Path, dump: Path, runs: int) -> dict[str, Any]:
    """Measures; the dump of the last run stays."""
    without: list[Seconds] = []
    first: list[Seconds] = []
    again: list[Seconds] = []
    for _ in range(runs):
        shutil.rmtree(dump, ignore_errors=True)
        without.append(compile_seconds(model))
        first.append(compile_seconds(model, "--dump-ir", str(dump)))
        again.append(compile_seconds(model, "--dump-ir", str(dump)))
    return {
        "without": asdict(_median(without)),
        "extra": asdict(_extra(without, first)),
        "extra_without_weights": asdict(_extra(without, again)),
        "bytes": sum(path.stat().st_size for path in dump.iterdir() if path.is_file()),
        "weight_bytes": sum(path.stat().st_size for path in (dump / "weights").iterdir()),
        "files": sum(1 for path in dump.iterdir() if path.is_file()),
        "module_bytes": {path.name: path.stat().st_size for path in sorted(dump.glob("*.mlir"))},
    }


def _median(times: Sequence[Seconds]) -> Seconds:
    return Seconds(statistics.median(t.elapsed for t in times), statistics.median(t.processor for t in times))


def _extra(without: Sequence[Seconds], dumped: Sequence[Seconds]) -> Seconds:
    pairs = list(zip(without, dumped, strict=True))
    return _median([Seconds(b.elapsed / a.elapsed - 1, b.processor / a.processor - 1) for a, b in pairs])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="the cost of --dump-ir on BERT-base")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "bert.pt2"
        export("BERT-base", model)
        facts = measure(model, Path(folder) / "ir", arguments.runs)
    if arguments.json:
        print(json.dumps({"machine": machine(), **facts}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    for what in ("elapsed", "processor"):
        print(
            f"{what} time: {facts['without'][what]:.1f} s without a dump; {facts['extra'][what]:+.1%} with one, "
            f"{facts['extra_without_weights'][what]:+.1%} where the weights are there already"
        )
    print(
        f"{facts['bytes'] / 1e6:.2f} MB in {facts['files']} files, and {facts['weight_bytes'] / 1e6:.0f} MB of weights"
    )
    modules: dict[str, int] = facts["module_bytes"]
    for name, size in {**modules, "all modules": sum(modules.values())}.items():
        print(f"{name:32} {size:9,} bytes")


if __name__ == "__main__":
    main()
