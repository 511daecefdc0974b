"""Tests for rows that a mask chooses, against PyTorch."""
# pyright: basic
# torch.fx and torch.export have no complete types.

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx import Interpreter
from torch.nn import functional as F

from sta.frontend.chosen_rows import keep_all_rows
from sta.frontend.graph_builder import erase_assertions

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance")

WIDTH = 8
WEIGHT = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(1))
IDS = torch.tensor([[3, 7, 7, 1, 0], [7, 2, 2, 2, 7]])


def _scattered(x: Tensor, ids: Tensor) -> Tensor:
    mask = ids == 7
    chosen = F.rms_norm(x[mask], (WIDTH,)) + WEIGHT[0]
    x = x.masked_scatter(mask.unsqueeze(-1), chosen)
    return x.masked_scatter(~mask.unsqueeze(-1), F.linear(x[~mask], WEIGHT, WEIGHT[1]).tanh())


def _put(x: Tensor, ids: Tensor) -> Tensor:
    rows, mask = x.clone(), ids == 7
    rows[mask] = (x[mask] - x[mask].mean(-1, keepdim=True)) * x[mask].softmax(1)
    rows[~mask] += 1.5
    return rows


def _sum_of_rows(x: Tensor, ids: Tensor) -> Tensor:
    return x[ids == 7].sum(0)


def _other_rows(x: Tensor, ids: Tensor) -> Tensor:
    return x.masked_scatter((ids == 2).unsqueeze(-1), x[ids != 7])


class _Model(nn.Module):
    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        return self.function(x, ids)


def _rewritten(function: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> tuple[bool, Tensor]:
    """True if rows are still chosen, and the result."""
    program = torch.export.export(_Model(function).eval(), (x, IDS)).run_decompositions({})
    erase_assertions(program)
    keep_all_rows(program)
    program.graph.lint()
    given = iter((x, IDS))
    state = {**program.state_dict, **program.constants}
    arguments = [
        next(given) if one.target is None else state[one.target] for one in program.graph_signature.input_specs
    ]
    left = any(str(node.target) == "aten.index.Tensor" for node in program.graph.nodes)
    with torch.no_grad():
        return left, Interpreter(program.graph_module).run(*arguments)[0]


@pytest.mark.parametrize("function", [_scattered, _put])
def test_all_rows_have_the_numbers_of_the_chosen_ones(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    x = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(0))

    left, result = _rewritten(function, x)

    assert not left
    torch.testing.assert_close(result, function(x, IDS))


@pytest.mark.parametrize("function", [_sum_of_rows, _other_rows])
def test_rows_that_meet_others_stay_chosen(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    x = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(0))

    left, result = _rewritten(function, x)

    assert left
    torch.testing.assert_close(result, function(x, IDS))
