"""Attribution of time: charges and traffic counted by hand; nothing is lost or counted twice."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sta.runtime import Program, ProgramError
from sta.runtime.analysis.cycle_attribution import attribute
from sta.runtime.analysis.profile import CAUSES, Profile, ProfileRow
from sta.runtime.analysis.traffic import CLASSES, DramMap
from sta.spec.instructions.definition import UNITS

# The bench's target: array 4 x 2 x 2, 4 vector lanes, 2 softmax lanes, DMA 16 bytes a cycle with latency 20, drain
# latency 7, queues of 2; 100 MHz.

Fields = dict[str, Any]


def ld(row_bytes: int, **fields: Any) -> Fields:
    """Returns the fields of a load of constants."""
    return {"name": "ld", "dram": 0, "sram": 0, "rows": 1, "row_bytes": row_bytes, **fields}


def mm(cycles: int, **fields: Any) -> Fields:
    """Returns the fields of a product that takes so many cycles."""
    return {"name": "mm", "acc": 0, "a": 0, "b": 0, "rows": 1, "columns": 1, "depth": 2 * cycles, **fields}


def vp(cycles: int, **fields: Any) -> Fields:
    """Returns the fields of a map that takes so many cycles."""
    places = {"source": 0, "destination": 0, "parameters": 0, "source_type": "acc", "destination_type": "s8"}
    return {"name": "map", **places, "rows": 1, "columns": 4 * cycles, **fields}


def sm(keys: int, **fields: Any) -> Fields:
    """Returns the fields of a softmax that takes as many cycles as it has keys."""
    places = {"scores": 0, "destination": 0, "sums": 0, "parameters": 0}
    return {"name": "softmax", **places, "rows": 1, "keys": keys, **fields}


FENCE: Fields = {"name": "fence"}
DRAM: Fields = {"name": "lea", "rd": 8, "imm": 32768}
STORE: Fields = {"name": "st", "dram": 8, "sram": 0, "rows": 1, "row_bytes": 16}


def program_of(bench: Any, *parts: Fields | tuple[str, Sequence[Fields]]) -> Program:
    """Returns the program of a bench with instructions appended, alone or with a module path in front."""
    for part in parts:
        path, instructions = part if isinstance(part, tuple) else ("", [part])
        if instructions:
            bench.paths.append([len(bench.code), path, "operation"])
        for fields in instructions:
            bench.emit(**fields)
    # The halt belongs to no module.
    bench.paths.append([len(bench.code), "", "operation"])
    bench.scratch = max(bench.scratch, 64)
    return bench.program()


def charged(profile: Profile) -> dict[str, dict[str, int]]:
    """Returns for each module its cycles by cause, those without any left out; ``works`` is the product unit."""
    return {
        row.module_path: {cause: cycles for cause, cycles in {"works": row.working, **row.idle}.items() if cycles}
        for row in profile.rows
    }


def row_of(profile: Profile, path: str) -> ProfileRow:
    """Returns the row of a module."""
    (row,) = [row for row in profile.rows if row.module_path == path]
    return row


def test_a_chain(bench: Any) -> None:
    program = program_of(
        bench,
        ("a", [DRAM, ld(160, post=[0])]),
        ("b", [mm(100, wait=[0], post=[1])]),
        ("c", [vp(2, wait=[1], post=[2])]),
        ("d", [{**STORE, "wait": [2]}]),
    )
    # The load is issued in cycle 2 after a lea, works for 10 and is complete after 20. The product works 100 cycles,
    # its result takes 7, the map 2, the store 1 + 20.
    assert charged(program.profile()) == {
        "a": {"sequencer": 2, "ld": 30},
        "b": {"works": 100, "mm": 7},
        "c": {"vp": 2},
        "d": {"st": 21},
        "": {},
    }
    assert program.cycles == 2 + 30 + 107 + 2 + 21


def test_what_the_product_does_not_wait_for_is_not_charged(bench: Any) -> None:
    program = program_of(
        bench, ("quick", [ld(16, post=[0])]), ("slow", [sm(90, post=[1])]), ("b", [mm(1, wait=[0, 1])])
    )
    # The softmax is issued in the second cycle, the first goes to the load.
    assert charged(program.profile()) == {
        "quick": {"sequencer": 1},
        "slow": {"sequencer": 1, "sm": 90},
        "b": {"works": 1, "mm": 7},
        "": {},
    }


def test_causes_are_traced_back(bench: Any) -> None:
    # The product waits for the map, which waits until its unit is free, which waited for a load.
    program = program_of(
        bench,
        ("load", [ld(160, post=[0])]),
        ("before", [vp(5, wait=[0])]),
        ("after", [vp(3, post=[1])]),
        ("product", [mm(1, wait=[1])]),
    )
    assert charged(program.profile()) == {
        "load": {"sequencer": 1, "ld": 30},
        "before": {"vp": 5},
        "after": {"vp": 3},
        "product": {"works": 1, "mm": 7},
        "": {},
    }


def test_work_under_a_product_is_free(bench: Any) -> None:
    program = program_of(bench, ("a", [mm(100)]), ("b", [sm(50)]), ("c", [ld(160)]))
    profile = program.profile()
    # Cycle 1 issues the product; the softmax runs from 2 to 52, the load from 3 to 13.
    assert charged(profile) == {"a": {"sequencer": 1, "works": 100, "mm": 7}, "b": {}, "c": {}, "": {}}
    a, b = row_of(profile, "a"), row_of(profile, "b")
    assert (b.cycles, b.busy["sm"], b.concurrent["sm"], b.utilisation["sm"], b.share) == (0, 50, 0, 0.0, 0.0)
    assert (a.cycles, a.busy["sm"], a.concurrent["sm"], a.concurrent["ld"]) == (108, 0, 50, 10)
    assert a.utilisation == {"ld": 10 / 108, "st": 0.0, "mm": 100 / 108, "sm": 50 / 108, "vp": 0.0}


def test_a_full_queue_and_the_end(bench: Any) -> None:
    program = program_of(bench, ("loads", [ld(160)] * 4), ("product", [mm(1)]))
    # The fourth load enters when the second starts, after 11 cycles, of which the first issued the first load. The
    # product is issued in cycle 12 and works in 13. The end waits for the loads, complete at 61.
    assert charged(program.profile()) == {
        "loads": {"sequencer": 1, "ld": 10 + 48},
        "product": {"sequencer": 1, "works": 1},
        "": {},
    }


def test_a_fence(bench: Any) -> None:
    program = program_of(bench, ("load", [ld(160)]), ("map", [vp(100)]), ("fence", [FENCE]), ("product", [mm(1)]))
    # The map is issued in cycle 2 and ends at 102, when the fence does. Cycle 103 issues the product.
    assert charged(program.profile()) == {
        "load": {"sequencer": 1},
        "map": {"sequencer": 1, "vp": 100},
        "fence": {},
        "product": {"sequencer": 1, "works": 1, "mm": 7},
        "": {},
    }


def test_nothing_but_the_sequencer(bench: Any) -> None:
    program = program_of(bench, ("a", [DRAM, DRAM]), ("fence", [FENCE]))
    # A lea counts for the instruction that is issued after it.
    assert charged(program.profile()) == {"fence": {"sequencer": 3}, "": {"sequencer": 1}}
    assert program.profile().total.bound == "none"


def test_a_sync_is_charged_to_what_it_waits_for(bench: Any) -> None:
    sync = {"name": "sync", "unit": "ld", "post": [0]}
    program = program_of(bench, ("load", [ld(160)]), ("sync", [sync]), ("product", [mm(1, wait=[0])]))
    assert charged(program.profile())["load"] == {"sequencer": 1, "ld": 30}
    assert charged(program.profile())["sync"] == {}


def test_macs_and_their_rates(bench: Any) -> None:
    sparse = {"n": 2, "m": 4, "encoding": "bitmap", "rows": 3, "columns": 2, "depth": 8}
    strides = {"acc_stride": 9, "a_stride": 9}
    lea = {"name": "lea", "rd": 9, "imm": 64}
    loop, end = {"name": "loop", "counter": 1, "count": 5}, {"name": "end"}
    program = program_of(bench, ("a", [lea, loop, {**mm(1), **sparse, **strides}, end]), ("b", [ld(1600), mm(8)]))
    profile = program.profile()
    a, b = row_of(profile, "a"), row_of(profile, "b")
    assert (a.macs, a.dense_macs, b.macs, b.dense_macs) == (5 * 24, 5 * 48, 16, 16)
    assert a.mac_efficiency == 120 / (a.cycles * 16)
    assert a.dense_equivalent_rate == pytest.approx(240 / (a.cycles * 10e-9))
    assert (a.intensity, a.roofline, a.bound) == (None, 16.0, "compute")
    # 16 MACs for 1600 bytes; 16 bytes a cycle.
    assert (b.intensity, b.roofline, b.bound) == (0.01, pytest.approx(0.16), "dma")
    assert (profile.useful_macs, profile.useful_dense_macs) == (64, 128)
    assert profile.mac_efficiency == program.mac_efficiency == 64 / (program.cycles * 16)


@pytest.mark.parametrize(
    ("instructions", "bound"),
    [([sm(50), vp(49), ld(16), mm(1)], "softmax"), ([sm(50), vp(51), ld(16), mm(1)], "vector"), ([mm(9)], "compute")],
)
def test_the_bound_is_the_most_work(bench: Any, instructions: Sequence[Fields], bound: str) -> None:
    profile = program_of(bench, ("a", instructions)).profile()
    assert row_of(profile, "a").bound == bound
    assert profile.total.bound == bound


def test_traffic_by_class(bench: Any) -> None:
    bench.port("inputs", "x", (64,), "int8")
    bench.port("outputs", "y", (32,), "int8")
    bench.scratch = 256
    entries = [("embedding", 0, 320), ("weights", 320, 64), ("parameters", 384, 16), ("unheard of", 400, 16)]
    numbers = {9: 320, 10: 8, 11: 32768, 12: 32768 + 64, 13: 32768 + 96, 14: 4096}
    registers = [{"name": "lea", "rd": number, "imm": value} for number, value in numbers.items()]
    gather = {"name": "gather", "table": 0, "indices": 14, "destination": 0, "limit": 10, "rows": 1, "row_bytes": 32}
    program = program_of(
        bench,
        ("start", registers),
        ("embeddings", [gather]),
        # 64 bytes of weights, 16 of parameters, 16 of an unknown class, 4 between entries.
        ("constants", [{**ld(100), "dram": 9}]),
        ("input", [{**ld(64), "dram": 11}]),
        ("output", [{**STORE, "dram": 12, "row_bytes": 32}]),
        ("scratch", [{**STORE, "dram": 13}, {**ld(16), "dram": 13}]),
    )
    container = program.container
    container.debug["constants"] = [
        {"name": "c", "class": kind, "offset": offset, "bytes": size} for kind, offset, size in entries
    ]
    profile = Program(container).profile()
    found = {row.module_path: {kind: size for kind, size in row.dram.items() if size} for row in profile.rows}
    assert found == {
        "embeddings": {"embedding": 32},
        "constants": {"weights": 64, "parameters": 16, "other": 20},
        "input": {"inputs": 64},
        "output": {"outputs": 32},
        "scratch": {"activations": 32},
        "": {},
    }
    assert profile.total.dram_bytes == program.dram_bytes
    assert set(profile.total.dram) == set(CLASSES)


def test_traffic_of_rows_and_loops_that_cross_classes(bench: Any) -> None:
    bench.scratch = 64
    program = program_of(
        bench,
        {"name": "lea", "rd": 10, "imm": 24},
        {"name": "loop", "counter": 1, "count": 3},
        {"name": "lea", "rd": 9, "c1": 1, "s1": 8},
        {**ld(8), "rows": 2, "dram": 9, "dram_stride": 10, "sram_stride": 10},
        {"name": "end"},
    )
    # Rows at 0 and 24, 8 and 32, 16 and 40.
    container = program.container
    container.debug["constants"] = [{"name": "w", "class": "weights", "offset": 0, "bytes": 30}]
    dram = Program(container).profile().total.dram
    assert (dram["weights"], dram["other"]) == (8 + 6 + 8 + 8, 2 + 8 + 8)


@pytest.mark.parametrize(
    "entries",
    [
        [{}, {"offset": "0", "bytes": 4}, {"offset": True, "bytes": 1, "class": "weights"}],
        [{"offset": -5, "bytes": 10**30, "class": ["weights"]}],
    ],
)
def test_a_debug_map_need_not_be_trusted(bench: Any, entries: list[dict[str, Any]]) -> None:
    container = program_of(bench, ld(64)).container
    container.debug["constants"] = entries
    assert Program(container).profile().total.dram["other"] == 64


def test_entries_of_the_debug_map_that_overlap(bench: Any) -> None:
    container = program_of(bench, ld(64)).container
    entries = [("weights", 0, 16), ("tables", 8, 16), ("parameters", 4, 4)]
    container.debug["constants"] = [{"class": c, "offset": offset, "bytes": size} for c, offset, size in entries]
    regions = DramMap(Program(container).valid)
    assert list(regions.classify(0, 64)) == [("weights", 16), ("tables", 8), ("other", 40)]
    assert list(regions.classify(15, 17)) == [("weights", 1), ("tables", 1)]
    assert list(regions.classify(24, 30)) == [("other", 6)]


def test_scores_that_leave_the_chip_have_no_profile(bench: Any) -> None:
    program = program_of(bench, DRAM, sm(16, post=[0]), {**STORE, "wait": [0]})
    with pytest.raises(ProgramError, match="must stay on the chip"):
        program.profile()


def test_groups(bench: Any) -> None:
    parts = [("e.l.0.a", [mm(5)]), ("", [vp(4)]), ("e.l.0.b", [mm(7)]), ("e.l.1.a", [ld(64)]), ("p", [vp(1)])]
    profile = program_of(bench, *parts).profile()
    assert [row.module_path for row in profile.rows] == ["e.l.0.a", "", "e.l.0.b", "e.l.1.a", "p"]
    grouped = profile.grouped(3)
    assert [row.module_path for row in grouped.rows] == ["e.l.0", "", "e.l.1", "p"]
    assert row_of(grouped, "e.l.0").working == 12
    assert row_of(grouped, "e.l.0").busy["mm"] == 12
    for depth in range(6):
        assert profile.grouped(depth).total == profile.total
    assert [row.module_path for row in profile.grouped(0).rows] == [""]
    assert profile.grouped(9) == profile
    with pytest.raises(ValueError, match="depth is -1"):
        profile.grouped(-1)


def test_json(bench: Any) -> None:
    profile = program_of(bench, ("a", [ld(160, post=[0])]), ("b", [mm(100, wait=[0])])).profile()
    value = json.loads(json.dumps(profile.to_json(), allow_nan=False))
    assert (value["cycles"], value["total"]["cycles"], value["target"]) == (138, 138, "bench")
    assert sum(row["cycles"] for row in value["rows"]) == 138
    assert sum(row["share"] for row in value["rows"]) == pytest.approx(1)
    a, b, _ = value["rows"]
    assert (a["module"], a["dram_bytes"], a["intensity"], a["roofline"], a["bound"]) == ("a", 160, 0.0, None, "dma")
    assert (b["module"], b["working"], b["mac_efficiency"]) == ("b", 100, 200 / (107 * 16))
    assert value["seconds"] == pytest.approx(1.38e-6)


KINDS = ("ld", "mm", "map", "softmax", *UNITS, "fence", "lea")


@st.composite
def instructions(draw: st.DrawFn) -> Fields:
    """Draws an instruction of any unit, now and then with semaphores."""
    kind, size = draw(st.sampled_from(KINDS)), draw(st.integers(1, 40))
    wait, post = draw(st.sampled_from([[], [], [], [0], [1], [0, 1]])), draw(st.sampled_from([[], [0], [1], [0, 1]]))
    if kind in ("fence", "lea"):
        return {"name": kind} if kind == "fence" else DRAM
    units = {"ld": ld(8 * size), "mm": mm(size), "map": vp(size), "softmax": sm(size)}
    return {**units.get(kind, {"name": "sync", "unit": kind}), "wait": wait, "post": post}


parts = st.lists(instructions(), max_size=8)


@settings(max_examples=200, deadline=None)
@given(before=parts, inside=parts, after=parts, count=st.integers(0, 3), depth=st.integers(1, 3))
def test_every_cycle_is_charged_once(
    make_bench: Callable[[], Any],
    before: list[Fields],
    inside: list[Fields],
    after: list[Fields],
    count: int,
    depth: int,
) -> None:
    bench = make_bench()
    bench.target = dataclasses.replace(bench.target, queue_depth=depth)
    loop, end = {"name": "loop", "counter": 1, "count": count}, {"name": "end"}
    program = program_of(bench, ("a.x", before), ("a.y", [loop, *inside, end]), ("b", after))
    try:
        cycles = program.cycles
    except ProgramError:
        assume(False)
        return
    schedule = program.schedule
    charges = attribute(program.valid, schedule)
    assert charges.start[0] == 0
    assert charges.end[-1] == cycles
    assert np.array_equal(charges.start[1:], charges.end[:-1])
    assert (charges.start < charges.end).all()
    # Work is charged to what works, or has its result under way, then.
    works = ~charges.issued
    rows = charges.row[works]
    assert (charges.start[works] >= schedule.start[rows]).all()
    assert (charges.end[works] <= schedule.complete[rows]).all()
    assert (charges.end[~works] <= schedule.entered[charges.row[~works]]).all()
    profile = program.profile()
    total = profile.total
    assert total.cycles == cycles
    assert total.working == program.timing.busy["mm"]
    assert total.busy == total.concurrent == program.timing.busy
    assert total.dram_bytes == program.dram_bytes
    assert all(row.concurrent["mm"] == row.working for row in profile.rows)
    assert all(0 <= used <= 1 for row in profile.rows for used in row.utilisation.values())
    assert set(total.idle) == set(CAUSES)
