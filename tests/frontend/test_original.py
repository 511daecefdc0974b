"""The model as it was given: what PyTorch, onnxruntime and ONNX's reference operators make of inputs by name."""
# pyright: basic
# onnx has no types that pyright could check.

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sta.frontend.errors import ModelError
from sta.frontend.model import import_model
from tests.support.onnx_models import encoder, samples


class Nested(nn.Module):
    """Inputs in a tuple and by keyword, one without use, and outputs of which one is an integer tensor."""

    def forward(self, pair: tuple[torch.Tensor, torch.Tensor], unused: torch.Tensor, *, by: torch.Tensor) -> Any:
        first, second = pair
        return {"sum": first + 2 * second, "product": first * by}


def test_pytorch_runs_inputs_of_any_form(tmp_path: Path) -> None:
    first, second, by = (torch.full((2, 3), number) for number in (1.0, 2.0, 5.0))
    program = torch.export.export(Nested(), ((first, second), torch.zeros(4)), {"by": by}, strict=False)
    torch.export.save(program, tmp_path / "nested.pt2")
    for model in (program, tmp_path / "nested.pt2"):
        original = import_model(model).original
        assert original is not None
        assert original.name == "PyTorch"
        inputs = {"pair_0": np.full((2, 3), 3.0, np.float32), "pair_1": second.numpy(), "by": by.numpy()}
        outputs = original.run(inputs)
        assert {name: float(array[0, 0]) for name, array in outputs.items()} == {"sum": 7.0, "product": 15.0}


@pytest.mark.parametrize("is_installed", [True, False])
def test_onnx_files_run_with_and_without_onnxruntime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_installed: bool
) -> None:
    path, x = tmp_path / "model.onnx", samples(1)[0]
    onnx.save(encoder(1), path)
    if not is_installed:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    original = import_model(path).original
    assert original is not None
    assert original.name == ("onnxruntime" if is_installed else "ONNX's reference operators")
    monkeypatch.undo()
    theirs = import_model(path).original
    assert theirs is not None
    np.testing.assert_allclose(original.run({"x": x})["head/Add"], theirs.run({"x": x})["head/Add"], atol=1e-4)


def test_what_cannot_be_run_is_said(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(encoder(1), path)
    original = import_model(path).original
    assert original is not None
    with pytest.raises(ModelError, match="onnxruntime cannot run the model: "):
        original.run({"x": np.zeros((1, 2, 3), np.float32)})
