"""Finite numbers that leave keys out: taken where they are far below the scores, refused where they are not."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sta
from sta.dialect.ir.model_errors import UnsupportedOperationsError
from sta.passes.quantization.mask_depth import check_by_formats
from tests.support.torch_modules import outputs_of, parse, signal_to_noise

ROWS, WIDTH = 16, 32
LEAST = torch.finfo(torch.float32).min


class Attention(nn.Module):
    """Causal attention in which `number` is added to scores, or takes their place."""

    def __init__(self, number: float, gain: float, *, is_added: bool, takes_mask: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        with torch.no_grad():
            self.query.weight *= gain
            self.key.weight *= gain
        self.number, self.is_added, self.takes_mask = number, is_added, takes_mask

    def forward(self, x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        left_out = torch.ones(ROWS, ROWS).triu(1).bool()
        if self.takes_mask:
            left_out = left_out | (keep == 0)[:, None, :]
        scores = self.query(x) @ self.key(x).mT / WIDTH**0.5
        if self.is_added:
            scores = scores + torch.where(left_out, self.number, 0.0)
        else:
            scores = scores.masked_fill(left_out, self.number)
        return scores.softmax(-1) @ self.value(x)


def inputs() -> dict[str, Any]:
    x = np.random.default_rng(0).normal(size=(8, 1, ROWS, WIDTH)).astype(np.float32)
    keep = np.ones((8, 1, ROWS), np.int64)
    keep[:, :, ROWS - 3 :] = 0
    return {"x": x, "keep": keep}


def fidelity(model: nn.Module) -> float:
    """Decibels of the compiled attention against PyTorch, on a sample."""
    samples = inputs()
    one = {name: array[1] for name, array in samples.items()}
    program = sta.compile(
        copy.deepcopy(model), one, calibration=samples, int16_inputs=["*"], probability_bits=16, methods=[]
    )
    return signal_to_noise(outputs_of(model, one)["output"], program.run(one).outputs["output"])


@pytest.mark.parametrize("is_added", [True, False])
@pytest.mark.parametrize("takes_mask", [True, False])
@pytest.mark.parametrize("number", [-100.0, -1000.0, -9999.0, -1e4, -1e9, LEAST])
def test_numbers_far_below_the_scores_are_masks(number: float, takes_mask: bool, is_added: bool) -> None:
    assert fidelity(Attention(number, 1.0, is_added=is_added, takes_mask=takes_mask)) > 30


@pytest.mark.parametrize("is_added", [True, False])
@pytest.mark.parametrize("takes_mask", [True, False])
@pytest.mark.parametrize(("number", "gain"), [(-1e4, 400.0), (-1000.0, 100.0), (-100.0, 30.0), (-21.0, 10.0)])
def test_numbers_that_scores_reach_are_refused(number: float, gain: float, takes_mask: bool, is_added: bool) -> None:
    with pytest.raises(UnsupportedOperationsError) as error:
        fidelity(Attention(number, gain, is_added=is_added, takes_mask=takes_mask))
    (one,) = error.value.operations
    assert one.name == "aten.scaled_dot_product_attention"
    assert f"{number:g}" in one.note
    assert "or less leaves a key out: use float('-inf')" in one.note


ROUNDED = """
module {
  func.func @main(%x: !torch.vtensor<[1,1,4,8],f32>, %m: !torch.vtensor<[4,4],i1>) -> !torch.vtensor<[1,1,4,8],f32> {
    %none = torch.constant.none
    %false = torch.constant.bool false
    %zero = torch.constant.float 0.000000e+00
    %scale = torch.constant.float 5.000000e-01
    %q = torch.fake_quantize %x to si8 scale 1.000000e-01 zero_point 0 : !torch.vtensor<[1,1,4,8],f32>
    %k = torch.fake_quantize %x to si8 scale 1.000000e-01 zero_point 0 : !torch.vtensor<[1,1,4,8],f32>
    %y = torch.aten.scaled_dot_product_attention %q, %k, %k, %m, %zero, %false, %scale, %false {ATTRIBUTE} :
      !torch.vtensor<[1,1,4,8],f32>, !torch.vtensor<[1,1,4,8],f32>, !torch.vtensor<[1,1,4,8],f32>,
      !torch.vtensor<[4,4],i1>, !torch.float, !torch.bool, !torch.float, !torch.bool -> !torch.vtensor<[1,1,4,8],f32>
    return %y : !torch.vtensor<[1,1,4,8],f32>
  }
}
"""
"""Scores reach 8 * 12.8 * 12.8 / 2 = 655.36 at most, and differ by twice that."""


@pytest.mark.parametrize(
    ("attribute", "is_taken"),
    [
        ("sta.mask_depth = -1300.0 : f64", False),
        ("sta.mask_depth = -1340.0 : f64", True),
        ("sta.mask_fill = -670.0 : f64", False),
        ("sta.mask_fill = -680.0 : f64", True),
    ],
)
def test_without_samples_formats_bound_the_scores(attribute: str, is_taken: bool) -> None:
    module = parse(ROUNDED.replace("ATTRIBUTE", attribute))
    if is_taken:
        check_by_formats(module)
        return
    with pytest.raises(UnsupportedOperationsError, match="by the formats of queries and keys"):
        check_by_formats(module)


def test_values_without_a_format_have_no_bound() -> None:
    text = ROUNDED.replace("%q, %k, %k, %m", "%x, %k, %k, %m").replace("ATTRIBUTE", "sta.mask_depth = -1.0e9 : f64")
    with pytest.raises(UnsupportedOperationsError):
        check_by_formats(parse(text))
