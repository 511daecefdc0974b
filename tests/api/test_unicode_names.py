"""Modules, inputs and files whose names are not ASCII, from the model to a dump of its IR and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sta
from sta.api.cli.command_line import main
from sta.api.dump.ir_dump import Dump
from sta.api.inspect.place_lookup import find
from tests.api.conftest import files_of


class Layer(torch.nn.Module):
    """A module and an input with letters that UTF-8 has two and three bytes for."""

    def __init__(self) -> None:
        super().__init__()
        self.schicht_ü_層 = torch.nn.Linear(17, 19)

    def forward(self, größe: torch.Tensor) -> torch.Tensor:
        return self.schicht_ü_層(größe)


@pytest.fixture(scope="module")
def unicode_dump(tmp_path_factory: pytest.TempPathFactory) -> Dump:
    """Returns the dump of the compile; the program and the calibration data lie in the same folder."""
    folder = tmp_path_factory.mktemp("größe 層")
    samples = torch.randn(2, 1, 3, 17)
    np.savez(folder / "samples.npz", größe=samples.numpy())
    torch.export.save(torch.export.export(Layer().eval(), (samples[0],)), folder / "m.pt2")
    arguments = ["compile", folder / "m.pt2", "-o", folder / "m.sta", "--dump-ir", folder / "ir"]
    assert main([str(part) for part in (*arguments, "--calibration", folder / "samples.npz")]) == 0
    return Dump.read(folder / "ir")


def test_every_dump_compiles_to_the_original_bytes(unicode_dump: Dump, tmp_path: Path) -> None:
    folder = unicode_dump.directory.parent
    for path in files_of(unicode_dump):
        arguments = ["compile", str(path), "-o", str(tmp_path / "m.sta")]
        if path.name.endswith("import.mlir"):
            # What comes later is calibrated already.
            arguments += ["--calibration", str(folder / "samples.npz")]
        assert main(arguments) == 0, path.name
        assert (tmp_path / "m.sta").read_bytes() == (folder / "m.sta").read_bytes(), path.name


def test_lines_of_dumps_and_patterns_lead_to_the_module(unicode_dump: Dump) -> None:
    program = sta.load(unicode_dump.directory.parent / "m.sta")
    (expected,) = find("schicht_?_層", program)
    assert expected.path == "schicht_ü_層"
    assert expected.source == (f"test_unicode_names.py:{Layer.forward.__code__.co_firstlineno + 1}",)
    for path in files_of(unicode_dump):
        lines = path.read_text().splitlines()
        number = next(n for n, line in enumerate(lines, 1) if line.startswith("    ") and 'loc("schicht_' in line)
        assert find(f"{path}:{number}", program) == [expected]


def test_inputs_keep_their_names(unicode_dump: Dump) -> None:
    program = sta.load(unicode_dump.directory.parent / "m.sta")
    assert program.run({"größe": np.zeros((1, 3, 17), np.float32)}).outputs["output"].shape == (1, 3, 19)
