"""Folding: operations on constants become literals, operations without effect vanish."""

import numpy as np
import pytest
import torch
from torch import nn

from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import ImportedModel, import_model
from sta.passes.torch.fold_constants import TorchFoldConstantsPass
from tests.support.torch_modules import largest_difference, outputs_of, overloads


def folded(model: nn.Module, inputs: dict[str, np.ndarray], tolerance: float = 1e-6) -> ImportedModel:
    imported = import_model(model, dict(inputs))
    context = CompileContext(imported.weights)
    TorchFoldConstantsPass().apply(context, imported.module)
    imported.module.verify()
    assert largest_difference(run_torch(imported.module, context, inputs), outputs_of(model, inputs)) <= tolerance
    return imported


def literals(imported: ImportedModel) -> list[str | None]:
    return [operation.resource for operation in imported.module.walk() if isinstance(operation, dialect.LiteralOp)]


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.positions = nn.Embedding(8, 4)
        self.types = nn.Embedding(2, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        places = torch.arange(ids.shape[1]).unsqueeze(0)
        return self.words(ids) + self.types(torch.zeros_like(places)) + self.positions(places)


def test_embeddings_of_constants_become_one_addition() -> None:
    imported = folded(Positions().eval(), {"ids": np.array([[1, 2, 3]])})
    assert overloads(imported.module) == ["embedding", "add.Tensor"]
    assert literals(imported) == ["words.weight", "types.weight.folded"]
    assert imported.weights.get("types.weight.folded").shape == (1, 3, 4)
    # Only what the module still names was put into the store.
    new = set(imported.weights.names()) - {"words.weight", "positions.weight", "types.weight"}
    assert new == {"types.weight.folded"}


def test_folding_is_deterministic_and_a_second_time_changes_nothing() -> None:
    torch.manual_seed(1)  # pyright: ignore[reportUnknownMemberType]
    model = Positions().eval()
    first, second = (folded(model, {"ids": np.array([[1, 2, 3]])}) for _ in range(2))
    assert first.weights.names() == second.weights.names()
    TorchFoldConstantsPass().apply(CompileContext(second.weights), second.module)
    assert first.module.is_structurally_equivalent(second.module)


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.zero = nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.drop(x).contiguous().clone().detach().to(torch.float32).expand(2, 3)
        y = (y + self.zero) * 1
        return (self.zero + y).view(2, 3) + 0


def test_what_does_nothing_goes() -> None:
    imported = folded(Idle().eval(), {"x": np.ones((2, 3), np.float32)})
    assert overloads(imported.module) == []


class Constants(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(4))
        self.b = nn.Parameter(torch.randn(2, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a + (self.b + x) + self.a


def test_constants_are_gathered_on_the_right() -> None:
    imported = folded(Constants(), {"x": np.ones((2, 4), np.float32)})
    assert overloads(imported.module) == ["add.Tensor"]
    assert literals(imported) == ["b.folded"]


class Noise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand(3)


def test_random_numbers_are_no_constants() -> None:
    imported = import_model(Noise(), (torch.ones(3),))
    TorchFoldConstantsPass().apply(CompileContext(imported.weights), imported.module)
    assert "add.Tensor" in overloads(imported.module)
    assert len(overloads(imported.module)) > 1


class Split(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Parameter(torch.randn(2, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.both.chunk(2)
        return torch.nn.functional.relu(x + first) + second


def test_lists_of_constants_are_unpacked() -> None:
    imported = folded(Split(), {"x": np.ones((1, 4), np.float32)})
    assert overloads(imported.module) == ["add.Tensor", "relu", "add.Tensor"]
    assert literals(imported) == ["both.folded", "both.folded.2"]


@pytest.mark.parametrize("transposed", [True, False])
def test_a_weight_that_is_transposed_for_a_product_stays(transposed: bool) -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight.t() if transposed else x + self.weight.t()

    imported = folded(Product(), {"x": np.ones((4, 4), np.float32)})
    assert literals(imported) == (["weight"] if transposed else ["weight.folded"])


def test_constants_of_the_shape_of_an_input_do_not_depend_on_it() -> None:
    class Filled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.full_like(x, 3.0) + x.new_ones(1, 4) + torch.zeros_like(x)

    imported = folded(Filled(), {"x": np.ones((1, 4), np.float32)})
    assert overloads(imported.module) == ["add.Tensor"]
