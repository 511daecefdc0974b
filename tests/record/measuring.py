"""Measuring many programs, two at a time."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from tests.record.entry import Entry, measure

_PROCESSES = 2


def measured(names: Sequence[str]) -> Iterator[tuple[str, Entry | str]]:
    """Yields each program as soon as it is measured, or in place of it the error that it ends with."""
    start = time.monotonic()
    # A process that is forked off would have the threads of its libraries stand still.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(_PROCESSES, len(names)) or 1, context) as pool:
        jobs = {pool.submit(_measure, name): name for name in names}
        for number, job in enumerate(as_completed(jobs), 1):
            name = jobs[job]
            print(f"[{time.monotonic() - start:5.1f} s] {number}/{len(names)} {name}", file=sys.stderr, flush=True)
            broken = isinstance(job.exception(), BrokenProcessPool)
            yield name, "fails: its process, or the one beside it, died" if broken else job.result()


def _measure(name: str) -> Entry | str:
    try:
        return measure(name)
    except Exception as error:  # a pass may raise anything, and the other programs are to be compared
        return f"fails: {type(error).__name__}: {error}"
