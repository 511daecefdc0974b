"""Calibration: the observed ranges of values."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from xdsl.ir import SSAValue

from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.main_function import main_function
from sta.frontend.model import ImportedModel, import_model
from sta.passes.quantization.calibrate import calibrate, range_of
from tests.support.torch_modules import parse, printed


class Scaled(nn.Module):
    def forward(self, x: torch.Tensor, unused: torch.Tensor) -> Any:
        return torch.relu(x), (x * 3).reshape(3)


def calibrated(samples: list[dict[str, Any]], **options: Any) -> ImportedModel:
    imported = import_model(Scaled(), (torch.ones(1, 3), torch.ones(1)))
    calibrate(imported.module, CompileContext(imported.weights), samples, **options)
    return imported


def sample(*numbers: float) -> dict[str, Any]:
    return {"x": np.array([numbers], np.float32), "unused": np.full(1, np.nan, np.float32)}


def ranges(imported: ImportedModel) -> dict[str, tuple[float, float] | None]:
    function = main_function(imported.module)
    operations = {
        operation.name: range_of(function, operation.results[0])
        for operation in function.body.block.ops
        if operation.results
    }
    return {"x": range_of(function, function.body.block.args[0])} | operations


def test_ranges_are_those_of_all_samples() -> None:
    imported = calibrated([sample(-2, 0, 1), sample(-1, 0, 5)])
    found = ranges(imported)
    assert found["x"] == (-2, 5)
    assert found["torch.aten.relu"] == (0, 5)
    assert found["torch.aten.view"] == (-6, 15)
    assert found["torch.constant.int"] is None
    again = parse(printed(imported.module))
    assert range_of(main_function(again), main_function(again).body.block.args[0]) == (-2, 5)


def test_progress_is_reported() -> None:
    seen: list[int] = []
    calibrated([sample(1, 2, 3)] * 3, progress=seen.append)
    assert seen == [1, 2, 3]


def test_another_observer_decides_otherwise() -> None:
    class Halved:
        def __init__(self, _: SSAValue) -> None:
            self.largest = 0.0

        def update(self, values: Any) -> None:
            self.largest = max(self.largest, float(np.abs(values).max()))

        def range(self) -> tuple[float, float]:
            return -self.largest / 2, self.largest / 2

    assert ranges(calibrated([sample(-4, 2, 1)], observer=Halved))["x"] == (-2, 2)


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        calibrated([])
    with pytest.raises(ValueError, match="not finite"):
        calibrated([sample(np.inf, 0, 0)])
