"""Errors of a model, each with its layer, cause and remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class ModelError(ValueError):
    """A model or its sample inputs cannot be compiled. The message gives the reason and the remedy."""


@dataclass(frozen=True)
class UnsupportedOperation:
    """An operation that cannot be compiled."""

    name: str
    """The operator, as PyTorch spells it: `aten.conv2d`."""

    module_path: str
    """The model's module that uses it, with its source line if known."""

    note: str
    """Supported alternative, or reason for the refusal; may be empty."""

    def __str__(self) -> str:
        return f"{self.name} in {self.module_path}" + (f": {self.note}" if self.note else "")


class UnsupportedOperationsError(ModelError):
    """
    The model uses operations that cannot be compiled.

    `operations` lists all of them, in the model's order; `supported` names the supported ones.
    """

    def __init__(self, operations: Iterable[UnsupportedOperation], supported: str) -> None:
        self.operations = tuple(operations)
        count = len(self.operations)
        head = f"the model uses {count} operation{'s' if count > 1 else ''} that cannot be compiled:"
        lines = [f"  {operation}" for operation in self.operations]
        super().__init__("\n".join([head, *lines, f"Supported are {supported}."]))
