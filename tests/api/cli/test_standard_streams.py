"""`-` as a file, other encodings than UTF-8, and how much is said."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import sta
from sta.api.cli.command_line import main
from sta.api.cli.terminal import any_character
from tests.api.conftest import Files, save_model

ASCII = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}


class Streams:
    """The command with bytes as standard input, and the bytes of standard output."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self._patch = patch
        self.folder = folder
        self.errors = ""

    def __call__(self, *arguments: object, given: bytes = b"", status: int = 0) -> bytes:
        output, errors = io.BytesIO(), io.StringIO()
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        self._patch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="utf-8"))
        self._patch.setattr(sys, "stderr", errors)
        assert main([str(argument) for argument in arguments]) == status, errors.getvalue()
        self.errors = errors.getvalue()
        return output.getvalue()


@pytest.fixture
def streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Streams:
    monkeypatch.chdir(tmp_path)
    return Streams(monkeypatch, tmp_path)


def npz(data: bytes) -> dict[str, np.ndarray]:
    return dict(np.load(io.BytesIO(data)))


def test_a_program_and_its_outputs_go_through_pipes(streams: Streams, files: Files) -> None:
    expected = sta.load(files.program).run(dict(np.load(files.inputs))).outputs
    program = files.program.read_bytes()
    for outputs in (
        streams("run", "-", "--inputs", files.inputs, "-o", "-", given=program),
        streams("run", "--check-races", "-", "--inputs", files.inputs, "--output=-", given=program),
        streams("run", files.program, "--inputs=-", "-o", "-", given=files.inputs.read_bytes()),
    ):
        assert npz(outputs).keys() == expected.keys()
        assert all(np.array_equal(array, expected[name]) for name, array in npz(outputs).items())
        # What a command says besides goes to standard error.
        assert "MAC efficiency" in streams.errors
    assert os.listdir(streams.folder) == []


def test_a_compile_goes_through_pipes(streams: Streams, files: Files) -> None:
    model, calibration = files.model.read_bytes(), files.calibration.read_bytes()
    expected = files.program.read_bytes()
    assert streams("compile", "-", "-o", "-", "--calibration", files.calibration, given=model) == expected
    assert " standard output   on sta-base" in streams.errors
    assert streams("compile", files.model, "-qo", "x.sta", "--calibration", "-", given=calibration) == b""
    assert Path("x.sta").read_bytes() == expected
    target = sta.load(files.program).target.to_json()
    machine = "\n".join(f"{key}: {value}" for key, value in target.items())
    arguments = ["compile", files.model, "-o", "-", "--calibration", files.calibration, "--target", "-"]
    assert streams(*arguments, given=machine.encode()) == expected


def test_assembly_ir_and_reports_go_through_pipes(streams: Streams, files: Files) -> None:
    text = streams("objdump", "-", given=files.program.read_bytes())
    assert streams("objdump", files.program, "-o", "-") == text
    assert streams("asm", "-", "-o", "-", given=text) == files.program.read_bytes()
    module = b"func.func @main(%x: tensor<4xsi8>) -> tensor<4xsi8> { func.return %x : tensor<4xsi8> }"
    for output in ([], ["-o", "-"]):
        assert b"func.return %x" in streams("opt", "-", "-p", "canonicalize", *output, given=module)
    page = streams("report", "-", "-o", "-", given=files.program.read_bytes())
    assert page.startswith(b"<!DOCTYPE html>")
    trace = streams("run", files.program, "--inputs", files.inputs, "--trace", "-")
    assert json.loads(trace)["traceEvents"]
    assert os.listdir(streams.folder) == []


def test_a_pipe_is_read_like_a_file(streams: Streams, files: Files) -> None:
    command = f"{sys.executable} -m sta where <(cat {files.program}) '*' --json"
    piped = subprocess.run(["bash", "-c", command], capture_output=True, check=True).stdout
    assert piped == streams("where", files.program, "*", "--json")


WRONG: list[tuple[Sequence[str], int, str]] = [
    (["run", "-", "--inputs", "-"], 2, "two files cannot both be standard input"),
    (["run", "m.sta", "--inputs", "x", "-o", "-", "--trace=-"], 2, "two files cannot both be standard output"),
    (["run", "m.sta", "--inputs", "x", "-o", "-", "--json"], 2, "--json prints on standard output"),
    (["debug", "m.sta", "--inputs", "-"], 2, "give the commands with --command"),
    (["objdump", "-"], 1, "standard input: section 'header': not an STA container"),
    (["asm", "-", "-o", "x"], 1, "standard input: line 1: "),
    (["compile", "-", "-o", "x"], 1, "standard input"),
    (["run", "m.sta", "--inputs", "-"], 1, "standard input is not an .npz file"),
    (["targets", "-q", "-v"], 2, "--quiet and --verbose exclude each other"),
]


@pytest.mark.parametrize(("arguments", "status", "message"), WRONG)
def test_errors_name_the_stream(
    streams: Streams, files: Files, arguments: Sequence[str], status: int, message: str
) -> None:
    given = [str(files.program) if argument == "m.sta" else argument for argument in arguments]
    assert streams(*given, given=b"nothing", status=status) == b""
    assert message in streams.errors
    assert "/sta-" not in streams.errors
    assert len(streams.errors.splitlines()) == 1
    assert os.listdir(streams.folder) == []


def test_nothing_is_written_to_standard_output_by_a_command_that_fails(streams: Streams, files: Files) -> None:
    assert streams("run", files.program, "--inputs", files.program, "-o", "-", status=1) == b""


# --- How much is said ---


def test_quiet_says_nothing_and_verbose_says_every_stage(streams: Streams, files: Files) -> None:
    arguments = ["compile", files.model, "-o", "m.sta", "--calibration", files.calibration]
    assert (streams(*arguments, "-q"), streams.errors) == (b"", "")
    assert (streams("--quiet", *arguments), streams.errors) == (b"", "")
    streams(*arguments, "-v")
    stages = [line.split()[-1] for line in streams.errors.splitlines()]
    assert "torch-quantize" in stages
    assert stages[-1] == "emit"
    assert json.loads(streams(*arguments, "-q", "--json"))["cycles"] > 0
    streams("compile", files.model, "-o", "m.sta", "--quiet")
    assert "sta: warning: no calibration data" in streams.errors


# --- Encodings ---


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", "5 us, 2 x 3, \\u5c64, \\xfc -> ---"), ("latin-1", "5 µs, 2 × 3, \\u5c64, ü -> ---")],
)
def test_characters_that_an_encoding_does_not_have(
    encoding: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding=encoding))
    with any_character():
        print("5 µs, 2 × 3, 層, ü → ───")
        sys.stdout.flush()
    assert output.getvalue().decode(encoding) == expected + "\n"
    with pytest.raises(UnicodeEncodeError):
        print("層")


def test_a_files_name_that_is_no_text_is_printed_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in ("utf-8", "ascii"):
        output = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding=encoding))
        with any_character():
            print(os.fsdecode(b"\xff.sta"))
            sys.stdout.flush()
        assert output.getvalue() == b"\xff.sta\n"


class Layer(torch.nn.Module):
    """A module and an input that ASCII has no letters for."""

    def __init__(self) -> None:
        super().__init__()
        self.schicht_ü = torch.nn.Linear(8, 8)

    def forward(self, größe: torch.Tensor) -> torch.Tensor:
        return self.schicht_ü(größe)


def test_commands_without_utf8_finish(tmp_path: Path) -> None:
    save_model(Layer(), torch.randn(1, 4, 8), tmp_path / "ü.pt2")
    np.savez(tmp_path / "ü.npz", größe=np.zeros((1, 4, 8), np.float32))
    np.savez(tmp_path / "c.npz", größe=np.random.default_rng(0).normal(size=(2, 1, 4, 8)).astype(np.float32))

    def run(*arguments: str, environment: Mapping[str, str] = ASCII) -> bytes:
        command = [sys.executable, "-m", "sta", *arguments]
        done = subprocess.run(command, capture_output=True, check=False, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    summary = run("compile", "ü.pt2", "-o", "ü.sta", "--calibration", "c.npz", "--explain", "--dump-ir", "ir")
    assert b" us" in summary
    assert "ü.sta".encode() in summary
    assert b"4x8x8" in summary
    assert rb"schicht_\xfc" in run("run", "ü.sta", "--inputs", "ü.npz", "--profile")
    # Data are UTF-8, whatever the terminal has; JSON is ASCII.
    text = run("objdump", "ü.sta")
    assert "schicht_ü" in text.decode()
    (tmp_path / "m.s").write_bytes(text)
    run("asm", "m.s", "-o", "m.sta")
    assert (tmp_path / "m.sta").read_bytes() == (tmp_path / "ü.sta").read_bytes()
    modules = json.loads(run("where", "ü.sta", "*", "--json").decode("ascii"))["modules"]
    assert "schicht_ü" in [module["path"] for module in modules]
    run("report", "ü.sta", "--ir", "ir", "-o", "r.html")
    assert rb"schicht_\xfc" in run("where", "ü.sta", "schicht_*")
