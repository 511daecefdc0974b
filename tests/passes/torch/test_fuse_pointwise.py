"""Functions of one value as one operation: what is joined, and what stays."""

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
from sta.passes.rewriting.torch_operations import operations_of
from sta.passes.torch.fold_constants import fold_constants
from sta.passes.torch.fuse_pointwise import fuse_pointwise
from tests.support.torch_modules import overloads, parse, printed

F = nn.functional
Function = Callable[[Tensor], Tensor]

X = torch.linspace(-4, 4, 48).reshape(2, 3, 8)


class Model(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def fused(function: Function) -> list[dialect.PointwiseOp]:
    """The functions in a model of `function`, whose numbers are those of PyTorch before and behind the pass."""
    model = Model(function)
    imported = import_model(model, {"x": X})
    fold_constants(imported.module, imported.weights)
    fuse_pointwise(imported.module, imported.weights)
    imported.module.verify()
    (found,) = run_torch(imported.module, CompileContext(imported.weights), {"x": X.numpy()}).values()
    np.testing.assert_allclose(found, model(X).numpy(), rtol=1e-6, atol=1e-6)
    again = parse(printed(imported.module), CompileContext(imported.weights))
    assert printed(again) == printed(imported.module)
    return [one for one in operations_of(imported.module) if isinstance(one, dialect.PointwiseOp)]


ACTIVATIONS: dict[str, Function] = {
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu squared": lambda x: F.relu(x).square(),
    "mish": F.mish,
    "softplus": F.softplus,
    "elu": F.elu,
    "celu": lambda x: F.celu(x, 0.5),
    "leaky relu": lambda x: F.leaky_relu(x, 0.2),
    "hard sigmoid": F.hardsigmoid,
    "relu6": F.relu6,
    "clamp": lambda x: x.clamp(-1, 0.5),
    "log sigmoid": F.logsigmoid,
    "xielu": lambda x: torch.where(
        x > 0, 0.8 * x * x + 0.5 * x, (torch.expm1(torch.min(x, torch.tensor(-1e-6))) - x) * 0.8 + 0.5 * x
    ),
    "soft cap": lambda x: torch.tanh(x / 5) * 5,
    "reciprocal": lambda x: 1 / (x * x + 1),
    "masked": lambda x: x.masked_fill(x < 0.3, float("-inf")).exp(),
    "gate": lambda x: x * (x > 0),
    "logic": lambda x: torch.where((x > -1) & ~(x >= 2) | (x == 3), x, torch.zeros(())),
    "integers": lambda x: (x * 3).round().to(torch.int32).to(torch.float32) / 3,
    "negated": lambda x: -x,
    "difference from a number": lambda x: 1 - x,
    "doubles": lambda x: torch.full((1, 8), 2.0) ** x,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_function_of_one_value_is_one_operation(name: str) -> None:
    (found,) = fused(ACTIVATIONS[name])
    assert found.refusal is None
    with torch.no_grad():
        expected = ACTIVATIONS[name](X).numpy()
    np.testing.assert_allclose(found.function(X.double().numpy()), expected, rtol=1e-6, atol=1e-6)


KEPT: list[Function] = [F.gelu, lambda x: x * 2, lambda x: x / 3, lambda x: x - 1, lambda x: x * x, lambda x: x + 1]


@pytest.mark.parametrize("function", KEPT)
def test_what_the_machine_computes_anyway_stays(function: Function) -> None:
    assert fused(function) == []


def test_a_function_that_is_needed_by_itself_is_an_operation_of_its_own() -> None:
    first, second = fused(lambda x: torch.cat([x.exp().reshape(2, 24), (x.exp() + 1).log().reshape(2, 24)]))
    assert (first.expression.data, second.function.calls[-1].name) == ("aten.exp(x)", "aten.log")
    assert first.input is second.input


def test_functions_of_two_values_are_not_joined() -> None:
    found = fused(lambda x: torch.exp(x[:1]) * torch.exp(x[1:]))
    assert [one.expression.data for one in found] == ["aten.exp(x)", "aten.exp(x)"]


def test_a_row_of_numbers_is_no_number() -> None:
    row = torch.arange(8.0)
    found = fused(lambda x: torch.exp(x + row).sqrt())
    assert [len(one.function.calls) for one in found] == [2]


def test_numbers_do_not_add_axes() -> None:
    assert all(one.result.type.rank == 3 for one in fused(lambda x: torch.exp(x) * torch.full((1, 1, 1, 1), 2.0)))


def test_masks_of_integer_inputs_stay() -> None:
    class Masked(nn.Module):
        def forward(self, mask: Tensor) -> Tensor:
            return torch.where(mask == 0, 1.0, 0.5) * 2

    imported = import_model(Masked(), {"mask": torch.ones(2, 8, dtype=torch.int64)})
    before = overloads(imported.module)
    fuse_pointwise(imported.module, imported.weights)
    assert [one for one in overloads(imported.module) if one not in before] == []
