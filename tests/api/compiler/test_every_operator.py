"""Every row of the operator table, in models nobody tuned the compiler to: the same bits at all levels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sta.api.compiler.compilation import compile_model
from sta.dialect.interpreters.torch import operation_name
from sta.frontend.model import import_model
from sta.spec.operators.operator import Role
from sta.spec.operators.registry import operators
from tests.support.random_operations import OPERATIONS

ELSEWHERE = {
    "aten.embedding": "takes ids: tests.support.random_models",
    "aten.to.dtype_layout": "torch-mlir's own spelling of aten.to, which a graph of PyTorch never has",
}
"""Operators that no function of one value reaches, with the reason."""
BRIEF = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
THOROUGH = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Sums(nn.Module):
    """A linear layer, and functions of its result, added to it one after the other."""

    def __init__(self, names: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.names = names
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.linear(x)
        for name in self.names:
            hidden = hidden + OPERATIONS[name](hidden)
        return hidden


def test_every_row_is_in_use() -> None:
    class All(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return tuple(function(x) for function in OPERATIONS.values())

    exported = torch.export.export(All(), (torch.randn(2, 5, 7),), strict=False)
    used = {str(node.target).removesuffix(".default") for node in exported.graph.nodes}
    used |= {operation_name(one).removeprefix("torch.") for one in import_model(exported).module.walk()}
    rows = {name for name, row in operators().items() if row.role is not Role.CONSTANT}
    assert rows - used == set(ELSEWHERE)


def keeps_its_bits(names: tuple[str, ...], sizes: tuple[int, int, int], seed: int) -> None:
    """Compiles with the check on, which compares the integers of all levels, both engines and two poison values."""
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    samples = torch.randn(3, *sizes)
    compilation = compile_model(
        Sums(names, sizes[-1]).eval(), (samples[0],), calibration={"x": samples.numpy()}, check=True
    )
    assert compilation.program is not None
    compilation.program.check_races()


DRAWN = (
    st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=3).map(tuple),
    st.tuples(st.integers(1, 3), st.integers(2, 19), st.integers(2, 70)),
    st.integers(0, 2**31 - 1),
)


@BRIEF
@given(*DRAWN)
def test_drawn_operators_keep_their_bits(names: tuple[str, ...], sizes: tuple[int, int, int], seed: int) -> None:
    keeps_its_bits(names, sizes, seed)


@pytest.mark.slow
@THOROUGH
@given(*DRAWN)
def test_many_drawn_operators_keep_their_bits(names: tuple[str, ...], sizes: tuple[int, int, int], seed: int) -> None:
    keeps_its_bits(names, sizes, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operator_keeps_its_bits(name: str) -> None:
    keeps_its_bits((name,), (3, 5, 7), 1)
