"""Agreement of integers with their real numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log10, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class Agreement:
    """Sums over all elements of all samples."""

    scale: float
    """One unit of the integers (LSB)."""
    signal: float = 0.0
    noise: float = 0.0
    power: float = 0.0
    """Sum of the squares of the integers' numbers."""
    product: float = 0.0
    largest: float = 0.0
    elements: int = 0

    def add(self, reference: NDArray[Any], values: NDArray[Any]) -> None:
        """Adds the expected and the actual numbers, of one shape."""
        expected, found = reference.astype(np.float64).reshape(-1), values.astype(np.float64).reshape(-1)
        error = found - expected
        self.signal += float(expected @ expected)
        self.noise += float(error @ error)
        self.power += float(found @ found)
        self.product += float(expected @ found)
        self.largest = max(self.largest, float(np.abs(error).max(initial=0)))
        self.elements += error.size

    @property
    def decibels(self) -> float:
        """SQNR: power of the reference over that of the error; infinite without error."""
        if self.noise == 0:
            return inf
        return 10 * log10(self.signal / self.noise) if self.signal else -inf

    @property
    def cosine(self) -> float:
        """Cosine of the angle between reference and values; 1 where both are zero, 0 where one is."""
        if self.signal == 0 or self.power == 0:
            return float(self.signal == self.power)
        return self.product / sqrt(self.signal) / sqrt(self.power)

    @property
    def largest_lsb(self) -> float:
        """The largest error in units of the integers."""
        return self.largest / self.scale

    def to_json(self) -> dict[str, Any]:
        """Returns the figures; ``sqnr_db`` is None if it is infinite (``exact`` is then true)."""
        decibels = self.decibels
        return {
            "sqnr_db": decibels if abs(decibels) != inf else None,
            "exact": self.noise == 0,
            "max_error_lsb": self.largest_lsb,
            "max_error": self.largest,
            "cosine": self.cosine,
        }
