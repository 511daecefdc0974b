"""Calibration's record of a value whose rounding is searched: its extremes, and some of its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.passes.quantization.calibrate import ExtremesObserver

Array = NDArray[Any]

MOST_ROWS = 1024
"""Maximum number of rows kept, evenly spaced over all samples."""


class RowObserver(ExtremesObserver):
    """The extremes of each column of a value, and at most MOST_ROWS of its rows."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[Array] = []
        self._seen = 0
        self._step = 1

    def update(self, values: Array) -> None:
        """Observes the float32 rows [rows, width] of the value in one sample."""
        super().update(values)
        # Copied, or the whole array would stay in memory.
        self._kept.append(values[-self._seen % self._step :: self._step].copy())
        self._seen += len(values)
        while sum(map(len, self._kept)) > MOST_ROWS:
            self._kept = [np.concatenate(self._kept)[::2].copy()]
            self._step *= 2

    def rows(self) -> Array:
        """The kept rows, float32 [rows, width]."""
        return np.concatenate(self._kept)

    def divided(self, scale: Array) -> RowObserver:
        """Record of the value with its columns divided by the positive `scale` [width]."""
        other = RowObserver()
        other.low, other.high = self.low / scale, self.high / scale
        other._kept = [(rows / scale).astype(np.float32) for rows in self._kept]
        other._seen, other._step = self._seen, self._step
        return other
