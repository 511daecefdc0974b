"""The programs of the record compile and run as recorded, and a difference is noticed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tests.record.__main__ import main
from tests.record.comparison import compare
from tests.record.entry import Entry, fingerprint, measure, native_is_built
from tests.record.programs import PROGRAMS
from tests.record.record_file import COMMITTED, Record, RecordFileError, read_record, write_record
from tests.record.renamings import renamed

QUICK = (
    "encoder/tanh-embedded",
    "decoder/grouped-queries",
    "cross/memory-mask-2:4",
    "softmax/online-tiny",
    "pattern/3:7",
    "int16/tiny-3:5",
    "product/one-row-tiny",
    "pt2e/rms-gated-spelled",
    "onnx/pairs-online-tiny",
)
"""A second each; `make test` runs these."""
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PROGRAMS]


@cache
def record() -> Record:
    """The record of the repository."""
    return read_record(COMMITTED)


@cache
def is_of_this_machine() -> bool:
    """True if calibration computes here what it computed for the record."""
    return fingerprint() == record().machine["floats"]


@pytest.mark.skipif(not native_is_built(), reason="the native engine is not built")
@pytest.mark.parametrize("name", NAMES)
def test_a_program_is_what_it_was(name: str) -> None:
    if not is_of_this_machine():
        pytest.skip("the record was made on a processor that computes other floats")
    difference = compare(record().programs[name], measure(name))
    assert not difference, "\n".join((", ".join(difference.parts), *difference.lines))


def test_the_record_has_all_programs() -> None:
    assert sorted(record().programs) == sorted(PROGRAMS)
    assert set(QUICK) < set(PROGRAMS)


def entry() -> Entry:
    return record().programs["product/one-row-tiny"]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"code": "0"}, ("code",)),
        ({"constants": "0"}, ("constants",)),
        ({"debug": "0"}, ("debug map",)),
        ({"outputs": "0"}, ("outputs",)),
        ({"cycles": 12345, "macs": 1}, ("cycles 5,496 → 12,345", "macs 15,100 → 1")),
        # The hash of another encoding says nothing.
        ({"version": "9.0", "code": "0"}, ()),
    ],
)
def test_whatever_differs_is_named(change: dict[str, str | int], parts: Sequence[str]) -> None:
    assert compare(entry(), replace(entry(), **change)).parts == parts


def changed_text(old: str, new: str) -> Entry:
    assert any(old in line for line in entry().text)
    return replace(entry(), text=[line.replace(old, new) for line in entry().text])


def test_the_first_line_that_differs_is_shown() -> None:
    text = list(entry().text)
    place = next(place for place, line in enumerate(text) if line.startswith("mm "))
    # What is said of memories comes before the instructions, and is shown where they are equal.
    memories = next(place for place, line in enumerate(text) if "wbuf" in line)
    text[memories] = "other"
    difference = compare(entry(), replace(entry(), text=text))
    assert difference.parts == ("disassembly",)
    assert difference.lines[0] == f"debug map and the like, line {memories}:"
    assert "+other" in difference.lines
    text[place] = "nothing"
    lines = compare(entry(), replace(entry(), text=text)).lines
    assert lines[0] == f"instructions, line {place - text.index('.code')}:"
    assert "+nothing" in lines
    assert any(line.startswith("-mm acc=") for line in lines)
    shorter = compare(entry(), replace(entry(), text=entry().text[:-3]))
    assert [line[0] for line in shorter.lines[-3:]] == ["-", "-", "-"]


def test_names_may_change() -> None:
    found = replace(changed_text("wbuf", "weights"), debug="0")
    assert compare(entry(), found).parts == ("debug map", "disassembly")
    assert not compare(entry(), found, [(r"\bwbuf\b", "weights")])
    assert renamed(["a b", "b"], [("^b", "c"), ("c", "d")]) == ["a b", "d"]


def test_other_constants_are_told_from_another_program() -> None:
    scaled = replace(changed_text('"scale": ', '"scale": 1'), constants="0", debug="0", outputs="0")
    assert compare(entry(), scaled).of_floats
    assert not compare(entry(), replace(scaled, cycles=1)).of_floats
    assert not compare(entry(), replace(scaled, text=changed_text("mm ", "nn ").text)).of_floats
    assert not compare(entry(), replace(entry(), outputs="0")).of_floats


def some(**changed: Entry) -> Record:
    """A part of the record: all of it would take seconds to be compressed."""
    names = ("pattern/found-1:32", "product/one-row-tiny")
    return replace(record(), programs={name: record().programs[name] for name in names} | changed)


def test_the_same_record_has_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "1", tmp_path / "2"]
    write_record(some(), paths[0])
    write_record(read_record(paths[0]), paths[1])
    assert read_record(paths[1]) == some()
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == paths


@pytest.mark.skipif(not native_is_built(), reason="the native engine is not built")
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r"
    assert main(["check", str(path)]) == 2
    path.write_bytes(b"nothing")
    with pytest.raises(RecordFileError, match="not a record"):
        read_record(path)
    assert main(["check", str(path)]) == 2
    assert capsys.readouterr().err.count("error: ") == 2


@pytest.mark.skipif(not native_is_built(), reason="the native engine is not built")
def test_the_command_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not is_of_this_machine():
        pytest.skip("the record was made on a processor that computes other floats")
    name = "product/one-row-tiny"
    write_record(some(**{name: replace(entry(), cycles=5)}), tmp_path / "r")
    assert main(["check", str(tmp_path / "r"), "--only", "*/one-row-tiny", "nothing/*"]) == 1
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == f"{name}  cycles 5 → 5,496"
    assert last == "1 of 1 programs differ"
    assert main(["check", "--only", "no such"]) == 2
