"""Ways to quantize a model, tried and chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from sta.passes.quantization.noise import EXACT
from sta.spec.accuracy import Fidelity, Trial


@dataclass(frozen=True)
class Plan:
    """A way to quantize a model."""

    smoothing: float | None = None
    """The strength of SmoothQuant; None for none."""
    ranges_by_error: bool = False
    weights_by_calibration: bool = False
    int16_inputs: tuple[str, ...] = ()
    """Module paths of linear layers whose input has 16 bits."""


@dataclass
class Choice:
    """Chosen methods, and the candidates."""

    plan: Plan = field(default_factory=Plan)
    trials: list[Trial] = field(default_factory=list[Trial])
    decibels: float = EXACT
    """SQNR of the output against the pruned model."""
    given: float = EXACT
    """The same against the model as it was given."""
    missed: float | None = None
    """The SQNR that is aimed at if none is asked for, if the output does not reach it."""
    loudest: str | None = None
    """Rounding that costs most of a missed SQNR; None if it is not one place alone."""
    held_out: int = 0
    """Samples that judged the choice and that the judged ranges had not observed."""

    def record(self, tried: Sequence[tuple[Plan, Trial]]) -> None:
        """Adds the trials of one method, of which at most one is in the plan now."""
        self.trials += [replace(trial, kept=plan is self.plan) for plan, trial in tried]

    @property
    def fidelity(self) -> Fidelity:
        """Both figures, rounded to hundredths: sums of floats differ in their last digits between processors."""
        return Fidelity(*(round(figure, 2) for figure in (self.given, self.decibels)))

    def __str__(self) -> str:
        """The kept trials, and the output's SQNR with each."""
        kept = [*self.trials[:1], *(trial for trial in self.trials[1:] if trial.kept)]
        gains = [
            f"{after.method} ({before.decibels:.1f} to {after.decibels:.1f} dB)" for before, after in pairwise(kept)
        ]
        return ", ".join(gains) or "ranges of values"
