"""The timing model: cycles counted by hand, and against a simulation that steps through single cycles."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sta.backend.container import Container
from sta.runtime import Program, ProgramError
from sta.runtime.timing import simulate
from sta.spec.instructions.definition import SEMAPHORE_COUNT, UNITS
from sta.spec.instructions.instruction import Instruction

# The bench's target: array 4 x 2 x 2, window 8, 4 vector lanes, 2 softmax lanes, DMA 16 bytes a cycle with latency 20,
# drain latency 7, queues of 2.


def ld(rows: int, row_bytes: int, **fields: Any) -> dict[str, Any]:
    """Returns the fields of a load to address 0."""
    return {"name": "ld", "dram": 0, "sram": 0, "rows": rows, "row_bytes": row_bytes, **fields}


def mm(rows: int, columns: int, depth: int, **fields: Any) -> dict[str, Any]:
    """Returns the fields of a product of rows that all lie at address 0."""
    return {"name": "mm", "acc": 0, "a": 0, "b": 0, "rows": rows, "columns": columns, "depth": depth, **fields}


def emit(bench: Any, *programs: dict[str, Any]) -> None:
    """Appends instructions to a bench."""
    for fields in programs:
        bench.emit(**fields)


def test_nothing_takes_one_cycle(bench: Any) -> None:
    assert bench.program().cycles == 1


def test_sequencer_instructions_take_a_cycle_each(bench: Any) -> None:
    bench.emit("lea", rd=1, imm=3)
    bench.emit("loop", counter=2, count=4)
    bench.emit("lea", rd=3, c1=2, s1=1)
    bench.emit("fence")
    bench.emit("end")
    bench.emit("loop", counter=2, count=0)
    bench.emit("lea", rd=3, c1=2, s1=1)
    bench.emit("end")
    # lea, loop, 4 * (lea, fence, end), loop, halt.
    program = bench.program()
    assert program.cycles == program.valid.instructions == 1 + 1 + 4 * 3 + 1 + 1


def test_a_copy(bench: Any) -> None:
    emit(bench, ld(3, 40, sram_stride=bench.register(40)))
    # Issued in cycle 1 after a lea, starts at 2; 3 * ceil(40 / 16) = 9 cycles, latency 20.
    timing = bench.program().timing
    assert timing.cycles == 2 + 9 + 20
    assert timing.busy == {"ld": 9, "st": 0, "mm": 0, "sm": 0, "vp": 0}
    assert (timing.dram_bytes_read, timing.dram_bytes_written) == (120, 0)


def test_rows_next_to_each_other_are_one_row(bench: Any) -> None:
    stride = bench.register(40)
    emit(bench, ld(3, 40, dram_stride=stride, sram_stride=stride))
    # One lea, then ceil(120 / 16) = 8 cycles.
    assert bench.program().cycles == 2 + 8 + 20


def test_the_stride_may_depend_on_the_loop(bench: Any) -> None:
    bench.emit("loop", counter=1, count=2)
    bench.emit("lea", rd=2, imm=40, c1=1, s1=8)
    emit(bench, ld(3, 40, dram_stride=2, sram_stride=2))
    bench.emit("end")
    timing = bench.program().timing
    assert timing.busy["ld"] == 8 + 9
    assert timing.dram_bytes_read == 240
    # The first starts at 3, the second is queued by then.
    assert timing.cycles == 3 + 8 + 9 + 20


@pytest.mark.parametrize(
    ("fields", "cycles"),
    [
        # ceil(5 / 4) * ceil(3 / 2) * ceil(7 / 2)
        (mm(5, 3, 7), 2 * 2 * 4),
        # 2 groups of 4 keep 2 each: 4 weights, 2 a step; window ceil(8 / 8) = 1.
        (mm(4, 2, 8, n=2, m=4, encoding="bitmap"), 2),
        # 4 groups of 16 keep 1 each: 2 steps, but the window feeds 8 of 64 values a step.
        (mm(4, 2, 64, n=1, m=16, encoding="index"), 8),
        # The last group is padded: 2 groups of 5 keep 3 each.
        (mm(1, 1, 6, n=3, m=5, encoding="index"), 3),
    ],
)
def test_products(bench: Any, fields: dict[str, Any], cycles: int) -> None:
    emit(bench, {**fields, "acc_stride": bench.register(128), "a_stride": bench.register(64)})
    timing = bench.program().timing
    assert timing.busy["mm"] == cycles
    assert timing.cycles == 3 + cycles + 7


def test_softmax_map_norm_gather(bench: Any) -> None:
    wide, narrow = bench.register(40), bench.register(10)
    places = {"rows": 3, "source_stride": wide, "destination_stride": wide}
    softmax = {"scores": 0, "destination": 0, "sums": wide, "parameters": 0, "rows": 3, "keys": 5}
    emit(bench, {"name": "softmax", "destination_stride": narrow, "scores_stride": wide, **softmax})
    types = {"source_type": "s16", "destination_type": "s8"}
    emit(bench, {"name": "map", "source": 0, "destination": 0, "parameters": 0, "columns": 5, **places, **types})
    emit(bench, {"name": "norm", "source": 0, "destination": 0, "parameters": 0, "columns": 5, **places, "outputs": 1})
    gather = {"table": 0, "indices": 0, "destination": 0, "limit": wide, "destination_stride": wide}
    emit(bench, {"name": "gather", "rows": 3, "row_bytes": 17, **gather})
    timing = bench.program().timing
    # 2 * ceil(15 / 2); ceil(15 / 4) + 2 * ceil(15 / 4); 3 * ceil(17 / 16).
    assert timing.busy == {"ld": 6, "st": 0, "mm": 0, "sm": 16, "vp": 12}
    assert timing.dram_bytes_read == 51
    # Two lea, four instructions: the gather starts at 6.
    assert timing.cycles == 6 + 6 + 20


@pytest.mark.parametrize(
    ("fields", "unit", "cycles"),
    [
        # One plane of 16-bit activations is a product like any other: ceil(5 / 4) * ceil(3 / 2) * ceil(7 / 2).
        ({**mm(5, 3, 7), "a_wide": 1, "a_type": "u8"}, "mm", 2 * 2 * 4),
        # Two passes over 15 scores, 2 lanes, whatever the mode and the width of the result.
        ({"name": "softmax", "mode": "online_first", "probability_bits": "16"}, "sm", 2 * 8),
        ({"name": "softmax", "mode": "online"}, "sm", 2 * 8),
        # One pass over 15 results, each of two accumulators; one over 15 accumulators; 4 lanes.
        ({"name": "map", "source_type": "acc_wide", "destination_type": "s8"}, "vp", 4),
        ({"name": "shift", "acc": 0, "shifts": 0}, "vp", 4),
    ],
)
def test_long_and_precise_attention(bench: Any, fields: dict[str, Any], unit: str, cycles: int) -> None:
    wide = bench.register(128)
    own: dict[str, dict[str, Any]] = {
        "mm": {"acc_stride": wide, "a_stride": wide},
        "softmax": {"scores": 0, "destination": 0, "sums": wide, "parameters": 0, "rows": 3, "keys": 5}
        | {"destination_stride": wide, "scores_stride": wide},
        "map": {"source": 0, "destination": 0, "parameters": 0, "rows": 3, "columns": 5}
        | {"source_stride": wide, "destination_stride": wide},
        "shift": {"acc_stride": wide, "rows": 3, "columns": 5},
    }
    emit(bench, {**own[fields["name"]], **fields})
    timing = bench.program().timing
    assert timing.busy[unit] == cycles
    # A lea, the issue, the work; results of the array take 7 cycles more.
    assert timing.cycles == 2 + cycles + (7 if unit == "mm" else 0)


def test_units_run_side_by_side_until_semaphores_order_them(bench: Any) -> None:
    emit(bench, ld(1, 160), mm(1, 1, 200))
    # ld: 1 + 10 + 20. mm: 2 + 100 + 7.
    assert bench.program().cycles == 109
    bench.code.clear()
    emit(bench, ld(1, 160, post=[3]), mm(1, 1, 200, wait=[3]))
    # mm starts when the load is complete, at 31.
    assert bench.program().cycles == 31 + 100 + 7


def test_a_fence_waits_for_results(bench: Any) -> None:
    emit(bench, ld(1, 160), {"name": "fence"}, mm(1, 1, 2))
    # The fence lasts until 31; the product is issued in that cycle and starts at 32.
    assert bench.program().cycles == 32 + 1 + 7


def test_a_full_queue_stalls_the_sequencer(bench: Any) -> None:
    emit(bench, *[ld(1, 160)] * 5, mm(1, 1, 2))
    # Loads start at 1, 11, 21, 31, 41; they enter at 1, 2, 3, 11, 21 since two may wait. The product enters at 22.
    assert bench.program().cycles == 41 + 10 + 20
    bench.code[5:5] = [Instruction.make("fence")]
    # The fence ends at 71.
    assert bench.program().cycles == 71 + 1 + 1 + 7
    bench.code.clear()
    emit(bench, *[ld(1, 160)] * 4, mm(1, 1, 200))
    # The fourth load enters at 11, the product at 12.
    assert bench.program().cycles == 12 + 100 + 7


def test_sync_posts_after_the_work_before_it(bench: Any) -> None:
    emit(bench, ld(1, 160), {"name": "sync", "unit": "ld", "post": [0]}, mm(1, 1, 2, wait=[0]))
    # The sync starts at 11, but posts when the load is complete at 31.
    assert bench.program().cycles == 31 + 1 + 7


def test_a_semaphore_counts(bench: Any) -> None:
    sync = {"name": "sync", "unit": "vp", "wait": [0]}
    emit(bench, ld(1, 16, post=[0]), ld(1, 16, post=[0]), sync, sync)
    emit(bench, {"name": "sync", "unit": "vp", "post": [1]}, mm(1, 1, 2, wait=[1]))
    # Loads complete at 22 and 23; the second sync passes at 23, so does the third.
    assert bench.program().cycles == 23 + 1 + 7
    emit(bench, sync)
    with pytest.raises(ProgramError, match="deadlock"):
        _ = bench.program().cycles


def test_double_buffering(bench: Any) -> None:
    bench.emit("sync", unit="mm", post=[1])
    bench.emit("sync", unit="mm", post=[1])
    bench.emit("loop", counter=1, count=4)
    emit(bench, ld(1, 160, wait=[1], post=[0]), mm(1, 1, 100, wait=[0], post=[1]))
    bench.emit("end")
    # Loads take 10 cycles and are complete 30 after their start, products 50 and 57.
    # load     1:   4 ..  14, complete at  34    product 1:  34 ..  84, complete at  91
    # load     2:  14 ..  24, complete at  44    product 2:  84 .. 134, complete at 141
    # load     3:  91 .. 101, complete at 121    product 3: 134 .. 184, complete at 191
    # load     4: 141 .. 151, complete at 171    product 4: 184 .. 234, complete at 241
    timing = bench.program().timing
    assert timing.cycles == 241
    assert timing.busy["mm"] == 200


def test_deadlock_names_heads_and_semaphores(bench: Any) -> None:
    bench.paths = [[0, "layer.0", "a"], [1, "layer.1", "b"]]
    emit(bench, ld(1, 16, wait=[3]), mm(1, 1, 2, wait=[4, 5]))
    with pytest.raises(ProgramError) as error:
        bench.program().run({})
    assert str(error.value).split("\n") == [
        "deadlock: no unit can start its next instruction",
        "  ld: instruction 0 (ld, layer.0) waits for semaphore 3",
        "  mm: instruction 1 (mm, layer.1) waits for semaphore 4, semaphore 5",
    ]


def test_deadlock_of_a_stalled_sequencer(bench: Any) -> None:
    sync = {"name": "sync", "unit": "mm", "wait": [3]}
    emit(bench, sync, sync, {"name": "sync", "unit": "ld", "post": [3]}, {"name": "sync", "unit": "ld", "post": [3]})
    assert bench.program().cycles == 5
    bench.code[0:0] = [Instruction.make("sync", unit="mm", wait=[3])]
    with pytest.raises(ProgramError, match="mm: instruction 0"):
        _ = bench.program().cycles


def stepped(container: Container, program: Program) -> int | None:
    """
    Returns the cycles by stepping through single cycles, or None for deadlock; the textbook form of the model.

    At each time, again and again until nothing changes: results complete and post; the instruction whose cycle has
    passed enters its queue; the first unit that can start does.
    """
    target = program.target
    stream = unrolled(container.code)
    queues: dict[str, list[Instruction]] = {unit: [] for unit in UNITS}
    free, last = dict.fromkeys(UNITS, 0), dict.fromkeys(UNITS, 0)
    pending: list[tuple[int, Instruction]] = []
    semaphores = [0] * SEMAPHORE_COUNT
    position, issuing, time = 0, 1, 0
    while True:
        # A start may post at once or make room in a queue; what follows from it comes before the next start.
        settled = False
        while not settled:
            settled = True
            for complete in [item for item in pending if item[0] == time]:
                pending.remove(complete)
                for semaphore in complete[1].semaphores("post"):
                    semaphores[semaphore] += 1
            if position < len(stream) and issuing <= time:
                instruction = stream[position]
                idle = not pending and not any(queues.values())
                enters = not instruction.definition.is_sequencer
                if enters and len(queues[instruction.unit]) < target.queue_depth:
                    queues[instruction.unit].append(instruction)
                    position, issuing = position + 1, time + 1
                elif not enters and (idle or instruction.name not in ("fence", "halt")):
                    position, issuing = position + 1, time + 1
            for unit in UNITS:
                queue = queues[unit]
                if queue and free[unit] <= time and all(semaphores[s] for s in queue[0].semaphores("wait")):
                    head = queue.pop(0)
                    for semaphore in head.semaphores("wait"):
                        semaphores[semaphore] -= 1
                    free[unit] = time + head.definition.cycles(head, target, 0)
                    last[unit] = max(last[unit], free[unit] + head.definition.latency(target))
                    pending.append((last[unit], head))
                    settled = False
                    break
        if position == len(stream):
            return time
        if not pending and issuing <= time and all(free[unit] <= time for unit in UNITS):
            return None
        time += 1


def unrolled(code: list[Instruction]) -> list[Instruction]:
    """Returns the instructions in the order in which the sequencer issues them."""
    out: list[Instruction] = []
    counts: list[tuple[int, int]] = []
    pc = 0
    while pc < len(code):
        instruction = code[pc]
        pc += 1
        out.append(instruction)
        if instruction.name == "loop":
            counts.append((pc, instruction["count"]))
        if instruction.name == "end":
            start, left = counts.pop()
            if left > 1:
                counts.append((start, left - 1))
                pc = start
    return out


def instruction(kind: str, size: int, wait: set[int], post: set[int]) -> dict[str, Any]:
    """Returns the fields of an instruction; ``kind`` is a mnemonic or the unit of a sync."""
    if kind in ("fence", "lea"):
        return {"name": "fence"} if kind == "fence" else {"name": "lea", "rd": 5}
    if kind == "load":
        return ld(1, 8 * size, wait=wait, post=post)
    if kind == "product":
        return mm(1, 1, size, wait=wait, post=post)
    return {"name": "sync", "unit": kind, "wait": wait, "post": post}


kinds = st.sampled_from(["load", "product", "load", "product", *UNITS, "fence", "lea"])
waits = st.sampled_from([(), (), (), (), (), (0,), (1,), (2,), (0, 1)]).map(set[int])
posts = st.sets(st.integers(0, 2), max_size=3)
bodies = st.lists(st.builds(instruction, kinds, st.integers(1, 40), waits, posts), max_size=6)


@settings(max_examples=300, deadline=None)
@given(before=bodies, inside=bodies, after=bodies, count=st.integers(1, 4), depth=st.integers(1, 3))
def test_against_stepping_through_cycles(
    make_bench: Callable[[], Any],
    before: list[dict[str, Any]],
    inside: list[dict[str, Any]],
    after: list[dict[str, Any]],
    count: int,
    depth: int,
) -> None:
    bench = make_bench()
    bench.target = dataclasses.replace(bench.target, queue_depth=depth)
    emit(bench, *before)
    bench.emit("loop", counter=1, count=count)
    emit(bench, *inside)
    bench.emit("end")
    emit(bench, *after)
    program = bench.program()
    expected = stepped(bench.container(), program)
    # The model as it is written down, and as the native engine counts.
    for timing in (lambda: simulate(program.valid), lambda: program.timing):
        if expected is None:
            with pytest.raises(ProgramError, match="deadlock"):
                timing()
        else:
            assert timing().cycles == expected
