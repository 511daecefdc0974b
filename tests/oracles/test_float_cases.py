"""A sample of the cases that `python -m tests.oracles.float_cases` draws: none is wrong without a word."""

import random
from typing import Any

import numpy as np
import pytest
import torch

import sta
from sta.dialect.ir.model_errors import UnsupportedOperationsError
from tests.oracles.float_cases import Mask, Tally, counted_rows, drawn_sample, judged
from tests.support.torch_modules import outputs_of, signal_to_noise


@pytest.mark.parametrize("seed", [1001, 1002])
def test_a_sample_of_cases(seed: int) -> None:
    tally = judged(seed, 64)
    assert tally.wrong == []
    assert tally.right > tally.cases // 8
    assert tally.refused > 0


@pytest.mark.slow
def test_many_cases() -> None:
    assert judged(0, 10_000).wrong == []


def test_a_wrong_case_is_counted() -> None:
    tally = Tally()
    tally.judge("half", np.ones(3), np.full(3, 0.5), 60.0)
    tally.judge("shape", np.ones(3), np.ones((3, 1)), 60.0)
    tally.judge("same", np.ones(3), np.ones(3), 60.0)
    assert (tally.wrong, tally.right) == (["half", "shape"], 1)


def test_some_masks_on_the_machine() -> None:
    draw, numbers, found = random.Random(5), np.random.default_rng(5), 0
    while found < 2:
        case = Mask(draw).eval()
        case.gain = 1.0
        samples: list[dict[str, Any]] = [drawn_sample(numbers, is_bool=True) for _ in range(4)]
        data = {name: np.stack([one[name] for one in samples]) for name in ("x", "m")}
        examples = {name: torch.from_numpy(array) for name, array in samples[0].items()}  # pyright: ignore[reportUnknownMemberType]
        try:
            program = sta.compile(case, examples, calibration=data, probability_bits=16, methods=[])
        except UnsupportedOperationsError:
            continue
        given = {one.name: samples[1][one.name] for one in program.inputs}
        counts = counted_rows(case, samples[1])
        expected, result = outputs_of(case, samples[1])["output"][counts], program.run(given).outputs["output"][counts]
        assert signal_to_noise(expected, result) > 25, repr(case)
        found += 1
