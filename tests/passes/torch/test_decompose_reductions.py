"""Reductions, softmax and normalizations are spelled with sums, maxima and functions, and stay what they are."""
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# PyTorch's norms have no types.

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import sta
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import import_model
from sta.passes.torch.decompose_reductions import decompose_reductions
from tests.support.torch_modules import largest_difference, outputs_of, overloads, signal_to_noise

SHAPE = (2, 3, 5, 7)
Calculate = Callable[[Tensor], Tensor]


class Calculation(nn.Module):
    """A function of the input."""

    def __init__(self, how: Calculate) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(x)


SPELLED: dict[str, Calculate] = {
    "sum": lambda x: x.sum(),
    "sum over an axis": lambda x: x.sum(1),
    "sum over axes, kept": lambda x: x.sum((0, 2), keepdim=True),
    "mean": lambda x: x.mean(),
    "mean over the last": lambda x: x.mean(-1),
    "mean over axes": lambda x: x.mean((1, 3)),
    "cumsum": lambda x: x.cumsum(2),
    "amax": lambda x: x.amax((1, 2)),
    "amin": lambda x: x.amin(-1, keepdim=True),
    "max": lambda x: x.max(),
    "min": lambda x: x.min(),
    "max over an axis": lambda x: x.max(2).values,
    "min over an axis": lambda x: x.min(0, keepdim=True).values,
    "logsumexp": lambda x: x.logsumexp(1),
    "softmax": lambda x: x.softmax(2),
    "softmin": lambda x: F.softmin(x, -1),
    "log_softmax": lambda x: x.log_softmax(1),
    "variance": lambda x: x.var(-1),
    "variance of all": lambda x: x.var((0, 1, 2), unbiased=False),
    "deviation": lambda x: x.std((1, 2), correction=1, keepdim=True),
    "norm": lambda x: x.norm(dim=-1),
    "norm of order 1": lambda x: torch.linalg.vector_norm(x, 1, dim=(1, 2)),
    "norm of order infinity": lambda x: torch.linalg.vector_norm(x, float("inf"), dim=1),
    "normalize": lambda x: F.normalize(x, dim=1),
    "layer_norm over axes": lambda x: F.layer_norm(x, SHAPE[2:], torch.arange(35.0).view(5, 7), torch.ones(5, 7)),
    "layer_norm with values": lambda x: F.layer_norm(x, (7,), x[0, 0, 0], x[1, 0, 0]),
    "rms_norm over axes": lambda x: F.rms_norm(x, SHAPE[2:]),
    "group_norm": lambda x: F.group_norm(x, 3, torch.arange(3.0), torch.ones(3)),
    "group_norm of pairs": lambda x: F.group_norm(x.transpose(0, 1).repeat(1, 2, 1, 1), 2),
    "instance_norm": lambda x: F.instance_norm(x),
}


@pytest.mark.parametrize("name", SPELLED)
def test_spelled_operators_keep_their_function(name: str) -> None:
    model = Calculation(SPELLED[name])
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    imported = import_model(model, {"x": x})
    context = CompileContext(imported.weights)
    before = overloads(imported.module)
    decompose_reductions(imported.module, context.weights)
    imported.module.verify()
    assert overloads(imported.module) != before
    assert largest_difference(run_torch(imported.module, context, {"x": x}), outputs_of(model, {"x": x})) < 2e-5


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4).flatmap(
        lambda sizes: st.tuples(st.just(tuple(sizes)), st.sets(st.integers(0, len(sizes) - 1), min_size=1))
    ),
    st.booleans(),
    st.sampled_from((torch.sum, torch.mean)),
)
def test_sums_along_any_axes_keep_their_bits(
    shape_and_axes: tuple[tuple[int, ...], set[int]], keepdim: bool, reduce: Callable[..., Tensor]
) -> None:
    shape, axes = shape_and_axes
    keepdim = keepdim or len(axes) == len(shape)
    model = Calculation(lambda x: reduce(x, sorted(axes), keepdim=keepdim))
    samples = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32) + 1
    program = sta.compile(model, {"x": samples[0]}, calibration={"x": samples}, check=True)
    expected = outputs_of(model, {"x": samples[0]})["output"]
    assert signal_to_noise(expected, program.run({"x": samples[0]}).outputs["output"]) > 60


def test_running_sums_are_exact_in_units_of_the_input() -> None:
    """Integers below 2^15 in every partial sum: nothing is rounded but the input and the result."""
    model = Calculation(lambda x: x.cumsum(-1))
    samples = np.random.default_rng(0).integers(-100, 100, (8, 4, 33)).astype(np.float32)
    program = sta.compile(model, {"x": samples[0]}, calibration={"x": samples}, check=True)
    assert signal_to_noise(samples[0].cumsum(-1), program.run({"x": samples[0]}).outputs["output"]) > 75


def test_a_norm_of_long_rows_is_spelled_out() -> None:
    model = Calculation(lambda x: F.group_norm(x, 2))
    x = np.random.default_rng(0).normal(size=(1, 4, 4100)).astype(np.float32)
    imported = import_model(model, {"x": x})
    context = CompileContext(imported.weights)
    decompose_reductions(imported.module, context.weights)
    assert "layer_norm" not in overloads(imported.module)
    assert largest_difference(run_torch(imported.module, context, {"x": x}), outputs_of(model, {"x": x})) < 2e-5
