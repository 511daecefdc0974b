"""Quantized models and calibration data that make no program: refused, and the layer is named."""

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sta
from sta.api.compiler.compilation import CompileError
from sta.frontend.errors import ModelError
from sta.passes.lowering.torch_to_nm.conversion import ConversionError
from sta.passes.torch.fold_quantization import QuantizationError

# It defines the operators of pairs.
importlib.import_module("torch.ao.quantization.fx._decomposed")

pairs: Any = torch.ops.quantized_decomposed


def rounded(x: torch.Tensor, scale: float, zero_point: int, dtype: torch.dtype) -> torch.Tensor:
    """A quantize-dequantize pair."""
    limits = torch.iinfo(dtype)
    numbers = (scale, zero_point, limits.min, limits.max, dtype)
    return pairs.dequantize_per_tensor(pairs.quantize_per_tensor(x, *numbers), *numbers)


class Dense(nn.Module):
    """A linear layer that carries its scales: of its input, of its weights and of its output."""

    integers: torch.Tensor
    steps: torch.Tensor
    bias: torch.Tensor

    def __init__(
        self,
        integers: torch.Tensor,
        scales: tuple[float, float, float] = (0.1, 0.01, 0.1),
        bias: float = 0.0,
        kind: torch.dtype = torch.int8,
    ) -> None:
        super().__init__()
        self.scales = scales
        self.kind = kind
        self.register_buffer("integers", integers)
        self.register_buffer("steps", torch.full((len(integers),), scales[1]))
        self.register_buffer("bias", torch.full((len(integers),), bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        zero_points = torch.zeros(self.integers.shape[0], dtype=torch.int64)
        x = rounded(x, self.scales[0], 0, self.kind)
        weight = pairs.dequantize_per_channel(self.integers, self.steps, zero_points, 0, -127, 127, torch.int8)
        return rounded(nn.functional.linear(x, weight, self.bias), self.scales[2], 0, torch.int16)


class Model(nn.Module):
    """One such layer, called `dense`."""

    def __init__(self, dense: Dense) -> None:
        super().__init__()
        self.dense = dense

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(x)


def compiled(dense: Dense) -> Any:
    width = dense.integers.shape[1]
    return sta.compile(Model(dense).eval(), (torch.zeros(2, width),))


def ones(outputs: int, width: int) -> torch.Tensor:
    return torch.full((outputs, width), 127, dtype=torch.int8)


def test_a_layer_that_fits_compiles() -> None:
    program = compiled(Dense(ones(3, 8), bias=1.0))
    # 8 * 0.5 * 127 * 0.01 + 1, on a grid of 0.1.
    assert program.run({"x": np.full((2, 8), 0.5, np.float32)}).outputs["output"] == pytest.approx(6.1, abs=0.06)


def test_an_accumulator_that_could_overflow_is_refused_with_its_sizes() -> None:
    with pytest.raises(ConversionError, match=r"^dense: an accumulator could reach 2,275,840,000 .*\(K = 140000\)"):
        compiled(Dense(ones(2, 140_000)))


def test_the_two_accumulators_of_a_16_bit_input_are_refused_likewise() -> None:
    with pytest.raises(ConversionError, match=r"^dense: an accumulator or the bias could reach .*\(K = 70000\)"):
        compiled(Dense(ones(2, 70_000), kind=torch.int16))


@pytest.mark.parametrize("bias", [1e6, 3e38, -3e38])
def test_a_bias_that_no_accumulator_holds_is_refused(bias: float) -> None:
    with pytest.raises(ConversionError, match=r"^dense: an accumulator could reach .* more than int32 holds"):
        compiled(Dense(ones(2, 8), (1e-8, 1e-8, 0.1), bias))


def test_a_bias_that_does_not_fit_is_blamed() -> None:
    cause = r"\(K = 8\), more than int32 holds: the bias of channel 0, 0\.5, counts in steps of .* 3e-09 \* 0\.01\. If"
    with pytest.raises(ConversionError, match=cause):
        compiled(Dense(ones(2, 8), (3e-9, 0.01, 0.1), 0.5))


def test_a_channel_of_zeros_may_have_any_scale_beside_its_bias() -> None:
    dense = Dense(ones(2, 8), bias=0.5)
    dense.integers[1] = 0
    dense.steps[1] = 2.0**-40
    found = compiled(dense).run({"x": np.zeros((2, 8), np.float32)}).outputs["output"]
    assert found == pytest.approx(0.5, abs=0.06)


def test_a_ratio_of_scales_that_no_shift_holds_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"^dense: .*scale"):
        compiled(Dense(ones(2, 8), (1e30, 1e6, 1e-30)))


@pytest.mark.parametrize("scales", [(1e-30, 1e-6, 1.0), (1e-6, 1e-3, 1e3)])
@pytest.mark.parametrize("kind", [torch.int8, torch.int16])
def test_a_ratio_of_scales_at_which_every_result_rounds_to_zero_is_refused(scales: Any, kind: torch.dtype) -> None:
    with pytest.raises(ConversionError, match=r"^dense: the scales that it came with cannot be realised: .* to zero"):
        compiled(Dense(ones(2, 8), scales, kind=kind))


def test_a_layer_without_weights_may_have_any_scales() -> None:
    program = compiled(Dense(torch.zeros(2, 8, dtype=torch.int8), (1e-6, 1e-6, 1e-3)))
    assert not program.run({"x": np.full((2, 8), 1e-5, np.float32)}).outputs["output"].any()


def test_a_channel_that_rounds_to_zero_beside_others_stays_zero() -> None:
    dense = Dense(ones(2, 8), (0.1, 0.01, 0.1))
    dense.steps[1] = 1e-30
    found = compiled(dense).run({"x": np.full((2, 8), 0.5, np.float32)}).outputs["output"]
    assert found[:, 0] == pytest.approx(5.1, abs=0.06)
    assert not found[:, 1].any()


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("scale", [0.0, -0.5, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(position: int, scale: float) -> None:
    scales = [0.1, 0.01, 0.1]
    scales[position] = scale
    with pytest.raises(QuantizationError, match=r"^dense .*: its scale (0.0|-0.5|nan|inf) is not a positive number"):
        compiled(Dense(ones(2, 8), (scales[0], scales[1], scales[2])))


class Mixed(nn.Module):
    """A value that is quantized as unsigned and dequantized as signed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        integers = pairs.quantize_per_tensor(x, 0.1, 3, 0, 255, torch.uint8)
        return pairs.dequantize_per_tensor(integers, 0.1, 3, -128, 127, torch.uint8)


def test_signed_and_unsigned_in_one_pair_are_refused() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(4, 4)
            self.mixed = Mixed()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.mixed(self.dense(x))

    with pytest.raises(
        QuantizationError, match=r"(mixed|dense).* is quantized as 0..255 .* and dequantized as -128..127"
    ):
        sta.compile(Outer().eval(), (torch.zeros(2, 4),))


class Named(nn.Module):
    """A model with a layer whose name messages should give."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(x)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ({"x": np.full((3, 2, 4), np.nan, np.float32)}, r"samples of 'x' hold nan at \[0, 0, 0\]"),
        ({"x": np.full((3, 2, 4), -np.inf, np.float32)}, r"samples of 'x' hold -inf at \[0, 0, 0\]"),
        (
            {"x": np.zeros((3, 2, 5), np.float32)},
            r"samples of 'x' must have the shape \[samples, 2, 4\], not \[3, 2, 5\]",
        ),
        ({"x": np.zeros((0, 2, 4), np.float32)}, "not a single sample"),
        ({"x": np.zeros((3, 2, 4), np.int64)}, "samples of 'x' must be float32, not int64"),
        ({}, "the samples lack 'x'"),
        ({"y": np.zeros((3, 2, 4), np.float32)}, "no input 'y'"),
    ],
)
def test_calibration_data_that_do_not_fit_are_refused(calibration: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        sta.compile(Named().eval(), (torch.zeros(2, 4),), calibration=calibration)


@pytest.mark.parametrize("count", [1, 8])
def test_values_that_are_not_finite_on_the_samples_name_the_layer(count: int) -> None:
    model = Named().eval()
    with torch.no_grad():
        model.dense.weight.fill_(3e38)
    samples = np.full((count, 2, 4), 3e38, np.float32)
    with pytest.raises(ValueError, match=r"^dense .*: values that are not finite on the calibration samples"):
        sta.compile(model, (torch.zeros(2, 4),), calibration={"x": samples})


def test_a_quantized_model_takes_no_other_formats() -> None:
    with pytest.raises(CompileError, match="the model is quantized already and keeps its number formats"):
        sta.compile(Model(Dense(ones(3, 8))).eval(), (torch.zeros(2, 8),), min_sqnr=20)
    with pytest.raises(CompileError, match="leave out int16_inputs, min_sqnr and evaluation"):
        sta.compile(Model(Dense(ones(3, 8))).eval(), (torch.zeros(2, 8),), evaluation={"x": np.zeros((1, 2, 8))})
