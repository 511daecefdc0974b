"""Traces: the rules of the Trace Event Format, and that Perfetto's importer binds every arrow to the right slices."""

import dataclasses
import gzip
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sta.runtime import Program, ProgramError
from sta.runtime.analysis.schedule import handovers
from sta.spec.instructions.definition import UNITS

Fields = dict[str, Any]
Event = dict[str, Any]

TRACKS = {name: number for number, name in enumerate(("sequencer", *UNITS), 1)}

MODULES = len(TRACKS) + 1


def ld(row_bytes: int, **fields: Any) -> Fields:
    """Returns the fields of a load that takes a cycle for 16 bytes."""
    return {"name": "ld", "dram": 0, "sram": 0, "rows": 1, "row_bytes": row_bytes, **fields}


def mm(cycles: int, **fields: Any) -> Fields:
    """Returns the fields of a product that takes so many cycles."""
    return {"name": "mm", "acc": 0, "a": 0, "b": 0, "rows": 1, "columns": 1, "depth": 2 * cycles, **fields}


def program_of(bench: Any, instructions: Sequence[Fields], clock: float = 100) -> Program:
    """Returns the program of a bench with instructions appended, and a clock in MHz."""
    bench.target = dataclasses.replace(bench.target, clock_mhz=clock)
    for fields in instructions:
        bench.emit(**fields)
    return bench.program()


def trace_of(program: Program, directory: Path, **options: Any) -> dict[str, Any]:
    """Returns the contents of a program's trace."""
    program.write_trace(directory / "trace.json", **options)
    return json.loads((directory / "trace.json").read_text())


def slices(events: Sequence[Event], track: str) -> list[tuple[str, float, float]]:
    """Returns name, start and duration of the slices of a track."""
    return [(e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X" and e["tid"] == TRACKS[track]]


def nanoseconds(microseconds: float) -> int:
    """Returns a time as Perfetto reads it: rounded to whole nanoseconds."""
    return round(microseconds * 1000)


def end_of(event: Event) -> int:
    """Returns when a slice ends."""
    return nanoseconds(event["ts"]) + nanoseconds(event["dur"])


def check_format(events: Sequence[Event]) -> None:
    """Fails unless the events keep the rules of the format."""
    for event in events:
        keys = {"M": {"args"}, "X": {"cat", "ts", "dur", "args"}, "s": {"cat", "ts", "id"}, "i": {"ts", "s"}}
        keys |= {"f": {*keys["s"], "bp"}, "C": {"ts", "args"}}
        # All but the names of processes, and counters, belong to a track.
        track = {"tid"} if event["name"] != "process_name" and event["ph"] != "C" else {"name"}
        assert set(event) == {"name", "ph", "pid", *track, *keys[event["ph"]]}
        assert (event["pid"], event.get("tid", 1)) in {(2, MODULES), (2, 1), *((1, track) for track in TRACKS.values())}
        assert event.get("ts", 0) >= 0
        assert event.get("dur", 0) >= 0
        assert event.get("bp", "e") == "e"
    for track in TRACKS:
        own = [(nanoseconds(start), nanoseconds(length)) for _, start, length in slices(events, track)]
        assert all(start + length <= later for (start, length), (later, _) in itertools.pairwise(own))
    ids = {phase: [event["id"] for event in events if event["ph"] == phase] for phase in ("s", "f")}
    assert sorted(ids["s"]) == sorted(ids["f"]) == list(range(len(ids["s"])))


def bound_arrows(events: Sequence[Event]) -> list[tuple[str, Event, Event]]:
    """
    Returns name and both slices of every arrow, bound as Perfetto's importer does it.

    It sorts events by time, those of one time in the order of the file. A slice closes the ones on its track that are
    over; slices without duration at one time stack up. The end of an arrow belongs to the topmost slice of its track.
    """
    stacks: dict[int, list[Event]] = {}
    begun: dict[tuple[str, str, int], Event] = {}
    found: list[tuple[str, Event, Event]] = []
    timed = [event for event in events if event["ph"] in ("X", "s", "f")]
    for event in sorted(timed, key=lambda event: nanoseconds(event["ts"])):
        stack, time = stacks.setdefault(event["tid"], []), nanoseconds(event["ts"])
        if event["ph"] == "X":
            while stack and (
                end_of(stack[-1]) < time or (end_of(stack[-1]) == time and stack[-1]["dur"] + event["dur"])
            ):
                stack.pop()
            assert not stack or end_of(event) <= end_of(stack[-1])
            stack.append(event)
            continue
        key = (event["cat"], event["name"], event["id"])
        assert stack
        assert nanoseconds(stack[-1]["ts"]) <= time <= end_of(stack[-1])
        if event["ph"] == "s":
            assert key not in begun
            begun[key] = stack[-1]
        else:
            found.append((event["name"], begun[key], stack[-1]))
    return found


def test_a_trace_by_hand(bench: Any, tmp_path: Path) -> None:
    bench.paths = [[0, "layer.0", "a"], [1, "layer.1", "b"], [2, "", "c"]]
    program = program_of(bench, [ld(160, post=[3]), mm(100, wait=[3])], clock=200)
    trace = trace_of(program, tmp_path)
    assert trace["displayTimeUnit"] == "ns"
    assert trace["otherData"] == {"target": "bench", "clock_mhz": 200, "cycles": 138}
    events = trace["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name" and e["pid"] == 1}
    assert names == {number: name for name, number in TRACKS.items()}
    # 5 ns a cycle. The load is issued in the first cycle, works for 10, is complete after 20; then the product works.
    assert slices(events, "ld") == [("layer.0 ld", 0.005, 0.05)]
    assert slices(events, "mm") == [("layer.1 mm", 0.155, 0.5)]
    assert slices(events, "sequencer") == [
        ("layer.0 issue", 0.0, 0.005),
        ("layer.1 issue", 0.005, 0.005),
        ("issue", 0.01, 0.005),
        ("fence", 0.015, 0.675),
    ]
    (load, product) = [e for e in events if e["ph"] == "X" and e["pid"] == 1 and e["tid"] != 1]
    assert load["args"] == {"pc": 0, "rows": 1, "row_bytes": 160, "stall": 0}
    assert product["args"] == {"pc": 1, "rows": 1, "columns": 1, "depth": 200, "stall": 29}
    # The arrow leaves in the last cycle of the load, and comes in where the product starts.
    arrow = {"name": "semaphore 3", "cat": "semaphore", "id": 0, "pid": 1}
    assert [e for e in events if e["ph"] in ("s", "f")] == [
        {**arrow, "ph": "s", "ts": 0.05, "tid": TRACKS["ld"]},
        {**arrow, "ph": "f", "ts": 0.155, "tid": TRACKS["mm"], "bp": "e"},
    ]


def test_modules_lie_one_within_the_other(bench: Any, tmp_path: Path) -> None:
    bench.paths = [[0, "a.x", ""], [1, "a.y.z", ""], [2, "a.y", ""], [3, "", ""], [4, "a", ""]]
    program = program_of(bench, [ld(160), mm(10), mm(20), mm(30), mm(40)], clock=1)
    events = [e for e in trace_of(program, tmp_path)["traceEvents"] if e["ph"] == "X" and e["pid"] == 2]
    # The first product starts in the second cycle. What belongs to no module is a gap, and a load computes nothing.
    assert [(e["name"], e["ts"], e["dur"]) for e in events] == [
        ("a", 2.0, 30.0),
        ("a.y", 2.0, 30.0),
        ("a.y.z", 2.0, 10.0),
        ("a", 62.0, 40.0),
    ]
    assert events[0]["args"] == {"cycles": 30}


def test_counters_add_up_to_the_work(bench: Any, tmp_path: Path) -> None:
    store = {**ld(320), "name": "st", "dram": bench.writable(bench.port("outputs", "y", (320,), "int8"))}
    instructions = [ld(1600), mm(1000), store, mm(500, n=2, m=4, encoding="index")]
    program = program_of(bench, instructions, clock=1)
    events = [e for e in trace_of(program, tmp_path)["traceEvents"] if e["ph"] == "C"]
    sums: dict[str, float] = {}
    for name in ("DRAM bytes a cycle", "multipliers in use"):
        own = [e for e in events if e["name"] == name]
        assert set(own[-1]["args"].values()) == {0.0}
        for event, after in itertools.pairwise(own):
            for series, rate in event["args"].items():
                # A cycle is a microsecond.
                sums[series] = sums.get(series, 0) + rate * (after["ts"] - event["ts"])
    total = program.profile().total
    assert sums["read"] == pytest.approx(program.timing.dram_bytes_read, 1e-3)
    assert sums["written"] == pytest.approx(program.timing.dram_bytes_written, 1e-3)
    assert sums["multipliers"] == pytest.approx(total.macs, 1e-3)
    assert max(e["args"].get("multipliers", 0) for e in events) <= program.target.macs_per_cycle


def test_what_stalls_the_sequencer(bench: Any, tmp_path: Path) -> None:
    program = program_of(bench, [*[ld(160)] * 4, {"name": "fence"}], clock=1)
    # A cycle is a microsecond. Two loads may wait: the fourth enters when the second starts.
    assert slices(trace_of(program, tmp_path)["traceEvents"], "sequencer") == [
        ("issue", 0.0, 4.0),
        ("queue of ld is full", 4.0, 7.0),
        ("issue", 11.0, 1.0),
        ("fence", 12.0, 49.0),
        ("issue", 61.0, 1.0),
    ]


def test_the_pattern_of_sparse_weights(bench: Any, tmp_path: Path) -> None:
    program = program_of(bench, [mm(4, n=2, m=4, encoding="index")])
    (event,) = [e for e in trace_of(program, tmp_path)["traceEvents"] if e["ph"] == "X" and e["tid"] == TRACKS["mm"]]
    assert event["args"] == {"pc": 0, "rows": 1, "columns": 1, "depth": 8, "pattern": "2:4", "stall": 0}


def test_a_post_that_nobody_takes_has_no_arrow(bench: Any, tmp_path: Path) -> None:
    events = trace_of(program_of(bench, [ld(16, post=[0]), ld(16, post=[0]), mm(1, wait=[0])]), tmp_path)["traceEvents"]
    assert [e["id"] for e in events if e["ph"] == "s"] == [0]
    check_format(events)


def test_equal_programs_have_equal_traces(make_bench: Callable[[], Any], tmp_path: Path) -> None:
    instructions = [ld(160, post=[3]), mm(100, wait=[3])]
    for name in ("a.json", "b.json", "c.json.gz", "d.json.gz"):
        program_of(make_bench(), instructions).write_trace(tmp_path / name)
    text = (tmp_path / "a.json").read_bytes()
    assert (tmp_path / "b.json").read_bytes() == text
    assert (tmp_path / "c.json.gz").read_bytes() == (tmp_path / "d.json.gz").read_bytes()
    assert gzip.decompress((tmp_path / "c.json.gz").read_bytes()) == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json", "c.json.gz", "d.json.gz"]


def test_a_long_run_is_cut_off_and_says_so(bench: Any, tmp_path: Path) -> None:
    loop, end = {"name": "loop", "counter": 1, "count": 50}, {"name": "end"}
    program = program_of(bench, [loop, ld(160, post=[0]), mm(10, wait=[0]), end])
    assert program.write_trace(tmp_path / "trace.json", limit=31) == 31
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    check_format(events)
    assert sum(e["ph"] == "X" and e["tid"] > 1 for e in events) == 31
    (note,) = [e for e in events if e["ph"] == "i"]
    assert note["name"] == "end of the trace: 31 of 100 instructions"
    # The sequencer is shown no further than the units.
    assert max(e["ts"] for e in events if "ts" in e) == note["ts"] < program.seconds * 1e6 / 2
    assert program.write_trace(tmp_path / "trace.json") == 100
    assert all(e["ph"] != "i" for e in json.loads((tmp_path / "trace.json").read_text())["traceEvents"])
    assert program.write_trace(tmp_path / "trace.json", limit=0) == 0
    check_format(json.loads((tmp_path / "trace.json").read_text())["traceEvents"])
    with pytest.raises(ValueError, match="limit is -1"):
        program.write_trace(tmp_path / "trace.json", limit=-1)


def test_a_trace_that_cannot_be_written_leaves_the_old_one(bench: Any, tmp_path: Path) -> None:
    old = tmp_path / "trace.json"
    old.write_text("old")
    bench.paths = [[0, "\ud800", "a"]]
    with pytest.raises(UnicodeEncodeError):
        program_of(bench, [ld(16)]).write_trace(old)
    assert old.read_text() == "old"
    assert list(tmp_path.iterdir()) == [old]
    with pytest.raises(OSError, match="missing"):
        bench.program().write_trace(tmp_path / "missing" / "trace.json")


KINDS = ("ld", "mm", "ld", "mm", *UNITS, "fence")


@st.composite
def instructions(draw: st.DrawFn) -> Fields:
    """Draws an instruction, often with semaphores."""
    kind, size = draw(st.sampled_from(KINDS)), draw(st.integers(1, 40))
    wait, post = draw(st.sampled_from([[], [], [0], [1], [0, 1]])), draw(st.sampled_from([[], [0], [1], [0, 1]]))
    if kind == "fence":
        return {"name": "fence"}
    fields = {"ld": ld(8 * size), "mm": mm(size)}.get(kind, {"name": "sync", "unit": kind})
    return {**fields, "wait": wait, "post": post}


parts = st.lists(instructions(), max_size=10)


@settings(max_examples=150, deadline=None)
@given(before=parts, inside=parts, count=st.integers(0, 3), clock=st.sampled_from([1, 200, 333.3, 700, 1999.5, 3000]))
def test_arrows_are_the_handovers(
    make_bench: Callable[[], Any],
    tmp_path_factory: pytest.TempPathFactory,
    before: list[Fields],
    inside: list[Fields],
    count: int,
    clock: float,
) -> None:
    loop, end = {"name": "loop", "counter": 1, "count": count}, {"name": "end"}
    program = program_of(make_bench(), [*before, loop, *inside, end], clock)
    try:
        schedule = program.schedule
    except ProgramError:
        assume(False)
        return
    events = trace_of(program, tmp_path_factory.mktemp("trace"))["traceEvents"]
    check_format(events)
    met = handovers(program.valid, schedule)
    # The stream of slices is the schedule's: each slice stands for one row.
    shown = [e for e in events if e["ph"] == "X" and e["tid"] > 1]
    row_of = {id(event): row for event, row in zip(shown, schedule.order.tolist(), strict=True)}
    found = [(name, row_of[id(post)], row_of[id(wait)]) for name, post, wait in bound_arrows(events)]
    names = [f"semaphore {semaphore}" for semaphore in met.semaphore.tolist()]
    expected = list(zip(names, met.post.tolist(), met.wait.tolist(), strict=True))
    assert sorted(found) == sorted(expected)
    for event, row in zip(shown, schedule.order.tolist(), strict=True):
        assert event["args"]["pc"] == schedule.pc[row]
        assert nanoseconds(event["ts"]) == pytest.approx(schedule.start[row] * 1000 / clock, abs=0.501)
