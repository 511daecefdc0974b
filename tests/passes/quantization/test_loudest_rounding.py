"""A figure that is aimed at and missed: warned of, with the place that costs most; no 16 bits for nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import sta
from sta.passes.quantization import choice as quantization_choice
from tests.support.packages import warned

Array = NDArray[Any]
ROWS = (8, 1, 16, 64)


def missed(model: nn.Module, data: Array, **options: Any) -> tuple[sta.Program, list[str]]:
    """The program, and what the compile warns of."""
    found: list[sta.Program] = []
    example = torch.from_numpy(data[0])  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    name = "input"

    def run() -> None:
        found.append(sta.compile(model.eval(), {name: example}, calibration={name: data}, **options))

    messages = warned(run)
    return found[0], messages


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type


def narrow_rows() -> Array:
    """Rows around 1000 with a deviation that 16 bits hardly see."""
    return (1000 + 0.05 * np.random.default_rng(0).standard_normal(ROWS)).astype(np.float32)


def test_an_input_that_16_bits_are_too_few_for_is_named() -> None:
    program, messages = missed(nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 32)), narrow_rows())
    assert program.fidelity is not None
    assert program.quantization is not None
    assert 5 < program.fidelity.given < 15
    assert messages == [
        f"the output reaches {program.quantization.decibels:.1f} dB against the model on 2 held-out "
        "calibration samples, and not the 20 dB that are aimed at; most is lost by rounding input 'input'"
    ]
    # 16 bits for the layer's input would cost twice the cycles, for nothing.
    assert program.quantization.int16_inputs == ()


class Cancelling(nn.Module):
    """A layer in the middle whose large numbers cancel behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.lifted = nn.Linear(64, 64)
        self.norm = nn.LayerNorm(64)
        self.last = nn.Linear(64, 32)
        with torch.no_grad():
            self.lifted.weight.mul_(0.05)
            self.lifted.bias.add_(1000.0)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.lifted(torch.relu(self.first(input)))))


def test_a_layer_in_the_middle_is_named() -> None:
    data = np.random.default_rng(0).standard_normal(ROWS).astype(np.float32)
    program, messages = missed(Cancelling(), data)
    assert program.quantization is not None
    (message,) = messages
    assert f"reaches {program.quantization.decibels:.1f} dB" in message
    assert "; most is lost by rounding the result of lifted (" in message


def test_weights_are_named_if_they_cost_most() -> None:
    model = nn.Linear(64, 32)
    with torch.no_grad():
        # One weight of each row sets the scale, and meets an input of zero.
        model.weight[:, 0] = 1000.0
    data = np.random.default_rng(0).standard_normal(ROWS).astype(np.float32)
    data[..., 0] = 1e-4
    _, messages = missed(model, data, methods=[])
    (message,) = messages
    assert message.endswith("; most is lost by rounding the weights of linear layers to 8 bits")


def test_a_figure_that_is_reached_or_asked_for_is_not_warned_of() -> None:
    data = np.random.default_rng(0).standard_normal(ROWS).astype(np.float32)
    assert missed(nn.Linear(64, 32), data)[1] == []
    model = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 32))
    assert missed(model, narrow_rows(), min_sqnr=0)[1] == []


def test_where_many_places_cost_the_same_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization_choice, "DEFAULT_LEAST_SQNR", 120.0)
    layers = [nn.Linear(64, 64, bias=False) for _ in range(6)]
    with torch.no_grad():
        for layer in layers:
            # 8 bits represent these weights exactly.
            layer.weight.copy_(layer.weight.sign() / 8)
    data = np.random.default_rng(0).standard_normal(ROWS).astype(np.float32)
    program, (message,) = missed(nn.Sequential(*layers), data)
    assert program.quantization is not None
    assert message == (
        f"the output reaches {program.quantization.decibels:.1f} dB against the model on 2 held-out "
        "calibration samples, and not the 120 dB that are aimed at"
    )
