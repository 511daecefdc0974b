"""Attention whose masks of a run leave rows without a key, on the machine: PyTorch's numbers, and a true fidelity."""
# pyright: basic
# PyTorch leaves from_numpy without types.

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import sta
from sta.api.compiler.bit_check import signal_to_noise

HEADS, ROWS, WIDTH, SAMPLES = 4, 16, 64, 9
LEAST = torch.finfo(torch.float32).min
Mask = Callable[[Tensor], Tensor]


def causal(m: Tensor) -> Tensor:
    return torch.ones(ROWS, ROWS, dtype=torch.bool).tril() & (m[:, None, None, :] != 0)


def of_queries(m: Tensor) -> Tensor:
    return (m[:, None, :, None] != 0).expand(-1, -1, -1, ROWS)


def of_both(m: Tensor) -> Tensor:
    return (m[:, None, :, None] * m[:, None, None, :]) != 0


def constant(m: Tensor) -> Tensor:
    return (torch.arange(ROWS) != 3).unsqueeze(-1).expand(-1, ROWS)


WEIGHTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "filled": lambda scores, mask: scores.masked_fill(~mask, -1e9).softmax(-1),
    "chosen": lambda scores, mask: torch.where(mask, scores, LEAST).softmax(-1),
    "added": lambda scores, mask: (scores + torch.where(mask, 0.0, LEAST)).softmax(-1),
    "added, -1e9": lambda scores, mask: (scores + (1 - mask.float()) * -1e9).softmax(-1),
}


class Masked(nn.Module):
    """Attention with a mask, between linear layers."""

    def __init__(self, mask: Mask, form: str) -> None:
        super().__init__()
        self.mask, self.weights = mask, WEIGHTS[form]
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = self.weights(q @ k.mT / 4, self.mask(m)) @ v
        return self.o(functional.relu(mixed.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("form", WEIGHTS)
@pytest.mark.parametrize("mask", [causal, of_queries, of_both, constant])
def test_numbers_and_fidelity_are_those_of_the_model(mask: Mask, form: str) -> None:
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    x = generator.standard_normal((SAMPLES, 2, ROWS, WIDTH), np.float32)
    m = (generator.random((SAMPLES, 2, ROWS)) > 0.4).astype(np.int64)
    # Padding at the left.
    m[:, 0, :3] = 0
    m[:, 1, 5] = 1
    model = Masked(mask, form).eval()
    example = torch.from_numpy(x[0]), torch.from_numpy(m[0])
    program = sta.compile(model, example, calibration={"x": x[1:], "m": m[1:]})
    with torch.no_grad():
        expected = model(*example).numpy()
    (output,) = program.run({one.name: {"x": x[0], "m": m[0]}[one.name] for one in program.inputs}).outputs.values()
    found = signal_to_noise(expected, output)
    assert found > 28
    assert program.fidelity is not None
    assert abs(program.fidelity.given - found) < 6
