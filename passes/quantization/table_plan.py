"""
Tables of functions that one table over the whole range of 16 bits does not hold well.

A table has 513 entries with straight lines between them. Over a window of its argument, the part of the range in which
the function changes, they lie closer; where that is not enough (a jump, a reciprocal over decades), several windows
follow each other: `f(x) = f(clamp(x, a, b)) + f(clamp(x, b, c)) - f(b)`, and the machine's saturation of a table's
index is the clamp. A jump between two integers is a window of its own, in which nothing is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sta.spec.integers import STREAM_LIMIT
from sta.spec.tables import TABLE_ENTRIES, TABLE_FRACTION_BITS, Float64Array, RealFunction

TOLERANCE = 2.0**-8
"""Largest error of tables, by the root mean square of the function: 48 dB, while most errors are far smaller."""
MOST_TABLES = 4
_FLAT = 2.0**-15
"""Change, by the root mean square of the function, that counts as none."""
_HALF = TABLE_ENTRIES // 2 - 1
"""Intervals of a table on either side of the middle of its window."""
_STEEPEST = 4.0
"""Change between two integers, by those beside it, from which on it is a jump."""
_SAMPLES = 2041
_BISECTIONS = 8


@dataclass(frozen=True)
class Table:
    """A table over a window: entry `i` is the value at the integer `middle + (i - 256) * 128 / gain`."""

    middle: int
    gain: float
    """Index of a table a unit of the argument."""
    entries: NDArray[np.int16]
    """[513]."""
    scale: float
    """Size of a unit of an entry."""


def plain_error(function: RealFunction, seen: tuple[int, int], spacing: int) -> float:
    """
    The largest error of one table with an entry at every multiple of `spacing`, for the integers of `seen`, by the
    root mean square of the function there; infinite where the function is not finite at an entry.
    """
    points = _entries(0, spacing)
    values = function(points)
    peak = float(np.abs(values).max())
    if not np.isfinite(peak):
        return np.inf
    sampled = _samples(*seen)
    exact = function(sampled)
    size = _size(exact)
    error = float(np.abs(np.interp(sampled, points, values) - exact).max()) + peak / STREAM_LIMIT / 2
    return error / size if size else 0.0


def _size(values: Float64Array) -> float:
    """The root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def plan_tables(
    function: RealFunction, window: tuple[int, int], seen: tuple[int, int], reach: tuple[float, float]
) -> list[Table]:
    """
    Tables whose sum is `function` of the integers of `window`, and the value at the nearer end outside.

    `seen` are the integers that count for the size of the function. Values are within `reach`, the numbers that the
    result's format holds. Raises ValueError if the function has no value in the window.
    """
    total = _Total(function, reach)
    size = _size(total(_samples(*seen)))
    windows = _divided(total, _trimmed(total, window, size), size)
    tables: list[Table] = []
    for position, (low, high) in enumerate(windows):
        middle, spacing = _grid(low, high)
        values = total(np.clip(_entries(middle, spacing), low, high)) - (
            total(np.array([float(low)])) if position else 0.0
        )
        scale = float(np.abs(values).max()) / STREAM_LIMIT or 1.0
        tables.append(
            Table(middle, (1 << TABLE_FRACTION_BITS) / spacing, np.rint(values / scale).astype(np.int16), scale)
        )
    return tables


@dataclass(frozen=True)
class _Total:
    """A function with a value everywhere: within `reach`, and the nearest one where there is none."""

    function: RealFunction
    reach: tuple[float, float]

    def __call__(self, points: Float64Array) -> Float64Array:
        """The values at ascending points."""
        values = np.clip(self.function(points), *self.reach)
        known = ~np.isnan(values)
        if not known.any():
            raise ValueError("a function of its elements has no value at any number that it is given")
        places = np.arange(len(values))
        return np.interp(places, places[known], values[known])


def _samples(low: int, high: int) -> Float64Array:
    """Integers of a window, evenly spaced: all if there are few."""
    return np.unique(np.rint(np.linspace(low, high, min(_SAMPLES, high - low + 1)))).astype(np.float64)


def _grid(low: int, high: int) -> tuple[int, float]:
    """The middle of a window, and the distance of entries there: a part of 1 if that is enough, so that all are hit."""
    middle = (low + high) // 2
    half = max(high - middle, 1)
    return middle, 1 / (_HALF // half) if half <= _HALF else half / _HALF


def _entries(middle: int, spacing: float) -> Float64Array:
    """The numbers at which a table has its entries."""
    return middle + np.arange(-(TABLE_ENTRIES // 2), TABLE_ENTRIES // 2 + 1, dtype=np.float64) * spacing


def _errors(total: _Total, window: tuple[int, int]) -> tuple[Float64Array, Float64Array]:
    """Some integers of a window, and the error of its table there."""
    middle, spacing = _grid(*window)
    points, sampled = _entries(middle, spacing), _samples(*window)
    return sampled, np.abs(np.interp(sampled, points, total(np.clip(points, *window))) - total(sampled))


def _trimmed(total: _Total, window: tuple[int, int], size: float) -> tuple[int, int]:
    """The window without what is constant at its ends."""
    sampled = _samples(*window)
    values = total(sampled)
    low = int(np.argmax(np.abs(values - values[0]) > _FLAT * size))
    high = len(values) - 1 - int(np.argmax(np.abs(values - values[-1])[::-1] > _FLAT * size))
    if low == 0:
        # It is constant, or changes from its first step on.
        return window if abs(values[1] - values[0]) > _FLAT * size else (window[0], window[0] + 1)
    return int(sampled[low - 1]), int(sampled[min(high + 1, len(sampled) - 1)])


def _divided(total: _Total, window: tuple[int, int], size: float) -> list[tuple[int, int]]:
    """Windows that follow each other, as many as it takes."""
    windows = [window]
    while len(windows) < MOST_TABLES:
        found = [_errors(total, one) for one in windows]
        errors = [float(error.max()) for _, error in found]
        worst = int(np.argmax(errors))
        if errors[worst] <= TOLERANCE * size:
            break
        sampled, error = found[worst]
        parts = _parts(total, windows[worst], int(sampled[np.argmax(error)]), size)
        windows[worst : worst + 1] = parts or [windows[worst]]
        if not parts:
            break
    return windows


def _parts(total: _Total, window: tuple[int, int], worst: int, size: float) -> list[tuple[int, int]]:
    """The parts of a window, without those in which the function is constant: at a jump, else of equal errors."""
    low, high = window
    if high - low < 2:
        return []
    jump = _jump(total, window, worst, size)
    if jump is not None:
        cuts = [(low, jump[0]), jump, (jump[1], high)]
    else:
        cut = _balanced(total, window)
        cuts = [(low, cut), (cut, high)]
    kept = [_trimmed(total, one, size) for one in cuts if one[0] < one[1] and not _is_flat(total, one, size)]
    return [] if kept == [window] else kept


def _is_flat(total: _Total, window: tuple[int, int], size: float) -> bool:
    values = total(_samples(*window))
    return float(values.max() - values.min()) <= _FLAT * size


def _jump(total: _Total, window: tuple[int, int], worst: int, size: float) -> tuple[int, int] | None:
    """The two neighbours near `worst` between which the function jumps; None if it only is steep there."""
    _, spacing = _grid(*window)
    distance = int(np.ceil(spacing)) + 1
    low, high = max(window[0], worst - distance), min(window[1], worst + distance)
    changes = np.abs(np.diff(total(np.arange(low, high + 1, dtype=np.float64))))
    largest = int(np.argmax(changes))
    beside = [changes[one] for one in (largest - 1, largest + 1) if 0 <= one < len(changes)]
    jumps = changes[largest] > TOLERANCE * size and changes[largest] > _STEEPEST * max(beside, default=0.0)
    return (low + largest, low + largest + 1) if jumps else None


def _balanced(total: _Total, window: tuple[int, int]) -> int:
    """The cut with the same error on either side, about."""
    low, high = window
    first, last = low + 1, high - 1
    for _ in range(_BISECTIONS):
        cut = (first + last) // 2
        left, right = (float(_errors(total, part)[1].max()) for part in ((low, cut), (cut, high)))
        first, last = (first, cut) if left > right else (cut, last)
    return (first + last) // 2
