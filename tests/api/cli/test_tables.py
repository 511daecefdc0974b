"""Tables and numbers for people."""

import sys

import pytest

from sta.api.cli.tables import count, duration, percent, print_json, print_table, size


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
    ],
)
def test_numbers_have_units(shown: str, expected: str) -> None:
    assert shown == expected


def words(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines() if line.strip()]


@pytest.mark.parametrize("has_rich", [True, False])
def test_a_table_shows_every_cell_with_and_without_rich(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, has_rich: bool
) -> None:
    if not has_rich:
        for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "rich", None)
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


def test_json_is_canonical_and_finite(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"b": [1, 2.5], "a": "µ"})
    assert capsys.readouterr().out == '{"a":"µ","b":[1,2.5]}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json(float("nan"))
