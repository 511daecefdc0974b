"""Accuracy that a compile states: against the model given, and against the model with pruned weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import sta
from sta.api.cli.command_line import main
from sta.api.compiler.compilation import compile_model
from sta.api.dump.ir_dump import Dump
from sta.passes.errors import CompileError
from sta.passes.options import Options, options
from sta.passes.pipeline import pipeline
from sta.spec.accuracy import Fidelity
from sta.spec.nm_format import Pattern, prune_by_magnitude
from tests.api.conftest import Files, files_of
from tests.record.programs import PROGRAMS

Array = NDArray[np.float32]
COUNT = 8
SHAPE = (1, 20, 32)


def layer() -> nn.TransformerEncoderLayer:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    return nn.TransformerEncoderLayer(32, 2, 64, batch_first=True).eval()


def samples() -> Array:
    return np.random.default_rng(0).standard_normal((COUNT, *SHAPE), np.float32)


def decibels(program: sta.Program, model: nn.Module, inputs: Array) -> float:
    """SQNR of the program's output against a model, measured from outside."""
    with torch.no_grad():
        exact = np.stack([model(torch.from_numpy(one)).numpy() for one in inputs]).astype(np.float64)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    found = np.stack([program.run({"src": one}).outputs["output"] for one in inputs])
    return 10 * float(np.log10(np.square(exact).sum() / np.square(found - exact).sum()))


def pruned(model: nn.TransformerEncoderLayer, pattern: str) -> nn.Module:
    """The model with pruned weights, by PyTorch's modules rather than by the pass."""
    attention = model.self_attn
    weights = [attention.in_proj_weight, attention.out_proj.weight, model.linear1.weight, model.linear2.weight]
    with torch.no_grad():
        for weight in weights:
            assert weight is not None
            weight.copy_(torch.from_numpy(prune_by_magnitude(weight.numpy(), Pattern.parse(pattern))))  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    return model


def compiled(**options: Any) -> sta.Program:
    return sta.compile(layer(), {"src": torch.from_numpy(samples()[0])}, calibration={"src": samples()}, **options)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type


@pytest.mark.parametrize("pattern", ["2:4", "3:4", "1:8"])
def test_both_figures_are_those_of_the_program_on_unseen_samples(pattern: str) -> None:
    unseen = np.random.default_rng(9).standard_normal((3, *SHAPE), np.float32)
    program = compiled(sparsity=pattern, evaluation={"src": unseen})
    assert program.fidelity is not None
    assert program.fidelity.given == pytest.approx(decibels(program, layer(), unseen), abs=0.1)
    # Floats stand for the machine's softmax and norms.
    assert program.fidelity.pruned == pytest.approx(decibels(program, pruned(layer(), pattern), unseen), abs=1)
    assert program.fidelity.pruned > program.fidelity.given + 10


def test_samples_held_out_measure_what_ranges_of_the_others_give() -> None:
    program, held_out = compiled(sparsity="2:4"), samples()[-2:]
    assert program.fidelity is not None
    assert program.fidelity.given == pytest.approx(decibels(program, layer(), held_out), abs=0.2)
    # With the ranges of all samples, as in the program, they are represented no worse.
    assert program.fidelity.pruned < decibels(program, pruned(layer(), "2:4"), held_out) + 1


def test_without_pruning_the_figures_are_one() -> None:
    unseen = np.random.default_rng(9).standard_normal((3, *SHAPE), np.float32)
    program = compiled(evaluation={"src": unseen})
    assert program.fidelity is not None
    assert program.fidelity.given == program.fidelity.pruned
    assert program.fidelity.given == pytest.approx(decibels(program, layer(), unseen), abs=1)
    assert program.pruned == {}


def test_zeros_of_the_model_itself_are_not_pruned() -> None:
    model = pruned(layer(), "2:4")
    example = torch.from_numpy(samples()[0])  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    program = sta.compile(model, {"src": example}, calibration={"src": samples()}, sparsity="2:4")
    assert program.pruned == {}
    assert program.fidelity is not None
    assert program.fidelity.given == program.fidelity.pruned


def test_layers_that_are_pruned_are_known_with_their_patterns() -> None:
    program = compiled(sparsity={"linear1": "1:4", "self_attn*": "2:4"})
    patterns = {"self_attn": Pattern(2, 4), "linear1": Pattern(1, 4)}
    assert program.pruned == patterns


def test_a_file_keeps_the_figures_and_python_the_methods(tmp_path: Path) -> None:
    program = compiled(sparsity="2:4")
    program.save(tmp_path / "m.sta")
    read = sta.load(tmp_path / "m.sta")
    assert read.fidelity == program.fidelity
    assert read.pruned == program.pruned
    assert read.quantization is None
    found = program.quantization
    assert found is not None
    assert found.held_out_samples == 2
    assert found.decibels == max(one.decibels for one in found.trials if one.kept)
    assert program.fidelity is not None
    assert program.fidelity.pruned == round(found.decibels, 2)
    assert "SQNR against the model given" in read._repr_html_()  # pyright: ignore[reportPrivateUsage] - what a notebook calls


def test_a_model_that_comes_quantized_has_no_such_figures(tmp_path: Path) -> None:
    case = PROGRAMS["pt2e/encoder"](tmp_path)
    program = sta.compile(case.model, case.example, **case.options)
    assert program.fidelity is None
    assert program.quantization is None


def test_what_is_asked_for_is_held_against_the_pruned_model() -> None:
    program = compiled(sparsity="2:4", min_sqnr=45)
    assert program.fidelity is not None
    assert program.fidelity.given < 30 < 45 <= program.fidelity.pruned
    message = r"reaches \d+\.\d dB against the pruned model on 2 held-out calibration samples"
    with pytest.raises(CompileError, match=message):
        compiled(sparsity="2:4", min_sqnr=190)
    with pytest.raises(CompileError, match=r"reaches \d+\.\d dB against the model on 2 held-out calibration samples"):
        compiled(min_sqnr=190)


def test_tables_and_json_name_both(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compile", str(files.model), "-o", str(tmp_path / "m.sta"), "--calibration", str(files.calibration)]
    assert main([*arguments, "--sparsity", "2:4", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    program = sta.load(tmp_path / "m.sta")
    assert program.fidelity is not None
    assert summary["fidelity"] == program.fidelity.to_json()
    assert summary["pruned"] == {path: str(pattern) for path, pattern in program.pruned.items()}
    assert main([*arguments, "--sparsity", "2:4"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "quantization SQNR against the pruned model in use" in lines
    assert "accuracy SQNR on 1 sample held out" in lines
    assert f"against the pruned model {program.fidelity.pruned:.1f} dB" in lines
    assert f"against the model given {program.fidelity.given:.1f} dB" in lines
    assert main(arguments) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "quantization SQNR on 1 sample held out in use" in lines
    assert any(line.startswith("against the model given ") for line in lines)
    assert not any("pruned" in line for line in lines)


def test_the_help_says_against_which_model() -> None:
    assert "against the model after pruning" in options()["min_sqnr"].help


def test_every_dump_keeps_the_figures(files: Files, tmp_path: Path) -> None:
    samples = str(files.calibration)
    first = compile_model(str(files.model), calibration=samples, sparsity="2:4", dump_ir=tmp_path / "ir")
    assert first.program is not None
    fidelity = first.program.fidelity
    assert isinstance(fidelity, Fidelity)
    names = [step.name for step in pipeline(Options())]
    for path in files_of(Dump.read(tmp_path / "ir")):
        step = re.sub(r"^\d+-|\.mlir$", "", path.name)
        position = names.index(step) if step in names else -1
        given: dict[str, Any] = {}
        if position < names.index("torch-calibrate"):
            given["calibration"] = samples
        if position < names.index("torch-prune"):
            given["sparsity"] = "2:4"
        program = compile_model(str(path), **given).program
        assert program is not None
        assert program.fidelity == fidelity, path.name
        assert program.pruned == first.program.pruned, path.name
        assert program.container.code == first.program.container.code, path.name
        assert np.array_equal(program.container.constants, first.program.container.constants), path.name


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "given = #torch.decibels",
            "gven = #torch.decibels",
            "sta.fidelity has decibels for given and pruned, and not",
        ),
        ('"layer.linear1=2:4"', '"layer.linear1"', "sta.pruned is a list of strings of the form module-path=N:M"),
        ('"layer.linear1=2:4"', '"layer.linear1=5:4"', "pattern 5:4 is not supported"),
    ],
)
def test_an_edited_figure_that_is_none_is_refused(
    old: str, new: str, message: str, files: Files, tmp_path: Path
) -> None:
    compile_model(str(files.model), calibration=str(files.calibration), sparsity="2:4", dump_ir=tmp_path / "ir")
    (path,) = (tmp_path / "ir").glob("*-sta-synchronize.mlir")
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        compile_model(str(path))


def test_an_edited_name_of_a_dense_weight_is_refused(files: Files, tmp_path: Path) -> None:
    compile_model(str(files.model), calibration=str(files.calibration), sparsity="2:4", dump_ir=tmp_path / "ir")
    (path,) = (tmp_path / "ir").glob("*-torch-prune.mlir")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('sta.dense_weight = "', 'sta.dense_weight = "no.'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"sta.dense_weight is the name of a weight \[16, 16\], and 'no\..*' is none"):
        compile_model(str(path), calibration=str(files.calibration))
