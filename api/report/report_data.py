"""All data of a report: facts of the program, attribution of cycles, places of buffers."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sta.api.dump.ir_dump import Dump, Step
from sta.backend.instruction_text import print_instruction
from sta.backend.prologue_text import prologue_rows
from sta.runtime import Program, Result
from sta.runtime.validate import ValidProgram
from sta.spec.instructions.definition import UNITS
from sta.spec.nm_format import Pattern
from sta.spec.packing import Packing

BINS = 400
"""Intervals of equal length in the overview of the timeline."""
EVENTS = 60_000
"""Most executions of instructions in a report; a longer run shows its first."""
PICTURE = 48
"""Most rows and columns of the picture of a weight: each of its points is the density of a rectangle."""
IR_BYTES = 12_000_000
"""Most characters of IR in a report; the largest modules show their diffs only."""

Json = dict[str, Any]

_UNREADABLE = (OSError, UnicodeDecodeError)
"""Errors of a dump's file that is missing, or is no text."""


@dataclass(frozen=True)
class Sources:
    """Everything that a report is made of."""

    title: str
    """The name of the program."""
    program: Program
    result: Result | None = None
    """Of a run on somebody's inputs, if there was one."""
    dump: Dump | None = None
    """The IR of its compile, if there is one."""
    diff: Sequence[Json] | None = None
    """The operations of ``sta diff --json``, if there are any."""
    other: tuple[str, Program] | None = None
    """Name and program to compare with."""


def report_data(sources: Sources) -> Json:
    """
    Returns the contents of a report of a program, for JSON; without a dump it has the final IR only.

    Raises:
        ProgramError: a program deadlocks, or is too long to be recorded.
    """
    program, result, dump = sources.program, sources.result, sources.dump
    missing = _missing(program, dump)
    return {
        "title": sources.title,
        "target": program.target.to_json(),
        "program": {**program.container.program, "instructions": len(program.container.code)},
        "ports": program.container.signature,
        "prologue": [] if program.prologue is None else prologue_rows(program.prologue),
        "accuracy": {"fidelity": program.container.program.get("fidelity"), "diff": sources.diff},
        "other": None if sources.other is None else _other(*sources.other),
        "run": _run(program, result),
        "outputs": [] if result is None else _outputs(result),
        "timeline": _timeline(program),
        "events": _events(program),
        "code": _code(program),
        "memory": _memory(program),
        "weights": _weights(program, missing),
        "ir": _ir(program, dump, missing),
        "missing": missing,
    }


def _missing(program: Program, dump: Dump | None) -> list[str]:
    """Returns the data that the container lacks, so that they are not shown."""
    container, debug = program.container, program.container.debug
    missing: list[str] = []
    if not debug["instructions"]:
        missing.append("The container's debug map has no module paths: cycles are not divided among layers.")
    if not debug["buffers"]:
        missing.append("The container's debug map has no buffers: there are no memory maps.")
    if not any("packing" in entry for entry in debug["constants"]):
        missing.append("The container's debug map does not say how weights are packed: there are no pictures of them.")
    if not container.ir:
        missing.append("The container has no IR.")
    if dump is None:
        shown = "there is the final IR only, without passes" if container.ir else "there are no passes"
        missing.append(f"No dump of the compile was given (--ir): {shown}.")
    return missing


def _run(program: Program, result: Result | None) -> Json:
    """Returns the output of ``sta run --json --profile`` for a run: it does not depend on data."""
    costs = {
        **program.timing.to_json(),
        "seconds": program.seconds,
        "mac_efficiency": program.mac_efficiency,
        "macs": program.macs,
        "dram_bytes": program.dram_bytes,
    }
    return {**(costs if result is None else result.to_json()), "profile": program.profile().to_json()}


def _other(title: str, program: Program) -> Json:
    return {"title": title, "target": program.target.name, "run": _run(program, None)}


def _outputs(result: Result) -> list[Json]:
    outputs: list[Json] = []
    for name, values in result.outputs.items():
        counts, edges = np.histogram(values, bins=40) if values.size else (np.zeros(0, np.int64), np.zeros(1))
        outputs.append(
            {
                "name": name,
                "shape": list(values.shape),
                "smallest": float(values.min()) if values.size else None,
                "largest": float(values.max()) if values.size else None,
                "counts": counts.tolist(),
                "edges": [float(edge) for edge in edges],
            }
        )
    return outputs


def _timeline(program: Program) -> Json:
    """Returns for each unit the part of each interval in which it works, 0..1."""
    schedule = program.schedule
    edges = np.linspace(0, schedule.cycles, BINS + 1)
    units: dict[str, list[float]] = {}
    for number, unit in enumerate(UNITS):
        rows = schedule.rows_of_unit[number]
        start, end = schedule.start[rows], schedule.end[rows]
        worked = _worked_until(start, end, edges)
        units[unit] = np.round(np.diff(worked) / np.diff(edges), 4).tolist()
    return {"cycles": schedule.cycles, "bins": BINS, "units": units}


def _worked_until(start: NDArray[np.int64], end: NDArray[np.int64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the cycles that a unit has worked by some times; it works on one thing at a time."""
    before = np.concatenate([[0], np.cumsum(end - start)])
    begun = np.searchsorted(start, times, "right")
    overhang = np.maximum(end[begun - 1] - times, 0) * (begun > 0) if start.size else 0
    return before[begun] - overhang


def _events(program: Program) -> Json:
    """Returns the executions of instructions, in the order in which they start."""
    schedule = program.schedule
    rows = schedule.order[:EVENTS]
    return {
        "total": len(schedule.order),
        "pc": schedule.pc[rows].tolist(),
        "unit": schedule.unit[rows].tolist(),
        "start": schedule.start[rows].tolist(),
        "length": (schedule.end - schedule.start)[rows].tolist(),
    }


def _code(program: Program) -> Json:
    """Returns the disassembly, with module and operation of each instruction."""
    container, steps = program.container, program.valid.steps
    paths: dict[str, int] = {}
    operations: dict[str, int] = {}
    for step in steps:
        paths.setdefault(container.module_path(step.pc), len(paths))
        operations.setdefault(container.operation(step.pc), len(operations))
    return {
        "paths": list(paths),
        "operations": list(operations),
        "text": [print_instruction(step.instruction) for step in steps],
        "path": [paths[container.module_path(step.pc)] for step in steps],
        "operation": [operations[container.operation(step.pc)] for step in steps],
        "depth": [step.depth for step in steps],
        "executions": [step.executions for step in steps],
    }


def _memory(program: Program) -> Json:
    """Returns for each memory its size and its buffers, with the first and last instruction of each."""
    sizes = program.valid.memories
    memory: Json = {space: {"bytes": sizes[space], "buffers": []} for space in ("spad", "wbuf", "acc", "dram")}
    last = len(program.container.code) - 1
    for entry in program.container.debug["buffers"]:
        if not _is_buffer(entry, program.valid):
            continue
        name = entry["name"]
        memory[entry["space"]]["buffers"].append(
            {
                "name": name,
                "module": name.partition(":")[0],
                "offset": entry["offset"],
                "bytes": entry["bytes"],
                "first": entry["first"],
                "last": min(entry["last"], last),
            }
        )
    return memory


def _is_buffer(entry: Json, program: ValidProgram) -> bool:
    """True if an entry of the debug map, which is unchecked, has everything that a picture needs."""
    numbers = [entry.get(key) for key in ("offset", "bytes", "first", "last")]
    texts = (entry.get("name"), entry.get("space"))
    return (
        all(isinstance(number, int) and number >= 0 for number in numbers)
        and all(isinstance(text, str) for text in texts)
        and texts[1] in program.memories
    )


def _weights(program: Program, missing: list[str]) -> list[Json]:
    """Returns pattern, density and picture of each packed weight."""
    weights: list[Json] = []
    for entry in program.container.debug["constants"]:
        packing = _packing(entry)
        if packing is None:
            continue
        start, size = entry.get("offset"), entry.get("bytes")
        try:
            values = packing.unpack(program.container.constants[start : start + size])
        except (ValueError, TypeError, MemoryError) as error:
            missing.append(f"The weight {entry.get('name')} cannot be unpacked: {error}.")
            continue
        picture = _density(values != 0)
        weights.append(
            {
                "name": str(entry.get("name")),
                "module": str(entry.get("module", "")),
                "shape": list(values.shape),
                "pattern": str(packing.pattern),
                "encoding": packing.encoding,
                "density": float(np.count_nonzero(values) / max(values.size, 1)),
                "bytes": size,
                "smallest": int(values.min(initial=0)),
                "largest": int(values.max(initial=0)),
                "picture": {
                    "rows": picture.shape[0],
                    "columns": picture.shape[1],
                    "density": base64.b64encode(np.round(255 * picture).astype(np.uint8).tobytes()).decode(),
                },
            }
        )
    return weights


def _packing(entry: Json) -> Packing | None:
    packing = cast("object", entry.get("packing"))
    if not isinstance(packing, dict):
        return None
    fields = cast(Json, packing)
    try:
        depths = tuple(int(depth) for depth in fields["depths"])
        pattern = Pattern(fields["n"], fields["m"])
        return Packing(fields["columns"], depths, fields["tile_columns"], pattern, fields["encoding"])
    except (KeyError, TypeError, ValueError):
        return None


def _density(kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the density of a matrix in at most ``PICTURE`` x ``PICTURE`` rectangles of about equal size."""
    sums: NDArray[np.float64] = kept.astype(np.float64)
    for axis in (0, 1):
        size: int = kept.shape[axis]
        count = min(size, PICTURE)
        starts = np.array([index * size // count for index in range(count)], np.int64)
        lengths = np.diff(np.append(starts, size))
        sums = np.add.reduceat(sums, starts, axis) / np.expand_dims(lengths, 1 - axis)
    return sums


def _ir(program: Program, dump: Dump | None, missing: list[str]) -> list[Json]:
    """Returns the IR after each pass with the diff to the one before, or the final IR alone."""
    if dump is None:
        return [{"name": "final", "seconds": None, "operations": None, "text": program.container.ir, "diff": ""}]
    steps: list[Json] = [
        {
            "name": step.name,
            "seconds": step.seconds,
            "operations": step.operation_count,
            "text": _text_of(dump.text, step, step.file, missing),
            "diff": _text_of(dump.diff, step, step.diff_file, missing),
        }
        for step in dump.steps
        if step.file is not None
    ]
    _shorten(steps)
    return steps


def _text_of(read: Callable[[Step], str], step: Step, file: str | None, missing: list[str]) -> str:
    try:
        return read(step)
    except _UNREADABLE as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        missing.append(f"{file} of the dump that was given (--ir) cannot be read: {reason}.")
        return ""


def _shorten(steps: Sequence[Json]) -> None:
    """Drops the largest modules if all together are too large; their diffs stay."""
    for step in sorted(steps, key=lambda step: len(step["text"]), reverse=True):
        if sum(len(one["text"]) + len(one["diff"]) for one in steps) <= IR_BYTES:
            return
        step["text"] = ""
