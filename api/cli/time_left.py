"""Estimate of the time that work will still take, from its speed so far."""

from __future__ import annotations

_LEAST_SECONDS = 2.0
"""Seconds after which the speed means something."""


class TimeLeft:
    """The time left of work whose done share grows; a smaller share than before is that of other work."""

    def __init__(self) -> None:
        """Knows nothing yet."""
        self._began = 0.0
        self._first: float | None = None
        self._last = 0.0

    def seconds(self, now: float, done: float | None) -> float | None:
        """The seconds left at a time, in seconds, by the share 0..1 that is done; None if unknown."""
        if done is None or self._first is None or done < self._last:
            self._began, self._first = now, done
        self._last = done or 0.0
        if done is None or self._first is None or done <= self._first or now - self._began < _LEAST_SECONDS:
            return None
        return (now - self._began) * (1.0 - done) / (done - self._first)


def left(seconds: float) -> str:
    """A number of seconds in words."""
    return f"{seconds:.0f} s left" if seconds < 100 else f"{seconds / 60:.0f} min left"
