"""Pooling, resampling and Fourier transforms of any form: what PyTorch computes."""
# pyright: basic
# The parts of a model made of a function have no types.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import import_model
from sta.passes.torch.canonicalize_views import canonicalize_views
from sta.passes.torch.decompose_resampling import decompose_resampling
from tests.support.torch_modules import largest_difference, outputs_of, overloads


class Function(nn.Module):
    """A model that is a function of its input."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def spelled(function: Callable[[Any], Any], *shape: int) -> set[str]:
    """The operators of the spelled model, which computes what the function does."""
    inputs = {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    model = Function(function)
    imported = import_model(model, dict(inputs))
    canonicalize_views(imported.module, imported.weights)
    decompose_resampling(imported.module, imported.weights)
    imported.module.verify()
    context = CompileContext(imported.weights)
    assert largest_difference(run_torch(imported.module, context, inputs), outputs_of(model, inputs)) < 1e-4
    return set(overloads(imported.module))


PRODUCTS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "average": (lambda x: F.avg_pool2d(x, 3, 2), (2, 3, 9, 11)),
    "average of padding": (lambda x: F.avg_pool2d(x, 3, 1, 1), (1, 3, 7, 5)),
    "average without padding": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (1, 3, 7, 5)),
    "average of a part": (lambda x: F.avg_pool2d(x, (3, 2), 2, 1, ceil_mode=True), (1, 3, 8, 6)),
    "average with a divisor": (lambda x: F.avg_pool2d(x, 2, divisor_override=3), (1, 3, 8, 6)),
    "average along one axis": (lambda x: F.avg_pool1d(x, 2, 2), (2, 3, 9)),
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, (3, 2)), (1, 3, 8, 7)),
    "adaptive along one axis": (lambda x: F.adaptive_avg_pool1d(x, 4), (1, 3, 10)),
    "nearest": (lambda x: F.interpolate(x, size=(9, 5)), (1, 2, 4, 7)),
    "nearest by a factor": (lambda x: F.interpolate(x, scale_factor=2.0), (1, 2, 4, 7)),
    "nearest along one axis": (lambda x: F.interpolate(x, size=9), (1, 2, 4)),
    "bilinear": (lambda x: F.interpolate(x, size=(9, 5), mode="bilinear"), (1, 2, 4, 7)),
    "bilinear between corners": (
        lambda x: F.interpolate(x, size=(9, 5), mode="bilinear", align_corners=True),
        (1, 2, 4, 7),
    ),
    "bilinear by a factor": (lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"), (1, 2, 4, 7)),
    "linear": (lambda x: F.interpolate(x, size=9, mode="linear"), (1, 2, 4)),
    "bicubic": (lambda x: F.interpolate(x, size=(9, 5), mode="bicubic"), (1, 2, 4, 7)),
    "fourier": (lambda x: torch.fft.fftn(x, dim=(1, 2)).real, (2, 5, 8)),
    "fourier along one axis": (lambda x: torch.fft.fft(x, norm="ortho").real, (2, 5, 8)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_what_is_linear_along_each_axis_is_products(name: str) -> None:
    found = spelled(PRODUCTS[name][0], *PRODUCTS[name][1])
    assert "linear" in found
    assert found <= {"linear", "permute", "view", "slice.Tensor", "add.Tensor"}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.max_pool2d(x, (2, 3)),
        lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
        lambda x: F.max_pool2d(x, 2, 1, dilation=2),
    ],
)
def test_maxima_are_of_shifted_positions(function: Callable[[Any], Any]) -> None:
    assert spelled(function, 1, 3, 8, 9) <= {"maximum", "slice.Tensor", "cat"}


def test_windows_of_images_are_views() -> None:
    found = spelled(lambda x: F.unfold(x, (3, 2), dilation=(1, 2), padding=1, stride=(2, 1)), 2, 3, 7, 6)
    assert found <= {"constant_pad_nd", "unfold", "slice.Tensor", "permute", "view"}
