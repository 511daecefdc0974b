"""
Traces of a run in the Trace Event Format, which ui.perfetto.dev and chrome://tracing show.

Each unit has a track with what it executes, and the sequencer one with what it issues and what holds it up. Arrows go
from an instruction that posts to the one that takes the post. Counters show DRAM traffic and the multipliers in use; a
process of its own has the modules, one within the other. Times are whole nanoseconds at the target's clock, given in
microseconds as the format wants it; the same program always gives the same bytes.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from sta.backend.new_file import new_file
from sta.runtime.analysis.schedule import Integers, Schedule, handovers
from sta.runtime.analysis.trace_tracks import module_slices, rates
from sta.runtime.validate import ValidProgram
from sta.spec.instructions.definition import UNITS
from sta.spec.instructions.table import DEFINITIONS

TRACE_LIMIT = 250_000
"""Most instructions of units in a trace, unless the caller says otherwise; they take some 400 bytes each."""

Event = dict[str, Any]

LATEST_TIME = 10**15
"""Nanoseconds from which on a ``Writer`` cannot be used: the shortest way to write their thousandths is not exact."""

_PROCESS = 1
_SEQUENCER_TRACK = 1
_FIRST_UNIT_TRACK = 2
_MODULES_PROCESS = 2
_MODULES_TRACK = _FIRST_UNIT_TRACK + len(UNITS)
_COMPRESSION = 3
"""Level of gzip; a third larger than with the highest level, in a tenth of the time."""
_STALLS = (*(f"queue of {unit} is full" for unit in UNITS), "fence")
"""Names of the sequencer's stalls, by number of the unit."""
_SIZES = ("rows", "columns", "keys", "depth", "row_bytes")


@dataclass(frozen=True)
class TraceText:
    """Text of the events of a trace, but for the first and last; see ``write_trace``."""

    begins: list[bytes]
    """For each instruction its slice's text up to the time, the comma and line end in front of it included."""
    ends: list[bytes]
    """For each instruction its slice's text from the duration up to the stall."""
    modules: list[bytes]
    """Module paths as JSON without quotes, with a space behind each non-empty one."""
    module_of_pc: Integers
    times: tuple[Integers, ...]
    """In nanoseconds, by row: start, end and last cycle of the units' slices, and then, but in cycles, how long a unit
    waited; by row that the sequencer issues: when it begins to, ends to, and when a stall ends."""
    reasons: list[bytes]
    """Of stalls, by number of the unit."""
    shown: int
    """Instructions of units."""


Writer = Callable[[TraceText, Callable[[bytes], object]], object]
"""Writes the events of units and sequencer, each behind a comma and a line end."""


def write_trace(
    program: ValidProgram,
    schedule: Schedule,
    path: str | os.PathLike[str],
    limit: int = TRACE_LIMIT,
    writer: Writer | None = None,
) -> int:
    """
    Writes the trace of a run to a file, completely or not at all; compressed if the name ends in ``.gz``.

    Args:
        program: the program.
        schedule: its schedule.
        path: the file.
        limit: most instructions of units; of a longer run the trace has the start, and says so.
        writer: what writes the same text faster, if there is anything.

    Returns:
        The number of instructions of units in the trace.

    Raises:
        OSError: the file cannot be written.
        ValueError: the limit is negative.
    """
    if limit < 0:
        raise ValueError(f"limit is {limit}, must not be negative")
    target = program.target
    about = {"target": target.name, "clock_mhz": target.clock_mhz, "cycles": schedule.cycles}
    tracer = _Tracer(program, schedule, limit)
    with _replaced(Path(path)) as file:
        file.write(_text({"displayTimeUnit": "ns", "otherData": about})[:-1] + b',"traceEvents":[')
        file.write(b"\n" + b",\n".join(map(_text, tracer.tracks())))
        if writer is None or schedule.cycles * tracer.nanoseconds_per_cycle >= LATEST_TIME:
            # One event at a time: the text of a long run need not fit into memory.
            _write_events(file, itertools.chain(tracer.units(), tracer.sequencer()))
        else:
            writer(tracer.text(), file.write)
        _write_events(file, tracer.overview())
        file.write(b"\n]}\n")
    return min(limit, len(schedule.order))


def _write_events(file: IO[bytes], events: Iterable[Event]) -> None:
    for event in events:
        file.write(b",\n" + _text(event))


def _text(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


@contextmanager
def _replaced(path: Path) -> Generator[IO[bytes], None, None]:
    """Opens a file that takes the place of ``path`` once everything is written."""
    with new_file(path) as raw:
        if path.suffix != ".gz":
            yield raw
            return
        # A name and a time in the header would make every file different.
        with gzip.GzipFile("", "wb", compresslevel=_COMPRESSION, fileobj=raw, mtime=0) as file:
            yield cast("IO[bytes]", file)


class _Tracer:
    def __init__(self, program: ValidProgram, schedule: Schedule, limit: int) -> None:
        self.program = program
        self.schedule = schedule
        self.shown = schedule.order[:limit]
        self.paths = program.container.module_paths()
        self.begins: dict[tuple[str, str], bytes] = {}
        """Texts that many slices share, by module and mnemonic."""
        self.ends: dict[tuple[str, object], tuple[bytes, bytes]] = {}
        """The same, by mnemonic and sizes: what is in front of the pc, and what behind."""
        self.nanoseconds_per_cycle = 1000 / program.target.clock_mhz

    def overview(self) -> Iterator[Event]:
        """Iterates over modules and counters, and the note that there would be more."""
        return itertools.chain(self._module_slices(), self._counters(), self._cut())

    def _module_slices(self) -> Iterator[Event]:
        place = {"pid": _MODULES_PROCESS, "tid": _MODULES_TRACK}
        yield {"name": "process_name", "ph": "M", "pid": _MODULES_PROCESS, "args": {"name": "modules"}}
        yield {"name": "thread_name", "ph": "M", **place, "args": {"name": "module that computes"}}
        for path, start, end in module_slices(self.schedule, self.shown, self.paths):
            begins, ends = self._nanoseconds(np.array([start, end])).tolist()
            times = {"ts": begins / 1000, "dur": (ends - begins) / 1000}
            yield {"name": path, "cat": "module", "ph": "X", **times, **place, "args": {"cycles": end - start}}

    def _counters(self) -> Iterator[Event]:
        edges, read, written, multipliers = rates(self.program, self.schedule, self.shown)
        values = [np.append(np.round(rate, 3), 0.0).tolist() for rate in (read, written, multipliers)]
        for time, *rate in zip((self._nanoseconds(edges) / 1000).tolist(), *values, strict=True):
            counter: Event = {"ph": "C", "pid": _PROCESS, "ts": time}
            yield {"name": "DRAM bytes a cycle", **counter, "args": {"read": rate[0], "written": rate[1]}}
            yield {"name": "multipliers in use", **counter, "args": {"multipliers": rate[2]}}

    def _cut(self) -> Iterator[Event]:
        """Iterates over the note that there would be more."""
        total = len(self.schedule.order)
        if len(self.shown) < total:
            name = f"end of the trace: {len(self.shown)} of {total} instructions"
            time = self._microseconds(self.schedule.end[self.shown].max(initial=0))
            yield {"name": name, "ph": "i", "s": "g", "pid": _PROCESS, "tid": _SEQUENCER_TRACK, "ts": time}

    def tracks(self) -> Iterator[Event]:
        """Iterates over the names of the tracks."""
        yield {"name": "process_name", "ph": "M", "pid": _PROCESS, "args": {"name": self.program.target.name}}
        for position, name in enumerate(("sequencer", *UNITS)):
            track = {"ph": "M", "pid": _PROCESS, "tid": _SEQUENCER_TRACK + position}
            yield {"name": "thread_name", **track, "args": {"name": name}}
            yield {"name": "thread_sort_index", **track, "args": {"sort_index": position}}

    def _nanoseconds(self, cycles: Integers) -> Integers:
        return np.rint(cycles * self.nanoseconds_per_cycle).astype(np.int64)

    def _microseconds(self, cycles: Any) -> float:
        return int(self._nanoseconds(np.asarray(cycles))) / 1000

    def _unit_times(self) -> tuple[Integers, Integers, Integers]:
        """Returns for each row when its slice starts and ends, and its last cycle starts."""
        schedule = self.schedule
        start, end = self._nanoseconds(schedule.start), self._nanoseconds(schedule.end)
        # An arrow starts in the last cycle of the work, which is still inside of it.
        last = self._nanoseconds(np.maximum(schedule.end - 1, schedule.start))
        return start, end, np.where(last < end, last, start)

    def units(self) -> Iterator[Event]:
        """
        Iterates over what the units execute, with the arrows.

        Instructions come in the order in which they start, each followed by the ends and then the starts of its arrows:
        so an arrow starts before it ends even where both happen at the same time.
        """
        schedule = self.schedule
        arrows_in, arrows_out = self._arrows()
        mnemonics = [step.instruction.name for step in self.program.steps]
        names = [f"{path} {name}" if path else name for path, name in zip(self.paths, mnemonics, strict=True)]
        sizes = [self._sizes(pc) for pc in range(len(names))]
        arrays = (schedule.pc, schedule.unit, *self._unit_times(), schedule.idle_before)
        columns: list[list[int]] = [self.shown.tolist(), *(values[self.shown].tolist() for values in arrays)]
        for row, pc, unit, begins, ends, leaves, idle in zip(*columns, strict=True):
            place: Event = {"pid": _PROCESS, "tid": _FIRST_UNIT_TRACK + unit}
            yield {
                "name": names[pc],
                "cat": mnemonics[pc],
                "ph": "X",
                "ts": begins / 1000,
                "dur": (ends - begins) / 1000,
                **place,
                "args": {"pc": pc, **sizes[pc], "stall": idle},
            }
            for number, semaphore in arrows_in.get(row, ()):
                yield {**_arrow("f", number, semaphore), "ts": begins / 1000, **place, "bp": "e"}
            for number, semaphore in arrows_out.get(row, ()):
                yield {**_arrow("s", number, semaphore), "ts": leaves / 1000, **place}

    def _sizes(self, pc: int) -> dict[str, int | str]:
        """Returns the sizes of an instruction, and the pattern of sparse weights."""
        instruction = self.program.steps[pc].instruction
        sizes: dict[str, int | str] = {field.name: value for field, value in instruction if field.name in _SIZES}
        products = instruction.definition.products
        if products is not None and not products(instruction).pattern.is_dense:
            sizes["pattern"] = str(products(instruction).pattern)
        return sizes

    def _arrows(self) -> tuple[dict[int, list[tuple[int, int]]], dict[int, list[tuple[int, int]]]]:
        """Returns the arrows, as number and semaphore, that end and that start at each row."""
        met = handovers(self.program, self.schedule)
        shown = self.schedule.start_order[met.wait] < len(self.shown)
        arrows_in: dict[int, list[tuple[int, int]]] = {}
        arrows_out: dict[int, list[tuple[int, int]]] = {}
        taken = (values[shown].tolist() for values in (met.semaphore, met.post, met.wait))
        for number, (semaphore, post, wait) in enumerate(zip(*taken, strict=True)):
            arrows_in.setdefault(wait, []).append((number, semaphore))
            arrows_out.setdefault(post, []).append((number, semaphore))
        return arrows_in, arrows_out

    def _issues(self) -> tuple[Integers, Integers, Integers, Integers]:
        """Returns for each row: pc, when the sequencer begins with it, is ready to pass it on, and has done so."""
        schedule = self.schedule
        count = len(schedule) if len(self.shown) == len(schedule.order) else int(self.shown.max(initial=-1)) + 1
        entered = schedule.entered[:count]
        free = np.concatenate([[0], entered[:-1]]) if count else entered
        return schedule.pc[:count], free, schedule.ready[:count], entered

    def _modules(self) -> tuple[list[str], Integers]:
        """Returns module paths, and for each instruction the position of its own."""
        numbers = {path: number for number, path in enumerate(dict.fromkeys(self.paths))}
        return list(numbers), np.array([numbers[path] for path in self.paths])

    def sequencer(self) -> Iterator[Event]:
        """Iterates over what the sequencer does: what it issues of one module in a row, and what stalls it."""
        schedule = self.schedule
        pc, free, ready, entered = self._issues()
        count = len(pc)
        module = self._modules()[1][pc]
        stalled = entered > ready
        first = np.flatnonzero(np.append(True, stalled[:-1] | (module[1:] != module[:-1]))) if count else pc
        last = np.append(first[1:] - 1, count - 1) if count else pc
        for begin, end in zip(first.tolist(), last.tolist(), strict=True):
            path = self.paths[int(pc[begin])]
            yield self._slice(path, "issue", int(free[begin]), int(ready[end]), {"instructions": end - begin + 1})
            if stalled[end]:
                yield self._slice(
                    path, _STALLS[int(schedule.unit[end])], int(ready[end]), int(entered[end]), {"pc": int(pc[end])}
                )

    def _slice(self, path: str, name: str, start: int, end: int, args: Event) -> Event:
        begins, ends = self._nanoseconds(np.array([start, end])).tolist()
        place = {"pid": _PROCESS, "tid": _SEQUENCER_TRACK}
        times = {"ts": begins / 1000, "dur": (ends - begins) / 1000}
        return {"name": f"{path} {name}".lstrip(), "cat": "sequencer", "ph": "X", **times, **place, "args": args}

    def text(self) -> TraceText:
        """Returns what the events of units and sequencer are made of."""
        begins, ends = [b""] * len(self.paths), [b""] * len(self.paths)
        for pc in np.flatnonzero(np.bincount(self.schedule.pc[self.shown])).tolist():
            begins[pc], ends[pc] = self._begin(pc), self._end(pc)
        paths, module_of_pc = self._modules()
        _, free, ready, entered = self._issues()
        issues = tuple(self._nanoseconds(cycles) for cycles in (free, ready, entered))
        return TraceText(
            begins,
            ends,
            [_text(f"{path} ".lstrip())[1:-1] for path in paths],
            module_of_pc,
            (*self._unit_times(), self.schedule.idle_before, *issues),
            [reason.encode() for reason in _STALLS],
            len(self.shown),
        )

    def _begin(self, pc: int) -> bytes:
        """Returns the text of an instruction's slice up to its start."""
        path, mnemonic = self.paths[pc], self.program.steps[pc].instruction.name
        if (path, mnemonic) not in self.begins:
            name = _text(f"{path} {mnemonic}" if path else mnemonic)
            self.begins[path, mnemonic] = b',\n{"name":%b,"cat":"%b","ph":"X","ts":' % (name, mnemonic.encode())
        return self.begins[path, mnemonic]

    def _end(self, pc: int) -> bytes:
        """Returns the text of an instruction's slice from its duration up to its stall."""
        instruction = self.program.steps[pc].instruction
        # Most instructions have the sizes of others.
        key = (instruction.name, _unit_and_sizes(instruction.name)(instruction.values))
        if key not in self.ends:
            track = _FIRST_UNIT_TRACK + UNITS.index(instruction.unit)
            sizes = _text({**self._sizes(pc), "stall": 0})[1:-2]
            self.ends[key] = (b',"pid":%d,"tid":%d,"args":{"pc":' % (_PROCESS, track), sizes)
        before, sizes = self.ends[key]
        return b"%b%d,%b" % (before, pc, sizes)


@cache
def _unit_and_sizes(mnemonic: str) -> Callable[[tuple[int, ...]], object]:
    """Returns what takes from an instruction's values those on which track and sizes depend."""
    index = DEFINITIONS[mnemonic].index
    return itemgetter(*(index[name] for name in ("unit", *_SIZES, "n", "m") if name in index))


def _arrow(phase: str, number: int, semaphore: int) -> Event:
    return {"name": f"semaphore {semaphore}", "cat": "semaphore", "ph": phase, "id": number}
