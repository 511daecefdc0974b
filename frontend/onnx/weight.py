"""Weights given as integers in an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class QuantizedConstant:
    """A weight as integers: (integers - zero_points) * scales, with one scale, or one for each position of `axis`."""

    name: str
    integers: Array
    scales: Array
    zero_points: Array
    axis: int

    def numbers(self) -> Array:
        """The weight as float32."""
        shape = [1] * self.integers.ndim
        if self.scales.size > 1:
            shape[self.axis] = -1
        scales, offsets = self.scales.reshape(shape or ()), self.zero_points.reshape(shape or ())
        return ((self.integers.astype(np.int64) - offsets.astype(np.int64)) * scales.astype(np.float64)).astype(
            np.float32
        )


def integer_range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The least and the largest integer of a dtype."""
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)
