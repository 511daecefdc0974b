"""
Traces of a run in the Trace Event Format, which ui.perfetto.dev and chrome://tracing show.

Each unit has a track with what it executes, and the sequencer one with what it issues and what holds it up. Arrows go
from an instruction that posts to the one that takes the post. Times are whole nanoseconds at the target's clock, given
in microseconds as the format wants it; the same program always gives the same bytes.
"""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from sta.backend.isa import UNITS
from sta.backend.new_file import new_file
from sta.runtime.schedule import SEQUENCER, Integers, Schedule, handovers
from sta.runtime.validate import ValidProgram

TRACE_LIMIT = 250_000
"""Most instructions of units in a trace, unless the caller says otherwise; they take some 400 bytes each."""

Event = dict[str, Any]

_PROCESS = 1
_SEQUENCER_TRACK = 1
_FIRST_UNIT_TRACK = 2
_SIZES = ("rows", "columns", "keys", "depth", "row_bytes")


def write_trace(
    program: ValidProgram, schedule: Schedule, path: str | os.PathLike[str], limit: int = TRACE_LIMIT
) -> int:
    """
    Writes the trace of a run to a file, completely or not at all; compressed if the name ends in ``.gz``.

    Args:
        program: the program.
        schedule: its schedule.
        path: the file.
        limit: most instructions of units; of a longer run the trace has the start, and says so.

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
    with _replaced(Path(path)) as file:
        file.write(_text({"displayTimeUnit": "ns", "otherData": about})[:-1] + ',"traceEvents":[')
        separator = "\n"
        # One event at a time: the text of a long run need not fit into memory.
        for event in trace_events(program, schedule, limit):
            file.write(separator + _text(event))
            separator = ",\n"
        file.write("\n]}\n")
    return min(limit, len(schedule.order))


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@contextmanager
def _replaced(path: Path) -> Generator[IO[str], None, None]:
    """Opens a text file that takes the place of ``path`` once everything is written."""
    with new_file(path) as raw, _compressed(raw, path.suffix == ".gz") as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8", newline="\n")
        yield text
        text.flush()
        text.detach()


@contextmanager
def _compressed(raw: IO[bytes], compress: bool) -> Generator[IO[bytes], None, None]:
    if not compress:
        yield raw
        return
    # A name and a time in the header would make every file different.
    with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        yield cast("IO[bytes]", file)


def trace_events(program: ValidProgram, schedule: Schedule, limit: int = TRACE_LIMIT) -> Iterator[Event]:
    """
    Iterates over the events of a trace: names of tracks, what the units execute with its arrows, the sequencer.

    Instructions come in the order in which they start, each followed by the ends and then the starts of its arrows: so
    an arrow starts before it ends even where both happen at the same time.
    """
    return _Tracer(program, schedule, limit).events()


class _Tracer:
    def __init__(self, program: ValidProgram, schedule: Schedule, limit: int) -> None:
        self.program = program
        self.schedule = schedule
        self.shown = schedule.order[:limit]
        self.names = [self._name(pc) for pc in range(len(program.steps))]

    def _name(self, pc: int) -> str:
        path = self.program.container.module_path(pc)
        name = self.program.steps[pc].instruction.name
        return f"{path} {name}" if path else name

    def events(self) -> Iterator[Event]:
        yield from self._tracks()
        yield from self._units()
        yield from self._sequencer()
        total = len(self.schedule.order)
        if len(self.shown) < total:
            name = f"end of the trace: {len(self.shown)} of {total} instructions"
            time = self._microseconds(self.schedule.end[self.shown].max(initial=0))
            yield {"name": name, "ph": "i", "s": "g", "pid": _PROCESS, "tid": _SEQUENCER_TRACK, "ts": time}

    def _tracks(self) -> Iterator[Event]:
        yield {"name": "process_name", "ph": "M", "pid": _PROCESS, "args": {"name": self.program.target.name}}
        for position, name in enumerate(("sequencer", *UNITS)):
            track = {"ph": "M", "pid": _PROCESS, "tid": _SEQUENCER_TRACK + position}
            yield {"name": "thread_name", **track, "args": {"name": name}}
            yield {"name": "thread_sort_index", **track, "args": {"sort_index": position}}

    def _nanoseconds(self, cycles: Integers) -> Integers:
        return np.rint(cycles * (1000 / self.program.target.clock_mhz)).astype(np.int64)

    def _microseconds(self, cycles: Any) -> float:
        return int(self._nanoseconds(np.asarray(cycles))) / 1000

    def _units(self) -> Iterator[Event]:
        schedule = self.schedule
        arrows_in, arrows_out = self._arrows()
        mnemonics = [step.instruction.name for step in self.program.steps]
        sizes = [self._sizes(pc) for pc in range(len(self.names))]
        start, end = self._nanoseconds(schedule.start), self._nanoseconds(schedule.end)
        # An arrow starts in the last cycle of the work, which is still inside of it.
        last = self._nanoseconds(np.maximum(schedule.end - 1, schedule.start))
        last = np.where(last < end, last, start)
        arrays = (schedule.pc, schedule.unit, start, end, last, schedule.idle_before)
        columns: list[list[int]] = [self.shown.tolist(), *(values[self.shown].tolist() for values in arrays)]
        for row, pc, unit, begins, ends, leaves, idle in zip(*columns, strict=True):
            place: Event = {"pid": _PROCESS, "tid": _FIRST_UNIT_TRACK + unit}
            yield {
                "name": self.names[pc],
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
        if instruction.name == "mm" and instruction["n"] < instruction["m"]:
            sizes["pattern"] = f"{instruction['n']}:{instruction['m']}"
        return sizes

    def _arrows(self) -> tuple[dict[int, list[tuple[int, int]]], dict[int, list[tuple[int, int]]]]:
        """Returns the arrows, as number and semaphore, that end at each row and those that start there."""
        met = handovers(self.program, self.schedule)
        shown = self.schedule.start_order[met.wait] < len(self.shown)
        arrows_in: dict[int, list[tuple[int, int]]] = {}
        arrows_out: dict[int, list[tuple[int, int]]] = {}
        taken = (values[shown].tolist() for values in (met.semaphore, met.post, met.wait))
        for number, (semaphore, post, wait) in enumerate(zip(*taken, strict=True)):
            arrows_in.setdefault(wait, []).append((number, semaphore))
            arrows_out.setdefault(post, []).append((number, semaphore))
        return arrows_in, arrows_out

    def _sequencer(self) -> Iterator[Event]:
        """Iterates over what the sequencer does: what it issues of one module in a row, and what stalls it."""
        schedule = self.schedule
        count = len(schedule) if len(self.shown) == len(schedule.order) else int(self.shown.max(initial=-1)) + 1
        pc, ready, entered = schedule.pc[:count], schedule.ready[:count], schedule.entered[:count]
        free = np.concatenate([[0], entered[:-1]]) if count else entered
        paths = [self.program.container.module_path(pc) for pc in range(len(self.names))]
        numbers = {path: number for number, path in enumerate(paths)}
        module = np.array([numbers[path] for path in paths])[pc]
        stalled = entered > ready
        first = np.flatnonzero(np.append(True, stalled[:-1] | (module[1:] != module[:-1]))) if count else pc
        last = np.append(first[1:] - 1, count - 1) if count else pc
        for begin, end in zip(first.tolist(), last.tolist(), strict=True):
            path = paths[int(pc[begin])]
            yield self._slice(path, "issue", int(free[begin]), int(ready[end]), {"instructions": end - begin + 1})
            if stalled[end]:
                unit = int(schedule.unit[end])
                reason = "fence" if unit == SEQUENCER else f"queue of {UNITS[unit]} is full"
                yield self._slice(path, reason, int(ready[end]), int(entered[end]), {"pc": int(pc[end])})

    def _slice(self, path: str, name: str, start: int, end: int, args: Event) -> Event:
        begins, ends = self._nanoseconds(np.array([start, end])).tolist()
        place = {"pid": _PROCESS, "tid": _SEQUENCER_TRACK}
        times = {"ts": begins / 1000, "dur": (ends - begins) / 1000}
        return {"name": f"{path} {name}".lstrip(), "cat": "sequencer", "ph": "X", **times, **place, "args": args}


def _arrow(phase: str, number: int, semaphore: int) -> Event:
    return {"name": f"semaphore {semaphore}", "cat": "semaphore", "ph": phase, "id": number}
