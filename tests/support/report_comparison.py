"""Compares the compiled reports on a run with the Python that defines them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sta.runtime import ProgramError
from sta.runtime.analysis.cycle_attribution import attribute
from sta.runtime.analysis.happens_before import clocks_before
from sta.runtime.analysis.native_reports import NativeReports
from sta.runtime.analysis.profile import profile
from sta.runtime.analysis.races import check_races
from sta.runtime.analysis.schedule import Schedule, record
from sta.runtime.analysis.trace import write_trace
from sta.runtime.native_engine import NativeProgram
from sta.runtime.timing import simulate
from sta.runtime.validate import ValidProgram

Outcome = dict[str, Any] | str


def outcome(report: Callable[[], Any]) -> Outcome:
    """Returns the fields of a report, or the message of the error that it ends in."""
    try:
        found = report()
    except ProgramError as error:
        return str(error)
    return {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}


def same(left: Outcome, right: Outcome) -> bool:
    """True if two outcomes are equal, arrays in them included."""
    if isinstance(left, str) or isinstance(right, str):
        return left == right
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def check_reports(program: ValidProgram, folder: Path, limit: int = 250_000) -> tuple[str, bool]:
    """
    Compares all reports on a program: to the cycle, to the two instructions of each race, to the byte of the trace.

    Returns how the race check ended, ``deadlock``, ``race`` or ``ordered``; and whether semaphores are shared.
    """
    native = NativeProgram(program)
    reports = NativeReports(native)
    assert same(outcome(reports.timing), outcome(lambda: simulate(program)))
    recorded = outcome(lambda: record(program))
    assert same(outcome(reports.schedule), recorded)
    if isinstance(recorded, str):
        return "deadlock", False
    schedule = Schedule(**recorded)
    columns = tuple(recorded.values())
    charges = attribute(program, schedule)
    ends, rows, issued = native.code.charges(columns, 2)
    assert np.array_equal(ends, charges.end)
    assert np.array_equal(rows, charges.row)
    assert np.array_equal(issued, charges.issued)
    expected = profile(program, schedule)
    found = profile(program, schedule, partial(reports.module_cycles, schedule))
    assert found == expected
    clocks = native.code.clocks(columns)
    if clocks is not None:
        assert clocks.tolist() == [list(clock) for clock in clocks_before(program, schedule)]
    races = outcome(lambda: check_races(program, schedule))
    assert same(outcome(lambda: reports.check_races(schedule)), races)
    write_trace(program, schedule, folder / "expected.json", limit)
    write_trace(program, schedule, folder / "found.json", limit, partial(reports.write_trace, schedule))
    assert (folder / "found.json").read_bytes() == (folder / "expected.json").read_bytes()
    return "race" if isinstance(races, str) else "ordered", clocks is None
