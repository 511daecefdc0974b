"""RMSNorm as models spell it, and patterns that are no RMSNorm."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.random_models import SpelledNorm
from tests.support.torch_modules import overloads, through_float_passes

X = torch.randn(2, 5, 24).numpy()


class Normalized(nn.Module):
    def __init__(self, how: Any, width: int = 24) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(x, self.weight)


def found(model: nn.Module) -> list[str]:
    imported, _ = through_float_passes(model.eval(), {"x": X})
    return overloads(imported.module)


def root(x: Tensor, axis: int = -1) -> Tensor:
    return torch.rsqrt(x.pow(2).mean(axis, keepdim=True) + 1e-5)


def weightless(x: Tensor, weight: Tensor) -> Tensor:
    return x * root(x)


def exchanged(x: Tensor, weight: Tensor) -> Tensor:
    return root(x) * x * weight


def multiplied(x: Tensor, weight: Tensor) -> Tensor:
    return weight * (x * torch.rsqrt((x * x).mean(2, keepdim=True) + 1e-5))


@pytest.mark.parametrize(
    "model",
    [
        SpelledNorm(24),
        Normalized(weightless),
        Normalized(exchanged),
        Normalized(multiplied),
        nn.RMSNorm(24),
        nn.RMSNorm(24, eps=0.1, elementwise_affine=False),
    ],
)
def test_what_models_write(model: nn.Module) -> None:
    assert found(model) == ["rms_norm"]


def of_another_value(x: Tensor, weight: Tensor) -> Tensor:
    return x * root(x.relu())


def over_another_axis(x: Tensor, weight: Tensor) -> Tensor:
    return x * root(x, 1)


def of_another_power(x: Tensor, weight: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(4).mean(-1, keepdim=True) + 1e-5)


def weight_of_rows(x: Tensor, weight: Tensor) -> Tensor:
    return (x * root(x)) * weight[:5, None]


@pytest.mark.parametrize(
    ("how", "left"),
    [
        (of_another_value, "mean.dim"),
        (over_another_axis, "mean.dim"),
        (of_another_power, "mean.dim"),
        (weight_of_rows, "mul.Tensor"),
    ],
)
def test_what_is_something_else(how: Any, left: str) -> None:
    assert left in found(Normalized(how))


def test_a_norm_that_others_use_keeps_its_weight_apart() -> None:
    def twice(x: Tensor, weight: Tensor) -> Tensor:
        normalized = x * root(x)
        return normalized + normalized * weight

    assert found(Normalized(twice)).count("mul.Tensor") == 1


def normalized(x: Tensor, weight: Tensor) -> Tensor:
    return nn.functional.normalize(x, dim=-1)


def normalized_columns(x: Tensor, weight: Tensor) -> Tensor:
    return nn.functional.normalize(x, dim=1)


def over_length(x: Tensor, weight: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).sum(-1, keepdim=True))


def times_inverse_length(x: Tensor, weight: Tensor) -> Tensor:
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def inverse_length_of_powers(x: Tensor, weight: Tensor) -> Tensor:
    return torch.rsqrt(x.pow(2).sum(1, True) + 1e-6) * x


@pytest.mark.parametrize(
    "how", [normalized, normalized_columns, over_length, times_inverse_length, inverse_length_of_powers]
)
def test_vectors_of_length_1_are_norms(how: Any) -> None:
    assert "rms_norm" in found(Normalized(how))
