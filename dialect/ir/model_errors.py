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
        lines = [f"  {line}" for line in _lines(self.operations)]
        super().__init__("\n".join([head, *lines, f"Supported are {supported}."]))


_PLACES = 3
"""Places of one cause that a line names."""


def _lines(operations: Iterable[UnsupportedOperation]) -> list[str]:
    """One line for each operator and note: its first places, and the number of others."""
    places: dict[tuple[str, str], list[UnsupportedOperation]] = {}
    for operation in operations:
        places.setdefault((operation.name, operation.note), []).append(operation)
    lines: list[str] = []
    for (name, note), same in places.items():
        paths = list(dict.fromkeys(operation.module_path for operation in same))
        where, others = ", ".join(paths[:_PLACES]), len(paths) - _PLACES
        if others > 0:
            where += f" and {others} more place{'s' if others > 1 else ''}"
        lines.append(str(UnsupportedOperation(name, where, note)))
    return lines
