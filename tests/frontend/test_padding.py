"""Padding that nothing reads: the same numbers, of less."""
# pyright: basic

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import pad

from sta.frontend.padding import leave_out_padding

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance")

CHUNK, LENGTH, WIDTH = 32, 5, 6


class Padded(nn.Module):
    """A function of a value ``[batch, rows, columns]`` whose rows are padded to a chunk, and cut again."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(pad(x, (0, 0, 0, CHUNK - x.shape[1])))[:, : x.shape[1]]


def elements(program: torch.export.ExportedProgram) -> int:
    """Elements of all values of a graph."""
    values: list[Any] = [node.meta.get("val") for node in program.graph.nodes if node.op == "call_function"]
    return sum(math.prod(value.shape) for value in values if isinstance(value, Tensor))


def compared(function: Callable[[Tensor], Tensor], sizes: tuple[int, int, int] = (2, LENGTH, WIDTH)) -> float:
    """Compares the numbers before and after, and returns the part of the elements that is left."""
    torch.manual_seed(0)
    x = torch.randn(*sizes)
    program = torch.export.export(Padded(function), (x,), strict=False).run_decompositions({})
    expected, before = program.module()(x), elements(program)
    leave_out_padding(program)
    program.graph.lint()
    program.graph_module.recompile()
    torch.testing.assert_close(program.module()(x), expected)
    return elements(program) / before


def of_state_space(x: Tensor) -> Tensor:
    """One chunk of Mamba-2 in its quadratic form (Dao and Gu 2024): a mask of decays times products, and a sum."""
    steps = x.sum(-1).cumsum(1)
    decays = steps.unsqueeze(2) - steps.unsqueeze(1)
    lower = torch.ones(CHUNK, CHUNK, dtype=torch.bool).tril()
    weights = decays.masked_fill(~lower, -torch.inf).exp() * torch.einsum("bid,bjd->bij", x, x)
    return torch.einsum("bij,bjd->bid", weights, x)


def of_delta_rule(x: Tensor) -> Tensor:
    """Forward substitution row by row, in place, as gated delta networks spell it (Yang et al. 2024)."""
    products = -(x @ x.mT / 8).tril(-1)
    for row in range(1, CHUNK):
        known = products[..., row, :row].clone()
        below = products[..., :row, :row].clone()
        products[..., row, :row] = known + (known.unsqueeze(-1) * below).sum(-2)
    return (products + torch.eye(CHUNK)) @ x


@pytest.mark.parametrize(("function", "most"), [(of_state_space, 0.35), (of_delta_rule, 0.1)])
def test_chunks_are_computed_as_far_as_they_are_filled(function: Callable[[Tensor], Tensor], most: float) -> None:
    # Masks of the whole chunk stay, which are constants.
    assert compared(function) < most


def test_what_reads_all_rows_gets_them() -> None:
    assert compared(lambda x: x.exp().mean(1, keepdim=True) + x) <= 1


def test_padding_that_is_no_zero_stays() -> None:
    class Filled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return pad(x, (0, 0, 0, 3), value=0.5).sum(1)

    x = torch.randn(2, LENGTH, WIDTH)
    program = torch.export.export(Filled(), (x,), strict=False).run_decompositions({})
    before = [str(node) for node in program.graph.nodes]
    leave_out_padding(program)
    assert [str(node) for node in program.graph.nodes] == before


STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "a part in its place": lambda x: x.select_scatter(x[:, 1], 1, 3),
    "a running total": lambda x: x.cumsum(1),
    "another axis of the chunk": lambda x: x.unsqueeze(1).expand(-1, 2, -1, -1).sum(1),
    "another value": lambda x: x + x[:, -1:],
    "concatenation": lambda x: torch.cat((x[:, :7], x[:, 7:].tanh()), 1),
    "exponential": lambda x: (-x.abs()).exp(),
    "order of axes": lambda x: x.permute(2, 0, 1).reshape(WIDTH, -1, CHUNK).permute(1, 2, 0),
    "product": lambda x: (x @ x.mT) @ x / 64,
    "product of columns": lambda x: x @ (x.mT @ x) / 64,
    "rows in chunks": lambda x: x.unflatten(1, (-1, 8)).tanh().flatten(1, 2),
    "selection": lambda x: torch.where(x > 0, x, x * x),
    "shifted": lambda x: torch.cat((torch.zeros_like(x[:, :1]), x[:, :-1]), 1),
    "softmax of rows": lambda x: x.softmax(1),
    "softmax of columns": lambda x: x.softmax(2),
    "steps": lambda x: x.slice_scatter(x[:, ::2].sin(), 1, 0, None, 2),
    "sum": lambda x: x * x.sum(1, keepdim=True),
    "summation": lambda x: torch.einsum("bid,bjd,bje->bie", x, x, x) / 64,
    "triangle": lambda x: (x @ x.mT).tril() @ x / 64,
}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=5),
    st.tuples(st.integers(1, 2), st.integers(1, CHUNK - 1), st.just(WIDTH)),
)
def test_drawn_functions_keep_their_numbers(names: list[str], sizes: tuple[int, int, int]) -> None:
    def function(x: Tensor) -> Tensor:
        for name in names:
            x = STEPS[name](x)
        return x

    compared(function, sizes)
