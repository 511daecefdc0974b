"""Dumps of the IR: contents, and resumption of the compile from each of them."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType] - its path type is

import sta
from sta.api.cli.command_line import main
from sta.api.dump.ir_dump import Dump
from tests.api.conftest import Files, files_of


def integer_files(dump: Dump) -> Iterator[Path]:
    """The modules of integers."""
    return (path for path in files_of(dump) if re.match(r"\d+-(nm|sta|convert)-", path.name))


def test_every_integer_level_dump_compiles_to_the_original_bytes(dump: Dump, tmp_path: Path) -> None:
    expected = (dump.directory.parent / "m.sta").read_bytes()
    paths = list(integer_files(dump))
    assert len(paths) >= 6
    for path in paths:
        assert main(["compile", str(path), "-o", str(tmp_path / "m.sta")]) == 0
        assert (tmp_path / "m.sta").read_bytes() == expected, path.name


def test_a_dump_of_floats_compiles_to_the_original_bytes(dump: Dump, files: Files, tmp_path: Path) -> None:
    expected = (dump.directory.parent / "m.sta").read_bytes()
    pruned = next(path for path in files_of(dump) if "torch-prune" in path.name)
    arguments = ["compile", str(pruned), "-o", str(tmp_path / "m.sta"), "--calibration", str(files.calibration)]
    assert main(arguments) == 0
    assert (tmp_path / "m.sta").read_bytes() == expected
    quantized = next(path for path in files_of(dump) if "torch-quantize" in path.name)
    assert main(["compile", str(quantized), "-o", str(tmp_path / "m.sta")]) == 0
    assert (tmp_path / "m.sta").read_bytes() == expected


@pytest.mark.parametrize("level", ["nm-fuse-epilogues", "convert-nm-to-sta", "sta-allocate", "sta-synchronize"])
def test_a_dump_under_another_name_compiles_to_the_original_bytes(level: str, dump: Dump, tmp_path: Path) -> None:
    copy = tmp_path / "ir"
    shutil.copytree(dump.directory, copy)
    path = next(path for path in files_of(dump) if level in path.name)
    renamed = copy / "mine.mlir"
    (copy / path.name).rename(renamed)
    assert main(["compile", str(renamed), "-o", str(tmp_path / "m.sta")]) == 0
    assert (tmp_path / "m.sta").read_bytes() == (dump.directory.parent / "m.sta").read_bytes()


def test_opt_takes_every_dump_without_naming_the_weights(dump: Dump, tmp_path: Path) -> None:
    for path in files_of(dump):
        assert main(["opt", str(path), "-o", str(tmp_path / "out.mlir")]) == 0, path.name
    before = next(path for path in files_of(dump) if "convert-torch-to-nm" in path.name)
    assert main(["opt", str(before), "-p", "nm-choose-encoding", "-o", str(tmp_path / "out.mlir")]) == 0
    assert "#nm.pattern<2:4" in (tmp_path / "out.mlir").read_text()


def test_the_index_tells_what_is_there(dump: Dump) -> None:
    names = {path.name for path in dump.directory.iterdir()}
    told = {name for step in dump.steps for name in (step.file, step.diff_file) if name is not None}
    assert names == told | {"index.json", "index.txt", "index.html", "weights"}
    lines = (dump.directory / "index.txt").read_text().splitlines()[3:]
    assert len(lines) == len(dump.steps)
    page = (dump.directory / "index.html").read_text()
    assert "http" not in page
    for step, line in zip(dump.steps, lines, strict=True):
        assert step.name in line
        assert f"{step.operation_count:,}" in line
        if step.file is not None:
            assert f'href="{step.file}"' in page


def test_diffs_count_the_lines_that_they_show(dump: Dump) -> None:
    for step in dump.steps[1:]:
        lines = dump.diff(step).splitlines()[2:]
        assert sum(line.startswith("+") for line in lines) == (step.added if step.diff_file else 0)
        assert sum(line.startswith("-") for line in lines) == (step.removed if step.diff_file else 0)
        assert (step.diff_file is None) == (step.file is None)


def test_arrays_are_described_and_kept_apart(dump: Dump) -> None:
    text = dump.text(next(step for step in dump.steps if step.name == "nm-fuse-epilogues"))
    assert re.search(r"nm\.weight .*2:4.* // 2:4, density 0\.\d+, -\d+\.\.\d+\n", text)
    assert "dense<[" not in text
    for digest in dump.arrays.values():
        assert list(load_file(dump.directory / "weights" / f"{digest}.safetensors")) == ["array"]


def test_a_second_dump_replaces_the_first_and_adds_no_array_again(files: Files, tmp_path: Path) -> None:
    arguments = ["compile", str(files.model), "-o", str(tmp_path / "m.sta"), "--calibration", str(files.calibration)]
    assert main([*arguments, "--dump-ir", str(tmp_path / "ir"), "--sparsity", "1:4"]) == 0
    first = Dump.read(tmp_path / "ir")
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "ir" / "weights").iterdir()}
    (tmp_path / "ir" / "notes.mlir").write_text("mine")
    assert main([*arguments, "--dump-ir", str(tmp_path / "ir")]) == 0
    second = Dump.read(tmp_path / "ir")
    assert (tmp_path / "ir" / "notes.mlir").read_text() == "mine"
    assert [step.name for step in first.steps if step not in second.steps] != []
    left = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "ir" / "weights").iterdir()}
    assert left.keys() == {f"{digest}.safetensors" for digest in second.arrays.values()}
    assert all(kept[name] == time for name, time in left.items() if name in kept)


def test_two_compiles_do_not_mix_in_one_folder(
    files: Files, dump: Dump, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(dump.directory, tmp_path / "ir")
    before = {path.name: path.read_bytes() for path in (tmp_path / "ir").glob("*.*")}
    arguments = ["compile", str(files.model), "-o", str(tmp_path / "m.sta"), "--dump-ir", str(tmp_path / "ir")]
    # A lock by another file descriptor is one of another process.
    folder = os.open(tmp_path / "ir", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        assert main(arguments) == 1
    finally:
        os.close(folder)
    assert f"cannot write the IR to {tmp_path / 'ir'}: another compile is writing to it" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "ir").glob("*.*")} == before
    assert not (tmp_path / "m.sta").exists()
    assert main(arguments) == 0


def test_a_program_keeps_its_options_and_so_does_what_is_made_of_its_dump(dump: Dump, tmp_path: Path) -> None:
    program = sta.load(dump.directory.parent / "m.sta")
    assert program.container.options == {"calibration": "4 samples", "sparsity": "2:4"}
    assert program.container.versions["sta-toolchain"]
    assert dump.options == program.container.options
    sta.compile(files_of(dump)[-1]).save(tmp_path / "m.sta")
    assert sta.load(tmp_path / "m.sta").container.options == program.container.options


def test_program_and_dump_have_names_of_their_own(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "m.sta")
    assert main(["compile", str(files.model), "-o", output, "--dump-ir", str(tmp_path / "x" / ".." / "m.sta")]) == 2
    assert "--output and --dump-ir name the same path" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_only_keeps_one_module(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compile", str(files.model), "-o", str(tmp_path / "m.sta"), "--calibration", str(files.calibration)]
    assert main([*arguments, "--dump-ir", str(tmp_path / "ir"), "--only", "layer.self_attn*"]) == 0
    assert (tmp_path / "m.sta").read_bytes() == files.program.read_bytes()
    part = Dump.read(tmp_path / "ir")
    for path in files_of(part):
        text = path.read_text()
        assert "layer.self_attn" in text
        assert "layer.linear1" not in text
        assert main(["opt", str(path), "-o", str(tmp_path / "out.mlir")]) == 0, path.name
    capsys.readouterr()
    assert main(["compile", str(files_of(part)[-1]), "-o", str(tmp_path / "m.sta")]) == 1
    assert "make the dump without --only" in capsys.readouterr().err
    assert main([*arguments, "--dump-ir", str(tmp_path / "ir2"), "--only", "layer.self_atn"]) == 1
    assert "did you mean 'layer.self_attn'?" in capsys.readouterr().err


def test_timing_lists_every_step(dump: Dump, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(path for path in files_of(dump) if "nm-fuse-epilogues" in path.name)
    assert main(["compile", str(path), "-o", str(tmp_path / "m.sta"), "--timing", "--json"]) == 0
    timing = json.loads(capsys.readouterr().out)["timing"]
    assert [row["step"] for row in timing] == [
        "import",
        "nm-fuse-norm-copies",
        "nm-raise-norms",
        "nm-map-into-rows",
        "nm-plan-tiles",
        "convert-nm-to-sta",
        "sta-allocate",
        "sta-synchronize",
        "emit",
    ]
    assert all(row["seconds"] >= 0 for row in timing)


def test_arrays_that_were_changed_are_not_taken(dump: Dump, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "ir"
    shutil.copytree(dump.directory, copy)
    digest = next(digest for name, digest in dump.arrays.items() if name.endswith("@int8"))
    path = copy / "weights" / f"{digest}.safetensors"
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    data[-1] ^= 1
    path.write_bytes(data.tobytes())
    module = next(file for file in integer_files(dump))
    assert main(["compile", str(copy / module.name), "-o", str(tmp_path / "m.sta")]) == 1
    assert "does not hold the array of its name" in capsys.readouterr().err
    assert not (tmp_path / "m.sta").exists()


def test_a_check_of_a_dump_runs_on_calibration_data(dump: Dump, files: Files, tmp_path: Path) -> None:
    path = next(path for path in files_of(dump) if "nm-fuse-epilogues" in path.name)
    arguments = ["compile", str(path), "-o", str(tmp_path / "m.sta"), "--check"]
    assert main(arguments) == 1
    assert main([*arguments, "--calibration", str(files.calibration)]) == 0


def test_options_about_what_has_been_done_are_refused(
    dump: Dump, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compile", str(files_of(dump)[-1]), "-o", str(tmp_path / "m.sta")]
    for option, reason in (
        (["--sparsity", "1:4"], "weights have been pruned in"),
        (["--softmax", "online"], "has been chosen in"),
        (["--calibration", str(files.calibration)], "calibration data are given, and nothing uses them in"),
        (["--evaluation", str(files.calibration)], "evaluation data are given, and number formats have been chosen in"),
        (["--min-sqnr", "30", "--check"], "number formats are asked for, and have been chosen in"),
        (["--no-smoothing"], "number formats are asked for, and have been chosen in"),
        (["--target", "sta-small"], "is tiled for sta-base, not for sta-small"),
        (["--dump-ir", str(dump.directory)], "is read from there"),
    ):
        assert main([*arguments, *option]) == 1
        assert reason in capsys.readouterr().err
    assert main(["compile", "m.pt2", "-o", str(tmp_path / "m.sta"), "--only", "layer.*"]) == 2
    assert not (tmp_path / "m.sta").exists()


def test_arrays_can_be_read_by_whoever_can_read_the_modules(dump: Dump) -> None:
    mode = files_of(dump)[0].stat().st_mode
    arrays = list((dump.directory / "weights").iterdir())
    assert arrays
    assert {path.stat().st_mode for path in arrays} == {mode}


def test_what_cannot_be_written_ends_the_compile(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ir").mkdir()
    (tmp_path / "ir" / "weights").write_text("in the way")
    arguments = ["compile", str(files.model), "-o", str(tmp_path / "m.sta"), "--calibration", str(files.calibration)]
    assert main([*arguments, "--dump-ir", str(tmp_path / "ir")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("sta: error: ")
    assert str(tmp_path / "ir" / "weights") in error
    assert [path.name for path in tmp_path.iterdir()] == ["ir"]
    assert [path.name for path in (tmp_path / "ir").iterdir()] == ["weights"]


def test_a_compile_that_fails_leaves_the_dump_up_to_there(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compile", str(files.model), "-o", str(tmp_path / "m.sta"), "--dump-ir", str(tmp_path / "ir")]
    assert main([*arguments, "--int16-inputs", "layer.linear3"]) == 1
    assert "layer.linear3" in capsys.readouterr().err
    dump = Dump.read(tmp_path / "ir")
    assert dump.steps[0].name == "import"
    assert all(path.is_file() for path in files_of(dump))
    assert (tmp_path / "ir" / "index.html").is_file()
    assert not (tmp_path / "m.sta").exists()
