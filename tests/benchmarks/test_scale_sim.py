"""Cycles of a systolic array, by brute force, and the terms that explain its difference to ours."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.models import compile_pruned, export
from benchmarks.scale_sim import KINDS, Simulated, compare, kind_of, report
from benchmarks.shapes import Encoder, Product
from benchmarks.systolic import DATAFLOWS, SimulatorError, Systolic, simulate
from sta.runtime import Program
from sta.spec.nm_format import DENSE
from sta.spec.target import load_target

BERT = Encoder("small-bert", layers=2, width=28, heads=2, hidden=44, sequence=9, vocabulary=11)
TARGET = load_target("sta-base")


def last_cycle_of_fold(size: int, dataflow: str, streamed: int) -> int:
    """
    The last cycle, from 0, of a fold on an array whose processing elements pass operands to their neighbours.

    Element (row, column) has operand number `step` when it has gone through all elements before; an operand that stays
    moves in from above, row by row, before that.
    """
    loading = 0 if dataflow == "os" else size
    cells = [(row, column) for row in range(size) for column in range(size)]
    return max(loading + step + row + column for row, column in cells for step in range(streamed))


@given(st.integers(1, 5), st.sampled_from(DATAFLOWS), st.tuples(*[st.integers(1, 9)] * 3))
def test_cycles_are_those_of_operands_going_from_neighbour_to_neighbour(
    size: int, dataflow: str, shape: tuple[int, int, int]
) -> None:
    m, n, k = shape
    first, second, streamed = {"os": (m, n, k), "ws": (k, n, m), "is": (k, m, n)}[dataflow]
    folds = len(range(0, first, size)) * len(range(0, second, size))
    systolic, product = Systolic(size, dataflow), Product("any", m, n, k)
    assert systolic.folds(product) == folds
    assert systolic.reported(product) == folds * (last_cycle_of_fold(size, dataflow, streamed) + 1) - 1
    assert systolic.streaming(product) == folds * streamed


@cache
def program() -> Program:
    exported, inputs = export(BERT)
    return compile_pruned(exported, inputs, TARGET, DENSE)


def simulated(extra: int = 0) -> list[Simulated]:
    """Expected report of SCALE-Sim, and `extra` cycles."""
    systolic = Systolic(32, "os")
    return [Simulated(product, systolic, systolic.reported(product) + extra) for product in BERT.products()]


@pytest.mark.filterwarnings("ignore:`isinstance")
def test_the_comparison_is_of_all_our_cycles_and_explains_every_one() -> None:
    comparisons = compare(program(), simulated(), TARGET)
    assert [comparison.kind for comparison in comparisons] == list(KINDS)
    assert sum(comparison.working + comparison.waiting for comparison in comparisons) == program().cycles
    assert all(comparison.difference == comparison.explained for comparison in comparisons)
    assert all(comparison.working > 0 for comparison in comparisons[:-1])
    assert comparisons[-1].working == comparisons[-1].systolic == 0


@pytest.mark.filterwarnings("ignore:`isinstance")
def test_what_is_not_explained_is_seen() -> None:
    # Products do not take what they would on a machine with twice the multipliers.
    other = replace(TARGET, multipliers=2 * TARGET.multipliers)
    for comparisons in (compare(program(), simulated(1), TARGET), compare(program(), simulated(), other)):
        assert all(comparison.difference != comparison.explained for comparison in comparisons[:-1])


@pytest.mark.filterwarnings("ignore:`isinstance")
def test_the_tables_sum_up() -> None:
    comparisons = compare(program(), simulated(), TARGET)
    (last,) = [line for line in report(simulated(), comparisons, {"ld": 5}).splitlines() if line.startswith("| all ")]
    cells = [cell.strip() for cell in last.strip("|").split("|")]
    assert cells[2] == f"{program().cycles:,}"
    assert cells[6] == cells[9]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("encoder.layer.3.attention.self.value", "projections"),
        ("encoder.layer.3.attention.output.dense", "projections"),
        ("encoder.layer.3.attention.self", "attention"),
        ("encoder.layer.3.output.dense", "output"),
        ("encoder.layer.3.output.LayerNorm", "elsewhere"),
        ("pooler.dense", "pooler"),
        ("", "elsewhere"),
    ],
)
def test_modules_are_of_the_kinds_that_their_products_have(path: str, kind: str) -> None:
    assert kind_of(path) == kind


def test_a_python_without_the_simulator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match="cannot run"):
        simulate(tmp_path / "python", 4, "os", [])
    # This environment holds what the toolchain needs; the simulator has one of its own.
    with pytest.raises(SimulatorError, match=r"cannot run SCALE-Sim: .*No module named 'scalesim'"):
        simulate(Path(sys.executable), 4, "os", [])
