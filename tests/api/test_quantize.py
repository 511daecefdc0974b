"""`sta quantize`: from a model file to a quantized model file, and its compile."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sta
from sta.api.cli.command_line import main
from tests.api.conftest import Files, save_model
from tests.support.torch_modules import signal_to_noise


@pytest.fixture(scope="module")
def quantized(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model, quantized; beside it q.sta, compiled without calibration data. Neither is to be changed."""
    path = tmp_path_factory.mktemp("quantized") / "q.pt2"
    assert main(["quantize", str(files.model), "--calibration", str(files.calibration), "-o", str(path)]) == 0
    assert main(["compile", str(path), "-o", str(path.with_suffix(".sta"))]) == 0
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 0) -> tuple[str, str]:
    assert main(list(map(str, arguments))) == status
    return capsys.readouterr()


def test_the_summary_counts_what_is_in_the_file(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    path = tmp_path / "q.pt2"
    arguments = ("quantize", files.model, "--calibration", files.calibration, "-o", path)
    summary = json.loads(run(capsys, *arguments, "--json")[0])
    assert summary["file_bytes"] == path.stat().st_size
    assert summary["samples"] == 4
    # The projections of attention, packed and out, and those of the feed-forward.
    assert summary["weights"] == 4
    weights = [one for one in torch.export.load(path).state_dict.values() if one.dtype == torch.int8]
    assert len(weights) == 4
    table, _ = run(capsys, *arguments, "--ranges", "error")
    assert [line.split()[-1] for line in table.splitlines() if "weights of 8 bits" in line] == ["4"]


def test_what_is_written_compiles_without_calibration_data(
    capsys: pytest.CaptureFixture[str], files: Files, quantized: Path, tmp_path: Path
) -> None:
    _, errors = run(capsys, "compile", quantized, "-o", tmp_path / "q.sta")
    assert "warning" not in errors
    ids = np.load(files.inputs)["ids"]
    with torch.no_grad():
        expected = torch.export.load(files.model).module()(torch.tensor(ids)).numpy()
    found = sta.load(tmp_path / "q.sta").run({"ids": ids}).outputs["output"]
    assert signal_to_noise(expected, found) > 30


def test_a_model_that_is_quantized_already_is_refused(
    capsys: pytest.CaptureFixture[str], files: Files, quantized: Path, tmp_path: Path
) -> None:
    path = tmp_path / "twice.pt2"
    arguments = ("quantize", quantized, "--calibration", files.calibration, "-o", path)
    output, errors = run(capsys, *arguments, status=1)
    assert output == ""
    message = errors.splitlines()[-1]
    assert f"{quantized}: the program is quantized already" in message
    assert "compile it as it is with `sta compile`" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("of", ["float", "quantized"])
def test_a_run_is_compared_with_either_model(
    capsys: pytest.CaptureFixture[str], files: Files, quantized: Path, of: str
) -> None:
    model = files.model if of == "float" else quantized
    program = quantized.with_suffix(".sta")
    found = compared(capsys, model, program, files.inputs)
    ids = np.load(files.inputs)["ids"]
    with torch.no_grad():
        reference: Any = torch.export.load(model).module()(torch.tensor(ids)).numpy()
    values = sta.load(program).run({"ids": ids}).outputs["output"]
    (output,) = [one for one in found if one["operation"] == "output"]
    assert output["accumulated"]["sqnr_db"] == pytest.approx(signal_to_noise(reference, values), abs=0.05)


def compared(capsys: pytest.CaptureFixture[str], model: Path, program: Path, inputs: Path) -> list[dict[str, Any]]:
    """Findings of `sta diff`: all is compared, and nothing with another tensor."""
    found = json.loads(run(capsys, "diff", model, program, "--inputs", inputs, "--json")[0])
    assert found["not_compared"] == []
    decibels = [one["isolated"]["sqnr_db"] for one in found["operations"]]
    # None is without any error.
    assert all(one is None or one > 30 for one in decibels)
    return found["operations"]


class Packed(torch.nn.Module):
    """Attention with one projection for query, key and value, whose result another quantizer rounds as a whole."""

    def __init__(self, is_rounded: bool) -> None:
        super().__init__()
        self.project, self.out = torch.nn.Linear(16, 48), torch.nn.Linear(16, 16)
        self.is_rounded = is_rounded

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joined = self.rounded(self.project(self.rounded(x, 1 / 32, torch.int8)), 1 / 32, torch.int8)
        query, key, value = (part.view(1, 10, 2, 8).transpose(1, 2) for part in joined.chunk(3, -1))
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(1, 10, 16)
        return self.rounded(self.out(self.rounded(mixed, 1 / 64, torch.int8)), 1 / 8192, torch.int16)

    def rounded(self, x: torch.Tensor, scale: float, dtype: torch.dtype) -> torch.Tensor:
        if not self.is_rounded:
            return x
        # It defines the operators of pairs.
        import_module("torch.ao.quantization.fx._decomposed")
        pairs: Any = torch.ops.quantized_decomposed
        numbers = (scale, 0, torch.iinfo(dtype).min, torch.iinfo(dtype).max, dtype)
        return pairs.dequantize_per_tensor(pairs.quantize_per_tensor(x, *numbers), *numbers)


def test_a_packed_projection_that_was_rounded_as_a_whole_is_compared_with_the_float_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    x = torch.randn(1, 10, 16)
    weights = Packed(False).state_dict()
    for name in ("float", "rounded"):
        model = Packed(name == "rounded")
        model.load_state_dict(weights)
        save_model(model, x, tmp_path / f"{name}.pt2")
    np.savez(tmp_path / "in.npz", x=x.numpy())
    run(capsys, "compile", tmp_path / "rounded.pt2", "-o", tmp_path / "m.sta")
    for name in ("float", "rounded"):
        found = compared(capsys, tmp_path / f"{name}.pt2", tmp_path / "m.sta", tmp_path / "in.npz")
        (packed,) = [one for one in found if one["shape"][-1] == 48]
        assert (packed["module"], packed["float_operation"]) == ("project", "linear")
