"""Wrong arguments of `sta.compile`: messages name the expected ones, before the work that they would spoil."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sta
from sta.api.compiler.compilation import compile_model
from sta.backend.container import container_bytes
from sta.frontend.errors import UnsupportedOperationsError


class Embedded(nn.Module):
    """An embedding and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 6)
        self.out = nn.Linear(6, 5)

    def forward(self, ids: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        return self.out(self.table(ids) + offset)


IDS = np.array([[1, 2, 8]])
OFFSET = np.ones((1, 3, 6), np.float32)
EXAMPLE: dict[str, Any] = {"ids": IDS, "offset": OFFSET}


def compiled(**arguments: Any) -> sta.Program:
    given: dict[str, Any] = {"example_inputs": EXAMPLE, **arguments}
    return sta.compile(Embedded().eval(), **given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": 3}, "target is the name of a preset, .* not int"),
        ({"sparsity": 0.5}, "sparsity is a pattern such as '2:4', .* or a mapping .* not float"),
        ({"sparsity": [2]}, "sparsity is a list of patterns, .* not of int"),
        ({"sparsity": {"out": None}}, "sparsity of 'out' is a pattern such as '2:4', not None"),
        ({"sparsity": {None: "2:4"}}, "sparsity maps module-path globs, which are texts, not None"),
        ({"int16_inputs": "out"}, "int16_inputs is a list of module-path globs, not str"),
        ({"int16_inputs": 16}, "int16_inputs is a list of module-path globs, not int"),
        ({"int16_inputs": ["out", 3]}, "int16_inputs holds module-path globs, which are texts, not int"),
        ({"calibration": 8}, "calibration is a mapping from input name to array, .* not int"),
        ({"calibration": b"samples"}, "calibration is a mapping .* not bytes"),
        ({"example_inputs": OFFSET}, "example inputs are a mapping .* not ndarray"),
        ({"dump_ir": 3}, "int"),
    ],
)
def test_arguments_of_another_type(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        compiled(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "sta-bas"}, "unknown target 'sta-bas'; did you mean 'sta-base'"),
        ({"sparsity": "half"}, "'half' is not a sparsity pattern: write N:M"),
        ({"sparsity": {"out": "5:4"}}, "sparsity of 'out': pattern 5:4 is not supported"),
        ({"calibration": "missing.npz"}, "missing.npz"),
        ({"dump_ir": __file__}, "cannot write the IR to .*test_arguments.py: it is no directory"),
    ],
)
def test_arguments_are_read_before_the_model(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        sta.compile("missing.pt2", **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"ids": IDS[None] + 1},
            r"calibration sample 0: cannot run torch.aten.embedding of table .*: its table has rows 0..8, .* index 9",
        ),
        ({"offset": OFFSET[None] * np.inf}, r"samples of 'offset' hold inf at \[0, 0, 0, 0\]"),
        ({"offset": np.full((1, 1, 3, 6), 1e40)}, r"samples of 'offset' hold 1e\+40 at .*, which is no float32"),
        ({"offset": None}, "samples of 'offset' must be float32, not object"),
        ({"ofset": OFFSET}, "the model has no input 'ofset'; did you mean 'offset'"),
        ({"ids": np.concatenate([IDS[None], IDS[None]])}, "different numbers of samples"),
    ],
)
def test_calibration_data_that_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compiled(calibration={name: array[None] for name, array in EXAMPLE.items()} | changes)


def test_evaluation_data_that_does_not_fit_is_told_from_calibration_data() -> None:
    given = {name: array[None] for name, array in EXAMPLE.items()}
    with pytest.raises(ValueError, match=r"^evaluation: the samples lack 'offset'"):
        compiled(calibration=given, evaluation={"ids": given["ids"]})
    reason = r"^evaluation sample 0: cannot run torch.aten.embedding of table .*: its table has rows 0..8"
    with pytest.raises(ValueError, match=reason):
        compiled(calibration=given, evaluation=given | {"ids": given["ids"] + 1})
    with pytest.raises(ValueError, match=r"reaches .* dB against the model on 1 evaluation sample, .*not the 190 dB"):
        compiled(calibration=given, evaluation=given, min_sqnr=190)


class Narrow(nn.Module):
    """Indices that come in another width than embeddings take."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 6)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table(ids.long())


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_indices_of_any_width(dtype: Any) -> None:
    model, ids = Narrow().eval(), IDS.astype(dtype)
    program = sta.compile(model, {"ids": ids}, calibration={"ids": ids[None]}, check=True)
    assert [(port.kind, port.limit) for port in program.inputs] == [("index", 9)]
    expected = model.table.weight.detach().numpy()[IDS]
    np.testing.assert_allclose(program.run({"ids": ids}).outputs["output"], expected, atol=1e-4)
    with pytest.raises(ValueError, match=r"expected indices in 0\.\.8, got 9"):
        program.run({"ids": ids + dtype(1)})


@pytest.mark.filterwarnings("ignore:no calibration data")
def test_example_inputs_that_are_no_samples() -> None:
    spoilt = {**EXAMPLE, "offset": np.where(OFFSET > 0, np.nan, OFFSET)}
    with pytest.raises(ValueError, match=r"'offset', which stand in for calibration data, hold nan at \[0, 0, 0\]"):
        compiled(example_inputs=spoilt)
    # Where there are samples, only the shapes of the example inputs count.
    calibration = {name: array[None] for name, array in EXAMPLE.items()}
    assert compiled(example_inputs=spoilt, calibration=calibration).cycles > 0


def test_calibration_data_from_a_file(tmp_path: Path) -> None:
    calibration = {name: array[None] for name, array in EXAMPLE.items()}
    np.savez(tmp_path / "c.npz", ids=calibration["ids"], offset=calibration["offset"])
    model = Embedded().eval()
    sources: list[Any] = [calibration, tmp_path / "c.npz", str(tmp_path / "c.npz")]
    programs = [sta.compile(model, EXAMPLE, calibration=source) for source in sources]
    assert len({container_bytes(program.container) for program in programs}) == 1


class Ordered(nn.Module):
    """The elements of each row, sorted."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sort(-1).values


def test_what_is_not_supported_is_said_before_samples_are_read() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Ordered())
    for check in (False, True):
        with pytest.raises(UnsupportedOperationsError, match=r"aten\.sort in 1"):
            sta.compile(model, [torch.ones(1, 3)], calibration={"wrong": OFFSET}, check=check)


def test_files_that_are_of_no_dump_stay(tmp_path: Path) -> None:
    kept = ["00-notes.mlir", "import.mlir", "00-import.txt", "0-import.mlir"]
    for name in [*kept, "00-import.mlir"]:
        (tmp_path / name).write_text("old")
    (tmp_path / "78-import.mlir").mkdir()
    calibration = {name: array[None] for name, array in EXAMPLE.items()}
    compile_model(Embedded().eval(), EXAMPLE, calibration=calibration, dump_ir=tmp_path)
    old = {path.name for path in tmp_path.iterdir() if path.is_dir() or path.read_text() == "old"}
    assert old == {*kept, "78-import.mlir", "weights"}
    assert "builtin.module" in (tmp_path / "00-import.mlir").read_text()


def test_a_dump_fails_before_it_removes_anything(tmp_path: Path) -> None:
    (tmp_path / "00-import.mlir").write_text("old")
    with pytest.raises(ValueError, match="example inputs are needed"):
        sta.compile(Embedded(), dump_ir=tmp_path)
    assert (tmp_path / "00-import.mlir").read_text() == "old"
