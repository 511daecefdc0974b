"""Tables and numbers for people."""

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sta.api.cli.tables import count, duration, noun, percent, print_json, print_table, shortened, size
from sta.api.cli.terminal import Verbosity, saying


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (count(1234567), "1,234,567"),
        (percent(0.7314), "73.1 %"),
        (size(1023), "1023 B"),
        (size(1536), "1.5 KiB"),
        (size(34972301), "33.4 MiB"),
        (duration(12.34e-6), "12.3 µs"),
        (duration(4.5e-3), "4.50 ms"),
        (duration(7.891), "7.89 s"),
        (noun(1, "sample"), "1 sample"),
        (noun(2000, "sample"), "2,000 samples"),
    ],
)
def test_numbers_have_units(shown: str, expected: str) -> None:
    assert shown == expected


def words(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines() if line.strip()]


def test_a_table_shows_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 100
    print_table(["name", "bytes"], [["[weights]", "12"], [long, "1,234"]], title="All of it", numbers=[1])
    lines = words(capsys.readouterr().out)
    assert lines[0] == ["All", "of", "it"]
    assert lines[1] == ["name", "bytes"]
    assert lines[3:] == [["[weights]", "12"], [long, "1,234"]]


def test_numbers_are_aligned_on_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "bytes"], [["a", "1"], ["b", "1,234"]], numbers=[1])
    *_, short, long = (line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip())
    assert len(short) == len(long)


def test_characters_of_east_asia_take_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "bytes"], [["層", "1"], ["ab", "2"]], numbers=[1])
    *_, wide, narrow = capsys.readouterr().out.splitlines()
    assert (wide, narrow) == (" 層         1", " ab         2")


TITLES = [f"column {letter}" for letter in "abcdefgh"]
TEXTS = st.lists(st.sampled_from(["encoder", "layer.0", "query", "sm 1,234"]), min_size=1, max_size=6).map(".".join)
NUMBERS = st.integers(0, 10**9).map(count)
TABLES = st.lists(st.tuples(TEXTS, *[NUMBERS] * 5, TEXTS, NUMBERS), min_size=1, max_size=4)


@given(TABLES, st.integers(40, 120))
def test_a_table_fits_by_leaving_out_columns_and_never_digits(rows: list[tuple[str, ...]], width: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        written = Written()
        patch.setattr(sys, "stdout", written)
        print_table(TITLES, rows, numbers=[1, 2, 3, 4, 5, 7], drop=[5, 4, 3, 6, 7])
    lines = written.text.splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(written.text.split())
    note = re.search(r"left out at \d+ columns: (.*) \(-v shows all\)", text)
    left_out = note[1].split(", ") if note is not None else []
    # In the order that was asked for, and only as many as it takes.
    assert left_out == sorted(TITLES[column] for column in [5, 4, 3, 6, 7][: len(left_out)])
    numbers = set(re.findall(r"(?<![\d,])\d[\d,]*", written.text))
    for row in rows:
        assert {row[column] for column in (1, 2, 3, 4, 5, 7) if TITLES[column] not in left_out} <= numbers


class Written:
    """A standard output that keeps what is written."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def fileno(self) -> int:
        raise OSError


def test_a_text_goes_on_behind_a_dot(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table(["module", "cycles"], [["encoder.layer.10.attention.self.query", "1,234,567"]], numbers=[1])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[2:]] == [["encoder.layer.10.", "1,234,567"], ["attention.self.query"]]


def test_a_table_has_all_columns_where_they_are_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with saying(Verbosity.VERBOSE):
        print_table(TITLES, [TITLES])
    assert " ".join(capsys.readouterr().out.splitlines()[0].split()) == " ".join(TITLES)


def test_json_is_canonical_and_finite(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"b": [1, 2.5], "a": "µ"})
    assert capsys.readouterr().out == '{"a":"µ","b":[1,2.5]}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json(float("nan"))


@pytest.mark.parametrize(
    ("path", "most", "expected"),
    [
        ("models/bert/modeling_bert.py:175", 40, "models/bert/modeling_bert.py:175"),
        ("/usr/lib/python3/models/bert/modeling_bert.py:175", 34, "/usr/…/bert/modeling_bert.py:175"),
        ("transformers/models/bert/modeling_bert.py:175", 10, "transformers/…/modeling_bert.py:175"),
        ("conftest.py:9", 4, "conftest.py:9"),
        ("/conftest.py:9", 4, "/conftest.py:9"),
        ("", 4, ""),
    ],
)
def test_a_long_path_loses_folders_in_its_middle(path: str, most: int, expected: str) -> None:
    assert shortened(path, most) == expected


@given(st.lists(st.text("abc.", min_size=1, max_size=9), min_size=1, max_size=9), st.integers(1, 60), st.booleans())
def test_a_shortened_path_keeps_its_ends(folders: list[str], most: int, is_absolute: bool) -> None:
    path = "/" * is_absolute + "/".join(folders)
    shown = shortened(path, most)
    assert shown.endswith(folders[-1])
    assert shown.startswith("/" * is_absolute + folders[0])
    assert len(shown) <= most or shown == path or shown.count("/…/") == 1
