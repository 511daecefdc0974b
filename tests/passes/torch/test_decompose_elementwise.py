"""Operators of several values, spelled with sums, products and functions of one: the same numbers, and nothing left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import sta
from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import import_model
from sta.passes.rewriting.torch_operations import operations_of
from sta.passes.torch.decompose_elementwise import decompose_elementwise
from sta.passes.torch.fold_constants import fold_constants
from sta.passes.torch.fuse_pointwise import fuse_pointwise
from sta.spec.operators.operator import Role
from tests.support.torch_modules import outputs_of, overloads, signal_to_noise

F = nn.functional
Function = Callable[[Tensor, Tensor], Tensor]

RANDOM = np.random.default_rng(0)
X, Y = (RANDOM.normal(size=(2, 3, 8)).astype(np.float32) for _ in range(2))


class Model(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.function(x, y)


def spelled(function: Function, x: np.ndarray = X, y: np.ndarray = Y) -> list[str]:
    """The operators of a model behind the pass, which has the numbers of PyTorch."""
    model = Model(function)
    imported = import_model(model, {"x": torch.tensor(x), "y": torch.tensor(y)})
    fold_constants(imported.module, imported.weights)
    decompose_elementwise(imported.module, imported.weights)
    fuse_pointwise(imported.module, imported.weights)
    fold_constants(imported.module, imported.weights)
    imported.module.verify()
    (found,) = run_torch(imported.module, CompileContext(imported.weights), {"x": x, "y": y}).values()
    np.testing.assert_allclose(found, outputs_of(model, {"x": x, "y": y})["output"], rtol=1e-5, atol=1e-6)
    rows = [dialect.find_row(operation) for operation in operations_of(imported.module)]
    left = {Role.SELECTION, Role.COMPARISON, Role.FUNCTION, Role.ARITHMETIC}
    assert [row.name for row in rows if row is not None and row.role in left] == []
    return overloads(imported.module)


STEPS = torch.arange(8)

SPELLED: dict[str, Function] = {
    "quotient": lambda x, y: x / (y.abs() + 0.5),
    "quotient of a row": lambda x, y: (STEPS + 1.0) / (y.abs() + 0.5) * x,
    "rounded quotient": lambda x, y: torch.div(x, y.abs() + 0.5, rounding_mode="floor"),
    "power": lambda x, y: (x.abs() + 0.1) ** y,
    "prelu": lambda x, y: F.prelu(x, torch.tensor([0.1, 0.2, 0.3])) + y,
    "greater": lambda x, y: (x > y).float(),
    "equal": lambda x, y: (x == torch.maximum(x, y)).float(),
    "greater than a row": lambda x, y: (x > STEPS / 8).float() * y,
    "where": lambda x, y: torch.where(x > y, x, y * 2),
    "where of numbers": lambda x, y: torch.where(x > y, 2.0, -1.0),
    "where of a number": lambda x, y: torch.where(x > y, x, 3.0),
    "where of zero": lambda x, y: torch.where(y > 0, x, torch.zeros(())),
    "where of a column": lambda x, y: torch.where(y[..., :1] > 0, x, torch.zeros(())),
    "where of a column and a row": lambda x, y: torch.where(x[:, :, :1] > 0, STEPS / 8, y),
    "and": lambda x, y: torch.where((x > 0) & (y > 0), x, 0.5),
    "or": lambda x, y: ((x > 0) | (y > 0.5)) * x,
    "xor": lambda x, y: (x > 0) ^ (y > 0),
    "not": lambda x, y: torch.where(~((x > 0) & (y > 0)), x, y),
    "triangle": lambda x, y: torch.tril(x, 2) - y.triu(-1),
    "constant and": lambda x, y: torch.where((x > y) & (STEPS % 2 == 0), x, y),
    "masked": lambda x, y: x.masked_fill(y > 0, -2.0),
    "masked by a constant": lambda x, y: x.masked_fill(STEPS % 3 == 0, -1.0) + y,
    "chosen by a constant": lambda x, y: torch.where(STEPS % 3 == 0, x, y),
    "infinite under exp": lambda x, y: x.masked_fill(y > 0, float("-inf")).exp(),
    "infinite where exp would be, too": lambda x, y: (1000 * x).masked_fill(x > 0, float("-inf")).exp() + y,
    "infinite under two": lambda x, y: torch.where(y > 0, x, torch.finfo(torch.float32).min).sigmoid().sqrt(),
}


@pytest.mark.parametrize("name", SPELLED)
def test_operators_of_two_values_are_spelled_with_others(name: str) -> None:
    function = SPELLED[name]
    spelled(lambda x, y: function(x, y) + x * 0)


@pytest.mark.parametrize(
    "name",
    ["quotient", "where", "where of a column and a row", "or", "masked by a constant", "infinite under exp", "prelu"],
)
def test_what_is_spelled_compiles(name: str) -> None:
    model, inputs = Model(SPELLED[name]), {"x": X, "y": Y}
    program = sta.compile(model, inputs, calibration={"x": X[None], "y": Y[None]}, check=True)
    assert signal_to_noise(outputs_of(model, inputs)["output"], program.run(inputs).outputs["output"]) > 45


def test_an_infinite_number_among_others_stays_and_is_refused() -> None:
    model = Model(lambda x, y: torch.where(x > y, x, float("-inf")))
    with pytest.raises(ValueError, match=r"aten\.where"):
        sta.compile(model, {"x": X, "y": Y}, calibration={"x": X[None], "y": Y[None]})


def test_a_difference_of_two_values_is_one_operation() -> None:
    assert spelled(lambda x, y: x - y) == ["sub.Tensor"]
    assert spelled(torch.maximum) == ["maximum"]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum]),
    st.lists(st.tuples(st.sampled_from([1, 3, 4]), st.booleans(), st.booleans()), min_size=1, max_size=3),
    st.integers(0, 2),
)
def test_values_broadcast_along_any_axis(how: Any, axes: list[tuple[int, bool, bool]], dropped: int) -> None:
    x = RANDOM.normal(size=[1 if first and not second else size for size, first, second in axes])
    y = RANDOM.normal(size=[1 if second and not first else size for size, first, second in axes])
    y = y.reshape(y.shape[min(dropped, y.ndim - 1) :]) if all(size == 1 for size in y.shape[:dropped]) else y
    spelled(how, x.astype(np.float32), y.astype(np.float32))
