"""One spelling for rearrangements, and for products with weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import ImportedModel, import_model
from sta.passes.torch.canonicalize_views import TorchCanonicalizeViewsPass
from sta.passes.torch.fold_constants import fold_constants
from tests.support.torch_modules import largest_difference, outputs_of, overloads

VIEWS = {"view", "permute", "slice.Tensor"}


def canonical(model: nn.Module, inputs: dict[str, np.ndarray]) -> ImportedModel:
    imported = import_model(model, dict(inputs))
    context = CompileContext(imported.weights)
    fold_constants(imported.module, imported.weights)
    TorchCanonicalizeViewsPass().apply(context, imported.module)
    imported.module.verify()
    assert largest_difference(run_torch(imported.module, context, inputs), outputs_of(model, inputs)) < 1e-5
    return imported


class Rearranged(nn.Module):
    def __init__(self, how: Any) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: torch.Tensor) -> Any:
        return self.how(x)


def flattened(x: torch.Tensor) -> Any:
    flat: torch.Tensor = x.flatten(1).unflatten(1, (2, 2, 3))  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return flat.reshape((2, 12))  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def squeezed(x: torch.Tensor) -> Any:
    return x.unsqueeze(0).transpose(0, 2).squeeze(2).unsqueeze(-1)


def there_and_back(x: torch.Tensor) -> Any:
    return x.transpose(1, 2).permute(1, 0, 2).transpose(0, 1).swapaxes(1, 2).view(2, 4, 3)


def selected(x: torch.Tensor) -> Any:
    return x[:, 1].t()


def sliced(x: torch.Tensor) -> Any:
    return x.permute(2, 0, 1)[1:3, :, :2]


def strided(x: torch.Tensor) -> Any:
    return x[:, ::2]


def chunked(x: torch.Tensor) -> Any:
    return x.chunk(3, dim=1)


def split(x: torch.Tensor) -> Any:
    return torch.split_with_sizes(x, [1, 3], dim=-2)


def unbound(x: torch.Tensor) -> Any:
    return x.unbind(2)


def mixed(x: torch.Tensor) -> Any:
    return x.transpose(1, 2).reshape(2, 2, 6).transpose(0, 2)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (flattened, ["view"]),
        (squeezed, ["permute", "view"]),
        (there_and_back, []),
        (selected, ["slice.Tensor", "permute"]),
        (sliced, ["slice.Tensor", "slice.Tensor", "permute"]),
        (strided, ["slice.Tensor"]),
        (chunked, ["slice.Tensor", "slice.Tensor"]),
        (split, ["slice.Tensor", "slice.Tensor"]),
        (unbound, ["slice.Tensor", "view", "slice.Tensor", "view", "slice.Tensor", "view"]),
    ],
)
def test_rearrangements(how: Any, expected: list[str]) -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    found = overloads(canonical(Rearranged(how).eval(), {"x": x}).module)
    assert set(found) <= VIEWS
    if how is not selected and how is not sliced:
        assert sorted(found) == sorted(expected)
    else:
        assert found.count("permute") <= 1


def test_a_view_across_permuted_axes_begins_a_new_chain() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    assert set(overloads(canonical(Rearranged(mixed).eval(), {"x": x}).module)) <= VIEWS


ROWS, COLUMNS = torch.arange(4)[:, None], torch.arange(3)


LOOK_UPS: list[tuple[Callable[[torch.Tensor], torch.Tensor], list[str]]] = [
    (lambda x: x[:, [1, 2]], ["slice.Tensor"]),
    (lambda x: x[..., [-2, -1]], ["slice.Tensor"]),
    (lambda x: x.index_select(0, torch.tensor([1])), ["slice.Tensor"]),
    (lambda x: x[:, ROWS, COLUMNS], []),
    (lambda x: x[:, ROWS.T, COLUMNS[:, None]], ["permute"]),
    (lambda x: x.gather(1, torch.full((2, 1, 3), 3)), ["slice.Tensor"]),
    (lambda x: x[:, [1, 3]], ["index.Tensor_hacked_twin"]),
    (lambda x: x[[1, 0]], ["index.Tensor_hacked_twin"]),
    (lambda x: x[:, [1, 1]], ["index.Tensor_hacked_twin"]),
    (lambda x: x[[0, 1, 0, 1], ROWS[:, 0]], ["index.Tensor_hacked_twin"]),
]


@pytest.mark.parametrize(("how", "expected"), LOOK_UPS)
def test_look_ups_at_constant_positions_that_form_a_view(how: Any, expected: list[str]) -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    assert overloads(canonical(Rearranged(how).eval(), {"x": x}).module) == expected


class Products(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3))
        self.other = nn.Parameter(torch.randn(5, 3))
        self.bias = nn.Parameter(torch.randn(5))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "matmul": x @ self.weight,
            "mm": torch.mm(x, self.weight),
            "addmm": torch.addmm(self.bias, x @ self.weight, self.other.t()),
            "bias": (x @ self.weight) @ self.other.t() + self.bias,
            "scaled": torch.addmm(self.bias, x @ self.weight, self.other.t(), alpha=2),
            "values": x @ x.t(),
        }


def test_products_with_weights_become_linear() -> None:
    imported = canonical(Products(), {"x": np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)})
    linears = [operation for operation in imported.module.walk() if isinstance(operation, dialect.LinearOp)]
    # Equal products are computed once.
    assert len(linears) == 3
    biased = [linear for linear in linears if isinstance(linear.bias.type, dialect.VTensorType)]
    assert len(biased) == 2
    # What was transposed for the product is taken as it was.
    resources = {
        linear.weight.owner.resource for linear in linears if isinstance(linear.weight.owner, dialect.LiteralOp)
    }
    assert resources == {"weight.transposed", "other", "other.scaled"}
    assert sorted(set(overloads(imported.module)) - VIEWS) == ["linear", "matmul"]


class Packed(nn.Module):
    def __init__(self, used: int) -> None:
        super().__init__()
        self.used = used
        self.project = nn.Linear(4, 12)

    def forward(self, x: torch.Tensor) -> Any:
        packed = self.project(x)
        return packed.chunk(3, -1) if self.used == 3 else (*packed.chunk(3, -1), packed)


def test_a_packed_projection_is_split() -> None:
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    imported = canonical(Packed(3), {"x": x})
    assert overloads(imported.module) == ["linear"] * 3
    assert {"project.weight.rows_4_8", "project.bias.rows_8_12"} <= set(imported.weights.names())


def test_a_projection_that_is_also_used_whole_is_not_split() -> None:
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    assert overloads(canonical(Packed(4), {"x": x}).module).count("linear") == 1


def test_a_second_time_changes_nothing() -> None:
    imported = canonical(Packed(3), {"x": np.ones((2, 4), np.float32)})
    before = imported.module.clone()
    TorchCanonicalizeViewsPass().apply(CompileContext(imported.weights), imported.module)
    assert imported.module.is_structurally_equivalent(before)
