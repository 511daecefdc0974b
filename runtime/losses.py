"""Accuracy lost by each lossy step of the compiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

EXACT = float("inf")
"""Decibels if nothing differs."""


@dataclass(frozen=True)
class StepLoss:
    """The loss of one lossy step: SQNR in decibels of the worst output, infinite if nothing differs."""

    step: str
    kept_for: str
    """Purpose or gain of the step."""
    decibels: float
    """Against the step before."""
    model_decibels: float
    """Against the original model."""

    def to_json(self) -> dict[str, Any]:
        """Returns it as a dictionary for JSON: None stands for exact."""
        return {
            "step": self.step,
            "kept_for": self.kept_for,
            "decibels": None if self.decibels == EXACT else self.decibels,
            "model_decibels": None if self.model_decibels == EXACT else self.model_decibels,
        }
