"""
The timing model beside SCALE-Sim, an independent simulator of systolic arrays: the products of BERT-base.

    python -m benchmarks.scale_sim --simulator PYTHON [--json FILE] [--docs]

PYTHON is an interpreter that has SCALE-Sim, see benchmarks/scale_sim_requirements.txt. Both machines do as many
multiply-accumulates a cycle. What either takes is predicted from the shapes alone, and the differences are summed up;
exits with 1 if a prediction is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

from benchmarks.models import compile_pruned, export
from benchmarks.page import table, write_section
from benchmarks.shapes import ENCODERS, Product
from benchmarks.systolic import DATAFLOWS, SimulatorError, Systolic, simulate
from sta.runtime import Program
from sta.spec.nm_format import DENSE
from sta.spec.target import Target, load_target

ENCODER = ENCODERS[0]
TARGET = "sta-base"
KINDS = ("projections", "attention", "intermediate", "output", "pooler", "elsewhere")
"""Kinds of layers; the scores' product and that with their exponentials belong to one layer."""
MODULES = {
    "attention.self.query": "projections",
    "attention.self.key": "projections",
    "attention.self.value": "projections",
    "attention.output.dense": "projections",
    "attention.self": "attention",
    "intermediate.dense": "intermediate",
    "output.dense": "output",
    "pooler.dense": "pooler",
}
"""Kinds of BERT's modules, by the ends of their paths; the first match counts."""


@dataclass(frozen=True)
class Simulated:
    """One product under one dataflow."""

    product: Product
    systolic: Systolic
    cycles: int
    """SCALE-Sim's report for one of `product.count`."""

    @property
    def predicted(self) -> int:
        """Expected cycles of its report."""
        return self.systolic.reported(self.product)

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary that JSON can hold."""
        product = self.product
        return {
            "product": product.kind,
            "m": product.m,
            "n": product.n,
            "k": product.k,
            "count": product.count,
            "dataflow": self.systolic.dataflow,
            "folds": self.systolic.folds(product),
            "cycles": self.cycles,
            "predicted": self.predicted,
        }


@dataclass(frozen=True)
class Comparison:
    """The layers of one kind on both machines; cycles of all of them."""

    kind: str
    systolic: int
    """SCALE-Sim's cycles, output-stationary."""
    working: int
    """Cycles in which our product unit works for these layers."""
    waiting: int
    """Idle cycles because of them."""
    geometry: int
    """Predicted: cycles that the other array streams longer than ours works, because its folds are padded otherwise."""
    filling: int
    """Predicted: cycles that the other array fills and drains between folds, less the cycle 0 of each product."""

    @property
    def difference(self) -> int:
        """Cycles that SCALE-Sim reports beyond ours."""
        return self.systolic - self.working - self.waiting

    @property
    def explained(self) -> int:
        """The predicted difference."""
        return self.geometry + self.filling - self.waiting

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary that JSON can hold."""
        return {**self.__dict__, "difference": self.difference, "explained": self.explained}


def kind_of(module_path: str) -> str:
    """Returns the kind of layer of a BERT's module."""
    endings = [ending for ending in MODULES if module_path == ending or module_path.endswith(f".{ending}")]
    return MODULES[endings[0]] if endings else "elsewhere"


def compare(program: Program, simulated: Sequence[Simulated], target: Target) -> list[Comparison]:
    """Returns both machines' cycles by kind of layer, for the output-stationary dataflow."""
    rows = program.profile().rows
    comparisons: list[Comparison] = []
    for kind in KINDS:
        own = [row for row in rows if kind_of(row.module_path) == kind]
        peers = [s for s in simulated if s.systolic.dataflow == "os" and _layer(s.product) == kind]
        comparisons.append(
            Comparison(
                kind=kind,
                systolic=sum(peer.product.count * peer.cycles for peer in peers),
                working=sum(row.working for row in own),
                waiting=sum(sum(row.idle.values()) for row in own),
                geometry=sum(_longer(peer, target) for peer in peers),
                filling=sum(peer.product.count * (peer.systolic.filling(peer.product) - 1) for peer in peers),
            )
        )
    return comparisons


def _layer(product: Product) -> str:
    return "attention" if product.kind in ("scores", "context") else product.kind


def _longer(peer: Simulated, target: Target) -> int:
    """Returns the cycles that the other array streams longer than ours works, by the shapes of all equal products."""
    own = peer.product.padded_macs(DENSE, target) // target.macs_per_cycle
    return peer.product.count * peer.systolic.streaming(peer.product) - own


def report(simulated: Sequence[Simulated], comparisons: Sequence[Comparison], idle: Mapping[str, int]) -> str:
    """Returns all tables."""
    waits = ", ".join(f"{unit} {cycles:,}" for unit, cycles in idle.items())
    parts = [
        "SCALE-Sim, one product of each kind, and what its shape predicts:\n\n" + _simulated_table(simulated),
        "All layers of BERT-base, output-stationary, beside ours:\n\n" + _comparison_table(comparisons),
        f"What our product unit waits for, in cycles: {waits}.",
    ]
    return "\n\n".join(parts)


def _simulated_table(simulated: Sequence[Simulated]) -> str:
    header = ["product", "dataflow", "m", "n", "k", "folds", "streaming", "fill and drain", "predicted", "SCALE-Sim"]
    rows = [
        [
            s.product.kind,
            s.systolic.dataflow,
            *map(str, (s.product.m, s.product.n, s.product.k)),
            *(f"{f(s.product):,}" for f in (s.systolic.folds, s.systolic.streaming, s.systolic.filling)),
            f"{s.predicted:,}",
            f"{s.cycles:,}",
        ]
        for s in simulated
    ]
    return table(header, rows, 2)


def _comparison_table(comparisons: Sequence[Comparison]) -> str:
    header = ["layers", "SCALE-Sim", "ours", "working", "waiting", "ratio", "difference", "geometry", "fill and drain"]
    columns = [
        (c.systolic, c.working + c.waiting, c.working, c.waiting, c.difference, c.geometry, c.filling, c.explained)
        for c in comparisons
    ]
    names, totals = [c.kind for c in comparisons], tuple(sum(column) for column in zip(*columns, strict=True))
    rows: list[list[str]] = []
    for name, values in zip([*names, "all"], [*columns, totals], strict=True):
        systolic, own, working, waiting, *rest = values
        ratio = f"{systolic / own:.3f}" if systolic else ""
        rows.append([name, *(f"{value:,}" for value in (systolic, own, working, waiting)), ratio])
        rows[-1] += [f"{value:,}" for value in rest]
    return table([*header, "explained"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulates, compares and prints; returns 1 if a prediction is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_sim", description="our timing beside SCALE-Sim's")
    parser.add_argument("--simulator", type=Path, required=True, metavar="PYTHON", help="a Python that has SCALE-Sim")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/benchmarks.md")
    chosen = parser.parse_args(arguments)
    target = load_target(TARGET)
    size = isqrt(target.macs_per_cycle)
    assert size * size == target.macs_per_cycle
    products = list(ENCODER.products())
    simulated: list[Simulated] = []
    for dataflow in DATAFLOWS:
        print(f"simulating a {size} x {size} array, {dataflow}", file=sys.stderr, flush=True)
        try:
            cycles = simulate(chosen.simulator, size, dataflow, products)
        except SimulatorError as error:
            parser.error(str(error))
        systolic = Systolic(size, dataflow)
        simulated += [Simulated(p, systolic, reported) for p, reported in zip(products, cycles, strict=True)]
    exported, inputs = export(ENCODER)
    program = compile_pruned(exported, inputs, target, DENSE)
    comparisons = compare(program, simulated, target)
    text = report(simulated, comparisons, program.profile().total.idle)
    print(text)
    if chosen.json is not None:
        results = {
            "simulated": [s.to_json() for s in simulated],
            "comparisons": [comparison.to_json() for comparison in comparisons],
            "idle": program.profile().total.idle,
        }
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(results, indent=2) + "\n")
    if chosen.docs:
        write_section("scale-sim", text)
    right = all(s.cycles == s.predicted for s in simulated) and all(c.difference == c.explained for c in comparisons)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
