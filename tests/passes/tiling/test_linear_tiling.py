"""Tiling of linear layers: the arithmetic by hand, and choices that hold for any shape."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sta.passes.tiling.linear_tiling import (
    COLUMNS,
    RELOADED,
    ROWS,
    LinearShape,
    LinearTiling,
    candidates,
    choose,
    estimate,
    is_rolled,
    ranked,
    smaller_budget,
    tile_bytes,
    weight_bytes,
)
from sta.spec.cost import dma_cycles, product_cycles
from sta.spec.nm_format import DENSE, Pattern, packed_size
from sta.spec.target import Target, load_target
from sta.spec.tiling_policy import TilingPolicy
from tests.support.nm_builder import PLAIN_TARGET
from tests.support.transformers import TINY

POLICY = TilingPolicy()
BASE = load_target("sta-base")
SPARSE = Pattern(1, 16)


@st.composite
def shapes(draw: st.DrawFn) -> LinearShape:
    """Draws a layer; nothing divides anything."""
    pattern = draw(st.sampled_from([DENSE, Pattern(2, 4), Pattern(1, 8), Pattern(3, 7)]))
    return LinearShape(
        draw(st.integers(1, 300)),
        draw(st.integers(1, 300)),
        draw(st.integers(1, 900)),
        pattern,
        "dense" if pattern.is_dense else draw(st.sampled_from(["bitmap", "index"])),
        x_bytes=draw(st.sampled_from([0, 1])),
        residual_bytes=draw(st.sampled_from([0, 2])),
        result_bytes=draw(st.sampled_from([0, 1, 2])),
        batches=draw(st.integers(1, 3)),
        norm=draw(st.booleans()),
        wide=draw(st.booleans()),
    )


def test_bytes_by_hand() -> None:
    shape = LinearShape(100, 96, 768, SPARSE, "index", x_bytes=1, residual_bytes=2, result_bytes=2)
    block = -(-packed_size(64, 768, SPARSE, "index") // 64) * 64
    rest = -(-packed_size(32, 768, SPARSE, "index") // 64) * 64
    tiles = 2 * 32 * 64 * (4 + 2 + 2)
    activations = 2 * 32 * 768
    assert tile_bytes(shape, LinearTiling(32, 64, 768, COLUMNS)) == 2 * block + tiles + activations
    assert tile_bytes(shape, LinearTiling(32, 64, 768, ROWS)) == block + rest + tiles + activations
    half = -(-packed_size(64, 384, SPARSE, "index") // 64) * 64
    assert tile_bytes(shape, LinearTiling(32, 64, 384, COLUMNS)) == 2 * half + tiles + activations // 2
    # A tile of rows that streams weights keeps the whole depth of its activations.
    assert tile_bytes(shape, LinearTiling(32, 64, 384, RELOADED)) == 2 * half + tiles + activations


def test_cycles_by_hand() -> None:
    # 100 rows: three tiles of 32 and one of 4; 96 columns: 64 and 32.
    shape = LinearShape(100, 96, 768, DENSE, "dense", x_bytes=1)
    cost = estimate(BASE, POLICY, shape, LinearTiling(32, 64, 768, COLUMNS))
    assert cost.products == 3 * (2 * 4 + 2 * 2) * 192 + (1 * 4 + 1 * 2) * 192
    assert cost.vector == 3 * (64 + 32) + (8 + 4)
    assert cost.loads == 96 * 768 // 64 + 2 * 100 * 12
    assert cost.stores == 0
    assert cost.bound == "compute"
    by_rows = estimate(BASE, POLICY, shape, LinearTiling(32, 64, 768, ROWS))
    assert by_rows.loads == 96 * 768 // 64 + 100 * 12
    reloaded = estimate(BASE, POLICY, shape, LinearTiling(32, 64, 768, RELOADED))
    assert reloaded.loads == 4 * 96 * 768 // 64 + 100 * 12


def test_16_bit_activations_take_two_passes_and_twice_the_accumulators() -> None:
    shape = LinearShape(100, 96, 768, SPARSE, "index", residual_bytes=2, result_bytes=2)
    tiling = LinearTiling(32, 64, 768, COLUMNS)
    narrow, wide = (estimate(BASE, POLICY, one, tiling) for one in (shape, replace(shape, wide=True)))
    assert wide.products == 2 * narrow.products
    assert wide.vector == narrow.vector
    assert wide.loads == narrow.loads
    assert wide.size == narrow.size + 2 * 32 * 64 * 4


def test_what_a_round_leaves_over_is_waited_for() -> None:
    # In 9 rounds, twice each: the drain of what was left over before the loop, and that of the loop before the next.
    tiling = LinearTiling(16, 16, 64, COLUMNS)
    even, odd = (LinearShape(rows, 9 * 16, 64, DENSE, "dense") for rows in (10 * 16, 11 * 16))
    waiting = [estimate(BASE, POLICY, shape, tiling).waiting for shape in (even, odd)]
    assert waiting[1] - waiting[0] == 9 * 2 * (BASE.drain_latency + 8)
    short = [LinearShape(rows, 9 * 16, 64, DENSE, "dense") for rows in (6 * 16, 7 * 16)]
    assert len({estimate(BASE, POLICY, shape, tiling).waiting for shape in short}) == 1


@pytest.mark.parametrize(
    ("tiles", "rest", "rolled"),
    [(3, 0, False), (4, 0, True), (7, 0, False), (7, 1, False), (8, 1, True), (5, 1, False), (9, 0, True)],
)
def test_which_loops_are_written_out(tiles: int, rest: int, rolled: bool) -> None:
    assert is_rolled(POLICY, 10 * tiles + rest, 10) == rolled


def test_a_norm_is_waited_for_unless_it_runs_under_products() -> None:
    shape = LinearShape(128, 768, 3072, SPARSE, "index", norm=True)
    tail = 128 * 768 // 32
    by_columns, by_rows = (
        estimate(BASE, POLICY, shape, LinearTiling(rows, 64, 3072, order))
        for rows, order in ((128, COLUMNS), (32, ROWS))
    )
    without = estimate(BASE, POLICY, replace(shape, norm=False), LinearTiling(128, 64, 3072, COLUMNS))
    assert by_columns.waiting == without.waiting + tail
    assert by_rows.waiting < by_columns.waiting - tail // 2
    assert by_rows.vector == by_columns.vector + tail
    assert choose(BASE, POLICY, shape, BASE.sram_bytes // 2).tiling.order == ROWS


@settings(deadline=None, max_examples=60)
@given(shapes(), st.sampled_from([BASE, PLAIN_TARGET, TINY]))
def test_estimates_are_never_below_what_the_units_have_to_do(shape: LinearShape, machine: Target) -> None:
    product = product_cycles(machine, shape.rows, shape.columns, shape.depth, shape.pattern, shape.wide)
    least = shape.batches * product
    loads = shape.batches * dma_cycles(machine, 1, shape.rows * shape.depth * shape.x_bytes)
    for tiling, cost in ranked(machine, POLICY, shape):
        assert cost.products >= least
        assert cost.loads >= loads + weight_bytes(shape, tiling.columns, tiling.depth) // machine.dma_bytes_per_cycle
        assert cost.cycles >= max(cost.products, cost.loads, cost.stores, cost.vector)
        assert cost.size == tile_bytes(shape, tiling)


@settings(deadline=None, max_examples=60)
@given(shapes(), st.integers(0, 1 << 20))
def test_a_choice_keeps_to_its_budget_and_more_room_is_never_slower(shape: LinearShape, budget: int) -> None:
    choice = choose(BASE, POLICY, shape, budget)
    least = min(cost.size for _, cost in ranked(BASE, POLICY, shape))
    assert choice.estimate.size <= max(budget, least)
    more = choose(BASE, POLICY, shape, 2 * budget)
    assert more.estimate.cycles <= choice.estimate.cycles * 1.005
    assert choice.tiling in set(candidates(BASE, shape))
    if choice.other is not None:
        assert choice.other != choice.tiling


@settings(deadline=None, max_examples=60)
@given(shapes())
def test_budgets_shrink_to_the_smallest_tiling(shape: LinearShape) -> None:
    size = choose(TINY, POLICY, shape, TINY.sram_bytes).estimate.size
    for _ in range(40):
        budget = smaller_budget(TINY, POLICY, shape, size)
        if budget is None:
            break
        smaller = choose(TINY, POLICY, shape, budget).estimate.size
        assert smaller < size
        size = smaller
    assert size == min(cost.size for _, cost in ranked(TINY, POLICY, shape))


@pytest.mark.parametrize("tiling", list(candidates(BASE, LinearShape(5, 5, 100, Pattern(3, 7), "bitmap", x_bytes=1))))
def test_depths_are_cut_in_whole_groups(tiling: LinearTiling) -> None:
    assert tiling.depth == 100 or tiling.depth % 7 == 0
    assert tiling.rows <= 5
    assert tiling.columns <= 5
