"""`sta diff` accepts programs of calibrated compiles, whatever the methods that calibration has kept."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from xdsl.dialects.builtin import ModuleOp

from sta.api.compiler.compilation import compile_model
from sta.api.inspect.float_comparison import Comparison, compare, model_of
from sta.passes.option_values import METHODS
from sta.passes.quantization.noise import Noise
from tests.record.programs import PROGRAMS, Case

QUICK = ("encoder/gelu-tanh-pre-norm", "encoder/pytorch", "encoder/padding-mask", "onnx/float-2:4")
"""Norms in front of layers and behind them, packed projections, padding, and a graph without modules."""
FLOAT = tuple(name for name in PROGRAMS if not name.startswith(("minilm/", "pt2e/", "onnx/pairs")))
"""The programs of the record that calibration chooses formats for; those of MiniLM take a minute each."""
LEAST_DECIBELS = 15
"""Least SQNR of the worst operation by itself; a wrong match has about 0 dB."""


@pytest.fixture
def keep_every_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every candidate is judged to be better than the one before."""
    better = itertools.count(100)

    def decibels(self: Noise, module: ModuleOp, *_: Any) -> float:
        return float(next(better))

    monkeypatch.setattr(Noise, "decibels", decibels)


def compared(case: Case, methods: tuple[str, ...]) -> Comparison:
    options: dict[str, Any] = {**case.options, "methods": methods}
    model = case.model
    if isinstance(model, nn.Module):
        assert case.example is not None
        examples = {name: torch.from_numpy(array) for name, array in case.example.items()}  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
        model = torch.export.export(model, (), examples, strict=False)
    compilation = compile_model(model, **options)
    assert compilation.quantization is not None
    plan = compilation.quantization.plan
    kept = (plan.smoothing is not None, plan.ranges_by_error, plan.weights_by_calibration)
    assert kept == tuple(method in methods for method in METHODS)
    program = compilation.program
    assert program is not None
    float_model = model_of(program, model, ("program", "model"), lambda stage, done: None)
    samples = [(inputs, program.encode_inputs(inputs)) for inputs in case.runs[:1]]
    return compare(program, float_model, samples, ("program", "model"), lambda stage, done: None)


def every_operation_is_accepted(case: Case, methods: tuple[str, ...]) -> None:
    # What pruning costs is no fault of a match.
    options = {name: value for name, value in case.options.items() if name != "sparsity"}
    comparison = compared(replace(case, options=options), methods)
    assert {value.operation for value, _ in comparison.unseen} <= ({"nm.norm"} if "smoothing" in methods else set())
    for one in comparison.compared:
        assert one.isolated.decibels >= LEAST_DECIBELS, (one.path, one.value)


@pytest.mark.usefixtures("keep_every_trial")
@pytest.mark.parametrize("methods", [(), *((method,) for method in METHODS), METHODS], ids=",".join)
@pytest.mark.parametrize("name", QUICK)
def test_programs_of_each_method_are_accepted(name: str, methods: tuple[str, ...], tmp_path: Path) -> None:
    every_operation_is_accepted(PROGRAMS[name](tmp_path), methods)


@pytest.mark.slow
@pytest.mark.usefixtures("keep_every_trial")
@pytest.mark.parametrize("methods", [(), METHODS], ids=",".join)
@pytest.mark.parametrize("name", [name for name in FLOAT if name not in QUICK])
def test_programs_of_all_models_are_accepted(name: str, methods: tuple[str, ...], tmp_path: Path) -> None:
    every_operation_is_accepted(PROGRAMS[name](tmp_path), methods)


@pytest.mark.usefixtures("keep_every_trial")
@pytest.mark.parametrize(
    ("name", "smoothed", "seen"),
    [
        ("encoder/pytorch-pre-norm-batch", ["layers.0.norm1", "layers.0.norm2"], []),
        (
            "encoder/pytorch",
            ["layers.0.norm1", "layers.0.norm2", "layers.1.norm1"],
            ["layers.0.norm1", "layers.0.norm2", "layers.1.norm1", "layers.1.norm2"],
        ),
    ],
)
def test_norms_with_divided_columns_are_not_compared_and_those_beside_them_are(
    name: str, smoothed: list[str], seen: list[str], tmp_path: Path
) -> None:
    comparison = compared(PROGRAMS[name](tmp_path), ("smoothing",))
    assert [value.name for value, _ in comparison.unseen] == smoothed
    assert {reason for _, reason in comparison.unseen} == {"is no tensor of the float model"}
    assert [one.path for one in comparison.compared if one.value.operation == "nm.norm"] == seen
