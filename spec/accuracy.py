"""Accuracy of a program, as the compile measured it: figures that stay with the program."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fidelity:
    """
    SQNR of the worst output in decibels, with quantized values and weights, on samples that judge the quantization.

    It is limited to 200 on both sides, for no difference and for nothing in common. Rows of padding do not count.
    """

    given: float
    """Against the model as it was given."""
    pruned: float
    """Against the model with pruned weights, from which quantization starts; `given` if none was pruned."""

    def to_json(self) -> dict[str, float]:
        """Returns both figures for JSON."""
        return {"given": self.given, "pruned": self.pruned}


@dataclass(frozen=True)
class Trial:
    """A tried way to quantize a model, and its result."""

    method: str
    decibels: float
    """SQNR of the output against the pruned model, on the samples that judge."""
    kept: bool = False
    """True if the program has it, together with the others that are kept."""
    costs_cycles: bool = False
    """True if it gave the program work that it has not without it."""
