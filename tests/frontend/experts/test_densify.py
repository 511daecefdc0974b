"""Tests for mixtures of experts, against PyTorch."""
# pyright: basic

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers.integrations.moe  # noqa: F401  # registers grouped_mm_fallback
from torch import nn
from torch.fx import Interpreter

import sta
from sta.frontend.experts.densify import densify_experts
from sta.frontend.graph_builder import erase_assertions

TOKENS, WIDTH, EXPERTS, SLOTS = 6, 16, 5, 2
GONE = ("topk", "argmax", "sort", "histc", "index_put", "gather", "scatter", "grouped_mm")

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance")

Routing = Callable[["Mixture", torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class Mixture(nn.Module):
    """Slots sorted by expert, and grouped products, as Hugging Face's models dispatch them."""

    def __init__(self, routing: Routing, slots: int = SLOTS, has_bias: bool = False) -> None:
        super().__init__()
        self.routing, self.slots = routing, slots
        self.router = nn.Linear(WIDTH, EXPERTS)
        self.correction = nn.Parameter(torch.randn(EXPERTS) / 4)
        self.up = nn.Parameter(torch.randn(EXPERTS, WIDTH, 24) / 4)
        self.down = nn.Parameter(torch.randn(EXPERTS, 12, WIDTH) / 4)
        self.bias = nn.Parameter(torch.randn(EXPERTS, WIDTH)) if has_bias else None

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """The mixture of `[tokens, width]`."""
        weights, experts = self.routing(self, self.router(rows))
        ids, order = torch.sort(experts.reshape(-1))
        ends = torch.cumsum(torch.histc(ids.float(), EXPERTS, 0, EXPERTS - 1), 0, dtype=torch.int32)
        product = torch.ops.transformers.grouped_mm_fallback
        gate, up = product(rows[order // self.slots], self.up, ends).chunk(2, -1)
        result = product(nn.functional.silu(gate) * up, self.down, ends)
        if self.bias is not None:
            result = result + self.bias[ids]
        result = result * weights.reshape(-1)[order].unsqueeze(-1)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(len(order))
        return result[inverse].view(len(rows), self.slots, WIDTH).sum(1)


def _normalized(model: Mixture, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    best, experts = torch.topk(scores.softmax(-1), model.slots)
    return best / best.sum(-1, keepdim=True), experts


def _softmax_of_best(model: Mixture, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    best, experts = torch.topk(scores, model.slots)
    return best.softmax(-1), experts


def _corrected(model: Mixture, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    chances = scores.sigmoid()
    experts = torch.topk(chances + model.correction, model.slots, sorted=False)[1]
    weights = chances.gather(1, experts)
    return weights / (weights.sum(-1, keepdim=True) + 1e-20) * 1.5, experts


def _least(model: Mixture, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.topk(scores, model.slots, largest=False)


def _one_after_the_other(model: Mixture, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    first = scores.argmax(-1, keepdim=True)
    _, second = scores.scatter(-1, first, float("-inf")).max(-1, keepdim=True)
    chances = scores.softmax(-1)
    weights = torch.cat([chances.gather(-1, first), scores.tanh().gather(-1, second)], -1)
    return weights, torch.cat([first, second], -1)


def _from_dense(model: Mixture, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    best, experts = torch.topk(scores, model.slots)
    dense = torch.zeros_like(scores).scatter(1, experts, best.sigmoid())
    return (dense * 2).gather(1, experts), experts


ROUTINGS = [_normalized, _softmax_of_best, _corrected, _least, _one_after_the_other, _from_dense]


def _densified(model: nn.Module, *inputs: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """The rewritten program of a model, and what it computes."""
    program = torch.export.export(model.eval(), inputs).run_decompositions({})
    erase_assertions(program)
    densify_experts(program)
    program.graph.lint()
    state = {**program.state_dict, **program.constants}
    given = iter(inputs)
    arguments = [
        next(given) if one.target is None else state[one.target] for one in program.graph_signature.input_specs
    ]
    with torch.no_grad():
        return program, Interpreter(program.graph_module).run(*arguments)[0]


def _left(program: Any) -> list[str]:
    return [str(node.target) for node in program.graph.nodes if any(name in str(node.target) for name in GONE)]


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("routing", ROUTINGS)
def test_a_mixture_has_the_same_numbers_without_indices(routing: Routing, has_bias: bool) -> None:
    torch.manual_seed(0)
    model = Mixture(routing, has_bias=has_bias)
    rows = torch.randn(TOKENS, WIDTH)

    program, result = _densified(model, rows)

    assert _left(program) == []
    torch.testing.assert_close(result, model(rows), rtol=1e-5, atol=1e-5)


def test_all_experts_may_be_chosen() -> None:
    torch.manual_seed(1)
    model, rows = Mixture(_normalized, slots=EXPERTS), torch.randn(TOKENS, WIDTH)

    program, result = _densified(model, rows)

    assert _left(program) == []
    torch.testing.assert_close(result, model(rows), rtol=1e-5, atol=1e-5)


class _Listed(Mixture):
    """Experts that depend on the token's id, with one expert in several slots."""

    def forward(self, rows: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """The mixture of `[tokens, width]`; the ids of the tokens are integers."""
        self.routing = lambda model, scores: _of_table(model, scores, ids)
        return super().forward(rows)


def _of_table(model: Mixture, scores: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    experts = torch.tensor([[0, 0], [1, 4], [3, 3]])[ids]
    return scores.gather(1, experts), experts


def test_experts_listed_by_integers_may_be_equal() -> None:
    torch.manual_seed(2)
    model, rows, ids = _Listed(_normalized), torch.randn(TOKENS, WIDTH), torch.tensor([0, 1, 2, 2, 1, 0])

    program, result = _densified(model, rows, ids)

    assert _left(program) == []
    torch.testing.assert_close(result, model(rows, ids), rtol=1e-5, atol=1e-5)


class _Grouped(Mixture):
    """A group of slots for each expert, slots that are told apart in the middle, and sums by token at the end."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """The mixture of `[tokens, width]`."""
        weights, experts = self.routing(self, self.router(rows))
        mask = torch.zeros(len(rows), EXPERTS).scatter(1, experts, 1)
        sizes = mask.long().sum(0).tolist()
        order = torch.sort(experts.flatten())[1]
        tokens = order.div(self.slots, rounding_mode="trunc")
        groups = rows[tokens].split(sizes, 0)
        joined = torch.cat([torch.tanh(group @ self.up[expert]) for expert, group in enumerate(groups)])
        slots = torch.zeros(len(order), 24).index_add(0, order, joined).view(len(rows), self.slots, 2, 12)
        slots = torch.cat((slots[..., 6:], -slots[..., :6]), -1)
        # Of heads, two to a slot, each reads the one before.
        heads = slots.reshape(len(rows), self.slots * 2, 12)
        told = (heads + heads.roll(1, 1)).view(len(order), 2, 12).sum(1)
        groups = told[order].split(sizes, 0)
        layers = [nn.functional.linear(group, self.down[expert].mT) for expert, group in enumerate(groups)]
        weighted = torch.cat(layers) * weights.flatten()[order].unsqueeze(1)
        return torch.zeros(len(rows), WIDTH).index_add(0, tokens, weighted)


@pytest.mark.parametrize("routing", [_softmax_of_best, _normalized])
def test_slots_may_be_split_into_groups(routing: Routing) -> None:
    torch.manual_seed(5)
    model, rows = _Grouped(routing), torch.randn(TOKENS, WIDTH)

    program, result = _densified(model, rows)

    assert _left(program) == []
    torch.testing.assert_close(result, model(rows), rtol=1e-5, atol=1e-5)


class _Values(nn.Module):
    """The best values themselves: single ones, and sums of groups."""

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        """A number for each of 8 scores of a token."""
        groups = scores.view(-1, 4, 2)
        chosen = torch.topk(groups.topk(2, dim=-1)[0].sum(-1), 2, sorted=False)[1]
        kept = torch.zeros(len(scores), 4).scatter(1, chosen, 1.0)
        best = torch.topk(scores, 3)[0]
        return groups.mul(kept.unsqueeze(-1)).flatten(1) + best[:, :1] - best[:, 1:].mean(-1, keepdim=True)


def test_values_and_groups() -> None:
    torch.manual_seed(3)
    scores = torch.randn(TOKENS, 8)

    program, result = _densified(_Values(), scores)

    assert _left(program) == []
    torch.testing.assert_close(result, _Values()(scores), rtol=1e-5, atol=1e-5)


class _Told(nn.Module):
    """Slots that are told apart."""

    def forward(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The best two, weighted by their places, and the best three as they are."""
        return torch.topk(scores, 2)[0] * torch.tensor([2.0, 1.0]), torch.topk(scores, 3)[0]


def test_slots_may_be_told_apart() -> None:
    torch.manual_seed(4)
    scores = torch.randn(TOKENS, 8)

    program, result = _densified(_Told(), scores)

    assert _left(program) == []
    torch.testing.assert_close(result, _Told()(scores)[0], rtol=1e-6, atol=1e-6)


class _Indices(nn.Module):
    """Numbers of experts as an output."""

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        """The best two."""
        return torch.topk(scores, 2)[1]


def test_indices_that_are_an_output_stay() -> None:
    scores = torch.randn(TOKENS, 8)

    program, result = _densified(_Indices(), scores)

    assert _left(program) == ["aten.topk.default"]
    assert torch.equal(result, _Indices()(scores))


def test_a_mixture_compiles() -> None:
    torch.manual_seed(4)
    model, samples = Mixture(_normalized).eval(), torch.randn(4, TOKENS, WIDTH)

    program = sta.compile(model, (samples[0],), calibration={"rows": samples.numpy()}, check=True)

    with torch.no_grad():
        expected = model(samples[0]).numpy()
    (result,) = program.run({"rows": samples[0].numpy()}).outputs.values()
    assert np.abs(result - expected).max() < 0.05 * np.abs(expected).max()
