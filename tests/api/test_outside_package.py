"""A package of somebody else, installed: its operators, its passes and its target are known to every command."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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


MODEL = """
import sys
import acme_sta.operators
import torch
from torch import nn


class Angles(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.gate = nn.Linear(16, 24), nn.Linear(16, 24)
        self.out = nn.Linear(24, 8)

    def forward(self, x):
        gated = torch.ops.acme.swiglu(self.gate(x), torch.sinc(self.inner(x)), 0.5)
        return self.out(gated) * torch.ops.acme.slopes(8)


torch.manual_seed(0)
torch.export.save(torch.export.export(Angles().eval(), (torch.ones(1, 4, 16),)), sys.argv[1])
"""
"""Layers, and operators that only the package knows."""


@pytest.fixture(scope="module")
def model(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    subprocess.run([sys.executable, "-c", MODEL, folder / "m.pt2"], env=_environment(installed), check=True)
    x = np.random.default_rng(0).standard_normal((8, 1, 4, 16)).astype(np.float32)
    np.savez(folder / "c.npz", x=x)
    return folder


def sta_with(site: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Runs the command where the packages in `site` are installed."""
    command = [sys.executable, "-m", "sta", *map(str, arguments)]
    return subprocess.run(command, env=_environment(site), capture_output=True, text=True, check=False)


def _environment(site: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(site), os.environ["PYTHONPATH"]))}


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


def test_sta_quantize_rounds_the_parts_of_an_operator_that_is_made_of_others(
    installed: Path, model: Path, tmp_path: Path
) -> None:
    options = ["--calibration", model / "c.npz", "-o", tmp_path / "q.pt2"]
    done = sta_with(installed, "quantize", model / "m.pt2", *options)
    assert done.returncode == 0, done.stderr
    done = sta_with(installed, "compile", tmp_path / "q.pt2", "-o", tmp_path / "q.sta", "--check")
    assert done.returncode == 0, done.stderr


def test_without_the_package_what_only_it_has_is_missed(model: Path, tmp_path: Path) -> None:
    done = sta_with(tmp_path / "none", "compile", model / "m.pt2", "-o", tmp_path / "m.sta")
    assert done.returncode == 1
    assert "it calls acme.swiglu, which PyTorch does not have here: install the package that regis" in done.stderr
    done = sta_with(tmp_path / "none", "compile", model / "m.pt2", "-o", tmp_path / "m.sta", "--passes", "acme-x")
    assert done.returncode == 1
    assert "no package adds a pass 'acme-x' (entry points of the group sta.passes)" in done.stderr


def test_targets_and_the_list_of_operators(installed: Path) -> None:
    targets = json.loads(sta_with(installed, "targets", "--json").stdout)
    assert targets["acme-fast"]["clock_mhz"] == 400
    program = "from sta.spec.operators.registry import supported_operators; print(supported_operators())"
    listed = subprocess.run(
        [sys.executable, "-c", program], env=_environment(installed), capture_output=True, text=True, check=True
    )
    assert " sinc" in listed.stdout
    assert " acme.swiglu" in listed.stdout


MODULE = """
func.func @main(%x: !torch.vtensor<[3],f32> {sta.name = "x"}) -> (!torch.vtensor<[3],f32> {sta.name = "y"}) {
  %y = torch.aten.sinc %x : !torch.vtensor<[3],f32> -> !torch.vtensor<[3],f32>
  func.return %y : !torch.vtensor<[3],f32>
}
"""


def test_opt_knows_the_operator_and_runs_the_pass(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "m.mlir").write_text(MODULE)
    arguments = ("opt", tmp_path / "m.mlir", "-p", "torch-check-supported,acme-drop-doubled-negation")
    done = sta_with(installed, *arguments)
    assert done.returncode == 0, done.stderr
    assert "torch.aten.sinc %x" in done.stdout
    listed = sta_with(installed, "opt", "--help").stdout
    assert ",acme-drop-doubled-negation," in "".join(listed.split())
    done = sta_with(tmp_path / "none", *arguments)
    assert done.returncode == 2
    assert "unknown pass 'acme-drop-doubled-negation'" in done.stderr


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('broken')", r"loading bolt_sta:ADDED failed (RuntimeError: broken)"),
        ("ADDED = 3", "bolt_sta:ADDED: "),
    ],
)
@pytest.mark.parametrize(("group", "name"), [("sta.operators", "aten.lgamma"), ("sta.targets", "bolt")])
def test_a_bad_package_is_one_warning_and_the_rest_works(
    tmp_path: Path, source: str, reason: str, group: str, name: str
) -> None:
    lay_package(tmp_path / "site", "bolt-sta", source, {group: {name: "ADDED"}})
    (tmp_path / "m.mlir").write_text("func.func @main() {\n  %0 = torch.constant.none\n  func.return\n}\n")
    commands = {
        "sta.targets": ["targets"],
        "sta.operators": ["opt", tmp_path / "m.mlir", "-p", "torch-check-supported"],
    }
    done = sta_with(tmp_path / "site", *commands[group])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("sta: warning: ") == 1
    assert f"{name!r} of package bolt-sta: {reason}" in done.stderr
