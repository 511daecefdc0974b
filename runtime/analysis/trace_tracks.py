"""Tracks of a trace that no unit has: modules, one within the other, and rates in the course of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sta.runtime.analysis.schedule import Integers, Schedule
from sta.runtime.validate import ValidProgram
from sta.spec.instructions.definition import RESOURCES, UNITS

BINS = 2000
"""Most intervals of equal length, over each of which a rate is the mean; of a short run one for four instructions."""
_COMPUTING = tuple(UNITS.index(unit) for unit, resource in RESOURCES.items() if resource != "dma")

Numbers = NDArray[np.float64]


class ModuleSlice(NamedTuple):
    """A module or a group of modules, from the cycle in which it begins to compute to that of the next."""

    path: str
    start: int
    end: int


def module_slices(schedule: Schedule, shown: Integers, paths: Sequence[str]) -> Iterator[ModuleSlice]:
    """
    Iterates over modules and groups of modules in the order of time, each group before what is in it.

    Slices of one level follow each other without gaps, so that they always lie one within the other: loads for a module
    that happen while another one computes belong to the other.

    Args:
        schedule: the schedule of the run.
        shown: its rows that the trace has.
        paths: the module path of each instruction.
    """
    rows = np.sort(shown[np.isin(schedule.unit[shown], _COMPUTING)])
    if not rows.size:
        return
    # Units work at once: what a later instruction begins earlier counts to the module before.
    begins = np.maximum.accumulate(schedule.start[rows])
    last = int(schedule.end[rows].max())
    runs: list[tuple[list[str], int]] = []
    pcs: list[int] = schedule.pc[rows].tolist()
    for pc, begin in zip(pcs, begins.tolist(), strict=True):
        parts: list[str] = paths[pc].split(".") if paths[pc] else []
        if not runs or runs[-1][0] != parts:
            runs.append((parts, begin))
    yield from _nested(runs, last)


def _nested(runs: Sequence[tuple[list[str], int]], last: int) -> Iterator[ModuleSlice]:
    for number, (parts, begin) in enumerate(runs):
        before = runs[number - 1][0] if number else []
        for depth in range(1, len(parts) + 1):
            if before[:depth] == parts[:depth]:
                continue
            end = next((start for other, start in runs[number:] if other[:depth] != parts[:depth]), last)
            if end > begin:
                yield ModuleSlice(".".join(parts[:depth]), begin, end)


class Rates(NamedTuple):
    """Means over intervals; what they are means of is known exactly."""

    edges: Integers
    """Cycles at which the intervals begin, and the end of the last."""
    read: Numbers
    """Bytes that DMA reads from DRAM in a cycle."""
    written: Numbers
    """Bytes that it writes there."""
    multipliers: Numbers
    """Multipliers of the array that are in use."""


def rates(program: ValidProgram, schedule: Schedule, shown: Integers) -> Rates:
    """Returns the rates of the instructions that a trace has; see ``module_slices`` for the arguments."""
    last = int(schedule.end[shown].max(initial=0))
    edges = np.unique(np.linspace(0, last, min(BINS, len(shown) // 4) + 2).astype(np.int64))
    count = len(program.steps)
    read, written, products = (np.zeros(count, np.int64) for _ in range(3))
    for step in program.steps:
        for access in step.accesses:
            if access.space == "dram":
                (written if access.writes else read)[step.pc] += access.bytes_moved
        counted = step.instruction.definition.products
        if counted is not None:
            once, pattern = counted(step.instruction)
            products[step.pc] = once * pattern.n // pattern.m
    return Rates(edges, *(_mean(schedule, shown, work, edges) for work in (read, written, products)))


def _mean(schedule: Schedule, shown: Integers, work_of_pc: Integers, edges: Integers) -> Numbers:
    """Returns work a cycle in each interval; an instruction does its work evenly while it keeps its unit busy."""
    done = np.zeros(len(edges), np.float64)
    for unit in range(len(UNITS)):
        rows = np.sort(shown[schedule.unit[shown] == unit])
        rows = rows[work_of_pc[schedule.pc[rows]] > 0]
        if not rows.size:
            continue
        before = np.concatenate([[0], np.cumsum(work_of_pc[schedule.pc[rows]])])
        times = np.stack([schedule.start[rows], schedule.end[rows]], 1).reshape(-1)
        amounts = np.stack([before[:-1], before[1:]], 1).reshape(-1)
        done += np.interp(edges, times, amounts)
    return np.diff(done) / np.maximum(np.diff(edges), 1)
