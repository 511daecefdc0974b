"""Schedules counted by hand, and bounds that no schedule may break."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sta.runtime import Program, ProgramError
from sta.runtime.analysis.schedule import SEQUENCER, handovers
from sta.spec.instructions.definition import UNITS
from sta.spec.target import load_target

# The bench's target: array 4 x 2 x 2, window 8, 4 vector lanes, 2 softmax lanes, DMA 16 bytes a cycle with latency 20,
# drain latency 7, queues of 2.

Fields = dict[str, Any]
Row = tuple[str, int, int, int, int]
"""Mnemonic; the cycles after which an instruction is in its queue, starts, frees its unit and is complete."""


def ld(row_bytes: int, **fields: Any) -> Fields:
    """Returns the fields of a load that takes a cycle for 16 bytes."""
    return {"name": "ld", "dram": 0, "sram": 0, "rows": 1, "row_bytes": row_bytes, **fields}


def store(dram: int, **fields: Any) -> Fields:
    """Returns the fields of a store of 16 bytes: a cycle."""
    return {"name": "st", "dram": dram, "sram": 0, "rows": 1, "row_bytes": 16, **fields}


def mm(cycles: int, **fields: Any) -> Fields:
    """Returns the fields of a product that takes so many cycles."""
    sizes = {"rows": 1, "columns": 1, "depth": 2 * cycles}
    return {"name": "mm", "acc": 0, "a": 0, "b": 0, **sizes, **fields}


def vp(cycles: int, **fields: Any) -> Fields:
    """Returns the fields of a map that takes so many cycles."""
    places = {"source": 0, "destination": 0, "parameters": 0, "source_type": "acc", "destination_type": "s8"}
    return {"name": "map", **places, "rows": 1, "columns": 4 * cycles, **fields}


def sm(keys: int, **fields: Any) -> Fields:
    """Returns the fields of a softmax that takes as many cycles as it has keys."""
    places = {"scores": 0, "destination": 0, "sums": 0, "parameters": 0}
    return {"name": "softmax", **places, "rows": 1, "keys": keys, **fields}


def sync(unit: str, **fields: Any) -> Fields:
    """Returns the fields of a sync."""
    return {"name": "sync", "unit": unit, **fields}


def loop(count: int, *body: Fields, counter: int = 1) -> list[Fields]:
    """Returns the instructions of a loop."""
    return [{"name": "loop", "counter": counter, "count": count}, *body, {"name": "end"}]


FENCE: Fields = {"name": "fence"}
LEA: Fields = {"name": "lea", "rd": 9}
DRAM: Fields = {"name": "lea", "rd": 8, "imm": 32768}

# Loads of 160 bytes take 10 cycles and are complete 20 later.
BY_HAND: dict[str, tuple[list[Fields], list[Row], int]] = {
    "one load": ([ld(160)], [("ld", 1, 1, 11, 31)], 31),
    "a load, then a product by a semaphore": (
        [ld(160, post=[0]), mm(100, wait=[0])],
        [("ld", 1, 1, 11, 31), ("mm", 2, 31, 131, 138)],
        138,
    ),
    "four units in a chain": (
        [DRAM, ld(160, post=[0]), mm(100, wait=[0], post=[1]), vp(2, wait=[1], post=[2]), store(8, wait=[2])],
        [("ld", 2, 2, 12, 32), ("mm", 3, 32, 132, 139), ("map", 4, 139, 141, 141), ("st", 5, 141, 142, 162)],
        162,
    ),
    "a full queue": (
        # Two may wait: the fourth load enters when the second starts, and only then the product is issued.
        [*[ld(160)] * 4, mm(1)],
        [
            ("ld", 1, 1, 11, 31),
            ("ld", 2, 11, 21, 41),
            ("ld", 3, 21, 31, 51),
            ("ld", 11, 31, 41, 61),
            ("mm", 12, 12, 13, 20),
        ],
        61,
    ),
    "a full queue holds up another unit": (
        [*[mm(50)] * 4, ld(160)],
        [
            ("mm", 1, 1, 51, 58),
            ("mm", 2, 51, 101, 108),
            ("mm", 3, 101, 151, 158),
            ("mm", 51, 151, 201, 208),
            ("ld", 52, 52, 62, 82),
        ],
        208,
    ),
    "a loop with address arithmetic": (
        # loop 1; lea 2, ld 3, end 4; lea 5, ld 6, end 7; lea 8, ld 9, end 10; halt.
        loop(3, LEA, ld(16)),
        [("ld", 3, 3, 4, 24), ("ld", 6, 6, 7, 27), ("ld", 9, 9, 10, 30)],
        30,
    ),
    "loops in a loop": (
        # loop 1; loop 2, mm 3, end 4, mm 5, end 6; sync 7, end 8; loop 9, mm 10, end 11, mm 12, end 13; sync 14.
        loop(2, *loop(2, mm(1), counter=2), sync("vp")),
        [
            ("mm", 3, 3, 4, 11),
            ("mm", 5, 5, 6, 13),
            ("sync", 7, 7, 7, 7),
            ("mm", 10, 10, 11, 18),
            ("mm", 12, 12, 13, 20),
            ("sync", 14, 14, 14, 14),
        ],
        20,
    ),
    "a fence": (
        # The fence takes its own cycle and lasts until the load is complete; so does the halt.
        [ld(160), FENCE, mm(1)],
        [("ld", 1, 1, 11, 31), ("fence", 31, 1, 31, 31), ("mm", 32, 32, 33, 40)],
        40,
    ),
    "softmax under products": (
        [mm(100, post=[0]), mm(100, post=[0]), sm(30, wait=[0]), sm(30, wait=[0])],
        [
            ("mm", 1, 1, 101, 108),
            ("mm", 2, 101, 201, 208),
            ("softmax", 3, 108, 138, 138),
            ("softmax", 4, 208, 238, 238),
        ],
        238,
    ),
    "double buffering": (
        # Two loads may be ahead. sync 1, sync 2, loop 3, ld 4, mm 5, end 6, ld 7, mm 8, end 9, ld 10, mm 11.
        # The third load starts when the first product is complete.
        [sync("mm", post=[1]), sync("mm", post=[1]), *loop(3, ld(160, wait=[1], post=[0]), mm(50, wait=[0], post=[1]))],
        [
            ("sync", 1, 1, 1, 1),
            ("sync", 2, 2, 2, 2),
            ("ld", 4, 4, 14, 34),
            ("mm", 5, 34, 84, 91),
            ("ld", 7, 14, 24, 44),
            ("mm", 8, 84, 134, 141),
            ("ld", 10, 91, 101, 121),
            ("mm", 34, 134, 184, 191),
        ],
        191,
    ),
    "a sync posts after what its unit has done before": (
        # It starts when the load frees the unit, and is complete with the load's result.
        [ld(160), sync("ld", post=[0]), vp(3, wait=[0])],
        [("ld", 1, 1, 11, 31), ("sync", 2, 11, 11, 31), ("map", 3, 31, 34, 34)],
        34,
    ),
    "two waits for one semaphore": (
        [ld(16, post=[0]), ld(160, post=[0]), mm(1, wait=[0]), mm(1, wait=[0])],
        [("ld", 1, 1, 2, 22), ("ld", 2, 2, 12, 32), ("mm", 3, 22, 23, 30), ("mm", 4, 32, 33, 40)],
        40,
    ),
}


def program_of(bench: Any, instructions: Sequence[Fields]) -> Program:
    """Returns the program of a bench with the instructions appended."""
    for fields in instructions:
        bench.emit(**fields)
    bench.scratch = 64
    return bench.program()


def rows_of(program: Program) -> list[Row]:
    """Returns the schedule of a program without its halt, in program order."""
    schedule = program.schedule
    names = [step.instruction.name for step in program.valid.steps]
    columns = (schedule.pc, schedule.entered, schedule.start, schedule.end, schedule.complete)
    rows: list[tuple[int, int, int, int, int]] = np.stack(columns, axis=1)[:-1].tolist()
    return [(names[pc], entered, start, end, complete) for pc, entered, start, end, complete in rows]


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(bench: Any, name: str) -> None:
    instructions, rows, cycles = BY_HAND[name]
    program = program_of(bench, instructions)
    assert rows_of(program) == rows
    assert program.schedule.cycles == program.cycles == cycles


def test_a_product_of_64_by_64_by_64_takes_256_cycles_and_the_latency(bench: Any) -> None:
    bench.target = load_target("sta-base")
    assert bench.target.macs_per_cycle == 1024
    bench.sizes = {"spad": 4096, "wbuf": 4096, "acc": 16384}
    lea = {"name": "lea", "rd": 1, "imm": 256}
    other = {"name": "lea", "rd": 2, "imm": 64}
    sizes = {"rows": 64, "columns": 64, "depth": 64, "acc_stride": 1, "a_stride": 2}
    program = program_of(bench, [lea, other, {"name": "mm", "acc": 0, "a": 0, "b": 0, **sizes}])
    assert rows_of(program) == [("mm", 3, 3, 3 + 256, 3 + 256 + bench.target.drain_latency)]
    assert bench.target.drain_latency == 40
    assert program.cycles == 3 + 256 + 40


def test_what_held_an_instruction_up(bench: Any) -> None:
    instructions = [*[ld(160)] * 4, mm(1, wait=[0]), sync("ld", post=[0])]
    schedule = program_of(bench, instructions).schedule
    # The fourth load could have entered at 4, the sync at 13; the product waits for the sync, which ends with a load.
    assert (schedule.entered - schedule.ready).tolist()[:-1] == [0, 0, 0, 7, 0, 8]
    assert schedule.idle_before.tolist()[:-1] == [0, 0, 0, 0, 61 - 12, 0]


def test_which_post_a_wait_took(bench: Any) -> None:
    # The second load completes before the map, so that the first wait takes its post.
    instructions = [vp(50, post=[2]), ld(16), ld(16, post=[2]), mm(1, wait=[2]), mm(1, wait=[2])]
    program = program_of(bench, instructions)
    met = handovers(program.valid, program.schedule)
    assert (met.semaphore.tolist(), met.post.tolist(), met.wait.tolist()) == ([2, 2], [2, 0], [3, 4])


def test_rows_by_unit(bench: Any) -> None:
    schedule = program_of(bench, [ld(16), mm(1), FENCE, ld(16)]).schedule
    assert schedule.unit.tolist() == [0, 2, SEQUENCER, 0, SEQUENCER]
    assert [rows.tolist() for rows in schedule.rows_of_unit] == [[0, 3], [], [1], [], []]
    assert schedule.position.tolist() == [0, 0, 0, 1, 1]
    assert schedule.order.tolist() == [0, 1, 3]
    assert schedule.start_order.tolist() == [0, 1, -1, 2, -1]


def test_nothing_at_all(bench: Any) -> None:
    schedule = bench.program().schedule
    assert (len(schedule), schedule.cycles, schedule.order.tolist()) == (1, 1, [])
    assert schedule.idle_before.tolist() == [0]


def test_a_deadlock_has_no_schedule(bench: Any) -> None:
    with pytest.raises(ProgramError, match=r"deadlock.*\n.*ld: instruction 0 \(ld\) waits for semaphore 1"):
        _ = program_of(bench, [ld(16, wait=[1])]).schedule


def test_a_run_that_is_too_long_is_refused_before_it_is_timed(bench: Any) -> None:
    program = program_of(bench, loop(1 << 23, sync("ld"), sync("ld")))
    with pytest.raises(ProgramError, match="a run executes 16777217 instructions of units, only up to 10000000 can be"):
        _ = program.schedule


KINDS = ("ld", "mm", "map", "softmax", "st", *UNITS, "fence", "lea")


@st.composite
def instructions(draw: st.DrawFn) -> Fields:
    """Draws an instruction of any unit, now and then with semaphores."""
    kind, size = draw(st.sampled_from(KINDS)), draw(st.integers(1, 40))
    wait, post = draw(st.sampled_from([[], [], [], [0], [1], [0, 1]])), draw(st.sampled_from([[], [0], [1], [0, 1]]))
    match kind:
        case "fence":
            return FENCE
        case "lea":
            return LEA
        case "ld":
            fields = ld(8 * size)
        case "mm":
            pattern = draw(
                st.sampled_from([{}, {"n": 2, "m": 4, "encoding": "bitmap"}, {"n": 1, "m": 16, "encoding": 2}])
            )
            fields = {**mm(1), "rows": draw(st.integers(1, 9)), "columns": draw(st.integers(1, 5)), "depth": size}
            fields |= {**pattern, "acc_stride": 10, "a_stride": 10}
        case "map":
            fields = vp(1, columns=size)
        case "softmax":
            fields = sm(size)
        case "st":
            fields = store(8)
        case unit:
            fields = sync(unit)
    return {**fields, "wait": wait, "post": post}


parts = st.lists(instructions(), max_size=8)


def drawn_program(make_bench: Callable[[], Any], drawn: Any) -> Program:
    """Returns a program with a loop; one that deadlocks is rejected."""
    before, inside, after, count, depth = drawn
    bench = make_bench()
    bench.target = dataclasses.replace(bench.target, queue_depth=depth)
    stride = {"name": "lea", "rd": 10, "imm": 128}
    program = program_of(bench, [DRAM, stride, *before, *loop(count, *inside), *after])
    try:
        _ = program.timing
    except ProgramError:
        assume(False)
    return program


PROGRAMS = st.tuples(parts, parts, parts, st.integers(0, 3), st.integers(1, 3))


@settings(max_examples=150, deadline=None)
@given(drawn=PROGRAMS)
def test_a_run_takes_no_less_than_its_work(make_bench: Callable[[], Any], drawn: Any) -> None:
    program = drawn_program(make_bench, drawn)
    target = program.target
    macs = elements = scores = read = written = 0
    for step in program.valid.steps:
        instruction, name = step.instruction, step.instruction.name
        if name == "mm":
            sizes = instruction["rows"] * instruction["columns"] * instruction["depth"]
            macs += step.executions * math.ceil(sizes * instruction["n"] / instruction["m"])
        if name == "map":
            elements += step.executions * instruction["rows"] * instruction["columns"]
        if name == "softmax":
            scores += step.executions * instruction["rows"] * instruction["keys"]
        read += step.executions * instruction["row_bytes"] if name == "ld" else 0
        written += step.executions * instruction["row_bytes"] if name == "st" else 0
    cycles = program.cycles
    assert (program.timing.dram_bytes_read, program.timing.dram_bytes_written) == (read, written)
    assert cycles * target.array_rows * target.array_columns * target.multipliers >= macs
    assert cycles * target.dma_bytes_per_cycle >= max(read, written)
    assert cycles * target.vector_lanes >= elements
    assert cycles * target.softmax_lanes >= 2 * scores
    assert cycles >= program.valid.instructions


@settings(max_examples=150, deadline=None)
@given(drawn=PROGRAMS)
def test_a_schedule_keeps_the_rules_of_the_machine(make_bench: Callable[[], Any], drawn: Any) -> None:
    program = drawn_program(make_bench, drawn)
    schedule, target = program.schedule, program.target
    assert schedule.cycles == program.cycles
    for unit, rows in enumerate(schedule.rows_of_unit):
        code = program.container.code
        busy = np.array([step.definition.cycles(step, target, 0) for step in code])
        latency = np.array([step.definition.latency(target) for step in code])
        start, end, complete = schedule.start[rows], schedule.end[rows], schedule.complete[rows]
        assert np.array_equal(end - start, busy[schedule.pc[rows]])
        assert (end - start).sum() == program.timing.busy[UNITS[unit]]
        assert np.array_equal(complete, np.maximum.accumulate(end + latency[schedule.pc[rows]]))
        assert (start >= schedule.entered[rows]).all()
        assert (start[1:] >= end[:-1]).all()
        # At most so many wait.
        depth = target.queue_depth
        assert (schedule.entered[rows][depth:] >= start[:-depth]).all()
    assert (schedule.entered >= schedule.ready).all()
    assert (np.diff(schedule.entered) >= 1).all()
    assert (np.diff(schedule.start[schedule.order]) >= 0).all()
    met = handovers(program.valid, schedule)
    assert (schedule.complete[met.post] <= schedule.start[met.wait]).all()
    assert (schedule.start_order[met.post] < schedule.start_order[met.wait]).all()
    for fence in np.flatnonzero(schedule.unit == SEQUENCER).tolist():
        assert schedule.end[fence] == max(schedule.ready[fence], schedule.complete[:fence].max(initial=0))
