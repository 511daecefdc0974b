"""Complex numbers, spelled with their real and imaginary parts: the same numbers, and nothing complex left."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from xdsl.dialects.builtin import ComplexType

import sta
from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import import_model
from sta.passes.rewriting.torch_operations import operations_of
from sta.passes.torch.canonicalize_views import canonicalize_views
from sta.passes.torch.decompose_complex import decompose_complex
from sta.passes.torch.fold_constants import fold_constants
from sta.passes.torch.recognize_rotations import recognize_rotations
from tests.support.torch_modules import outputs_of, signal_to_noise

Function = Callable[[Tensor, Tensor], Tensor]
ROWS, WIDTH = 5, 8
ANGLES = torch.outer(torch.arange(ROWS).float() + 1, 1 / 10 ** torch.linspace(0, 1, WIDTH // 2))
TURNS = torch.polar(torch.ones_like(ANGLES), ANGLES)
X, Y = np.random.default_rng(0).normal(size=(2, 2, 3, ROWS, WIDTH)).astype(np.float32)


class Model(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.project = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.function(self.project(x), y)


def pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))


def rotated(x: Tensor, y: Tensor) -> Tensor:
    return torch.view_as_real(pairs(x) * TURNS).flatten(3)


SPELLED: dict[str, Function] = {
    "rotation": rotated,
    "two products": lambda x, y: torch.view_as_real(pairs(x) * pairs(y) * TURNS),
    "sum and difference": lambda x, y: torch.view_as_real(pairs(x) + TURNS - pairs(y)),
    "product with real numbers": lambda x, y: torch.view_as_real(pairs(x) * y[..., :4] + 2 * TURNS),
    "sum with real numbers": lambda x, y: torch.view_as_real(y[..., :4] - pairs(x)),
    "rearrangements": lambda x, y: torch.view_as_real(pairs(x).transpose(1, 2)[:, 1:] * TURNS[1:, None]),
}


def decomposed(model: nn.Module) -> Any:
    imported = import_model(model, {"x": torch.tensor(X), "y": torch.tensor(Y)})
    for rewrite in (fold_constants, canonicalize_views, decompose_complex):
        rewrite(imported.module, imported.weights)
        imported.module.verify()
    return imported


@pytest.mark.parametrize("name", SPELLED)
def test_complex_numbers_are_spelled_with_real_ones(name: str) -> None:
    model = Model(lambda x, y: SPELLED[name](x, y) + y.mean()).eval()
    imported = decomposed(model)
    (found,) = run_torch(imported.module, CompileContext(imported.weights), {"x": X, "y": Y}).values()
    np.testing.assert_allclose(found, outputs_of(model, {"x": X, "y": Y})["output"], rtol=1e-5, atol=1e-5)
    kinds = [value.type for one in operations_of(imported.module) for value in one.results]
    elements = [kind.element_type for kind in kinds if isinstance(kind, dialect.VTensorType) and kind.sizes]
    assert not any(isinstance(element, ComplexType) for element in elements)


def test_a_product_with_constants_is_a_rotation() -> None:
    imported = decomposed(Model(lambda x, y: rotated(x, y) + y).eval())
    recognize_rotations(imported.module, imported.weights)
    found = [one for one in imported.module.walk() if isinstance(one, dialect.RotateOp)]
    assert [(one.pairing.data, one.width) for one in found] == [("interleaved", WIDTH)]


def test_what_is_spelled_compiles() -> None:
    model, inputs = Model(SPELLED["two products"]).eval(), {"x": X, "y": Y}
    program = sta.compile(model, inputs, calibration={"x": X[None], "y": Y[None]}, check=True)
    assert signal_to_noise(outputs_of(model, inputs)["output"], program.run(inputs).outputs["output"]) > 40
