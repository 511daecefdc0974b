"""
8-bit operators against LiteRT's reference kernels: they may differ by one, since its rounding is gemmlowp's.

The rates that `benchmarks/operator_accuracy.py` publishes are those of the same comparison.
"""

from functools import cache

import pytest

from benchmarks.operator_accuracy import Comparison, compare_with_litert


@cache
def compared() -> dict[str, Comparison]:
    return {comparison.operator: comparison for comparison in compare_with_litert()}


def test_nothing_differs_by_more_than_one() -> None:
    assert {name.partition(",")[0] for name in compared()} == {"fully connected", "softmax", "GELU"}
    for comparison in compared().values():
        assert comparison.elements > 1_000_000
        assert comparison.largest <= 1
        # Rounding that was wrong in general would differ in every second element.
        assert comparison.different / comparison.elements < 0.005


@pytest.mark.parametrize("name", ["fully connected", "GELU, erf", "GELU, tanh"])
def test_correct_rounding_is_found_on_both_sides(name: str) -> None:
    # LiteRT makes tables of GELU in float32, which rounds like float64 but next to a tie.
    assert compared()[name].different / compared()[name].elements < 0.0005
