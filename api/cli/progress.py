"""Progress of long work on standard error; quick work shows nothing."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from sta.api.cli.tables import duration
from sta.api.cli.terminal import Verbosity, verbosity
from sta.api.cli.time_left import TimeLeft, left

if TYPE_CHECKING:
    from rich.status import Status

_PATIENCE = 2.0
"""Seconds before the first line."""
_LINE_INTERVAL = 1.0
"""Seconds between two lines in a log."""


class Progress:
    """
    Shows stages of work: a line that changes on a terminal, a line now and then elsewhere; with `--verbose` a line for
    every stage, with the seconds since the beginning, and with `--quiet` none.

    A context manager; call ``report`` inside.
    """

    def __init__(self) -> None:
        """Starts the clock."""
        self._start = time.monotonic()
        self._last_line = float("-inf")
        self._last_stage = ""
        self._time_left = TimeLeft()
        self._status: Status | None = None
        self._verbosity = verbosity()

    def __enter__(self) -> Progress:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Removes the changing line, or ends the lines of a log with one about the whole."""
        if self._status is not None:
            self._status.stop()
        elif self._last_line > 0 and error is None:
            print(f"sta: done after {duration(time.monotonic() - self._start)}", file=sys.stderr, flush=True)

    def report(self, stage: str, done: float | None) -> None:
        """Receives the name of the stage, and its completed fraction 0..1, or None if unknown."""
        now = time.monotonic()
        elapsed, seconds = now - self._start, self._time_left.seconds(now, done)
        if self._verbosity == Verbosity.QUIET:
            return
        if self._verbosity == Verbosity.VERBOSE:
            self._note(stage, elapsed)
            return
        if elapsed < _PATIENCE:
            return
        text = stage if done is None else f"{stage} {done:.0%}"
        if seconds is not None:
            text += f", {left(seconds)}"
        if sys.stderr.isatty() and self._show(text):
            return
        if elapsed - self._last_line >= _LINE_INTERVAL:
            print(f"sta: {text}", file=sys.stderr, flush=True)
            self._last_line = elapsed

    def _note(self, stage: str, elapsed: float) -> None:
        """Prints a stage when it begins."""
        if stage != self._last_stage:
            print(f"sta: {elapsed:7.2f} s  {stage}", file=sys.stderr, flush=True)
            self._last_stage = stage

    def _show(self, text: str) -> bool:
        if os.environ.get("TERM") == "dumb":
            return False
        if self._status is None:
            try:
                from rich.console import Console
            except ModuleNotFoundError:
                return False
            spinner = "dots" if sys.stderr.encoding.lower().startswith("utf") else "line"
            self._status = Console(stderr=True, markup=False).status(text, spinner=spinner)
            self._status.start()
        self._status.update(text)
        return True
