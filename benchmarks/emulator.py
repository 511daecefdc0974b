"""
Speed of the emulator beside ONNX Runtime and OpenVINO with the same models in int8 on the same threads.

    pip install '.[benchmarks]'
    python -m benchmarks.emulator [--models MiniLM BERT-base] [--threads 1 2] [--runs 15] [--json FILE] [--docs]

Measures the latency of a sentence of 128 tokens, all contenders in turn within one process; how long BERT-base takes to
load and how much memory it needs, dense and 1:16; and the time of all 3,000 sentences of the STS benchmark's
development set. Exits with 1 if a figure that is required is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Nothing here may contact a hub.
os.environ["HF_HUB_OFFLINE"] = "1"

from benchmarks import latency, loading, sentences
from benchmarks.compile_time import MODELS, machine
from benchmarks.latency import FEWEST_RUNS, Latency
from benchmarks.page import PAGE, table, write_section
from benchmarks.peers import compiled

EMULATOR_PAGE = PAGE.with_name("emulator.md")
# For a peer and threads: the largest ratio of the emulator's time to the peer's.
REQUIRED_RATIOS = {
    ("ONNX Runtime int8", 1): 0.8,
    ("ONNX Runtime int8", 2): 1.0,
    ("OpenVINO int8", 1): 1.2,
    ("OpenVINO int8", 2): 1.2,
}
MOST_LOAD_SECONDS = 0.2
MOST_MEMORY = 2.5
LOADED = {"BERT-base": None, "BERT-base, 1:16": "1:16"}


@dataclass(frozen=True)
class Required:
    """A figure, and its upper bound."""

    name: str
    figure: float
    most: float

    @property
    def holds(self) -> bool:
        """True if the figure is within its bound."""
        return self.figure <= self.most


def _latency_table(measured: Sequence[list[Latency]]) -> str:
    header = ["model", "contender", "threads", "wall", "smallest", "processor", "smallest"]
    rows = [
        [
            one.model,
            one.contender,
            str(one.threads),
            *(f"{figure(times):.2f}" for times in (one.wall, one.processor) for figure in (statistics.median, min)),
        ]
        for latencies in measured
        for one in latencies
    ]
    return table(header, rows, texts=2)


def _ratio_table(measured: Sequence[list[Latency]]) -> str:
    header = ["model", "peer", "threads", "wall", "processor", "at most"]
    rows = [
        [
            peer.model,
            peer.contender,
            str(peer.threads),
            f"{wall:.2f}",
            f"{processor:.2f}",
            _bound(REQUIRED_RATIOS.get((peer.contender, peer.threads))),
        ]
        for latencies in measured
        for peer, wall, processor in latency.ratios(latencies)
    ]
    return table(header, rows, texts=2)


def _bound(bound: float | None) -> str:
    return "" if bound is None else f"{bound:.1f}"


def _loading_table(loaded: dict[str, dict[str, Any]]) -> str:
    header = [
        "program",
        "container, MB",
        "load, s",
        "processor, s",
        "MB before",
        "loaded",
        "after runs",
        "by container",
    ]
    rows = [
        [
            name,
            *(f"{figures['container_bytes'] / 1e6:.0f}", f"{figures['seconds']:.2f}"),
            f"{figures['processor_seconds']:.2f}",
            *(f"{figures[f'resident_bytes_{when}'] / 1e6:.0f}" for when in ("before", "loaded", "run")),
            f"{figures['resident_bytes_run'] / figures['container_bytes']:.2f}",
        ]
        for name, figures in loaded.items()
    ]
    return table(header, rows)


def requirements(measured: Sequence[list[Latency]], loaded: dict[str, dict[str, Any]]) -> list[Required]:
    """Returns the requirements: on ratios of processor time with one thread, and of wall time otherwise."""
    required = [
        Required(
            f"{peer.model}, {peer.threads} thread{'s' * (peer.threads > 1)}, time by that of {peer.contender}",
            processor if peer.threads == 1 else wall,
            REQUIRED_RATIOS[peer.contender, peer.threads],
        )
        for latencies in measured
        for peer, wall, processor in latency.ratios(latencies)
        if (peer.contender, peer.threads) in REQUIRED_RATIOS
    ]
    for name, figures in loaded.items():
        required.append(Required(f"{name}, processor seconds to load", figures["processor_seconds"], MOST_LOAD_SECONDS))
        memory = figures["resident_bytes_run"] / figures["container_bytes"]
        required.append(Required(f"{name}, memory by container", memory, MOST_MEMORY))
    return required


def report(
    measured: Sequence[list[Latency]], loaded: dict[str, dict[str, Any]], sets: Sequence[sentences.Sentences]
) -> str:
    """Returns all tables."""
    required = requirements(measured, loaded)
    held = sum(requirement.holds for requirement in required)
    rows = [[one.name, f"{one.figure:.2f}", f"{one.most:.2f}", "" if one.holds else "missed"] for one in required]
    runs = len(measured[0][0].wall)
    parts = [
        "Measured with " + ", ".join(f"{key} {value}" for key, value in machine().items()) + ".",
        f"One sentence of 128 tokens, in milliseconds: medians of {runs} turns, and the smallest:\n\n"
        + _latency_table(measured),
        f"The emulator's time by a peer's in the same turn, medians of {runs} turns:\n\n" + _ratio_table(measured),
        "Loading a program, and the memory of the whole process, in MB:\n\n" + _loading_table(loaded),
        *(
            f"All {one.sentences:,} sentences of the STS benchmark's development set through MiniLM, {one.threads} "
            f"threads: {one.seconds / 60:.1f} minutes ({one.processor_seconds / 60:.1f} of processor time); Spearman "
            f"correlation with people's scores {one.spearman:.3f}."
            for one in sets
        ),
        f"Required figures, {held} of {len(required)} reached:\n\n"
        + table(["figure", "measured", "at most", ""], rows),
    ]
    return "\n\n".join(parts)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.emulator", description="speed of the emulator")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--runs", type=int, default=15, help=f"turns, at least {FEWEST_RUNS} (default: 15)")
    parser.add_argument("--pairs", type=int, default=sentences.PAIRS, help="of the STS benchmark; 0: none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/emulator.md")
    chosen = parser.parse_args(arguments)
    if chosen.runs < FEWEST_RUNS:
        parser.error(f"--runs is at least {FEWEST_RUNS}")
    if chosen.docs and (set(chosen.models) != set(MODELS) or chosen.pairs != sentences.PAIRS):
        parser.error("--docs is for all models and pairs: the page shows one run")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns 1 if a required figure is missed."""
    chosen = _arguments(arguments)
    warnings.simplefilter("ignore")
    measured: list[list[Latency]] = []
    for name in chosen.models:
        for threads in chosen.threads:
            print(f"{name}, {threads} threads", file=sys.stderr, flush=True)
            measured.append(latency.measure(name, threads, chosen.runs))
    loaded = {name: loading.measure(compiled("BERT-base", sparsity)) for name, sparsity in LOADED.items()}
    sets = [sentences.measure(chosen.pairs, max(chosen.threads))] if chosen.pairs else []
    text = report(measured, loaded, sets)
    print(text)
    required = requirements(measured, loaded)
    if chosen.json is not None:
        figures = {
            "machine": machine(),
            "latency": [asdict(one) for latencies in measured for one in latencies],
            "loading": loaded,
            "sentences": [asdict(one) for one in sets],
            "requirements": [{**asdict(one), "holds": one.holds} for one in required],
        }
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")
    if chosen.docs:
        write_section("emulator", text, EMULATOR_PAGE)
    return 0 if all(one.holds for one in required) else 1


if __name__ == "__main__":
    sys.exit(main())
