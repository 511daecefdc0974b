"""Calibration data that show too little of real inputs are named, and good ones are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import sta
from sta.passes.quantization.poor_samples import faults_of
from tests.support.packages import warned

Array = NDArray[Any]


def varied(count: int = 4, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((count, 1, 5, 8), np.float32)


def split(**arrays: Array) -> list[dict[str, Array]]:
    count = len(next(iter(arrays.values())))
    return [{name: array[index] for name, array in arrays.items()} for index in range(count)]


IDS = np.arange(4 * 5).reshape(4, 1, 5)
TYPES = np.zeros((4, 1, 5), np.int64)
ONES = np.ones((4, 1, 5), np.float32)


def test_samples_that_differ_have_no_fault() -> None:
    assert faults_of(split(x=varied()), None) == []


def test_kinds_of_tokens_and_masks_may_be_constant() -> None:
    assert faults_of(split(ids=IDS, types=TYPES, mask=ONES.astype(bool)), None) == []
    assert faults_of(split(ids=IDS, types=TYPES, mask=ONES), "mask") == []


@pytest.mark.parametrize("number", [0.0, 3.0])
def test_an_input_of_one_number_is_named(number: float) -> None:
    (fault,) = faults_of(split(x=varied(), y=np.full((4, 1, 5), number, np.float32)), None)
    assert fault.startswith(f"calibration data: input 'y' is {number:g} in all places of all samples")


def test_ids_of_one_number_are_named_if_nothing_else_varies() -> None:
    faults = faults_of(split(ids=TYPES), None)
    assert [fault.partition(" in all")[0] for fault in faults] == ["calibration data: input 'ids' is 0"]


def test_repeated_samples_are_counted() -> None:
    (fault,) = faults_of(split(x=np.repeat(varied(1), 6, axis=0)), None)
    assert fault.startswith("calibration data: all 6 samples are the same")
    (fault,) = faults_of(split(x=np.concatenate([varied(3), varied(2)])), None)
    assert fault.startswith("calibration data: of 5 samples 2 repeat others")


def test_samples_repeat_each_other_only_if_all_inputs_do() -> None:
    assert faults_of(split(x=varied(), y=np.repeat(varied(1), 4, axis=0)), None) == []


def test_a_single_sample_is_named() -> None:
    (fault,) = faults_of(split(x=varied(1)), None)
    assert fault.startswith("a single calibration sample: ranges are those of one input")


def test_a_single_sample_that_is_zero_has_both_faults() -> None:
    faults = faults_of(split(x=0 * varied(1)), None)
    assert [fault.partition(":")[0] for fault in faults] == ["calibration data", "a single calibration sample"]


def test_one_number_alone_is_no_constant() -> None:
    samples = [{"x": np.ones((1, 1), np.float32)}, {"x": np.ones((1, 1), np.float32)}]
    (fault,) = faults_of(samples, None)
    assert fault.startswith("calibration data: all 2 samples are the same")


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.layer(x, src_key_padding_mask=mask)


def test_a_compile_warns() -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    model, example = nn.Linear(8, 8).eval(), {"input": torch.zeros(1, 5, 8)}
    for data, beginning in (
        (np.zeros((4, 1, 5, 8), np.float32), "calibration data: input 'input' is 0 in all places"),
        (np.repeat(varied(1), 4, axis=0), "calibration data: all 4 samples are the same"),
        (varied(1), "a single calibration sample"),
    ):
        (message,) = warned(lambda data=data: sta.compile(model, example, calibration={"input": data}))
        assert message.startswith(beginning)
    assert warned(lambda: sta.compile(model, example, calibration={"input": varied()})) == []


def test_a_padding_mask_without_padding_is_no_fault() -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    model, mask = Masked().eval(), np.zeros((4, 1, 5), bool)
    example = {"x": torch.zeros(1, 5, 8), "mask": torch.zeros(1, 5, dtype=torch.bool)}
    assert warned(lambda: sta.compile(model, example, calibration={"x": varied(), "mask": mask})) == []
