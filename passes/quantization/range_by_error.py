"""
The range of a value with the least error of rounding to 8 bits: saturation against the size of a step.

The mean squared error of rounding is minimized over ranges within the extremes, first over the upper and then over the
lower end. Less error of one value can mean more of the model's output, so callers judge these ranges there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.passes.quantization.calibration_observer import RowObserver
from sta.spec.integers import NARROW_STEPS

Array = NDArray[Any]

MOST_VALUES = 1 << 17
"""Maximum number of a value's elements that the error is computed on."""
FRACTIONS = np.linspace(1.0, 0.3, 15)
"""Candidates for an end of the range, as fractions of the extreme."""


def range_by_error(seen: RowObserver, symmetric: bool) -> tuple[float, float]:
    """The range that 8 bits should represent, with a zero point or (`symmetric`) without."""
    values = _spread(seen.rows()).astype(np.float64)
    low, high = seen.range()
    if symmetric:
        reach = max(abs(low), abs(high))
        best = min(FRACTIONS, key=lambda part: rounding_error(values, -reach * part, reach * part))
        return -reach * best, reach * best
    low, high = min(low, 0.0), max(high, 0.0)
    high *= min(FRACTIONS, key=lambda part: rounding_error(values, low, high * part))
    low *= min(FRACTIONS, key=lambda part: rounding_error(values, low * part, high))
    return low, high


def _spread(rows: Array) -> Array:
    """Evenly spaced numbers of `rows` [rows, width], about MOST_VALUES."""
    step = max(1, rows.size // MOST_VALUES)
    # A step that shares no factor with the width, so that every column is seen.
    while step > 1 and np.gcd(step, rows.shape[-1]) != 1:
        step += 1
    return rows.reshape(-1)[::step]


def rounding_error(values: Array, low: float, high: float) -> float:
    """The mean squared error of `values` rounded to the steps of 8 bits from `low` to `high`, and saturated."""
    step = (high - low) / NARROW_STEPS or 1.0
    error = values / step
    # In place: a new array costs as much as a step.
    np.rint(error, out=error)
    np.clip(error, np.rint(low / step), np.rint(high / step), out=error)
    error *= step
    np.subtract(values, error, out=error)
    return float(np.square(error, out=error).mean())
