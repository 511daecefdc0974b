"""The sample inputs of a compile."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

Sample = dict[str, NDArray[Any]]
"""One input of the model, by name."""


class Samples:
    """Sample inputs, read when they are first asked for: a model that is not supported is reported before."""

    def __init__(
        self,
        calibration: Callable[[], list[Sample]] | None = None,
        example: Callable[[], Sample] | None = None,
    ) -> None:
        """
        Takes what reads calibration data, None if there are none, and what checks and returns the example inputs that
        came with the model, None if none did.
        """
        self._calibration = calibration
        self._example = example

    @property
    def given(self) -> bool:
        """Whether there are calibration data."""
        return self._calibration is not None

    @cached_property
    def calibration(self) -> list[Sample]:
        """Calibration data; empty if there are none. Raises ValueError for data that do not fit the model."""
        return [] if self._calibration is None else self._calibration()

    @cached_property
    def examples(self) -> list[Sample]:
        """The example inputs, or nothing. Raises ValueError for numbers that are not finite."""
        return [] if self._example is None else [self._example()]
