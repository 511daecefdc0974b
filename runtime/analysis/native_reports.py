"""
Reports on a run, compiled: what the modules that define them do in Python.

Timing is ``sta.runtime.timing``; the rest is in this folder: ``schedule``, for profiles ``cycle_attribution`` and
``profile``, for races ``happens_before`` and ``races``, ``trace``. What the compiled part does not handle is handed to
these, and they word all errors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sta.runtime.analysis.happens_before import clocks_before
from sta.runtime.analysis.profile import ModuleCycles
from sta.runtime.analysis.races import REPORT_LIMIT, FoundRace, RaceCheck, RaceError, check_races, described
from sta.runtime.analysis.schedule import Integers, Schedule, check_recordable, record
from sta.runtime.analysis.trace import TraceText
from sta.runtime.native_engine import LARGEST_TIME, NativeProgram
from sta.runtime.timing import Timing, dram_traffic, simulate
from sta.spec.instructions.definition import UNITS
from sta.spec.instructions.table import PRODUCT_UNIT

_PRODUCTS = UNITS.index(PRODUCT_UNIT)


class NativeReports:
    """The reports on one program."""

    def __init__(self, native: NativeProgram) -> None:
        """Takes the decoded program."""
        self._program = native.program
        self._code = native.code
        self._countable = native.program.instructions * native.longest_job < LARGEST_TIME

    def timing(self) -> Timing:
        """Returns what ``sta.runtime.timing.simulate`` does, and raises the same."""
        program = self._program
        times = self._code.timing() if self._countable else None
        if times is None:
            # Perhaps a deadlock, which is explained there.
            return simulate(program)
        cycles, busy = times
        read, written = dram_traffic(program)
        return Timing(cycles, dict(zip(UNITS, busy, strict=True)), read, written, program.instructions)

    def schedule(self) -> Schedule:
        """Returns what ``sta.runtime.analysis.schedule.record`` does, and raises the same."""
        check_recordable(self._program)
        columns = self._code.schedule() if self._countable else None
        return record(self._program) if columns is None else Schedule(*columns)

    def module_cycles(self, schedule: Schedule, module_of_pc: Integers, modules: int) -> ModuleCycles:
        """Returns what ``sta.runtime.analysis.profile.module_cycles`` does."""
        parts = self._code.module_cycles(_columns(schedule), _PRODUCTS, module_of_pc, modules)
        return ModuleCycles(*(np.array(part, np.int64) for part in parts))

    def check_races(self, schedule: Schedule) -> RaceCheck:
        """Returns what ``sta.runtime.analysis.races.check_races`` does, and raises the same."""
        columns = _columns(schedule)
        clocks = self._code.clocks(columns)
        if clocks is None:
            clocks = np.array(clocks_before(self._program, schedule), np.int32)
        check = self._code.races(columns, clocks, REPORT_LIMIT)
        if check is None:
            return check_races(self._program, schedule)
        found, *compared = check
        if found:
            raise RaceError([described(self._program, schedule, FoundRace(*race)) for race in found])
        return RaceCheck(*compared)

    def write_trace(self, schedule: Schedule, text: TraceText, write: Callable[[bytes], object]) -> None:
        """Writes the events of units and sequencer, as a ``Writer`` of ``sta.runtime.analysis.trace``."""
        parts = (text.begins, text.ends, text.modules, text.module_of_pc, text.times, text.reasons, text.shown)
        self._code.write_trace(_columns(schedule), *parts, write)


def _columns(schedule: Schedule) -> tuple[Integers, ...]:
    """Returns the columns of a schedule in the order in which they are handed over."""
    times = (schedule.ready, schedule.entered, schedule.start, schedule.end, schedule.complete)
    return (schedule.pc, schedule.unit, *times, schedule.order)
