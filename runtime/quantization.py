"""Quantization of a program: the methods that its compile tried and kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sta.spec.accuracy import Trial


@dataclass(frozen=True)
class Quantization:
    """Choice of number formats for a float model."""

    decibels: float
    """SQNR of the output with the choice, against the pruned model."""
    held_out_samples: int
    """Samples that judged and that ranges had not seen; 0: a sample of the ranges judged."""
    trials: tuple[Trial, ...]
    int16_inputs: tuple[str, ...]
    """Globs and module paths of linear layers with an input of 16 bits."""

    def to_json(self) -> dict[str, Any]:
        """Returns it as a dictionary for JSON."""
        return {
            "decibels": self.decibels,
            "held_out_samples": self.held_out_samples,
            "trials": [asdict(one) for one in self.trials],
            "int16_inputs": list(self.int16_inputs),
        }
