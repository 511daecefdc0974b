"""`sta quantize`: a model file to a quantized model file, and what is made of that."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sta
from sta.command_line import main
from tests.api.conftest import TOKENS, Files
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
    found = json.loads(run(capsys, "diff", model, program, "--inputs", files.inputs, "--json")[0])
    assert found["not_compared"] == []
    (packed,) = [one for one in found["operations"] if one["shape"] == [TOKENS, 1, 48]]
    assert (packed["module"], packed["float_operation"]) == ("layer.self_attn", "linear")
    assert min(one["isolated"]["sqnr_db"] for one in found["operations"]) > 30
    (output,) = [one for one in found["operations"] if one["operation"] == "output"]
    ids = np.load(files.inputs)["ids"]
    with torch.no_grad():
        reference: Any = torch.export.load(model).module()(torch.tensor(ids)).numpy()
    values = sta.load(program).run({"ids": ids}).outputs["output"]
    assert output["accumulated"]["sqnr_db"] == pytest.approx(signal_to_noise(reference, values), abs=0.05)
