"""Edited dumps: a mistake is shown at its place, and nothing ends in a traceback."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from sta.api.cli.command_line import main
from sta.api.dump.ir_dump import Dump
from sta.spec.instructions.definition import SEMAPHORE_COUNT
from tests.api.conftest import files_of

EDITS = [
    ("convert-torch-to-nm", r"nm\.product", "nm.prodct", "unknown operation 'nm.prodct'; did you mean 'nm.product'?"),
    ("convert-torch-to-nm", r"(nm\.product) %\d+", r"\1 %999", "%999 is used here and defined nowhere"),
    ("convert-torch-to-nm", r"(nm\.add) %\d+, %\d+", r"\1 %69, %69", "%69 is used here and defined below"),
    ("convert-torch-to-nm", r"tensor<16x16xsi8>", "tensor<16x17xsi8>", "operand is used with type tensor<16x16xsi8>"),
    ("convert-torch-to-nm", r"(scale <\d+), \d+", r'\1, "a"', "Expected integer literal"),
    ("convert-torch-to-nm", r"scale <\d+", "scale <-5", "multiplier -5 is outside [0, 2^31)"),
    ("convert-torch-to-nm", r'@"layer\.linear1\.w', '@"layer.linear3.w', "holds no array called 'layer.linear3.w"),
    ("convert-torch-to-nm", r"\n    func\.return[^\n]*", "", "terminates block in single-block region"),
    (
        "convert-torch-to-nm",
        r'sta\.port = #sta\.port<"ids"[^>]+>',
        "",
        "argument 0 of the function: the attribute sta.po",
    ),
    ("convert-torch-to-nm", r"tensor<20x16xsi16>", "tensor<21x16xsi16>", "int16[20, 16] in the weight store, expected"),
    ("nm-fuse-norm-copies", r"2:4, bitmap", "5:4, bitmap", "pattern 5:4 is not 1 <= N <= M <= 32"),
    ("nm-fuse-norm-copies", r"2:4, bitmap", "1:4, bitmap", "has groups with more than 1 non-zeros, expected 1:4"),
    ("nm-fuse-norm-copies", r'conftest\.py":', "conftest.py:", "a string begins here and does not end on this line"),
    ("sta-synchronize", r"wait \[\d+", "wait [77", f"names semaphore 77, outside 0..{SEMAPHORE_COUNT - 1}"),
    ("sta-synchronize", r" acc<", " spad<", "defined with type memref<10x16xsi32, #sta.spad>"),
    ("sta-synchronize", r"#sta\.port<input ", "#sta.port<", "its sta.port is expected to begin with input or outp"),
    ("sta-synchronize", r'(sta\.alloc "[^"]*:parameters" at )\d+', r"\g<1>8388608", "outside 0.."),
    ("sta-allocate", r", at \d+>", ", at 9999999>", "is not a multiple of"),
    ("sta-synchronize", r"post \[0\]", "post []", "deadlock: no unit can start its next instru"),
    ("sta-synchronize", r'(sta\.alloc "[^"]*:parameters") at \d+', r"\1", "an offset is expected, as s"),
    ("sta-allocate", r"(sta\.constant .* at )\d+", r"\g<1>-1", "a byte offset is not negative"),
    ("convert-nm-to-sta", r'(#sta\.held<)"[^"]*", ', r"\1", "string literal expected"),
    ("sta-synchronize", r"by \d+, depths", "by 1.0, depths", "Expected integer literal"),
    ("nm-sink-views", r"nm\.clamp %18", "nm.clamp %14", "nm.product stands alone: nm-fuse-epilogues makes one opera"),
    ("torch-calibrate", r"1\.000000e-05", "-1.000000e-05", "its eps must be a number that is not negative, not -1e-05"),
    ("torch-calibrate", r"(sta\.range = #torch\.range<)[^>]*", r"\g<1>2.0, 1.0", "the lowest number comes first"),
    ("torch-calibrate", r"sta\.range = #torch\.range<[^>]*>", "sta.range = 5", "sta.range is a #torch.range, not 5"),
    ("torch-choose-softmax", r"#torch\.softmax<8", "#torch.softmax<9", "exponentials have 8 or 16 bits, not 9"),
    ("torch-quantize", r"torch\.aten\.linear", "torch.aten.liner", "did you mean 'torch.aten.linear'?"),
]


def edited(dump: Dump, step: str, pattern: str, replacement: str) -> Path:
    """A file beside the dump's own with one edit; of a pattern of the type everywhere, so that the uses agree."""
    path = next(path for path in files_of(dump) if path.stem.endswith(step))
    everywhere = pattern.endswith((", bitmap", "xsi16>"))
    text, count = re.subn(pattern, replacement, path.read_text(), count=0 if everywhere else 1)
    assert count
    copy = path.with_name(f"{path.stem}.edited.mlir")
    copy.write_text(text)
    return copy


@pytest.mark.parametrize(("step", "pattern", "replacement", "message"), EDITS, ids=[edit[2] or "cut" for edit in EDITS])
def test_a_mistake_is_shown_at_its_place(
    step: str,
    pattern: str,
    replacement: str,
    message: str,
    dump: Dump,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = edited(dump, step, pattern, replacement)
    try:
        assert main(["compile", str(path), "-o", str(tmp_path / "m.sta")]) == 1
        text = path.read_text().splitlines()
    finally:
        path.unlink()
    first, line, mark = capsys.readouterr().err.split("sta: error: ")[1].rstrip("\n").split("\n")
    place = re.match(rf"{re.escape(str(path))}:(\d+):(\d+): ", first)
    assert place is not None
    assert message in first
    assert re.fullmatch(r" *\^+", mark)
    # What is marked is what stands at the place.
    column = mark.index("^")
    marked = text[int(place[1]) - 1][int(place[2]) - 1 :]
    assert marked.startswith(line[column : column + mark.count("^")].rstrip("…"))
    assert not (tmp_path / "m.sta").exists()


def test_opt_shows_the_same_place(dump: Dump, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = edited(dump, "convert-torch-to-nm", r"scale <\d+", "scale <-5")
    try:
        assert main(["opt", str(path), "-o", str(tmp_path / "out.mlir")]) == 1
        text = path.read_text().splitlines()
    finally:
        path.unlink()
    number = next(number for number, line in enumerate(text, 1) if "scale <-5" in line)
    place = rf"sta: error: {re.escape(str(path))}:{number}:\d+: multiplier -5 is outside"
    assert re.match(place, capsys.readouterr().err)


def mutilated(text: str, choice: random.Random) -> str:
    """The text with one word removed, doubled, or replaced by another of its words."""
    words = re.findall(r"\s+|[\w.@%-]+|.", text)
    place = choice.randrange(len(words))
    words[place] = choice.choice(["", words[place] * 2, choice.choice(words), str(choice.randrange(-(2**40), 2**40))])
    return "".join(words)


def compile_mutilated(dump: Dump, seeds: range, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in seeds:
        choice = random.Random(seed)
        source = choice.choice([path for path in files_of(dump) if re.match(r"\d+-(nm|sta|convert)", path.name)])
        path = source.with_name(f"{source.stem}.{seed}.mlir")
        path.write_text(mutilated(source.read_text(), choice))
        status = main(["compile", str(path), "-o", str(tmp_path / "m.sta")])
        path.unlink()
        assert status in (0, 1)
        assert "internal error" not in (error := capsys.readouterr().err), f"seed {seed}: {error}"


def test_mutilated_dumps_end_in_a_message(dump: Dump, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compile_mutilated(dump, range(12), tmp_path, capsys)


@pytest.mark.slow
def test_many_mutilated_dumps_end_in_a_message(dump: Dump, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compile_mutilated(dump, range(12, 100), tmp_path, capsys)
