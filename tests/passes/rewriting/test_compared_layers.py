"""Layers whose results are compared with one another."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import import_model
from sta.passes.rewriting.compared_layers import refine_compared_layers
from sta.passes.rewriting.torch_operations import array_of, operations_of
from sta.passes.torch.fold_constants import fold_constants
from tests.support.torch_modules import largest_difference, outputs_of

X = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)


class Router(nn.Module):
    """Two layers, the second of which gives scores."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.scores = nn.Linear(8, 8), nn.Linear(8, 5)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.scores(torch.tanh(self.first(x))))


def refined(function: Callable[[Tensor], Tensor]) -> list[tuple[bool, bool, np.ndarray]]:
    """Each linear layer: whether it reads 16 bits and has a bias, and its weight; the numbers stay the same."""
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]  # of torch, without types
    model = Router(function).eval()
    imported = import_model(model, {"x": torch.tensor(X)})
    fold_constants(imported.module, imported.weights)
    refine_compared_layers(operations_of(imported.module), imported.weights)
    imported.module.verify()
    found = run_torch(imported.module, CompileContext(imported.weights), {"x": X})
    assert largest_difference(found, outputs_of(model, {"x": X})) < 1e-5
    layers: list[tuple[bool, bool, np.ndarray]] = []
    for one in operations_of(imported.module):
        if isinstance(one, dialect.LinearOp):
            weight = array_of(one.weight, imported.weights)
            assert weight is not None
            is_wide = dialect.INT16_INPUT in one.attributes
            layers.append((is_wide, not isinstance(one.bias.type, dialect.NoneType), weight))
    return layers


def best(scores: Tensor) -> Tensor:
    return torch.topk(scores, 2)[0].sum(-1)


def best_probabilities(scores: Tensor) -> Tensor:
    return torch.topk(scores.softmax(-1) + torch.arange(5) / 7, 2)[0].sum(-1)


@pytest.mark.parametrize("function", [best, best_probabilities])
def test_scores_of_a_choice_are_a_sum_of_two_layers(function: Callable[[Tensor], Tensor]) -> None:
    first, *parts = refined(function)

    assert not first[0]
    assert [one[:2] for one in parts] == [(True, True), (True, False)]
    rounded, rest = (weight for _, _, weight in parts)
    steps = np.abs(rounded).max(axis=1, keepdims=True) / 127
    np.testing.assert_allclose(rounded / steps, np.rint(rounded / steps), atol=1e-4)
    assert (np.abs(rest) <= steps * 0.501).all()
    assert np.abs(rest).max() > 0


def folded_at_a_number(scores: Tensor) -> Tensor:
    return torch.where(scores > 0.1, scores, -scores)


@pytest.mark.parametrize("function", [torch.relu, folded_at_a_number])
def test_scores_compared_with_numbers_stay(function: Callable[[Tensor], Tensor]) -> None:
    assert [one[0] for one in refined(function)] == [False, False]
