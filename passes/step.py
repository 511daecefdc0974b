"""One step of a compile: a pass, its options, and its permitted effect on a model's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Permitted effect of a step on the numbers that a module computes; `--check` enforces it."""

    EQUAL = "equal"
    """On integers: not a bit changes."""
    CLOSE = "close"
    """On floats: the function stays; sums may be rounded in another order."""
    LOSSY = "lossy"
    """The function changes on purpose. The loss is reported, and no error."""


@dataclass(frozen=True)
class Step:
    """A pass with its options, at its place in the pipeline."""

    name: str
    kind: Kind
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The fields of the pass."""
    purpose: str = ""
    """Purpose for which a lossy step gives up accuracy."""
    enabled: bool = True
    """True if the options of the compile ask for it."""
