"""Convolutions of any geometry as products: what PyTorch computes, and as few operations as the form needs."""
# pyright: basic
# The parts of a model made of a function have no types.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import import_model
from sta.passes.torch.canonicalize_views import canonicalize_views
from sta.passes.torch.decompose_convolutions import decompose_convolutions
from sta.passes.torch.fold_batch_norm import fold_batch_norm
from sta.passes.torch.sink_channels import sink_channels
from tests.support.torch_modules import largest_difference, outputs_of, overloads


def decomposed(model: nn.Module, *shape: int) -> list[str]:
    """The operators of the decomposed model, which computes what the model does."""
    inputs = {"input": np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    imported = import_model(model.eval(), dict(inputs))
    context = CompileContext(imported.weights)
    for step in (canonicalize_views, fold_batch_norm, decompose_convolutions, sink_channels, canonicalize_views):
        step(imported.module, imported.weights)
        imported.module.verify()
        assert largest_difference(run_torch(imported.module, context, inputs), outputs_of(model, inputs)) < 1e-4
    return overloads(imported.module)


@dataclass(frozen=True)
class Geometry:
    """A convolution, and the sizes of its input."""

    axes: int
    groups: int
    depth: int
    columns: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    size: int
    transposed: bool
    bias: bool

    def model(self) -> nn.Module:
        """The module."""
        kinds: Any = (nn.ConvTranspose1d, nn.ConvTranspose2d) if self.transposed else (nn.Conv1d, nn.Conv2d, nn.Conv3d)
        return kinds[self.axes - 1](
            self.groups * self.depth,
            self.groups * self.columns,
            self.kernel,
            stride=self.stride,
            padding=min(self.padding, self.reach) if self.transposed else self.padding,
            dilation=self.dilation,
            groups=self.groups,
            bias=self.bias,
        )

    @property
    def reach(self) -> int:
        return (self.kernel - 1) * self.dilation

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the input, of which one differs from the others."""
        # With padding the whole kernel may be cut off.
        least = 2 if self.transposed else self.reach + 1
        return (2, self.groups * self.depth, *(least + self.size + axis for axis in range(self.axes)))


GEOMETRIES = st.builds(
    Geometry,
    axes=st.integers(1, 2),
    groups=st.sampled_from([1, 1, 2, 3, 17]),
    depth=st.sampled_from([1, 2, 5]),
    columns=st.sampled_from([1, 2, 3]),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    size=st.integers(0, 4),
    transposed=st.booleans(),
    bias=st.booleans(),
)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(GEOMETRIES)
def test_every_geometry_is_pytorchs(geometry: Geometry) -> None:
    assert "convolution" not in decomposed(geometry.model(), *geometry.shape)


def test_patches_are_views_and_a_linear_layer() -> None:
    found = decomposed(nn.Conv2d(3, 8, 4, 4), 2, 3, 9, 12)
    assert (set(found), found.count("linear")) == ({"linear", "permute", "slice.Tensor", "view"}, 1)


def test_a_transposed_convolution_of_patches_is_a_linear_layer_and_views() -> None:
    assert set(decomposed(nn.ConvTranspose2d(3, 8, 2, 2), 2, 3, 4, 5)) == {"linear", "permute", "view"}


def normalization(channels: int) -> nn.BatchNorm2d:
    """A batch normalization with statistics that are not those of a new one."""
    norm = nn.BatchNorm2d(channels)
    state = {"running_mean": torch.randn(channels), "running_var": torch.rand(channels) + 0.5}
    norm.load_state_dict({**norm.state_dict(), **state})
    return norm


def test_channels_stay_the_last_axis_in_a_chain() -> None:
    chain = nn.Sequential(
        nn.Conv2d(3, 8, 3), normalization(8), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.GELU(), nn.Conv2d(8, 4, 3)
    )
    found = decomposed(chain, 1, 3, 9, 8)
    # Those of windows, and one at either end.
    assert found.count("permute") == 4
    assert found.count("linear") == 3
    assert "mul.Tensor" not in found


def test_a_batch_norm_behind_something_else_is_a_product_and_a_sum() -> None:
    found = decomposed(nn.Sequential(nn.ReLU(), normalization(5)), 2, 5, 3, 4)
    assert [name for name in found if name in ("mul.Tensor", "add.Tensor")] == ["mul.Tensor", "add.Tensor"]


class GivenKernel(nn.Module):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv1d(input, input[:, :, :2])


def test_a_kernel_that_is_computed_stays() -> None:
    assert "convolution" in decomposed(GivenKernel(), 3, 3, 9)


@pytest.mark.parametrize("depth", [1, 4])
def test_few_taps_of_one_channel_are_shifted_rows_and_groups_are_products(depth: int) -> None:
    found = decomposed(nn.Conv1d(24, 24, 3, groups=24 // depth), 1, 24, 9)
    assert found.count("mul.Tensor") == (3 if depth == 1 else 0)
    assert found.count("linear") == (0 if depth == 1 else 2)
