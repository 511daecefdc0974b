"""Forward substitution as exported models of linear attention spell it, as products."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sta
from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import import_model
from sta.passes.rewriting.torch_operations import operations_of
from sta.passes.torch.canonicalize_views import canonicalize_views
from sta.passes.torch.fold_constants import fold_constants
from sta.passes.torch.recognize_inverses import recognize_inverses
from tests.support.torch_modules import outputs_of, overloads, signal_to_noise

Function = Callable[[Tensor], Tensor]


class Model(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * 0.5) @ x


def substituted(matrices: Tensor) -> Tensor:
    """As Qwen 3.5 makes the matrices of its delta rule."""
    for row in range(1, matrices.shape[-1]):
        own, before = matrices[..., row, :row].clone(), matrices[..., :row, :row].clone()
        matrices[..., row, :row] = own + (own.unsqueeze(-1) * before).sum(-2)
    return matrices


def of_the_lower_triangle(x: Tensor) -> Tensor:
    return substituted(-x.tril(-1)) + torch.eye(x.shape[-1])


def with_the_diagonal(x: Tensor) -> Tensor:
    return substituted(-x.tril())


def of_all_but_the_last_row(x: Tensor) -> Tensor:
    matrices = -x.tril(-1)
    substituted(matrices[..., :-1, :-1])
    return matrices


def drawn(*sizes: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=sizes).astype(np.float32)


def products(function: Function, x: np.ndarray) -> int:
    """The number of products behind the pass, which keeps the numbers; nothing but them if rows are left."""
    model = Model(function)
    imported = import_model(model, {"x": torch.tensor(x)})
    for rewrite in (fold_constants, canonicalize_views, recognize_inverses):
        rewrite(imported.module, imported.weights)
        imported.module.verify()
    (found,) = run_torch(imported.module, CompileContext(imported.weights), {"x": x}).values()
    np.testing.assert_allclose(found, outputs_of(model, {"x": x})["output"], rtol=1e-4, atol=1e-4)
    count = sum(isinstance(one, dialect.MatmulOp) for one in operations_of(imported.module))
    assert ("select_scatter" in overloads(imported.module)) == (count == 1)
    return count


@pytest.mark.parametrize(("size", "expected"), [(3, 0), (4, 2), (5, 4), (8, 4), (13, 6)])
def test_substitution_is_a_logarithmic_number_of_products(size: int, expected: int) -> None:
    assert products(of_the_lower_triangle, drawn(2, 3, size, size)) == 1 + expected


@pytest.mark.parametrize("function", [with_the_diagonal, of_all_but_the_last_row])
def test_what_is_no_inverse_stays(function: Function) -> None:
    assert products(function, drawn(2, 6, 6)) == 1


def test_substitution_compiles() -> None:
    model, x = Model(of_the_lower_triangle), drawn(2, 8, 8)
    program = sta.compile(model, {"x": x}, calibration={"x": x[None]}, check=True)
    assert signal_to_noise(outputs_of(model, {"x": x})["output"], program.run({"x": x}).outputs["output"]) > 35
