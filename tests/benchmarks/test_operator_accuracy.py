"""The report on the accuracy of operators."""

from dataclasses import replace

import numpy as np

from benchmarks.attention_error import Case, Error, measure
from benchmarks.operator_accuracy import Comparison, Results, TableError, report

COMPARED = Comparison("operator", 100, 3, 1)
BESIDE = TableError("gelu", 4.0, 0.2, 0.6, 0.1)


def results(*cases: Case) -> Results:
    return Results([COMPARED], [COMPARED], [BESIDE], list(cases))


def test_every_figure_is_in_the_report() -> None:
    case = measure(128, "one 8 above", rows=8)
    text = report(results(case))
    assert "it does everywhere" in text
    assert "| operator |      100 |         3 | 3.0000 % |" in text
    assert f"| {case.closer(16, 'row'):,.1f} " in text


def test_what_is_missed_is_named() -> None:
    case = measure(128, "one 8 above", rows=8)
    worse = replace(case, ours={key: Error(case.ita.mean / 3, 9.0, 9.0) for key in case.ours})
    found = replace(results(worse), litert=[replace(COMPARED, largest=2)], tables=[replace(BESIDE, largest=0.8)])
    assert [line.partition(":")[0] for line in found.missed()] == [
        "operator", "table of gelu on ±4",
        "attention, 128 keys, one 8 above, 16 bits, row", "attention, 128 keys, one 8 above, 16 bits, online",
    ]  # fmt: skip
    assert "**missed**: operator: 2 from the oracle" in report(found)
    # Fewer keys are measured, but nothing is required of them.
    assert results(replace(worse, length=64)).missed() == []


def test_errors_are_those_of_the_difference() -> None:
    error = Error.of(np.array([1.0, 2.0, -3.0]), np.array([1.0, 0.0, -2.0]))
    assert (error.mean, error.largest, error.square) == (1.0, 2.0, 5 / 3)
    compared = Comparison.of("x", np.array([1, 2, 3], np.int8), np.array([1, 4, 2], np.int8))
    assert (compared.elements, compared.different, compared.largest) == (3, 2, 2)
