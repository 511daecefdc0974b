"""Ways to quantize a model, tried and chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from sta.passes.quantization.noise import EXACT


@dataclass(frozen=True)
class Plan:
    """A way to quantize a model."""

    smoothing: float | None = None
    """The strength of SmoothQuant; None for none."""
    ranges_by_error: bool = False
    weights_by_calibration: bool = False
    int16_inputs: tuple[str, ...] = ()
    """Module paths of linear layers whose input has 16 bits."""


@dataclass(frozen=True)
class Trial:
    """A tried plan, and its result."""

    method: str
    decibels: float
    """SQNR of the output on the held-out samples."""
    kept: bool


@dataclass
class Choice:
    """Chosen methods, and the candidates."""

    plan: Plan = field(default_factory=Plan)
    trials: list[Trial] = field(default_factory=list[Trial])
    decibels: float = EXACT
    held_out: int = 0
    """Samples that judged the choice and that the judged ranges had not observed."""

    def __str__(self) -> str:
        """The kept trials, and the output's SQNR with each."""
        kept = [trial for trial in self.trials if trial.kept]
        gains = [
            f"{after.method} ({before.decibels:.1f} to {after.decibels:.1f} dB)" for before, after in pairwise(kept)
        ]
        return ", ".join(gains) or "ranges of values"
