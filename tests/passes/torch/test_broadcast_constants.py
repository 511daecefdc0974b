"""Numbers and narrow constants become rows, in every way that they broadcast, and to the bit on the machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import sta
from tests.support.torch_modules import outputs_of, overloads, signal_to_noise, through_float_passes

SHAPE = (2, 3, 5)


class Calculation(nn.Module):
    """A linear layer, and what is done with its result and a constant."""

    def __init__(self, shape: tuple[int, ...], how: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(SHAPE[-1], SHAPE[-1])
        self.constant = nn.Parameter(torch.randn(shape))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self.layer(x), self.constant)


def plus(x: Tensor, constant: Tensor) -> Tensor:
    return x + constant


def times(x: Tensor, constant: Tensor) -> Tensor:
    return constant * x


@st.composite
def shapes_that_broadcast(draw: st.DrawFn) -> tuple[int, ...]:
    rank = draw(st.integers(0, len(SHAPE)))
    return tuple(draw(st.sampled_from((1, size))) for size in SHAPE[len(SHAPE) - rank :])


@settings(max_examples=5, deadline=None)
@given(shapes_that_broadcast(), st.sampled_from((plus, times)))
def test_constants_of_any_shape_keep_their_bits(
    shape: tuple[int, ...], how: Callable[[Tensor, Tensor], Tensor]
) -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    model = Calculation(shape, how).eval()
    x = torch.randn(SHAPE).numpy()
    program = sta.compile(model, {"x": x}, calibration={"x": x[None]}, check=True)
    assert signal_to_noise(outputs_of(model, {"x": x})["output"], program.run({"x": x}).outputs["output"]) > 30


NUMBERS: list[tuple[Callable[[Tensor, Tensor], Tensor], list[str]]] = [
    (lambda x, _: x + 2, ["linear", "add.Tensor"]),
    (lambda x, _: torch.add(x, 2, alpha=3), ["linear", "add.Tensor"]),
    (lambda x, _: x - 2.5, ["linear", "add.Tensor"]),
    (lambda x, _: x * -3, ["linear", "mul.Tensor"]),
    (lambda x, _: x / 8, ["linear", "mul.Tensor"]),
    # Constants that meet are one.
    (lambda x, _: x + 2 - 1.5, ["linear", "add.Tensor"]),
    (lambda x, _: x * 1 + 0, ["linear"]),
]
"""Arithmetic of models with numbers, and the resulting operators."""


@pytest.mark.parametrize(("how", "expected"), NUMBERS)
def test_numbers_become_rows(how: Callable[[Tensor, Tensor], Tensor], expected: list[str]) -> None:
    model = Calculation((), how).eval()
    imported, _ = through_float_passes(model, {"x": np.ones(SHAPE, np.float32)})
    assert overloads(imported.module) == expected


def test_a_number_in_two_widths() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.number = nn.Parameter(torch.tensor(0.5))

        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return x + self.number, y * self.number

    inputs = {"x": np.ones((2, 3), np.float32), "y": np.ones((2, 4), np.float32)}
    imported, context = through_float_passes(Shared().eval(), inputs)
    assert overloads(imported.module) == ["add.Tensor", "mul.Tensor"]
    assert sorted(context.weights.get(name).shape for name in context.weights.names() if "row" in name) == [(3,), (4,)]
