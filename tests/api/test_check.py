"""`sta check`: whether a model compiles, and everything that is missing."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

import sta
from sta.api.cli.command_line import main
from sta.api.compiler.verdict import Verdict
from tests.api.conftest import Files, Small, Unsupported, save_model


@pytest.fixture
def unsupported(tmp_path: Path) -> Path:
    path = tmp_path / "unsupported.pt2"
    save_model(Unsupported(), torch.ones(1, 4), path)
    return path


def test_a_model_that_compiles_has_its_cost_and_no_warnings(files: Files) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdict = sta.check(files.model)
    assert verdict
    assert verdict.program is not None
    assert (verdict.missing, verdict.reason, verdict.notes) == ((), "", ())
    with pytest.warns(UserWarning, match="no calibration data"):
        program = sta.compile(files.model, fast=True)
    assert verdict.program.cycles == program.cycles
    assert verdict.to_json()["cost"]["dram_bytes"] == program.dram_bytes


def test_everything_that_is_missing_is_listed(unsupported: Path) -> None:
    verdict = sta.check(unsupported)
    assert not verdict
    assert [one.name for one in verdict.missing] == ["aten.sort", "aten.sort", "aten.median.dim"]
    assert verdict.missing[1].module_path.startswith("second ")
    assert all(one["remedy"] for one in verdict.to_json()["missing"])


def test_a_model_without_example_inputs_is_checked_on_random_ones(tmp_path: Path) -> None:
    program = torch.export.export(Small().eval(), (torch.zeros(1, 6, dtype=torch.int64),), strict=False)
    program.example_inputs = None
    torch.export.save(program, tmp_path / "m.pt2")
    assert sta.check(tmp_path / "m.pt2")


def test_a_module_and_the_notes_of_a_compile() -> None:
    verdict = sta.check(torch.nn.Linear(8, 8).half(), (torch.ones(2, 8, dtype=torch.float16),))
    assert verdict
    assert verdict.notes == ("the model is in float16: its weights and inputs are converted to float32",)


@pytest.mark.parametrize("step", ["import", "convert-torch-to-nm", "convert-nm-to-sta"])
def test_a_dump_is_checked_from_any_step(step: str, files: Files, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no calibration data"):
        sta.compile(files.model, fast=True, dump_ir=tmp_path / "ir")
    (path,) = (tmp_path / "ir").glob(f"*-{step}.mlir")
    assert sta.check(path)


def test_other_reasons_are_given_too(tmp_path: Path) -> None:
    verdict = sta.check(tmp_path / "none.pt2")
    assert verdict == Verdict(None, reason=f"there is no model file at {tmp_path / 'none.pt2'}")
    assert verdict.to_json()["cost"] is None


def test_wrong_options_are_errors_and_no_verdict(files: Files) -> None:
    with pytest.raises(ValueError, match="unknown softmax"):
        sta.check(files.model, softmax="rows")


@pytest.mark.parametrize("width", ["60", "80"])
def test_the_command_shows_the_cost(
    width: str, files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    assert main(["check", str(files.model), "--target", "sta-small"]) == 0
    shown = capsys.readouterr().out
    assert "compiles for" in shown
    assert "sta-small" in shown
    assert "memory on chip" in shown
    assert max(map(len, shown.splitlines())) <= int(width)


@pytest.mark.parametrize("width", ["60", "80"])
def test_the_command_lists_what_is_missing_with_exit_code_1(
    width: str, unsupported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(unsupported.parent)
    monkeypatch.setenv("COLUMNS", width)
    assert main(["check", "unsupported.pt2"]) == 1
    output = capsys.readouterr()
    assert output.out.count("aten.sort") == 2
    assert "aten.median" in output.out
    assert "sta: error" not in output.err
    assert max(map(len, output.out.splitlines())) <= int(width)


def test_json_for_both_answers(files: Files, unsupported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(files.model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["compiles"]
    assert found["cost"]["cycles"] > 0
    assert main(["check", str(unsupported), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["compiles"]
    assert [one["operation"] for one in found["missing"]] == ["aten.sort", "aten.sort", "aten.median.dim"]
    assert found["cost"] is None


def test_the_check_writes_nothing(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", str(files.model)]) == 0
    assert not list(tmp_path.iterdir())
