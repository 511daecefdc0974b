"""`sta run` on many inputs, with threads, and on both engines."""

import json
from pathlib import Path

import numpy as np
import pytest

import sta
from sta.api.cli.command_line import main
from sta.runtime.engines import native_is_built
from tests.api.conftest import TOKENS, VOCABULARY, Files

RUNS = 5
NEEDS_NATIVE = pytest.mark.skipif(not native_is_built(), reason="the native engine is not built")
ENGINES = ["auto", "reference", *(pytest.param(name, marks=NEEDS_NATIVE) for name in ("native", "both"))]


@pytest.fixture
def ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Returns the inputs of several runs; the folder of the test is the working directory."""
    monkeypatch.chdir(tmp_path)
    return np.random.default_rng(3).integers(0, VOCABULARY, (RUNS, 1, TOKENS))


def expected(files: Files, ids: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[dict[str, np.ndarray]]:
    """Returns the outputs of each run."""
    program = sta.load(files.program)
    return [program.run({"ids": each}, engine="reference").outputs for each in ids]


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_with_one_more_axis_holds_many_runs(files: Files, ids: np.ndarray, engine: str, threads: str) -> None:
    np.savez("in.npz", ids=ids)
    options = ["--engine", engine, "--threads", threads]
    assert main(["run", str(files.program), "--inputs", "in.npz", "-o", "out.npz", *options]) == 0
    outputs = expected(files, ids)
    with np.load("out.npz") as written:
        assert set(written.files) == set(outputs[0])
        for name in written.files:
            assert np.array_equal(written[name], np.stack([each[name] for each in outputs]))


def test_a_folder_holds_a_file_for_each_run(files: Files, ids: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for number, each in enumerate(ids):
        np.savez(f"in/sentence{number}.npz", ids=each)
    Path("in/notes.txt").write_text("no input")
    assert main(["run", str(files.program), "--inputs", "in", "-o", "out", "--threads", "2", "--json"]) == 0
    costs = json.loads(capsys.readouterr().out)
    assert costs["runs"] == RUNS
    assert costs["cycles"] == sta.load(files.program).cycles
    assert sorted(path.name for path in Path("out").iterdir()) == [f"sentence{number}.npz" for number in range(RUNS)]
    for number, outputs in enumerate(expected(files, ids)):
        with np.load(f"out/sentence{number}.npz") as written:
            assert all(np.array_equal(written[name], outputs[name]) for name in outputs)


@NEEDS_NATIVE
def test_both_engines_say_that_they_agree(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = str(tmp_path / "o.npz")
    assert main(["run", str(files.program), "--inputs", str(files.inputs), "-o", output, "--engine", "both"]) == 0
    assert "both engines leave the same outputs, SRAM and DRAM" in capsys.readouterr().out


@pytest.mark.parametrize("engine", ["native", "reference", "both"])
def test_a_long_run_says_how_far_it_is(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr("sta.api.cli.progress._PATIENCE", 0.0)
    monkeypatch.setattr("sta.api.cli.progress._LINE_INTERVAL", 0.0)
    arguments = ["run", str(files.program), "--inputs", str(files.inputs), "-o", str(tmp_path / "o.npz")]
    assert main([*arguments, "--engine", engine, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["cycles"] > 0
    lines = captured.err.splitlines()
    assert lines
    assert lines.pop().startswith("sta: done after ")
    assert all(line.startswith("sta: run") for line in lines)
    fractions = [int(line.removeprefix("sta: run ").removesuffix("%")) for line in lines if line.endswith("%")]
    # How far the native engine is, is not known.
    assert bool(fractions) == (engine != "native")
    assert fractions == sorted(fractions)
    assert all(0 <= fraction <= 100 for fraction in fractions)


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Runs a command that must fail without a traceback, and returns what it says."""
    assert main([str(argument) for argument in arguments]) in (1, 2)
    message = capsys.readouterr().err
    assert message.startswith("sta: error: ")
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize("engine", ["auto", pytest.param("both", marks=NEEDS_NATIVE)])
def test_a_bad_run_of_a_batch_is_named(
    files: Files, ids: np.ndarray, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    ids[2, 0, 4] = VOCABULARY
    np.savez("in.npz", ids=ids)
    message = error_of(capsys, "run", files.program, "--inputs", "in.npz", "-o", "out.npz", "--engine", engine)
    assert f"run 3: input 'ids': expected indices in 0..{VOCABULARY - 1}, got {VOCABULARY} at [0, 4]" in message
    assert not Path("out.npz").exists()


def test_a_bad_file_of_a_folder_is_named(files: Files, ids: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    np.savez("in/a.npz", ids=ids[0])
    np.savez("in/b.npz", ids=ids[1, :, 1:])
    message = error_of(capsys, "run", files.program, "--inputs", "in", "-o", "out")
    assert f"in/b.npz: input 'ids': expected shape (1, {TOKENS}), got (1, {TOKENS - 1})" in message
    assert not Path("out").exists()


def no_more(*_: object) -> None:
    """Stands for what starts a thread where the system gives none."""
    raise RuntimeError("can't start new thread")


def test_a_batch_where_the_system_gives_no_threads(
    files: Files, ids: np.ndarray, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez("in.npz", ids=ids)
    monkeypatch.setattr("threading.Thread.start", no_more)
    message = error_of(capsys, "run", files.program, "--inputs", "in.npz", "-o", "out.npz")
    assert "the system gives no more threads to run a batch with: choose fewer" in message


def no_memory(*_: object) -> None:
    """Stands for a run that finds no memory."""
    raise MemoryError


def test_where_there_is_not_enough_memory(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sta.api.cli.commands.run._run", no_memory)
    output = tmp_path / "o.npz"
    message = error_of(capsys, "run", files.program, "--inputs", files.inputs, "-o", output)
    assert message == "sta: error: there is not enough memory for this\n"


def test_an_empty_batch_and_an_empty_folder(files: Files, ids: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("in.npz", ids=ids[:0])
    assert "the batch is empty" in error_of(capsys, "run", files.program, "--inputs", "in.npz", "-o", "out.npz")
    Path("in").mkdir()
    assert "in holds no .npz files" in error_of(capsys, "run", files.program, "--inputs", "in", "-o", "out")


def test_a_folder_goes_to_a_folder(files: Files, ids: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    np.savez("in/a.npz", ids=ids[0])
    Path("file").write_text("")
    assert "--output must be one as well: file is a file" in error_of(
        capsys, "run", files.program, "--inputs", "in", "-o", "file"
    )
    assert "are the same folder" in error_of(capsys, "run", files.program, "--inputs", "in", "-o", "in")


@pytest.mark.parametrize("threads", ["0", "257", "-1"])
def test_threads_out_of_range(files: Files, capsys: pytest.CaptureFixture[str], threads: str) -> None:
    message = error_of(capsys, "run", files.program, "--inputs", files.inputs, "-o", "o.npz", "--threads", threads)
    assert f"--threads: {threads} is outside 1..256" in message


def test_samples_along_the_axis_of_one_are_pointed_to_a_batch(files: Files) -> None:
    message = r"got \(5, 10\): a run takes one sample; .* run_batch\(\[{'ids': a\[np.newaxis\], …} for a in …\]\)$"
    program, ids = sta.load(files.program), np.arange(50, dtype=np.int64).reshape(5, TOKENS) % VOCABULARY
    with pytest.raises(ValueError, match=message.replace(" run_batch", r" program\.run_batch").replace("{", r"\{")):
        program.run({"ids": ids})
    assert len(program.run_batch([{"ids": one[np.newaxis]} for one in ids])) == 5
