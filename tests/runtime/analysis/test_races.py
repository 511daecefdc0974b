"""The race check: by hand, and against an oracle that holds back one instruction and tries all orders of the others."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sta.runtime import Program, ProgramError
from sta.runtime.analysis.races import REPORT_LIMIT, RaceError
from sta.runtime.steps import Step
from sta.spec.instructions.definition import SEMAPHORE_COUNT, UNITS
from tests.support.racing_programs import PAIRS, SEVERAL_POST, SEVERAL_WAIT, built, programs

Fields = dict[str, Any]
Make = Callable[[], Any]

DRAM = 32768
"""The first writable address of the bench's DRAM."""
NUMBERS = (1, 2, 3, 4, 8, 16, 24, 64, 128, 256, 500, 504, 508, 512, 1024, 1030, 2048, 2053, DRAM, DRAM + 8, DRAM + 64)
FIRST = len(NUMBERS)
"""The pc of the first instruction after those that put the numbers into registers."""


def at(number: int) -> int:
    """Returns the register that holds a number."""
    return 63 - NUMBERS.index(number) if number else 0


def ld(sram: int = 0, rows: int = 1, row_bytes: int = 64, **fields: Any) -> Fields:
    """Returns the fields of a load of constants."""
    return {"name": "ld", "dram": 0, "sram": at(sram), "rows": rows, "row_bytes": row_bytes, **fields}


def store(dram: int = DRAM, **fields: Any) -> Fields:
    """Returns the fields of a store of spad bytes 0..63 to the writable part of DRAM."""
    return {"name": "st", "dram": at(dram), "sram": 0, "rows": 1, "row_bytes": 64, **fields}


def mm(a: int = 0, **fields: Any) -> Fields:
    """Returns the fields of a product that reads 8 bytes of spad and of wbuf, and writes 4 of acc."""
    return {"name": "mm", "acc": 0, "a": at(a), "b": 0, "rows": 1, "columns": 1, "depth": 8, **fields}


def vp(source: int = 64, destination: int = 128, columns: int = 8, **fields: Any) -> Fields:
    """Returns the fields of a map of int8 to int8 in spad, out of the way of the others; it reads wbuf bytes 0..43."""
    sizes = {"rows": 1, "columns": columns, "source_type": "s8", "destination_type": "s8"}
    return {"name": "map", "source": at(source), "destination": at(destination), "parameters": 0, **sizes, **fields}


def sync(unit: str, **fields: Any) -> Fields:
    """Returns the fields of a sync."""
    return {"name": "sync", "unit": unit, **fields}


def loop(count: int, *body: Fields, counter: int = 1) -> list[Fields]:
    """Returns the instructions of a loop."""
    return [{"name": "loop", "counter": counter, "count": count}, *body, {"name": "end"}]


FENCE: Fields = {"name": "fence"}


def program_of(make_bench: Make, *instructions: Fields) -> Program:
    """Returns a program; the first of the instructions has pc ``FIRST``."""
    bench = make_bench()
    for number in NUMBERS:
        bench.emit("lea", rd=at(number), imm=number)
    for fields in instructions:
        bench.emit(**fields)
    bench.scratch = 4096
    return bench.program()


def race_of(program: Program) -> tuple[int, int, str, int, int, int]:
    """Returns the first race: instructions, counted from ``FIRST``; space; first bytes in a row; number of bytes."""
    with pytest.raises(RaceError) as error:
        program.check_races()
    race = error.value.races[0]
    return race.earlier.pc - FIRST, race.later.pc - FIRST, race.space, race.start, race.stop, race.bytes


def test_a_load_races_with_the_product_that_reads_it(bench: Any) -> None:
    bench.paths = [[0, "layer.0", "a"], [1, "layer.1", "b"]]
    bench.emit(**ld())
    bench.emit(**mm())
    with pytest.raises(RaceError) as error:
        bench.program().check_races()
    assert str(error.value).split("\n") == [
        "race: no semaphore or fence orders conflicting accesses",
        "  instruction 1 (mm, layer.1) of unit mm, execution 1, may read spad bytes 0..7 before "
        "instruction 0 (ld, layer.0) of unit ld, execution 1, has written them",
    ]
    assert isinstance(error.value, ProgramError)
    (race,) = error.value.races
    assert (race.earlier.name, race.earlier.unit, race.earlier.writes, race.earlier.execution) == ("ld", "ld", True, 0)
    assert (race.later.name, race.later.module_path, race.later.writes) == ("mm", "layer.1", False)


def test_a_semaphore_orders(make_bench: Make) -> None:
    check = program_of(make_bench, ld(post=[3]), mm(wait=[3])).check_races()
    # The load's constants do not count: 64 bytes written; 8 + 8 + 4 of the product.
    assert check.to_json() == {"instructions": 2, "accesses": 4, "bytes": 84}


def test_a_fence_orders(make_bench: Make) -> None:
    program_of(make_bench, ld(), FENCE, mm()).check_races()


def test_reads_do_not_race(make_bench: Make) -> None:
    program_of(make_bench, mm(), vp(source=0), store()).check_races()


def test_a_unit_keeps_its_own_order(make_bench: Make) -> None:
    program_of(make_bench, ld(), ld(), mm(wait=[0]), mm(), sync("ld", post=[0])).check_races()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (mm(), vp(destination=0), ("spad", 0, 8, 8)),
        (ld(), vp(destination=0), ("spad", 0, 8, 8)),
        (mm(), vp(0, columns=1, source_type="acc"), ("acc", 0, 4, 4)),
        (ld(space="wbuf", row_bytes=4), mm(), ("wbuf", 0, 4, 4)),
        (ld(space="wbuf"), vp(), ("wbuf", 0, 44, 44)),
        (store(), {**ld(128, row_bytes=16), "dram": at(DRAM + 8)}, ("dram", DRAM + 8, DRAM + 24, 16)),
    ],
)
def test_what_races(make_bench: Make, first: Fields, second: Fields, expected: tuple[str, int, int, int]) -> None:
    assert race_of(program_of(make_bench, first, second)) == (0, 1, *expected)
    assert race_of(program_of(make_bench, second, first)) == (0, 1, *expected)
    program_of(make_bench, {**first, "post": [5]}, {**second, "wait": [5]}).check_races()


def softmax(sums: int, **fields: Any) -> Fields:
    """A softmax of one row of 4 scores at 1024 of acc, its exponentials at 1024 of spad."""
    places = {"scores": at(1024), "destination": at(1024), "sums": at(sums), "parameters": at(64)}
    return {"name": "softmax", **places, "rows": 1, "keys": 4, **fields}


def shift(acc: int = 0, shifts: int = 512, columns: int = 4, **fields: Any) -> Fields:
    """A shift of one row."""
    return {"name": "shift", "acc": at(acc), "shifts": at(shifts), "rows": 1, "columns": columns, **fields}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # Accumulators are read and written by the array and by the vector unit.
        (mm(), shift(), ("acc", 0, 4, 4)),
        (mm(accumulate=1), shift(), ("acc", 0, 4, 4)),
        # The third word of the state of one row is its shift.
        (softmax(504, mode="online"), shift(), ("spad", 512, 516, 4)),
        (softmax(504, mode="online_first"), shift(), ("spad", 512, 516, 4)),
        (vp(1024, 500, columns=8), softmax(500, mode="online"), ("spad", 500, 508, 8)),
        (softmax(504, probability_bits="16"), vp(1030, 2048, columns=2), ("spad", 1030, 1032, 2)),
        # Of the byte planes of 16-bit data the bytes between count as read.
        (mm(a=2048, a_wide=1, depth=3), vp(1024, 2048, columns=8), ("spad", 2048, 2053, 5)),
        (mm(acc=at(16)), vp(0, columns=3, source_type="acc_wide"), ("acc", 16, 20, 4)),
    ],
)
def test_what_races_in_long_and_precise_attention(
    make_bench: Make, first: Fields, second: Fields, expected: tuple[str, int, int, int]
) -> None:
    race = race_of(program_of(make_bench, first, second))
    assert race[2:] == expected
    program_of(make_bench, {**first, "post": [5]}, {**second, "wait": [5]}).check_races()


def test_what_does_not_race_in_long_and_precise_attention(make_bench: Make) -> None:
    program_of(make_bench, softmax(508, mode="row"), shift()).check_races()
    program_of(make_bench, mm(a=2048, a_wide=1, depth=3), vp(1024, 2053, columns=8)).check_races()
    program_of(make_bench, mm(acc=at(24)), vp(0, columns=3, source_type="acc_wide")).check_races()


def test_a_gather_counts_as_reading_its_whole_table(make_bench: Make) -> None:
    gather = {"name": "gather", "indices": at(1024), "destination": at(256), "rows": 1, "row_bytes": 32}
    program = program_of(make_bench, store(DRAM + 64), {**gather, "table": at(DRAM), "limit": at(3)})
    assert race_of(program) == (0, 1, "dram", DRAM + 64, DRAM + 96, 32)
    # Two rows are 64 bytes: they end where the store begins.
    program_of(make_bench, store(DRAM + 64), {**gather, "table": at(DRAM), "limit": at(2)}).check_races()


def columns(make_bench: Make, first: int) -> Program:
    """Returns a program of two units that write 16 bytes of every 64: from an address, and from 16."""
    load = ld(first, 4, 16, sram_stride=at(64))
    return program_of(make_bench, load, vp(1024, 16, columns=16, rows=4, destination_stride=at(64)))


def test_interleaved_columns_do_not_race(make_bench: Make) -> None:
    columns(make_bench, 0).check_races()


def test_columns_that_share_bytes_race(make_bench: Make) -> None:
    assert race_of(columns(make_bench, 1)) == (0, 1, "spad", 16, 17, 4)
    with pytest.raises(RaceError, match=r"may write spad bytes 16\.\.16 and 3 more bytes before"):
        columns(make_bench, 1).check_races()


def test_rows_that_a_stride_of_zero_repeats(make_bench: Make) -> None:
    reads = mm(rows=4, acc_stride=at(4))
    assert race_of(program_of(make_bench, ld(), reads)) == (0, 1, "spad", 0, 8, 8)
    program_of(make_bench, ld(sram=8), reads).check_races()


def test_order_is_handed_on(make_bench: Make) -> None:
    # The product waits for the map only, which has waited for the load.
    program_of(make_bench, ld(post=[0]), vp(wait=[0], post=[1]), mm(wait=[1])).check_races()
    # A map in front of it does not know of the load.
    assert race_of(program_of(make_bench, ld(post=[0]), vp(post=[1]), vp(wait=[0]), mm(wait=[1])))[:2] == (0, 3)


def test_a_later_post_of_the_same_unit_will_do(make_bench: Make) -> None:
    program_of(make_bench, ld(), sync("ld", post=[0]), mm(wait=[0])).check_races()


def test_an_earlier_post_will_not_do(make_bench: Make) -> None:
    early = [sync("ld", post=[0]), ld(post=[0])]
    assert race_of(program_of(make_bench, *early, mm(wait=[0])))[:2] == (1, 2)
    program_of(make_bench, *early, sync("mm", wait=[0]), mm(wait=[0])).check_races()


def test_an_order_against_that_of_the_program_is_a_race(make_bench: Make) -> None:
    # The product comes first in the program, but has to wait for the load.
    assert race_of(program_of(make_bench, mm(wait=[0]), ld(post=[0])))[:2] == (0, 1)


def test_starting_is_not_completing(make_bench: Make) -> None:
    # The second map knows that the load has started: it is past its wait. It is complete only later.
    instructions = [sync("mm", post=[0]), ld(wait=[0]), sync("vp", wait=[1]), vp(source=0)]
    assert race_of(program_of(make_bench, *instructions, sync("mm", post=[1])))[:2] == (1, 3)


def double_buffered(make_bench: Make, ahead: int) -> Program:
    """Returns a program that loads two buffers in turn, with so many loads allowed ahead of the products."""
    address = {"name": "lea", "rd": 3, "c1": 2, "s1": 64}
    load, product = {**ld(wait=[1], post=[0]), "sram": 3}, {**mm(wait=[0], post=[1]), "a": 3}
    turns = loop(5, *loop(2, address, load, product, counter=2))
    return program_of(make_bench, *[sync("mm", post=[1])] * ahead, *turns)


def test_double_buffering(make_bench: Make) -> None:
    assert double_buffered(make_bench, 2).check_races().instructions == 22
    with pytest.raises(RaceError) as error:
        double_buffered(make_bench, 3).check_races()
    (race,) = error.value.races
    # The third load overwrites the first buffer, whose product may not have begun.
    assert (race.earlier.name, race.earlier.execution, race.later.name, race.later.execution) == ("mm", 0, "ld", 2)


def test_a_loop_that_is_skipped_touches_nothing(make_bench: Make) -> None:
    assert program_of(make_bench, ld(), *loop(0, mm())).check_races().instructions == 1


def test_two_units_that_post_to_one_semaphore(make_bench: Make) -> None:
    posts = [ld(post=[0]), vp(post=[0])]
    # One wait can be met by the map; two need both; but not where there is another post, even one further on.
    assert race_of(program_of(make_bench, *posts, mm(wait=[0])))[:2] == (0, 2)
    program_of(make_bench, *posts, sync("mm", wait=[0]), mm(wait=[0])).check_races()
    waits = [sync("mm", wait=[0]), mm(wait=[0])]
    assert race_of(program_of(make_bench, *posts, *waits, sync("vp", post=[0])))[:2] == (0, 3)
    program_of(make_bench, *posts, *waits, FENCE, sync("vp", post=[0])).check_races()


def test_posts_that_come_after_the_wait_do_not_count_for_it(make_bench: Make) -> None:
    # Both units post once for each turn of the product, which lets them go on only then.
    units = [ld(wait=[1], post=[0]), vp(wait=[2], post=[0])]
    turns = loop(4, sync("mm", post=[1, 2]), *units, sync("mm", wait=[0]), mm(wait=[0]))
    program_of(make_bench, *turns).check_races()


def test_two_units_that_wait_for_one_semaphore(make_bench: Make) -> None:
    posts = [sync("ld", post=[0]), ld(post=[0])]
    # The map may take the first post or the second; in the other program it is certain to have taken the first.
    assert race_of(program_of(make_bench, *posts, vp(wait=[0]), mm(wait=[0])))[:2] == (1, 3)
    program_of(make_bench, *posts, vp(wait=[0], post=[1]), sync("mm", wait=[1]), mm(wait=[0])).check_races()


def test_one_error_names_several_pairs_but_not_all(make_bench: Make) -> None:
    with pytest.raises(RaceError) as error:
        program_of(make_bench, *[ld()] * 20, *[mm()] * 20).check_races()
    assert len(error.value.races) == REPORT_LIMIT
    assert len({(race.earlier.pc, race.later.pc) for race in error.value.races}) == REPORT_LIMIT


def test_a_deadlock_is_one(make_bench: Make) -> None:
    with pytest.raises(ProgramError, match="deadlock"):
        program_of(make_bench, ld(wait=[0])).check_races()


Event = tuple[Step, int]
"""One execution: the step and the number of executions before it."""


def stream(program: Program) -> list[Event]:
    """Returns the unit instructions, fences and the halt of a run in program order."""
    steps = program.valid.steps
    events: list[Event] = []

    def walk(first: int, last: int) -> None:
        pc = first
        while pc < last:
            step = steps[pc]
            if step.instruction.name == "loop":
                for _ in range(step.instruction["count"]):
                    walk(pc + 1, step.partner)
                pc = step.partner
            elif step.instruction.name not in ("lea", "end"):
                events.append((step, sum(1 for other, _ in events if other is step)))
            pc += 1

    walk(0, len(steps))
    return events


def touched(program: Program, event: Event) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """Returns the bytes that an execution reads and those it writes."""
    step, execution = event
    found: tuple[set[tuple[str, int]], set[tuple[str, int]]] = (set(), set())
    if step.instruction.definition.is_sequencer:
        return found
    counters = list(itertools.product(*map(range, step.counts)))[execution]
    for access in step.accesses:
        address = step.registers[access.address].at(counters)
        stride = access.row_bytes if access.stride is None else step.registers[access.stride].at(counters)
        rows = access.rows if access.rows_register is None else step.registers[access.rows_register].at(counters)
        for row in range(rows):
            first = address + row * stride
            found[access.writes].update((access.space, byte) for byte in range(first, first + access.row_bytes))
    return found


def startable(events: Sequence[Event], held: int) -> set[int]:
    """Returns the executions that some order of events can start while execution ``held`` does not complete."""
    units = [step.instruction.unit for step, _ in events]
    waits, posts = ([masks_of(event, field) for event in events] for field in ("wait", "post"))
    rows = {unit: [i for i, other in enumerate(units) if other == unit] for unit in UNITS}
    reached: set[int] = set()
    seen: set[tuple[int, ...]] = set()
    pending: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((0,) * len(UNITS), (0,) * SEMAPHORE_COUNT)]
    while pending:
        positions, semaphores = pending.pop()
        if positions in seen:
            continue
        seen.add(positions)
        waiting = {unit: rows[unit][position:] for unit, position in zip(UNITS, positions, strict=True)}
        first = min([held, *(later[0] for later in waiting.values() if later)])
        # The halt is the last of the fences.
        fence = next(i for i, unit in enumerate(units) if unit == "sequencer" and i > first)
        for number, unit in enumerate(UNITS):
            row = waiting[unit][0] if waiting[unit] else fence
            if row >= fence or not all(semaphores[s] for s in waits[row]):
                continue
            reached.add(row)
            left = list(semaphores)
            for semaphore in waits[row]:
                left[semaphore] -= 1
            incomplete = unit == units[held] and row >= held
            for semaphore in () if incomplete else posts[row]:
                left[semaphore] += 1
            ahead = (*positions[:number], positions[number] + 1, *positions[number + 1 :])
            pending.append((ahead, tuple(left)))
    return reached


def masks_of(event: Event, field: str) -> tuple[int, ...]:
    """Returns the semaphores that an execution waits for or posts to."""
    instruction = event[0].instruction
    return () if instruction.definition.is_sequencer else instruction.semaphores(field)


def races(program: Program) -> Iterator[tuple[int, int]]:
    """Iterates over the pcs of all pairs of executions that race."""
    events = stream(program)
    footprints = [touched(program, event) for event in events]
    for earlier, (step, _) in enumerate(events):
        if step.instruction.definition.is_sequencer:
            continue
        reads, writes = footprints[earlier]
        reached = startable(events, earlier)
        for later in range(earlier + 1, len(events)):
            other_reads, other_writes = footprints[later]
            conflict = bool(writes & (other_reads | other_writes) or reads & other_writes)
            different = events[later][0].instruction.unit != step.instruction.unit
            if conflict and different and later in reached:
                yield step.pc, events[later][0].pc


def found_by_the_check(program: Program) -> list[tuple[int, int]]:
    """Returns the pcs of the pairs in the check's error; none if there is no error."""
    try:
        program.check_races()
    except RaceError as error:
        return [(race.earlier.pc, race.later.pc) for race in error.races]
    return []


@settings(max_examples=200, deadline=None)
@given(drawn=programs(PAIRS))
def test_exact_where_a_semaphore_belongs_to_two_units(make_bench: Make, drawn: Any) -> None:
    program = built(make_bench, drawn)
    found, expected = set(found_by_the_check(program)), set(races(program))
    assert found <= expected
    assert bool(found) == bool(expected)


@settings(max_examples=150, deadline=None)
@given(drawn=st.one_of(programs(SEVERAL_POST), programs(SEVERAL_WAIT)))
def test_no_race_is_missed_where_several_units_share_a_semaphore(make_bench: Make, drawn: Any) -> None:
    program = built(make_bench, drawn)
    if next(races(program), None) is not None:
        assert found_by_the_check(program)
