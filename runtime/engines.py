"""The engines, the choice between them, and their comparison."""

from __future__ import annotations

import importlib.util
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sta.runtime.analysis.profile import Profile, profile
from sta.runtime.analysis.races import RaceCheck, check_races
from sta.runtime.analysis.schedule import Schedule, record
from sta.runtime.analysis.taint import check_taint
from sta.runtime.analysis.trace import write_trace
from sta.runtime.memory import Array, Memories
from sta.runtime.reference import ReferenceEngine, RunProgress
from sta.runtime.timing import Timing, simulate
from sta.runtime.validate import ValidProgram
from sta.runtime.values.stepper import ReferenceStepper, Stepper
from sta.spec.integers import Int64Array
from sta.spec.suggestion import suggestion

if TYPE_CHECKING:
    from sta.runtime.analysis.native_reports import NativeReports
    from sta.runtime.native_engine import NativeProgram

ENGINES = ("auto", "native", "reference")
"""Names of the engines; ``auto`` is the native one if it is built."""


class EnginesDifferError(ValueError):
    """Two engines leave different bits; the message names the place."""


class Engine(Protocol):
    """Runs one program, any number of times; not for use by several threads at once."""

    @property
    def memories(self) -> Memories:
        """The machine's memories as they are now."""
        ...

    @property
    def statistics(self) -> tuple[Int64Array, Int64Array]:
        """The vector unit's row statistics as they are now."""
        ...

    def run(self, inputs: Mapping[str, Array], poison: int, report: RunProgress | None = None) -> dict[str, Array]:
        """Runs the program; see ``ReferenceEngine.run``."""
        ...


def native_is_built() -> bool:
    """Returns whether the native engine has been compiled for this Python."""
    return importlib.util.find_spec("sta.runtime._native") is not None


@cache
def warn_of_slowness() -> None:
    """Warns, the first time, that programs run on the reference engine."""
    warnings.warn(
        "the native engine is not built, programs run on the reference engine, which is far slower; "
        "install the project where there is a C++20 compiler to have it",
        stacklevel=4,
    )


def chosen(name: str) -> str:
    """
    Returns ``native`` or ``reference`` for the name of an engine; warns once if ``auto`` has to choose the slow one.

    Raises:
        ValueError: there is no such engine, or it is the native one and not built.
    """
    if name not in ENGINES:
        raise ValueError(f"unknown engine {name!r}{suggestion(str(name), ENGINES)}; known: {', '.join(ENGINES)}")
    if name == "reference" or native_is_built():
        return "reference" if name == "reference" else "native"
    if name == "native":
        raise ValueError("the native engine is not built; install the project where there is a C++20 compiler")
    warn_of_slowness()
    return "reference"


class Engines:
    """
    The engines of one program: created on first use, and kept for the next run. Several threads may use them at once;
    copies of a program, pickled ones too, have their own.
    """

    def __init__(self, program: ValidProgram) -> None:
        """Accepts a checked program."""
        self._program = program
        self._native: NativeProgram | None = None
        self._idle: dict[tuple[str, int, int], list[Engine]] = {}
        """By name, threads and process: a forked process has no threads of its parent's engines."""
        # A thread that takes an engine decodes the program while it holds the lock.
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[type[Engines], tuple[ValidProgram]]:
        """Parts for pickle and copy: the program, without engines."""
        return Engines, (self._program,)

    def timing(self) -> Timing:
        """Returns the cost of a run; ProgramError if it ends in a deadlock."""
        return self._reports().timing() if native_is_built() else simulate(self._program)

    def schedule(self) -> Schedule:
        """Returns the schedule of a run; ProgramError as ``record``."""
        return self._reports().schedule() if native_is_built() else record(self._program)

    def check_races(self, schedule: Schedule) -> RaceCheck:
        """Compares all conflicting accesses of a run; RaceError if an order is not guaranteed."""
        return self._reports().check_races(schedule) if native_is_built() else check_races(self._program, schedule)

    def profile(self, schedule: Schedule) -> Profile:
        """Returns the profile of a run."""
        measure = partial(self._reports().module_cycles, schedule) if native_is_built() else None
        return profile(self._program, schedule, measure)

    def write_trace(self, schedule: Schedule, path: str | os.PathLike[str], limit: int) -> int:
        """Writes the trace of a run; see ``sta.runtime.analysis.trace.write_trace``."""
        writer = partial(self._reports().write_trace, schedule) if native_is_built() else None
        return write_trace(self._program, schedule, path, limit, writer)

    def check_taint(self) -> None:
        """Raises ProgramError if a run moves attention scores off the chip."""
        if native_is_built():
            self._decoded().check_taint()
        else:
            check_taint(self._program)

    def _decoded(self) -> NativeProgram:
        # Not needed, and perhaps not there, where programs run on the reference engine.
        from sta.runtime.native_engine import NativeProgram

        with self._lock:
            if self._native is None:
                self._native = NativeProgram(self._program)
            return self._native

    def _reports(self) -> NativeReports:
        from sta.runtime.analysis.native_reports import NativeReports

        return NativeReports(self._decoded())

    def take(self, name: str, threads: int) -> Engine:
        """Returns an unused engine, ``native`` or ``reference``; only the former makes use of threads."""
        with self._lock:
            idle = self._idle.get((name, threads, os.getpid()))
            if idle:
                return idle.pop()
            if name == "reference":
                return ReferenceEngine(self._program)
            from sta.runtime.native_engine import NativeEngine

            return NativeEngine(self._decoded(), threads)

    def stepper(self, name: str, inputs: Mapping[str, Array], poison: int) -> Stepper:
        """Returns a run that stops between instructions, on the engine ``native`` or ``reference``."""
        if name == "reference":
            return ReferenceStepper(self._program, inputs, poison)
        from sta.runtime.values.native_stepper import NativeStepper

        return NativeStepper(self._decoded(), inputs, poison)

    def give_back(self, name: str, threads: int, engine: Engine) -> None:
        """Returns an engine to the pool."""
        with self._lock:
            self._idle.setdefault((name, threads, os.getpid()), []).append(engine)


def check_same(expected: Engine, found: Engine, names: tuple[str, str]) -> None:
    """
    Compares all state of two engines: the memories, byte by byte, and the row statistics.

    Raises:
        EnginesDifferError: they differ; names the memory and the first byte.
    """
    for memory, left, right in _state(expected, found):
        differs = np.flatnonzero(left != right)
        if not differs.size:
            continue
        first = int(differs[0])
        raise EnginesDifferError(
            f"the engines differ in {differs.size} elements of {memory}, first at {first}: "
            f"{names[0]} has {left[first]}, {names[1]} has {right[first]}; please report it with the program"
        )


def _state(left: Engine, right: Engine) -> Iterator[tuple[str, Array, Array]]:
    for memory in ("spad", "wbuf", "acc", "writable"):
        yield memory, getattr(left.memories, memory), getattr(right.memories, memory)
    yield from zip(("the row sums", "the row sums of squares"), left.statistics, right.statistics, strict=True)
