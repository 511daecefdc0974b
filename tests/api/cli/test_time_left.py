"""The time left of long work."""

import pytest

from sta.api.cli.time_left import TimeLeft, left


def test_time_left_follows_from_the_speed_so_far() -> None:
    clock = TimeLeft()
    assert clock.seconds(10.0, 0.2) is None
    assert clock.seconds(11.0, 0.3) is None
    assert clock.seconds(14.0, 0.6) == pytest.approx(4.0)
    assert clock.seconds(16.0, 0.6) == pytest.approx(6.0)
    assert clock.seconds(20.0, 1.0) == 0.0


def test_other_work_begins_anew() -> None:
    clock = TimeLeft()
    clock.seconds(0.0, 0.5)
    assert clock.seconds(5.0, 0.9) is not None
    assert clock.seconds(6.0, 0.1) is None
    assert clock.seconds(8.0, 0.2) == pytest.approx(16.0)
    assert clock.seconds(9.0, None) is None
    assert clock.seconds(90.0, 0.4) is None


def test_words() -> None:
    assert [left(seconds) for seconds in (0.2, 59.6, 99.0, 100.0, 150.1)] == [
        "0 s left",
        "60 s left",
        "99 s left",
        "2 min left",
        "3 min left",
    ]
