"""Judgement of a quantized module by the noise of its outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp

from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.passes.quantization.padding_rows import PaddingMask, counted_rows
from sta.passes.quantization.workers import in_parallel

Array = NDArray[Any]
Sample = Mapping[str, Array]
Powers = dict[str, tuple[float, float]]
"""The energy of signal and noise of each output."""

EXACT = 200.0
"""Decibels that stand for no noise at all."""


@dataclass(frozen=True)
class Noise:
    """Judges modules by the noise of their outputs."""

    samples: Sequence[Sample]
    references: Sequence[Mapping[str, Array]]
    """Outputs of the float module for each sample."""
    mask: PaddingMask | None

    def on_first(self, count: int) -> Noise:
        """The judge on the first `count` samples only."""
        return replace(self, samples=self.samples[:count], references=self.references[:count])

    def decibels(self, module: ModuleOp, context: CompileContext, progress: Callable[[], None] = lambda: None) -> float:
        """
        The SQNR of the outputs of `module`, the worst of them; rows of padding do not count.

        `progress` is called after each sample.
        """
        found: list[Powers] = []

        def take(powers: Powers) -> None:
            found.append(powers)
            progress()

        pairs = list(zip(self.samples, self.references, strict=True))
        in_parallel(lambda pair: self._powers(run_torch(module, context, pair[0]), *pair), pairs, take)
        names = found[0] if found else {}
        sums = ([sum(powers[name][part] for powers in found) for part in (0, 1)] for name in names)
        return min((_decibels(signal, noise) for signal, noise in sums), default=EXACT)

    def _powers(self, outputs: Mapping[str, Array], sample: Sample, reference: Mapping[str, Array]) -> Powers:
        counted = self.mask.counted(sample) if self.mask is not None else None
        powers: Powers = {}
        for name, exact in reference.items():
            wanted = counted_rows(exact, counted).astype(np.float64)
            found = counted_rows(outputs[name], counted)
            powers[name] = float(np.square(wanted).sum()), float(np.square(wanted - found).sum())
        return powers


def _decibels(signal: float, noise: float) -> float:
    if noise == 0.0 or signal == 0.0:
        return EXACT
    return max(min(10 * math.log10(signal / noise), EXACT), -EXACT)
