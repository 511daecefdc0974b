"""An installed outside package: every command knows its operator, its passes and its target."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.packages import lay_package

PACKAGE = Path(__file__).parents[1] / "outside_package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package was installed into, by pip."""
    folder = tmp_path_factory.mktemp("outside")
    shutil.copytree(PACKAGE, folder / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", folder / "site", folder / "source"], check=True)
    return folder / "site"


class Angles(nn.Module):
    """A layer, and the operator that only the package knows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 24)
        self.out = nn.Linear(24, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.atan(self.inner(x)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    torch.export.save(torch.export.export(Angles().eval(), (torch.ones(1, 4, 16),)), folder / "m.pt2")
    x = np.random.default_rng(0).standard_normal((8, 1, 4, 16)).astype(np.float32)
    np.savez(folder / "c.npz", x=x)
    return folder


def sta_with(site: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Runs the command where the packages in `site` are installed."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "sta", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_model_compiles_with_everything_that_the_package_adds(installed: Path, model: Path, tmp_path: Path) -> None:
    options = ["--calibration", model / "c.npz", "--check", "--json", "--target", "acme-fast"]
    passes = ["--passes", "acme-clear-low-bits", "--passes", "acme-drop-doubled-negation"]
    done = sta_with(installed, "compile", model / "m.pt2", "-o", tmp_path / "m.sta", *options, *passes)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["target"] == "acme-fast"
    kinds = {row["step"]: row["kind"] for row in summary["check"]}
    assert kinds["acme-drop-doubled-negation"] == "close"
    assert kinds["acme-clear-low-bits"] == "lossy"
    losses = {row["step"]: row for row in summary["losses"]}
    assert losses["acme-clear-low-bits"]["kept_for"] == "fewer bits in weights"
    assert 20 < losses["acme-clear-low-bits"]["decibels"] < 60


def test_without_the_package_the_operator_is_reported(model: Path, tmp_path: Path) -> None:
    done = sta_with(tmp_path / "none", "compile", model / "m.pt2", "-o", tmp_path / "m.sta")
    assert done.returncode == 1
    assert "aten.atan in " in done.stderr
    done = sta_with(tmp_path / "none", "compile", model / "m.pt2", "-o", tmp_path / "m.sta", "--passes", "acme-x")
    assert done.returncode == 1
    assert "no package adds a pass 'acme-x' (entry points of the group sta.passes)" in done.stderr


def test_targets_and_the_list_of_operators(installed: Path) -> None:
    targets = json.loads(sta_with(installed, "targets", "--json").stdout)
    assert targets["acme-fast"]["clock_mhz"] == 400
    program = "from sta.spec.operators.registry import supported_operators; print(supported_operators())"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    listed = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert " atan" in listed.stdout


def test_opt_runs_the_pass(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "m.mlir").write_text("func.func @main() {\n  func.return\n}\n")
    done = sta_with(installed, "opt", tmp_path / "m.mlir", "-p", "acme-drop-doubled-negation")
    assert done.returncode == 0, done.stderr
    assert "func.func @main" in done.stdout


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('broken')", r"loading bolt_sta:ADDED failed (RuntimeError: broken)"),
        ("ADDED = 3", "bolt_sta:ADDED: "),
    ],
)
@pytest.mark.parametrize(("group", "name"), [("sta.operators", "aten.sin"), ("sta.targets", "bolt")])
def test_a_bad_package_is_one_warning_and_the_rest_works(
    tmp_path: Path, source: str, reason: str, group: str, name: str
) -> None:
    lay_package(tmp_path / "site", "bolt-sta", source, {group: {name: "ADDED"}})
    (tmp_path / "m.mlir").write_text("func.func @main() {\n  func.return\n}\n")
    commands = {
        "sta.targets": ["targets"],
        "sta.operators": ["opt", tmp_path / "m.mlir", "-p", "torch-check-supported"],
    }
    done = sta_with(tmp_path / "site", *commands[group])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("sta: warning: ") == 1
    assert f"{name!r} of package bolt-sta: {reason}" in done.stderr
