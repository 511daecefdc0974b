"""Progress on standard error."""

import time

import pytest

from sta.api.cli.progress import Progress


class Clock:
    """Time as the test says."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made)
    return made


def test_short_work_shows_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress.report("import", None)
        clock.now += 1.9
        progress.report("emit", None)
    assert capsys.readouterr() == ("", "")


def test_long_work_shows_a_line_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        clock.now += 2.5
        progress.report("calibrate", 0.25)
        clock.now += 0.5
        progress.report("calibrate", 0.5)
        clock.now += 0.6
        progress.report("emit", None)
    captured = capsys.readouterr()
    assert captured.err == "sta: calibrate 25%\nsta: emit\nsta: done after 3.60 s\n"
    assert captured.out == ""


def test_a_terminal_shows_one_line_that_is_removed(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with Progress() as progress:
        clock.now += 3
        progress.report("calibrate", 0.5)
        progress.report("emit", None)
    captured = capsys.readouterr()
    assert "sta: " not in captured.err
    assert "emit" in captured.err
    assert captured.out == ""
