"""
Every command, under what terminals and systems do to it: narrow, without colours, without UTF-8, with standard output
closed or full, in a folder that cannot be written, and interrupted.

Most is tried in this process; as processes a sample, and the rest where tests may take long.
"""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sta.api.cli.command_line import COMMANDS, main
from tests.api.conftest import Files

CALLS: dict[str, str] = {
    "compile": "compile {model} -o out.sta --calibration {calibration} --explain --timing --check",
    "check": "check {model}",
    "quantize": "quantize {model} --calibration {calibration} -o out.pt2",
    "run": "run {program} --inputs {inputs} -o out.npz --profile --check-races",
    "opt": "opt {module} -p canonicalize -o out.mlir",
    "gui": "gui {module}",
    "objdump": "objdump {program}",
    "asm": "asm {assembly} -o out.sta",
    "debug": "debug {program} --inputs {inputs} --command list --command values",
    "diff": "diff {model} {program} --inputs {inputs}",
    "where": "where {program} layer",
    "report": "report {program} --inputs {inputs} -o out.html",
    "info": "info {program}",
    "targets": "targets",
    "version": "version",
    "completion": "completion bash",
    "help": "help compile",
}
"""A call of every command."""
FAILS = ("gui",)
"""Commands that need a terminal: without one they end with an error."""
PRINTS = tuple(name for name in CALLS if name not in ("gui", "opt", "asm"))
"""Commands that print something."""
WRITES = ("compile", "quantize", "run", "opt", "asm", "report")
HEAVY = ("check", "compile", "quantize", "opt", "diff", "gui", "report")
"""Commands that load PyTorch, xDSL or the charts, which takes a process seconds."""
NO_TABLE = ("objdump", "debug", "report", "completion")
"""Commands whose lines are code or a sentence, which are not folded."""
MODULE = "func.func @main(%x: tensor<4xsi8>) -> tensor<4xsi8> { func.return %x : tensor<4xsi8> }"


def heavy_are_slow(names: Sequence[str]) -> list[object]:
    return [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in names]


@pytest.fixture(scope="module")
def paths(files: Files, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths that the calls name."""
    folder = tmp_path_factory.mktemp("matrix")
    (folder / "m.mlir").write_text(MODULE)
    assert main(["objdump", str(files.program), "-o", str(folder / "m.s")]) == 0
    names = {name: getattr(files, name) for name in ("model", "calibration", "program", "inputs")}
    return {name: str(path) for name, path in names.items()} | {
        "module": str(folder / "m.mlir"),
        "assembly": str(folder / "m.s"),
    }


def call(name: str, paths: dict[str, str]) -> list[str]:
    return [word.format(**paths) for word in CALLS[name].split()]


def process(name: str, paths: dict[str, str]) -> list[str]:
    return [sys.executable, "-m", "sta", *call(name, paths)]


def test_every_command_is_tried() -> None:
    assert CALLS.keys() == COMMANDS.keys()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("name", CALLS)
def test_a_narrow_terminal_of_any_encoding(
    name: str, encoding: str, paths: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    output, errors = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(errors, encoding=encoding))
    status = main(call(name, paths))
    sys.stderr.flush()
    said = errors.getvalue().decode(encoding)
    assert (status, said.count("sta: error: ")) == ((1, 1) if name in FAILS else (0, 0)), said
    # Code is UTF-8 whatever the terminal is.
    text = output.getvalue().decode("utf-8" if name == "objdump" else encoding)
    assert bool(text) == (name in PRINTS)
    assert "\x1b" not in text
    assert name in NO_TABLE or max(map(len, text.splitlines()), default=0) <= 60


@pytest.mark.parametrize("name", heavy_are_slow(PRINTS))
def test_a_standard_output_that_is_full(name: str, paths: dict[str, str], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            process(name, paths), stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "sta: error: standard output: No space left on device"


@pytest.mark.parametrize("name", heavy_are_slow(list(CALLS)))
def test_streams_that_are_closed(name: str, paths: dict[str, str], tmp_path: Path) -> None:
    command = ["bash", "-c", '"$@" <&- >&-', "bash", *process(name, paths)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert done.returncode == (1 if name in FAILS else 0), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", WRITES)
def test_a_folder_that_cannot_be_written(name: str, paths: dict[str, str], tmp_path: Path) -> None:
    """As root, whom no permission stops, a folder of the system that takes no files."""
    folder = tmp_path / "kept"
    folder.mkdir(mode=0o555)
    target = Path("/proc/sys") if os.geteuid() == 0 else folder
    words = [str(target / word) if word.startswith("out.") else word for word in call(name, paths)]
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", output)
        assert main(words) == 1
    (message,) = [line for line in output.getvalue().splitlines() if line.startswith("sta: error: ")]
    assert str(target) in message
    assert "internal error" not in message


@pytest.mark.parametrize("name", heavy_are_slow(WRITES))
def test_a_disk_that_is_full(name: str, paths: dict[str, str], tmp_path: Path) -> None:
    command = ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", *process(name, paths)]
    big = tmp_path / "big.mlir"
    big.write_text("\n".join(MODULE.replace("@main", f"@f{number}") for number in range(100)))
    command = [str(big) if name == "opt" and word == paths["module"] else word for word in command]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    if name == "run":
        # Its outputs are small enough.
        assert done.returncode == 0
        return
    assert done.returncode == 1, done.stderr
    (output,) = [word for word in CALLS[name].split() if word.startswith("out.")]
    assert done.stderr.splitlines()[-1] == f"sta: error: {output}: File too large"
    assert sorted(os.listdir(tmp_path)) == ["big.mlir"]


MOMENTS = 10


@pytest.mark.parametrize("name", ["run", pytest.param("compile", marks=pytest.mark.slow)])
def test_an_interrupt_at_any_moment(name: str, paths: dict[str, str], tmp_path: Path) -> None:
    batch = tmp_path / "many.npz"
    ids = np.load(paths["inputs"])["ids"]
    np.savez(batch, ids=np.tile(ids, (200, *[1] * ids.ndim)))
    command = process(name, {**paths, "inputs": str(batch)})
    start = time.monotonic()
    assert subprocess.run(command, capture_output=True, cwd=tmp_path, check=False).returncode == 0
    whole = time.monotonic() - start
    written = next(path for path in tmp_path.iterdir() if path.name.startswith("out."))
    expected = written.read_bytes()
    written.unlink()
    for moment in range(MOMENTS):
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        # Python itself cannot be interrupted in these words before it has begun with ours.
        time.sleep(0.15 + whole * moment / MOMENTS)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
        assert running.returncode in (0, 130), errors
        assert "Traceback" not in errors
        assert "Exception ignored" not in errors
        assert running.returncode == 0 or errors.splitlines()[-1] == "sta: error: interrupted"
        # Complete, or not there: the interrupt may come while the summary is printed.
        assert running.returncode == 130 or written.exists()
        if written.exists():
            assert written.read_bytes() == expected
            written.unlink()
        assert [path.name for path in tmp_path.iterdir()] == ["many.npz"]
