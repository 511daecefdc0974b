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

from sta.spec.integers import NARROW_STEPS

if TYPE_CHECKING:
    from torch import Tensor

LEAST_FIDELITY = 30.0
"""Decibels below which 8 bits are too few: less noise disappears in the noise of 8-bit queries, keys and values."""
BEST_FIDELITY = 200.0
"""Decibels that stand for no noise at all."""

_ROWS = 64


def some_scores(
    query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, scale: float, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """
    Scores of one attention on float32 [..., heads, rows, width], [..., heads, some rows, keys], and what its masks add.

    Of long ones it is some rows, evenly spaced. Where a key is left out, minus infinity is added.
    """
    import torch

    rows = torch.from_numpy(np.unique(np.linspace(0, query.shape[-2] - 1, _ROWS).astype(np.int64)))  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    if (times := _times(query, key)) > 1:
        key = key.repeat_interleave(times, -3)
    scores = query[..., rows, :] @ key.transpose(-1, -2) * scale
    if bias is not None:
        scores = scores + (bias if bias.shape[-2] == 1 else bias[..., rows, :])
    added = torch.zeros(scores.shape[-2:])
    if mask is not None:
        part = mask if mask.shape[-2] == 1 else mask[..., rows, :]
        added = added.masked_fill(~part, -torch.inf) if part.dtype == torch.bool else added + part
    if causal:
        later = torch.arange(key.shape[-2]) > rows[:, None]
        added = added.masked_fill(later, -torch.inf)
    return scores, added


def _times(query: Tensor, key: Tensor) -> int:
    """The heads of queries that share one of keys."""
    return query.shape[-3] // key.shape[-3] if query.dim() > 2 else 1


@dataclass
class NarrowFidelity:
    """The signal and the noise of attention with 8-bit exponentials, over all samples."""

    signal: float = 0.0
    noise: float = 0.0

    def update(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        causal: bool,
        scale: float,
        bias: Tensor | None = None,
    ) -> None:
        """Observes one attention on float32 [..., heads, rows, width]; of long ones some rows, evenly spaced."""
        import torch

        if (times := _times(query, key)) > 1:
            value = value.repeat_interleave(times, -3)
        plain, added = some_scores(query, key, mask, causal, scale, bias)
        scores = plain + added
        largest = scores.amax(-1, keepdim=True)
        # Rows without any admissible key give zero either way.
        exact = torch.exp(scores - largest.masked_fill(largest == -torch.inf, 0.0))
        narrow = torch.round(exact * NARROW_STEPS)
        wanted, found = (part @ value / part.sum(-1, keepdim=True).clamp(min=1e-30) for part in (exact, narrow))
        self.signal += float(wanted.double().square().sum())
        self.noise += float((wanted - found).double().square().sum())

    def decibels(self) -> float:
        """The SQNR."""
        if self.noise == 0.0 or self.signal == 0.0:
            return BEST_FIDELITY
        return min(10 * float(np.log10(self.signal / self.noise)), BEST_FIDELITY)
