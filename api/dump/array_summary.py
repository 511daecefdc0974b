"""Arrays in a few words, for the operations of an IR dump that name them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.dialect.ir.weight_store import WeightStore
from sta.spec.nm_format import choose_pattern
from sta.spec.target import Target

_PACKED = "@packed"


class ArraySummary:
    """Summaries of a program's arrays, each computed once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def describe(self, name: str, weights: WeightStore, target: Target) -> str:
        """
        The N:M pattern, density and range of an array of a weight store, as `2:4, density 0.500, -127..127`.

        For packed weights it describes the weight, after its shape; it is empty for bytes that are no numbers.
        """
        if name not in self._known:
            self._known[name] = self._described(name, weights, target)
        return self._known[name]

    def _described(self, name: str, weights: WeightStore, target: Target) -> str:
        base, packed, _ = name.partition(_PACKED)
        if packed:
            known = base in weights
            return f"packs {_shape(weights.get(base))}, {self.describe(base, weights, target)}" if known else ""
        array = weights.get(name)
        return "" if array.dtype == np.uint8 and "@" in name else _facts(array, target)


def _shape(array: NDArray[Any]) -> str:
    return "x".join(map(str, array.shape))


def _facts(array: NDArray[Any], target: Target) -> str:
    if array.size == 0:
        return "empty"
    density = np.count_nonzero(array) / array.size
    low, high = (_number(value) for value in (array.min(), array.max()))
    return f"{_pattern(array, density, target)}density {density:.3f}, {low}..{high}"


def _pattern(array: NDArray[Any], density: float, target: Target) -> str:
    if array.ndim != 2 or density == 1:
        return ""
    pattern = choose_pattern(array, target.multipliers, target.window)
    return "" if pattern.is_dense else f"{pattern}, "


def _number(value: np.generic) -> str:
    return f"{value.item():.4g}" if value.dtype.kind == "f" else str(int(value.item()))
