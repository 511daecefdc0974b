"""
Loss of attention with 8-bit exponentials, measured on samples: it decides which layers get 16 bits.

Relative to the largest of its row an exponential of 8 bits is a multiple of 1/255, so that keys 6.2 below the maximum
are dropped. This does not matter for a few such keys, and is decisive if one key (an attention sink) lies far above
thousands of others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

LEAST_FIDELITY = 30.0
"""Decibels below which 8 bits are too few: less noise disappears in the noise of 8-bit queries, keys and values."""
BEST_FIDELITY = 200.0
"""Decibels that stand for no noise at all."""

_STEPS = 255
_ROWS = 64


@dataclass
class NarrowFidelity:
    """The signal and the noise of attention with 8-bit exponentials, over all samples."""

    signal: float = 0.0
    noise: float = 0.0

    def update(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
    ) -> None:
        """Observes one attention on float32 [..., heads, rows, width]; of long ones some rows, evenly spaced."""
        import torch

        rows = torch.from_numpy(np.unique(np.linspace(0, query.shape[-2] - 1, _ROWS).astype(np.int64)))  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
        times = query.shape[-3] // key.shape[-3] if query.dim() > 2 else 1
        if times > 1:
            key, value = key.repeat_interleave(times, -3), value.repeat_interleave(times, -3)
        scores = query[..., rows, :] @ key.transpose(-1, -2) * scale
        if mask is not None:
            part = mask if mask.shape[-2] == 1 else mask[..., rows, :]
            scores = scores.masked_fill(~part, -torch.inf) if part.dtype == torch.bool else scores + part
        if causal:
            later = torch.arange(key.shape[-2]) > rows[:, None]
            scores = scores.masked_fill(later, -torch.inf)
        largest = scores.amax(-1, keepdim=True)
        # Rows without any admissible key give zero either way.
        exact = torch.exp(scores - largest.masked_fill(largest == -torch.inf, 0.0))
        narrow = torch.round(exact * _STEPS)
        wanted, found = (part @ value / part.sum(-1, keepdim=True).clamp(min=1e-30) for part in (exact, narrow))
        self.signal += float(wanted.double().square().sum())
        self.noise += float((wanted - found).double().square().sum())

    def decibels(self) -> float:
        """The SQNR."""
        if self.noise == 0.0 or self.signal == 0.0:
            return BEST_FIDELITY
        return min(10 * float(np.log10(self.signal / self.noise)), BEST_FIDELITY)
