"""`sta diff`: a run of a program against the float model, operation by operation."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sta
from sta.api.cli.command_line import main
from sta.api.inspect.signal_to_noise import Agreement
from sta.backend.container import Container
from sta.runtime import Program
from tests.api.conftest import TOKENS, VOCABULARY, Files, Small, save_model
from tests.api.test_debug import damaged


def diff(capsys: pytest.CaptureFixture[str], model: Path, program: Path, inputs: Path, *options: str) -> str:
    assert main(["diff", str(model), str(program), "--inputs", str(inputs), *options]) == 0
    return capsys.readouterr().out


def changed(files: Files, folder: Path, **sections: Any) -> Path:
    """The program with other sections."""
    container: Container = dataclasses.replace(sta.load(files.program).container, **sections)
    Program(container).save(folder / "changed.sta")
    return folder / "changed.sta"


def reference_output(files: Files, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    model = torch.export.load(files.model).module()
    with torch.no_grad():
        return model(torch.tensor(ids)).numpy()


def test_every_operation_is_compared(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    found = json.loads(diff(capsys, files.model, files.program, files.inputs, "--json"))
    assert found["samples"] == 1
    assert found["not_compared"] == []
    operations = found["operations"]
    kinds = sorted((one["module"], one["operation"], one["float_operation"]) for one in operations)
    assert kinds == [
        ("embedding", "nm.gather", "embedding"),
        ("embedding", "nm.map", "embedding"),
        ("layer.linear1", "nm.linear", "gelu"),
        ("layer.linear2", "nm.linear", "add"),
        ("layer.norm1", "nm.norm", "layer_norm"),
        ("layer.norm1", "nm.norm", "layer_norm"),
        ("layer.norm2", "nm.norm", "layer_norm"),
        ("layer.norm2", "output", "layer_norm"),
        ("layer.self_attn", "nm.attention", "scaled_dot_product_attention"),
        ("layer.self_attn", "nm.linear", "add"),
        ("layer.self_attn", "nm.linear", "linear"),
        ("layer.self_attn", "nm.linear", "linear"),
        ("layer.self_attn", "nm.linear", "linear"),
    ]
    isolated = [one["isolated"]["sqnr_db"] for one in operations]
    assert isolated == sorted(isolated)
    assert min(isolated) > 30
    # A table of 16-bit rows is exact to half a unit, and nothing comes before it.
    (gathered,) = [one for one in operations if one["operation"] == "nm.gather"]
    assert gathered["isolated"] == gathered["accumulated"]
    assert gathered["isolated"]["max_error_lsb"] <= 0.501


def test_the_output_is_that_of_the_program_and_of_pytorch(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    found = json.loads(diff(capsys, files.model, files.program, files.inputs, "--json"))
    (output,) = [one for one in found["operations"] if one["operation"] == "output"]
    ids = np.load(files.inputs)["ids"]
    expected = reference_output(files, ids)
    values = sta.load(files.program).run({"ids": ids}).outputs["output"]
    agreement = Agreement(output["scale"])
    agreement.add(expected, values)
    # The float pipeline computes in another order than the model, and outputs are float32.
    assert output["accumulated"]["sqnr_db"] == pytest.approx(agreement.decibels, abs=0.02)
    assert output["accumulated"]["cosine"] == pytest.approx(agreement.cosine, abs=1e-6)
    # By itself it is a copy: only its rounding is left.
    assert output["isolated"]["max_error_lsb"] <= 0.5 + 1e-6


def test_the_float_model_is_the_model_as_it_was_given(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    found = json.loads(diff(capsys, files.model, files.program, files.inputs, "--json"))["original"]
    (output,) = found["outputs"]
    ids = np.load(files.inputs)["ids"]
    agreement = Agreement(1.0)
    agreement.add(reference_output(files, ids), sta.load(files.program).run({"ids": ids}).outputs["output"])
    assert (found["by"], output["output"]) == ("PyTorch", "output")
    assert output["program"]["sqnr_db"] == pytest.approx(agreement.decibels, abs=1e-3)
    assert output["float_model"]["exact"] or output["float_model"]["sqnr_db"] > 100


def test_a_wrong_constant_is_found(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path) -> None:
    _, program = damaged(sta.load(files.program), "layer.linear2")
    program.save(tmp_path / "wrong.sta")
    wrong = tmp_path / "wrong.sta"
    found = json.loads(diff(capsys, files.model, wrong, files.inputs, "--bisect", "30", "--json"))
    first = found["bisect"]["first"]
    assert (first["module"], first["operation"]) == ("layer.linear2", "nm.linear")
    assert first["wrong_by_itself"]
    worst, *others = found["operations"]
    assert worst["module"] == "layer.linear2"
    # What comes later inherits the error, and is as good as ever on the float model's own inputs.
    assert all(one["isolated"]["sqnr_db"] > 30 for one in others)
    assert all(one["accumulated"]["sqnr_db"] < 30 for one in others if one["module"] == "layer.norm2")
    lines = diff(capsys, files.model, wrong, files.inputs, "--bisect", "30").splitlines()
    assert "layer.linear2 (nm.linear, float add" in lines[0]
    assert "wrong by itself" in lines[2]


def test_bisection_tells_what_is_inherited(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    found = json.loads(diff(capsys, files.model, files.program, files.calibration, "--json", "--bisect", "38"))
    first = found["bisect"]["first"]
    # The projections before it stay above the bound; attention takes the errors of three of them together.
    assert first["operation"] == "nm.attention"
    assert first["accumulated"]["sqnr_db"] < 38 < first["isolated"]["sqnr_db"]
    assert not first["wrong_by_itself"]
    assert first["worst_by_itself_until_here"]["float_operation"] == "linear"
    assert "none of 13 operations falls below 10 dB" in diff(
        capsys, files.model, files.program, files.inputs, "--bisect", "10"
    )


def test_layers_that_the_compile_pruned_are_not_called_wrong(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    calibration = {"ids": np.load(files.calibration)["ids"]}
    program = sta.compile(files.model, calibration=calibration, sparsity={"layer.linear1": "2:4"})
    program.save(tmp_path / "pruned.sta")
    found = json.loads(diff(capsys, files.model, tmp_path / "pruned.sta", files.inputs, "--json", "--bisect", "30"))
    marked = {one["module"]: one["pruned"] for one in found["operations"] if one["pruned"]}
    assert marked == {"layer.linear1": "2:4"}
    first = found["bisect"]["first"]
    assert (first["module"], first["isolated"]["sqnr_db"] < 30) == ("layer.linear1", True)
    assert not first["wrong_by_itself"]
    assert found["bisect"]["first_wrong_by_itself"] is None
    lines = diff(capsys, files.model, tmp_path / "pruned.sta", files.inputs, "--bisect", "30").splitlines()
    assert lines[2].startswith("its weights were pruned to 2:4, and are not the float model's")
    assert lines[3] == "no operation whose weights were not pruned falls below the bound by itself"
    lines = diff(capsys, files.model, tmp_path / "pruned.sta", files.inputs).splitlines()
    assert sum("nm.linear, pruned 2:4" in line for line in lines) == 1


def test_the_model_after_pruning_tells_the_compiler_from_the_pruning(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    calibration = {"ids": np.load(files.calibration)["ids"]}
    program = sta.compile(files.model, calibration=calibration, sparsity="1:4")
    program.save(tmp_path / "pruned.sta")
    call = (files.model, tmp_path / "pruned.sta", files.calibration)
    given = json.loads(diff(capsys, *call, "--json"))
    pruned = json.loads(diff(capsys, *call, "--json", "--pruned", "--bisect", "30"))
    assert (given["after_pruning"], pruned["after_pruning"]) == (False, True)
    # Against the model given the layers are far away; against the pruned one only their rounding is left.
    worst = [min(one["isolated"]["sqnr_db"] for one in found["operations"]) for found in (given, pruned)]
    assert worst[0] < 15 < 30 < worst[1]
    assert all(one["pruned"] is None for one in pruned["operations"])
    (output,) = (one for one in pruned["operations"] if one["operation"] == "output")
    fidelity = program.fidelity
    assert fidelity is not None
    # The compile judged on fewer samples.
    assert output["accumulated"]["sqnr_db"] == pytest.approx(fidelity.pruned, abs=3)
    # What is left between the pruned model and the one given is the pruning's.
    (original,) = pruned["original"]["outputs"]
    assert original["float_model"]["sqnr_db"] == pytest.approx(fidelity.given, abs=3)
    assert pruned["bisect"]["float_model_departs"] is None
    assert "against the float model after pruning" in diff(capsys, *call, "--pruned")
    assert "--pruned compares with the model after that" in diff(capsys, *call)


def test_a_program_without_pruning_is_compared_with_the_model_given(
    capsys: pytest.CaptureFixture[str], files: Files
) -> None:
    message = refused(capsys, files.model, files.program, files.inputs, "--pruned")
    assert message.endswith("small.sta: the compile pruned no layer: leave out --pruned")


def test_a_wrong_constant_is_found_behind_pruned_layers(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    calibration = {"ids": np.load(files.calibration)["ids"]}
    program = sta.compile(files.model, calibration=calibration, sparsity={"layer.linear1": "2:4"})
    _, wrong = damaged(program, "layer.linear2")
    wrong.save(tmp_path / "wrong.sta")
    found = json.loads(diff(capsys, files.model, tmp_path / "wrong.sta", files.inputs, "--bisect", "30", "--json"))
    assert found["bisect"]["first"]["module"] == "layer.linear1"
    assert found["bisect"]["first_wrong_by_itself"]["module"] == "layer.linear2"
    lines = diff(capsys, files.model, tmp_path / "wrong.sta", files.inputs, "--bisect", "30").splitlines()
    assert lines[3].startswith("the first wrong by itself, with weights that were not pruned: layer.linear2 (nm.linear")


def test_several_runs_are_added_up(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path) -> None:
    ids = np.random.default_rng(3).integers(0, VOCABULARY, (3, 1, TOKENS))
    np.savez(tmp_path / "many.npz", ids=ids)
    found = json.loads(diff(capsys, files.model, files.program, tmp_path / "many.npz", "--json"))
    assert found["samples"] == 3
    (output,) = [one for one in found["operations"] if one["operation"] == "output"]
    agreement, program = Agreement(output["scale"]), sta.load(files.program)
    for one in ids:
        agreement.add(reference_output(files, one), program.run({"ids": one}).outputs["output"])
    assert output["accumulated"]["sqnr_db"] == pytest.approx(agreement.decibels, abs=0.02)


def test_a_table_for_people(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    lines = diff(capsys, files.model, files.program, files.inputs).splitlines()
    assert lines[0].startswith("1 run against the float model")
    assert sum("nm." in line for line in lines) == 12


def refused(capsys: pytest.CaptureFixture[str], model: Path, program: Path, inputs: Path, *options: str) -> str:
    assert main(["diff", str(model), str(program), "--inputs", str(inputs), *options]) in (1, 2)
    return capsys.readouterr().err.splitlines()[-1]


def test_a_program_without_a_map_of_values(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path) -> None:
    debug = sta.load(files.program).container.debug
    program = changed(files, tmp_path, debug={**debug, "values": []})
    message = refused(capsys, files.model, program, files.inputs)
    assert "changed.sta: its debug map does not say which tensors of the float model" in message
    assert message.endswith("compile the model again")


def test_another_model(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path) -> None:
    ids = torch.zeros(1, TOKENS + 1, dtype=torch.int64)
    save_model(Small(), ids, tmp_path / "other.pt2")
    message = refused(capsys, tmp_path / "other.pt2", files.program, files.inputs)
    assert "other.pt2: input 'ids' is [1, 10] in the program and is [1, 11] in the model" in message


def test_a_model_without_one_of_the_operations(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    class Embedding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(VOCABULARY, 16)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.embedding(ids)

    save_model(Embedding(), torch.zeros(1, TOKENS, dtype=torch.int64), tmp_path / "other.pt2")
    message = refused(capsys, tmp_path / "other.pt2", files.program, files.inputs)
    assert "was not compiled from" in message
    assert "layer.self_attn: nm.linear computes" in message


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"isd": np.zeros((1, TOKENS), np.int64)}, "unexpected input 'isd'; did you mean 'ids'?"),
        ({"ids": np.zeros((1, TOKENS + 1), np.int64)}, "input 'ids': expected shape (1, 10), got (1, 11)"),
        ({"ids": np.full((1, TOKENS), VOCABULARY)}, "input 'ids': expected indices in 0..19, got 20 at [0, 0]"),
    ],
)
def test_wrong_inputs(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path, arrays: dict[str, Any], expected: str
) -> None:
    np.savez(tmp_path / "in.npz", **arrays)
    assert expected in refused(capsys, files.model, files.program, tmp_path / "in.npz")


def test_a_bound_that_is_none(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    message = refused(capsys, files.model, files.program, files.inputs, "--bisect", "nan")
    assert "argument --bisect: nan is no number of decibels" in message


def test_a_model_of_another_width(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path) -> None:
    model = Small()
    model.layer.linear1 = torch.nn.Linear(16, 48)
    model.layer.linear2 = torch.nn.Linear(48, 16)
    save_model(model, torch.zeros(1, TOKENS, dtype=torch.int64), tmp_path / "other.pt2")
    message = refused(capsys, tmp_path / "other.pt2", files.program, files.inputs)
    assert "layer.linear1: nm.linear computes 'layer:gelu', [1, 10, 32] in the program" in message
    assert message.endswith("and [1, 10, 48] in the model")


def test_a_damaged_map_of_values(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path) -> None:
    debug = sta.load(files.program).container.debug
    values = [{**value, "source": 7} for value in debug["values"]]
    program = changed(files, tmp_path, debug={**debug, "values": values})
    message = refused(capsys, files.model, program, files.inputs)
    assert "section 'debug': the source of the value 'embedding' is malformed" in message


def test_one_of_several_runs_cannot_be_used(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path) -> None:
    ids = np.zeros((3, 1, TOKENS), np.int64)
    ids[1, 0, 4] = VOCABULARY
    np.savez(tmp_path / "in.npz", ids=ids)
    message = refused(capsys, files.model, files.program, tmp_path / "in.npz")
    assert "run 2: input 'ids': expected indices in 0..19, got 20 at [0, 4]" in message
