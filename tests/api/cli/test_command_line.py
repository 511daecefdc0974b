"""The `sta` command: output, files, and messages for bad input."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sta
from sta.api.cli.command_line import COMMANDS, main
from sta.api.files.output_file import write_arrays
from tests.api.conftest import TOKENS, VOCABULARY, Files, save_model

Save = Callable[[Path], None]


@dataclass(frozen=True)
class Outcome:
    """Result of a command."""

    status: int
    output: str
    errors: str

    @property
    def error(self) -> str:
        """The error message, which is the last thing the command says, without its prefix."""
        _, found, message = self.errors.rpartition("sta: error: ")
        assert found, f"no error in {self.errors!r}"
        return message.removesuffix("\n")


class Shell:
    """Runs the command in an empty folder."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capture = capture

    def __call__(self, *arguments: object) -> Outcome:
        self._capture.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = self._capture.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(status, captured.out, captured.err)

    def written(self) -> list[str]:
        """The files in the folder, temporary ones included."""
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path, capsys)


# --- What it does ---


def test_compile_says_what_came_out(shell: Shell, files: Files) -> None:
    done = shell("compile", files.model, "-o", "m.sta", "--calibration", files.calibration, "--sparsity", "2:4")
    assert done.status == 0
    program = sta.load("m.sta")
    assert f"{program.cycles:,}" in done.output
    assert "2:4" in done.output
    assert shell.written() == ["m.sta"]


def test_compile_names_the_program_after_the_model(shell: Shell, files: Files) -> None:
    assert shell("compile", files.model, "--calibration", files.calibration).status == 0
    assert shell.written() == [f"{files.model.stem}.sta"]
    assert sta.load(f"{files.model.stem}.sta").container.code == sta.load(files.program).container.code


def test_a_model_from_standard_input_has_no_name(files: Files, tmp_path: Path) -> None:
    with open(files.model, "rb") as model:
        command = [sys.executable, "-m", "sta", "compile", "-"]
        done = subprocess.run(command, stdin=model, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "argument -o: it is needed where a file is standard input" in done.stderr
    assert os.listdir(tmp_path) == []


def test_sparsity_of_modules(shell: Shell, files: Files) -> None:
    given = ["compile", files.model, "-o", "m.sta", "--calibration", files.calibration, "--json"]
    patterns = ["--sparsity", "1:2", "--sparsity", "layer.linear1=2:4", "--sparsity", "layer.linear2=1:1"]
    assert shell(*given, *patterns).status == 0
    listed = ["layer.linear1=2:4", "layer.linear2=1:1", "1:2"]
    mapping = {"layer.linear1": "2:4", "layer.linear2": "1:1", "*": "1:2"}
    calibration = dict(np.load(files.calibration))
    expected = sta.compile(files.model, calibration=calibration, sparsity=mapping)
    for program in (sta.load("m.sta"), sta.compile(files.model, calibration=calibration, sparsity=listed)):
        assert program.pruned == expected.pruned
        assert program.container.code == expected.container.code
        assert program.container.constants.tobytes() == expected.container.constants.tobytes()
        assert program.container.options["sparsity"] == listed
    assert set(map(str, expected.pruned.values())) == {"1:2", "2:4"}
    twice = shell(*given, "--sparsity", "layer.*=2:4", "--sparsity", "layer.*=1:4")
    assert (twice.status, twice.error) == (1, "sparsity has two patterns for layer.*")


def test_the_table_of_methods_says_which_are_in_use(shell: Shell, files: Files) -> None:
    given = ["compile", files.model, "-o", "m.sta", "--calibration", files.calibration]
    trials = json.loads(shell(*given, "--json").output)["quantization"]["trials"]
    output = shell(*given).output
    for trial in trials:
        (row,) = (line for line in output.splitlines() if f" {trial['method']} " in line)
        assert row.endswith(" dB   yes") == trial["kept"]
    gained = [trial for trial in trials if trial["kept"] and trial["costs_cycles"]]
    assert bool(gained) == ("--no-smoothing leaves it out" in output)


def test_a_loss_by_pruning_is_called_so(shell: Shell, files: Files) -> None:
    given = ["compile", files.model, "-o", "m.sta", "--calibration", files.calibration]
    hint = "The loss is pruning's: train the model with these zeros"
    assert hint not in shell(*given).output
    pruned = shell(*given, "--sparsity", "1:4").output
    assert hint in pruned
    assert " useful MACs, without zeros " in pruned
    assert sta.load("m.sta").fidelity.given < 20 < sta.load("m.sta").fidelity.pruned  # pyright: ignore[reportOptionalMemberAccess] - it was measured


def test_compile_in_json_is_canonical_and_complete(shell: Shell, files: Files) -> None:
    done = shell("compile", files.model, "-o", "m.sta", "--calibration", files.calibration, "--check", "--json")
    assert done.status == 0
    summary = json.loads(done.output)
    assert done.output == json.dumps(summary, sort_keys=True, separators=(",", ":")) + "\n"
    program = sta.load("m.sta")
    assert summary["cycles"] == program.cycles
    assert summary["macs"] == program.macs
    assert summary["file_bytes"] == Path("m.sta").stat().st_size
    assert [row["pattern"] for row in summary["sparsity"]] == ["dense"]
    assert "convert-torch-to-nm" in [row["step"] for row in summary["check"]]


def test_compile_judges_on_samples_for_evaluation(shell: Shell, files: Files) -> None:
    given = ("compile", files.model, "-o", "m.sta", "--calibration", files.calibration)
    done = shell(*given, "--evaluation", files.calibration, "--json")
    assert done.status == 0
    assert json.loads(done.output)["quantization"]["held_out_samples"] == 4
    assert json.loads(shell(*given, "--json").output)["quantization"]["held_out_samples"] == 1
    Path("e.npz").write_bytes(files.calibration.read_bytes())
    refused = shell("compile", files.model, "-o", "e.npz", "--evaluation", "e.npz")
    assert refused.status != 0
    assert Path("e.npz").read_bytes() == files.calibration.read_bytes()


def test_compile_says_how_much_is_padding(shell: Shell) -> None:
    save_model(torch.nn.Linear(23, 8), torch.rand(1, 5, 23), Path("m.pt2"))
    np.savez("c.npz", input=np.random.default_rng(0).random((2, 1, 5, 23), np.float32))
    arguments = ["compile", "m.pt2", "-o", "m.sta", "--calibration", "c.npz", "--sparsity", "1:2"]
    (row,) = json.loads(shell(*arguments, "--json").output)["sparsity"]
    group = int(row["pattern"].split(":")[1])
    assert row["padding"] == 8 * (-23 % group) > 0
    assert re.search(rf"packed +padding.*\n.*\n.* {row['padding']}\n", shell(*arguments).output)


def test_compile_without_calibration_data_warns(shell: Shell, files: Files) -> None:
    done = shell("compile", files.model, "-o", "m.sta")
    assert done.status == 0
    assert "sta: warning: no calibration data" in done.errors


def test_compile_writes_the_same_file_twice(shell: Shell, files: Files) -> None:
    assert shell("compile", files.model, "-o", "m.sta", "--calibration", files.calibration).status == 0
    assert Path("m.sta").read_bytes() == files.program.read_bytes()


def attention_in(folder: Path) -> str:
    """The attention in the last dump before tiling."""
    dumps = [path.read_text() for path in sorted(folder.glob("*.mlir"))]
    return [line for dump in dumps for line in dump.splitlines() if "= nm.attention " in line][-1]


@pytest.mark.parametrize("softmax", ["row", "online"])
@pytest.mark.parametrize("bits", ["8", "16"])
def test_compile_with_a_given_softmax(shell: Shell, files: Files, softmax: str, bits: str) -> None:
    done = shell(
        *("compile", files.model, "-o", "m.sta", "--calibration", files.calibration, "--dump-ir", "ir"),
        *("--softmax", softmax, "--probability-bits", bits, "--explain", "--json"),
    )
    assert done.status == 0
    layers = json.loads(done.output)["explanation"]["layers"]
    assert [layer["tile"]["order"] for layer in layers if layer["kind"] == "attention"] == [softmax]
    attention = attention_in(Path("ir"))
    assert (" chunk " in attention) == (softmax == "online")
    assert (" probability_bits 16 " in attention) == (bits == "16")


@pytest.mark.parametrize(("option", "value"), [("--softmax", "onlin"), ("--probability-bits", "12")])
def test_compile_with_an_unknown_softmax(shell: Shell, files: Files, option: str, value: str) -> None:
    done = shell("compile", files.model, "-o", "m.sta", option, value)
    assert done.status != 0
    assert option in done.error
    assert value in done.error
    assert shell.written() == []


def test_compile_dumps_the_modules_that_passes_changed(shell: Shell, files: Files) -> None:
    done = shell("compile", files.model, "-o", "m.sta", "--calibration", files.calibration, "--dump-ir", "ir")
    assert done.status == 0
    names = sorted(path.name for path in Path("ir").glob("*.mlir"))
    assert names[0] == "00-import.mlir"
    assert any(name.endswith("-convert-nm-to-sta.mlir") for name in names)
    # 16 columns of the embedding table as text would be thousands of characters.
    assert all("dense<[" not in path.read_text() for path in Path("ir").glob("*.mlir"))


def test_run_writes_what_the_api_returns(shell: Shell, files: Files) -> None:
    done = shell("run", files.program, "--inputs", files.inputs, "-o", "out.npz", "--engine", "reference")
    assert done.status == 0
    expected = sta.load(files.program).run(dict(np.load(files.inputs)))
    with np.load("out.npz", allow_pickle=False) as written:
        assert written.files == list(expected.outputs)
        for name in written.files:
            assert written[name].dtype == np.float32
            np.testing.assert_array_equal(written[name], expected.outputs[name])
    assert f"{expected.cycles:,}" in done.output


def test_run_in_json_has_the_promised_keys(shell: Shell, files: Files) -> None:
    done = shell("run", files.program, "--inputs", files.inputs, "-o", "out.npz", "--json")
    costs = json.loads(done.output)
    assert {"cycles", "seconds", "mac_efficiency", "dram_bytes", "macs"} <= costs.keys()
    assert done.output == json.dumps(costs, sort_keys=True, separators=(",", ":")) + "\n"
    assert costs["seconds"] == pytest.approx(costs["cycles"] / 200e6)


def test_run_writes_the_same_file_twice(shell: Shell, files: Files) -> None:
    for name in ("a.npz", "b.npz"):
        assert shell("run", files.program, "--inputs", files.inputs, "-o", name).status == 0
    assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes()


def test_objdump_and_asm_are_inverse(shell: Shell, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = shell("objdump", files.program)
    assert printed.status == 0
    assert shell("objdump", files.program, "-o", "m.s").status == 0
    assert Path("m.s").read_text() == printed.output
    assert shell("asm", "m.s", "-o", "m.sta").status == 0
    assert Path("m.sta").read_bytes() == files.program.read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(printed.output.encode())))
    assert shell("asm", "-", "-o", "n.sta").status == 0
    assert Path("n.sta").read_bytes() == files.program.read_bytes()


def test_objdump_and_asm_in_json(shell: Shell, files: Files) -> None:
    program = sta.load(files.program)
    container = program.container
    contents = json.loads(shell("objdump", files.program, "--json").output)
    sections = {"code", "constants", "program", "signature", "debug", "ir", "target", "prologue", "tables"}
    assert contents.keys() == sections
    named = [{"instruction": i.name, **{field.name: value for field, value in i}} for i in container.code]
    assert contents["code"] == named
    assert (contents["constants"], contents["ir"]) == (len(container.constants), container.ir)
    assert shell("objdump", files.program, "-o", "m.s").status == 0
    costs = json.loads(shell("asm", "m.s", "-o", "m.sta", "--json").output)
    assert costs["instructions"] == program.timing.instructions
    assert (costs["code"], costs["macs"]) == (len(container.code), program.macs)


def test_targets_lists_the_presets(shell: Shell) -> None:
    table = shell("targets").output
    assert re.search(r"sta-base\s+1,024", table)
    targets = json.loads(shell("targets", "--json").output)
    assert targets["sta-base"]["array_rows"] == 16
    assert targets.keys() >= {"sta-small", "sta-base", "sta-large"}


def test_opt_runs_passes_and_prints_the_module(shell: Shell) -> None:
    Path("m.mlir").write_text("func.func @main(%x: tensor<4xsi8>) -> tensor<4xsi8> { func.return %x : tensor<4xsi8> }")
    done = shell("opt", "m.mlir", "-p", "nm-sink-views,canonicalize")
    assert done.status == 0
    assert "func.return %x : tensor<4xsi8>" in done.output
    assert shell("opt", "m.mlir", "-o", "n.mlir").status == 0
    assert Path("n.mlir").read_text() == done.output


def test_opt_does_not_overwrite_its_input(shell: Shell) -> None:
    text = "func.func @main(%x: tensor<4xsi8>) -> tensor<4xsi8> { func.return %x : tensor<4xsi8> }"
    Path("m.mlir").write_text(text)
    done = shell("opt", "m.mlir", "-o", "m.mlir")
    assert (done.status, done.error) == (1, "cannot write m.mlir: it is an input of the same command")
    assert Path("m.mlir").read_text() == text


@pytest.mark.parametrize(("package", "extra"), [("vl_convert", "report"), ("torch", "compile"), ("rich.table", "cli")])
def test_a_package_that_is_missing_comes_with_an_extra(
    package: str, extra: str, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(_: object) -> None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr("sta.api.cli.commands.targets.execute", execute)
    done = shell("targets")
    assert (done.status, done.error) == (1, f"this needs the package {package}: install sta-toolchain[{extra}]")


def test_help_names_every_command_and_option(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    def help_of(*arguments: str) -> str:
        assert main([*arguments, "--help"]) == 0
        return capsys.readouterr().out

    assert all(name in help_of() for name in COMMANDS)
    options = ("--calibration", "--sparsity", "--target", "--dump-ir", "--check", "--json", "--output", "--debug")
    assert all(option in help_of("compile") for option in options)
    assert "--weights" in help_of("opt")


def test_version(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"sta \d+\.\d+\.\d+\n", capsys.readouterr().out)


# --- Called wrongly: exit code 2, and a suggestion ---

MISSPELT: list[tuple[list[str], str]] = [
    ([], "a command is missing"),
    (["complie", "m.pt2"], "unknown command 'complie'; did you mean 'compile'?"),
    (["--verison"], "unknown option '--verison'; did you mean '--version'?"),
    (["compile", "m.pt2", "--sparcity", "2:4"], "unknown option '--sparcity'; did you mean '--sparsity'?"),
    (["compile", "m.pt2", "--output=m.sta", "--chekc"], "unknown option '--chekc'; did you mean '--check'?"),
    (["compile", "m.pt2", "-o", "m.sta", "--spars", "2:4"], "unknown option '--spars'; did you mean '--sparsity'?"),
    (["compile", "m.pt2", "--sparsity", "a=4:2"], "argument --sparsity: sparsity of 'a': pattern 4:2"),
    (["compile", "m.pt2", "-o", "m.sta", "--target", "sta-bas"], "unknown target 'sta-bas'; did you mean 'sta-base'?"),
    (["compile", "m.pt2", "-o", "m.sta", "--sparsity", "5:4"], "argument --sparsity: pattern 5:4"),
    (["compile", "m.pt2", "-o", "m.sta", "--sparsity", "half"], "argument --sparsity: "),
    (["run", "m.sta", "--inputs", "i", "-o", "o", "--engine", "refrence"], "did you mean 'reference'?"),
    (["opt", "-p", "nm-sink-view"], "unknown pass 'nm-sink-view'; did you mean 'nm-sink-views'?"),
    (["opt", "-p", "nm-sink-views{"], "argument --passes: "),
    (["opt", "-p", "nm-sink-views{deep=1}"], "pass nm-sink-views has no option 'deep'; it has none"),
    (["opt", "-p", "torch-prune{patern=1}"], "pass torch-prune has no option 'patern'; did you mean 'pattern'?"),
    (["opt", "-p", "torch-prune{pattern=5:4}"], "and text in quotes: pass{option="),
    (["opt", "-p"], "argument -p/--passes: expected one argument"),
    (["opt", "a", "b"], "unrecognized arguments: b"),
    (["opt", "-t", "mlr"], "invalid choice: 'mlr'"),
    (["opt", "-t", "mlr"], "; did you mean 'mlir'?"),
    (["opt", "--split-input-file=3"], "ignored explicit argument '3'"),
    (["run", "m.sta", "--inputs", "i", "-o", "o", "--profile-depth", "-1"], "argument --profile-depth: -1 is negative"),
    (["run", "m.sta", "--inputs", "i", "-o", "o", "--profile-depth", "x"], "invalid int value: 'x'"),
    (["compile", "m.pt2", "-o", "m.sta", "--sparsity", "-1:4"], "argument --sparsity: expected one argument"),
    (["opt", "--verfy-diagnostics"], "unknown option '--verfy-diagnostics'; did you mean '--verify-diagnostics'?"),
    (["opt", "--sta-target", "sta-huge"], "unknown target 'sta-huge'"),
]


@pytest.mark.parametrize(("arguments", "message"), MISSPELT)
def test_a_wrong_call_is_explained(shell: Shell, arguments: list[str], message: str) -> None:
    done = shell(*arguments)
    assert done.status == 2
    assert message in done.error
    assert len(done.errors.splitlines()) == 1
    assert done.output == ""
    assert shell.written() == []


# --- Bad containers ---


def truncated(data: bytearray) -> bytes:
    return bytes(data[: len(data) // 2])


def corrupted(data: bytearray) -> bytes:
    data[len(data) // 2] ^= 1
    return bytes(data)


def newer(data: bytearray) -> bytes:
    data[4] += 1
    return bytes(data)


def foreign(data: bytearray) -> bytes:
    return b"PK\x03\x04 something else"


def empty(data: bytearray) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "bytes, should have"),
        (corrupted, "the checksum does not match; the file is corrupt"),
        (newer, "the container has version 3.0, this toolchain reads version 2.1"),
        (foreign, "not an STA container"),
        (empty, "is empty"),
    ],
)
def test_a_bad_container_is_refused(
    shell: Shell, files: Files, damage: Callable[[bytearray], bytes], message: str
) -> None:
    bad = Path("bad.sta")
    bad.write_bytes(damage(bytearray(files.program.read_bytes())))
    for arguments in (
        ["run", bad, "--inputs", files.inputs, "-o", "out.npz"],
        ["objdump", bad, "-o", "out.s"],
        ["debug", bad, "--inputs", files.inputs, "--command", "list"],
        ["where", bad, "*"],
        ["report", bad, "-o", "out.html"],
    ):
        done = shell(*arguments)
        assert done.status == 1
        assert message in done.error
        assert done.error.startswith("bad.sta: section ")
        assert len(done.errors.splitlines()) == 1
        assert shell.written() == ["bad.sta"]


def test_a_missing_file_is_named(shell: Shell, files: Files) -> None:
    commands: list[list[Any]] = [
        ["run", "missing", "--inputs", files.inputs, "-o", "out"],
        ["run", files.program, "--inputs", "missing", "-o", "out"],
        ["objdump", "missing"],
        ["asm", "missing", "-o", "out"],
        ["compile", "missing", "-o", "out"],
        ["compile", files.model, "-o", "out", "--calibration", "missing"],
        ["compile", files.model, "-o", "out", "--target", "missing.yaml"],
        ["opt", "missing", "-o", "out"],
        ["opt", "--weights", "missing", "-o", "out"],
    ]
    for arguments in commands:
        done = shell(*arguments)
        assert done.status in (1, 2), arguments
        assert "missing" in done.error
        assert shell.written() == []


# --- Bad inputs of a run ---


def pickled(path: Path) -> None:
    np.savez(path, ids=np.array([{"a": 1}], dtype=object))


def no_archive(path: Path) -> None:
    np.save(path.with_suffix(".npy"), np.ones(3))
    path.with_suffix(".npy").rename(path)


def damaged(path: Path) -> None:
    np.savez_compressed(path, ids=np.random.default_rng(0).integers(0, 9, 4000))
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)


def garbage(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ids.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': nothing")


def arrays(**values: Any) -> Save:
    def save(path: Path) -> None:
        np.savez(path, **values)

    return save


VALID = np.zeros((1, TOKENS), np.int64)
BEYOND = np.full((1, TOKENS), VOCABULARY)

BAD_INPUTS: list[tuple[Save, str]] = [
    (arrays(idz=VALID), "unexpected input 'idz'; did you mean 'ids'?; the program takes 'ids'"),
    (arrays(ids=VALID, mask=VALID), "unexpected input 'mask'; the program takes 'ids'"),
    (arrays(), "missing input 'ids'"),
    (arrays(ids=VALID[:, 1:]), "input 'ids': expected shape (1, 10), got (1, 9)"),
    (arrays(ids=VALID.astype(np.float32)), "input 'ids': expected int64, got float32"),
    (arrays(ids=BEYOND), "input 'ids': expected indices in 0..19, got 20 at [0, 0]"),
    (arrays(ids=-BEYOND), "input 'ids': expected indices in 0..19, got -20 at [0, 0]"),
    (pickled, "holds Python objects"),
    (no_archive, "in.npz is not an .npz file"),
    (damaged, "damaged"),
    (garbage, "damaged"),
]


@pytest.mark.parametrize(("save", "message"), BAD_INPUTS)
def test_a_run_refuses_bad_inputs(shell: Shell, files: Files, save: Save, message: str) -> None:
    save(Path("in.npz"))
    Path("out.npz").write_text("kept")
    done = shell("run", files.program, "--inputs", "in.npz", "-o", "out.npz")
    assert done.status == 1
    assert message in done.error
    assert len(done.errors.splitlines()) == 1
    assert shell.written() == ["in.npz", "out.npz"]
    assert Path("out.npz").read_text() == "kept"


# --- Bad models ---


def save_text(path: Path) -> None:
    path.write_text("not a model")


def save_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", "not a model")


@pytest.mark.parametrize(
    ("save", "message"), [(save_text, "m.pt2 is not a .pt2 file"), (save_archive, "m.pt2 holds no exported program")]
)
def test_a_file_that_is_no_model_is_refused(shell: Shell, save: Save, message: str) -> None:
    save(Path("m.pt2"))
    done = shell("compile", "m.pt2", "-o", "m.sta")
    assert done.status == 1
    assert message in done.error
    assert shell.written() == ["m.pt2"]


def test_a_truncated_model_is_refused(shell: Shell, files: Files) -> None:
    data = files.model.read_bytes()
    Path("m.pt2").write_bytes(data[: len(data) // 2])
    done = shell("compile", "m.pt2", "-o", "m.sta")
    assert done.status == 1
    assert "m.pt2" in done.error
    assert shell.written() == ["m.pt2"]


def test_unsupported_operators_are_all_reported_with_their_modules(shell: Shell, unsupported: Path) -> None:
    done = shell("compile", unsupported, "-o", "m.sta")
    assert done.status == 1
    assert re.search(r"the model uses 3 operations that cannot be compiled", done.error)
    assert re.search(r"aten\.sort in first ", done.error)
    assert re.search(r"aten\.sort in first .*, second ", done.error)
    assert re.search(r"aten\.median\.dim in ", done.error)
    assert shell.written() == []


BAD_CALIBRATION: list[tuple[Save, str]] = [
    (arrays(idz=VALID[None]), "'idz'"),
    (arrays(), "'ids'"),
    (arrays(ids=np.zeros((3, 1, TOKENS + 1), np.int64)), "'ids'"),
    (arrays(ids=np.zeros((3, 1, TOKENS), np.float32)), "'ids'"),
    (arrays(ids=np.zeros((0, 1, TOKENS), np.int64)), "not a single sample"),
    (pickled, "c.npz"),
    (no_archive, "c.npz"),
    (damaged, "c.npz"),
    (garbage, "c.npz"),
]


@pytest.mark.parametrize(("save", "message"), BAD_CALIBRATION)
def test_bad_calibration_data_is_refused(shell: Shell, files: Files, save: Save, message: str) -> None:
    save(Path("c.npz"))
    done = shell("compile", files.model, "-o", "m.sta", "--calibration", "c.npz")
    assert done.status == 1
    assert message in done.error
    assert "internal error" not in done.error
    assert shell.written() == ["c.npz"]


# --- Bad targets ---

TINY = """
array_rows: 8
array_columns: 8
multipliers: 4
window: 64
vector_lanes: 8
softmax_lanes: 8
clock_mhz: 200
sram_bytes: {sram_bytes}
dma_bytes_per_cycle: 16
dma_latency: 100
drain_latency: 24
"""


def test_a_layer_that_cannot_fit_is_reported_with_bytes(shell: Shell, files: Files) -> None:
    Path("tiny.yaml").write_text(TINY.format(sram_bytes=256))
    done = shell("compile", files.model, "-o", "m.sta", "--calibration", files.calibration, "--target", "tiny.yaml")
    assert done.status == 1
    assert "target tiny" in done.error
    assert "layer" in done.error or "embedding" in done.error
    assert re.search(r"[\d,]+ bytes", done.error)
    assert "256" in done.error
    assert shell.written() == ["tiny.yaml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TINY.format(sram_bytes=8192) + "array_row: 3\n", "unknown target key 'array_row'; did you mean 'array_rows'?"),
        (TINY.format(sram_bytes="much"), "'sram_bytes' must be a positive integer"),
        ("name: t\n", "target keys missing: "),
        ("- 1\n", "does not hold a mapping"),
        ("a: [", "cannot read target file"),
    ],
)
def test_a_bad_target_file_is_refused(shell: Shell, files: Files, text: str, message: str) -> None:
    Path("t.yaml").write_text(text)
    done = shell("compile", files.model, "-o", "m.sta", "--target", "t.yaml")
    assert done.status == 1
    assert message in done.error
    assert "t.yaml" in done.error
    assert shell.written() == ["t.yaml"]


# --- Bad text ---


def test_bad_assembly_is_refused_with_its_line(shell: Shell) -> None:
    Path("m.s").write_text(".version 2.0\n\n.cod\n")
    done = shell("asm", "m.s", "-o", "m.sta")
    assert done.status == 1
    assert done.error == "m.s: line 3: unknown section '.cod'; did you mean 'code'?"
    Path("m.s").write_bytes(b"\xff\xfe")
    assert "m.s: not UTF-8 text" in shell("asm", "m.s", "-o", "m.sta").error
    assert shell.written() == ["m.s"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("func.func @f(", "m.mlir:1:14: "),
        ("func.func @f() -> i32 { func.return }", "Expected arguments to have the same"),
        ('%x = "nm.nothing"() : () -> i32', "m.mlir:1:"),
        ("%w = nm.weight @w : tensor<4x8xsi8, #nm.pattern<5:4, bitmap>>", "pattern 5:4 is not 1 <= N <= M <= 32"),
    ],
)
def test_bad_ir_is_explained_without_a_traceback(shell: Shell, text: str, message: str) -> None:
    Path("m.mlir").write_text(text)
    done = shell("opt", "m.mlir", "-o", "n.mlir")
    assert done.status == 1
    assert message in done.error
    assert "internal error" not in done.error
    assert shell.written() == ["m.mlir"]


def test_a_pass_without_its_weights_says_how_to_give_them(shell: Shell) -> None:
    Path("m.mlir").write_text(
        "func.func @main(%x: tensor<6x8xsi8>) -> tensor<6x4xsi32> {\n"
        "  %w = nm.weight @w : tensor<4x8xsi8>\n"
        "  %y = nm.product %x, %w : tensor<6x8xsi8>, tensor<4x8xsi8> -> tensor<6x4xsi32>\n"
        "  func.return %y : tensor<6x4xsi32>\n"
        "}\n"
    )
    done = shell("opt", "m.mlir", "-p", "nm-choose-encoding")
    assert done.status == 1
    assert done.error == "the weight store holds no array called 'w': give the arrays with --weights"


def test_what_is_no_text_is_no_ir(shell: Shell, files: Files) -> None:
    done = shell("opt", files.program, "-o", "n.mlir")
    assert done.status == 1
    assert done.error.startswith("the input is not UTF-8 text: ")
    assert shell.written() == []


@pytest.mark.parametrize("name", ["convert-nm-to-sta", "sta-allocate", "convert-torch-to-nm"])
def test_a_pass_on_a_module_it_does_not_take(shell: Shell, name: str) -> None:
    Path("m.mlir").write_text("func.func @f(%x: tensor<4xsi8>) -> tensor<4xsi8> { func.return %x : tensor<4xsi8> }")
    done = shell("opt", "m.mlir", "-p", f"canonicalize,{name}", "-o", "n.mlir")
    assert done.status == 1
    assert "internal error" not in done.error
    assert len(done.errors.splitlines()) == 1
    if name == "convert-nm-to-sta":
        assert done.error.startswith("pass convert-nm-to-sta failed (")
    assert shell.written() == ["m.mlir"]


# --- Output files ---


@pytest.mark.parametrize("name", ["missing/out", "."])
def test_an_output_that_cannot_be_written_is_reported_before_the_work(shell: Shell, files: Files, name: str) -> None:
    for arguments in (
        ["compile", files.model, "-o", name],
        ["run", files.program, "--inputs", files.inputs, "-o", name],
        ["objdump", files.program, "-o", name],
        ["asm", "m.s", "-o", name],
        ["opt", "m.mlir", "-o", name],
    ):
        done = shell(*arguments)
        assert done.status == 1
        assert f"cannot write {name}: " in done.error


def test_an_output_does_not_replace_an_input(shell: Shell) -> None:
    Path("m").write_text("kept")
    Path("other").symlink_to("m")
    for arguments in (["asm", "m", "-o", "m"], ["objdump", "m", "-o", "other"], ["compile", "m", "-o", "./m"]):
        assert "it is an input of the same command" in shell(*arguments).error
    assert Path("m").read_text() == "kept"


def test_a_file_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    path.write_text("kept")
    with pytest.raises(ValueError, match="allow_pickle"):
        write_arrays(path, {"first": np.zeros(3), "second": np.array([object()])})
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.npz"]
    assert path.read_text() == "kept"


def test_arrays_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    values = {"file": np.ones(3, np.float32), "a/b": np.zeros((2, 2), np.int16)}
    write_arrays(path, values)
    with np.load(path, allow_pickle=False) as archive:
        assert set(archive.files) == set(values)
        np.testing.assert_array_equal(archive["file"], values["file"])


# --- As a process ---


def run_sta(*arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sta", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **keywords)


def test_the_process_returns_the_exit_code_and_keeps_results_apart(files: Files, tmp_path: Path) -> None:
    # The engine that needs no warning, built or not.
    options = ("-o", "out.npz", "--json", "--engine", "reference")
    done = run_sta("run", str(files.program), "--inputs", str(files.inputs), *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["cycles"] > 0
    wrong = run_sta("run", str(files.program), "--inputs", str(files.program), "-o", "x.npz", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("sta: error: ")
    assert sorted(os.listdir(tmp_path)) == ["out.npz"]
    assert run_sta("rnu").returncode == 2


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = run_sta("objdump", "missing", "--debug", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1] == "sta: error: missing: No such file or directory"


@pytest.mark.parametrize(("stream", "arguments", "code"), [(1, "targets", 0), (2, "frobnicate", 2)])
def test_a_stream_that_is_closed_is_no_error(stream: int, arguments: str, code: int, tmp_path: Path) -> None:
    other = tmp_path / "other"
    command = f"{sys.executable} -m sta {arguments} {stream}>&- {3 - stream}>{other}"
    assert subprocess.run(["bash", "-c", command], check=False).returncode == code
    assert other.read_text() == ""


def test_a_reader_that_goes_away_is_no_error(files: Files) -> None:
    command = f"{sys.executable} -m sta objdump {files.program} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == ".version 2.0\n"
    assert done.stderr == ""


def test_a_reader_that_has_gone_ends_a_command_as_the_signal_would(files: Files) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "sta", "objdump", files.program]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", ["--help", "targets --help", "opt --help", "targets"])
def test_output_that_cannot_be_written_is_an_error(arguments: str, unbuffered: str, tmp_path: Path) -> None:
    command = f"ulimit -f 0; {sys.executable} -m sta {arguments} > {tmp_path / 'output'}"
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (1, "sta: error: standard output: File too large\n")
