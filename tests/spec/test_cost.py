"""Busy cycles of the units, on numbers worked out by hand and against loops that count."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sta.spec.cost import dma_cycles, product_cycles, product_steps, softmax_cycles, vector_cycles
from sta.spec.pattern import DENSE, Pattern
from sta.spec.target import load_target

BASE = load_target("sta-base")


@pytest.mark.parametrize(
    ("k", "pattern", "steps"),
    [
        (768, "1:1", 192),
        (768, "4:4", 192),
        (768, "2:4", 96),
        (768, "1:4", 48),
        (768, "1:8", 24),
        # The window of 64 is what 1:16 needs with four multipliers; beyond it nothing gets faster.
        (768, "1:16", 12),
        (768, "1:32", 12),
        (26, "2:4", 4),
        (25, "1:1", 7),
        (1, "1:32", 1),
        (0, "2:4", 0),
    ],
)
def test_product_steps(k: int, pattern: str, steps: int) -> None:
    assert product_steps(k, Pattern.parse(pattern), 4, 64) == steps


def test_the_window_is_bypassed_when_dense() -> None:
    assert product_steps(64, DENSE, 8, 4) == 8
    assert product_steps(64, Pattern(1, 2), 8, 4) == 16


def test_cycles_of_whole_tiles() -> None:
    assert product_cycles(BASE, 128, 64, 768, DENSE) == 8 * 4 * 192
    assert product_cycles(BASE, 128, 64, 768, Pattern(2, 4)) == 8 * 4 * 96
    assert product_cycles(BASE, 128, 64, 768, Pattern(2, 4), wide=True) == 8 * 4 * 192
    assert product_cycles(BASE, 1, 17, 5, DENSE) == 1 * 2 * 2
    assert vector_cycles(BASE, 128, 64, 1) == 256
    assert vector_cycles(BASE, 3, 11, 2) == 4
    assert softmax_cycles(BASE, 128, 128) == 1024
    assert softmax_cycles(BASE, 1, 1) == 2
    assert dma_cycles(BASE, 1, 64 * 1000) == 1000
    assert dma_cycles(BASE, 10, 65) == 20
    assert dma_cycles(BASE, 0, 65) == 0


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 80), st.integers(1, 7), st.integers(1, 7))
def test_product_cycles_count_array_passes(m: int, n: int, k: int, array_rows: int, array_columns: int) -> None:
    target = dataclasses.replace(BASE, array_rows=array_rows, array_columns=array_columns, multipliers=3)
    counted = 0
    for _ in range(0, m, array_rows):
        for _ in range(0, n, array_columns):
            counted += len(range(0, k, 3))
    assert product_cycles(target, m, n, k, DENSE) == counted
    assert m * n * k <= counted * target.macs_per_cycle
