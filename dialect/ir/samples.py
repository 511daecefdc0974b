"""The sample inputs of a compile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

Sample = dict[str, NDArray[Any]]
"""One input of the model, by name."""


class Samples:
    """Sample inputs, read on first use: an unsupported model is reported before."""

    def __init__(
        self,
        readers: Mapping[str, Callable[[], list[Sample]]] | None = None,
        example: Callable[[], Sample] | None = None,
    ) -> None:
        """
        Creates samples from readers and example inputs: a reader for each option of the compile that gives samples, by
        the option's name, and a function that checks and returns the model's example inputs, None if it has none.
        """
        self._readers = readers or {}
        self._example = example
        self._read: dict[str, list[Sample]] = {}

    def given(self, option: str) -> bool:
        """True if an option of the compile gives samples."""
        return option in self._readers

    def of(self, option: str) -> list[Sample]:
        """The samples of an option; empty if it gives none. Raises ValueError for data that do not fit the model."""
        if option not in self._read:
            self._read[option] = self._readers[option]() if self.given(option) else []
        return self._read[option]

    @cached_property
    def examples(self) -> list[Sample]:
        """The example inputs, or nothing. Raises ValueError for numbers that are not finite."""
        return [] if self._example is None else [self._example()]
