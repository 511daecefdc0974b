"""`sta opt` on dumps: locations stay, and the compile resumes from its output."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from sta.api.cli.command_line import main
from sta.api.dump.ir_dump import Dump
from sta.api.inspect.place_lookup import locations
from sta.passes.pipeline import INTEGER_PIPELINE
from tests.api.conftest import files_of

UNLOCATED = "func.func @main(%x: tensor<4xsi8>) -> tensor<4xsi8> { func.return %x : tensor<4xsi8> }"


@pytest.fixture
def copy(dump: Dump, tmp_path: Path) -> Dump:
    """The dump of a small model in a directory of its own."""
    shutil.copytree(dump.directory, tmp_path / "ir")
    return Dump.read(tmp_path / "ir")


def file_after(dump: Dump, step: str) -> Path:
    return next(path for path in files_of(dump) if path.stem.partition("-")[2] == step)


def test_every_dump_is_printed_with_the_locations_that_it_has(dump: Dump, tmp_path: Path) -> None:
    for path in files_of(dump):
        assert main(["opt", str(path), "-o", str(tmp_path / "out.mlir")]) == 0
        assert locations(path.read_text())
        # The text of the dump, besides what it says of arrays.
        expected = [line.partition("  // ")[0] for line in path.read_text().splitlines()]
        assert (tmp_path / "out.mlir").read_text().rstrip().splitlines() == expected, path.name


def test_locations_are_left_out_where_there_are_none_or_somebody_asks(
    dump: Dump, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.mlir").write_text(UNLOCATED)
    with_locations = file_after(dump, "nm-fuse-epilogues")
    for arguments, are_there in (
        ([str(tmp_path / "m.mlir")], False),
        ([str(tmp_path / "m.mlir"), "--print-debuginfo"], True),
        ([str(with_locations)], True),
        ([str(with_locations), "--no-print-debuginfo"], False),
    ):
        assert main(["opt", *arguments]) == 0
        assert (" loc(" in capsys.readouterr().out) == are_there, arguments


@pytest.mark.parametrize("done", [1, INTEGER_PIPELINE.index("sta-allocate")])
def test_a_compile_by_opt_gives_the_original_bytes(done: int, copy: Dump, dump: Dump, tmp_path: Path) -> None:
    # Some passes by `sta opt`, in another process as it were, and what is left by `sta compile`.
    passes = ",".join(["convert-torch-to-nm", *INTEGER_PIPELINE[: done + 1]])
    source, result = file_after(copy, "torch-choose-softmax"), copy.directory / f"20-{INTEGER_PIPELINE[done]}.mlir"
    assert main(["opt", str(source), "-p", passes, "-o", str(result)]) == 0
    assert main(["compile", str(result), "-o", str(tmp_path / "m.sta")]) == 0
    assert (tmp_path / "m.sta").read_bytes() == (dump.directory.parent / "m.sta").read_bytes()


def test_arrays_that_passes_make_are_added_to_the_dump(
    copy: Dump, dump: Dump, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in (copy.directory / "weights").iterdir()}
    prune = ["opt", str(file_after(copy, "import")), "-p", 'torch-prune{pattern="1:4"}']
    assert main([*prune, "-o", str(tmp_path / "elsewhere.mlir")]) == 0
    assert "nothing keeps them" in capsys.readouterr().err
    assert Dump.read(copy.directory) == copy
    assert main([*prune, "-o", str(tmp_path / "kept.mlir"), "--save-weights", str(tmp_path / "w.safetensors")]) == 0
    assert Dump.read(copy.directory) == copy
    assert main([*prune, "-o", str(copy.directory / "mine.mlir")]) == 0
    assert "warning" not in capsys.readouterr().err
    added = Dump.read(copy.directory)
    assert added.steps == copy.steps
    assert copy.arrays.items() < added.arrays.items()
    after = {path.name: path.read_bytes() for path in (copy.directory / "weights").iterdir()}
    assert before.items() < after.items()
    named = set(re.findall(r"dense_resource<([^>]*)>", (copy.directory / "mine.mlir").read_text()))
    assert named <= added.arrays.keys()
    assert (copy.directory / "index.txt").read_text() == (dump.directory / "index.txt").read_text()


@pytest.mark.parametrize(
    ("step", "name", "message"),
    [
        (
            "nm-sink-views",
            "sta-allocate",
            "takes a module of the sta dialect, and this is one of nm: see ",
        ),
        (
            "import",
            "convert-nm-to-sta",
            "takes a module of the nm dialect, and this is one of torch: see ",
        ),
        (
            "sta-allocate",
            "convert-torch-to-nm",
            "takes a module of the torch dialect, and this is one of sta: see ",
        ),
    ],
)
def test_a_pass_for_another_dialect(
    step: str, name: str, message: str, dump: Dump, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["opt", str(file_after(dump, step)), "-p", name]) == 1
    assert f"sta: error: pass {name} {message}" in capsys.readouterr().err


def test_what_a_pass_refuses_is_shown_at_its_place(dump: Dump, capsys: pytest.CaptureFixture[str]) -> None:
    source = file_after(dump, "nm-sink-views")
    assert main(["opt", str(source), "-p", "convert-nm-to-sta"]) == 1
    first, line, mark = capsys.readouterr().err.splitlines()
    assert re.match(
        rf"sta: error: {re.escape(str(source))}:\d+:5: \S+ \(conftest\.py:\d+\): nm\.\w+ stands alone: ", first
    )
    assert " = nm." in line
    assert mark.strip("^ ") == ""
