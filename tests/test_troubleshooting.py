"""docs/troubleshooting.md shows what the commands say."""

import re

from tests.support.troubleshooting import MISTAKES, PAGE, troubleshooting


def stable(text: str) -> str:
    """The text without PyTorch's names of dynamic sizes."""
    return re.sub(r"\bs\d+\b", "s", text)


def test_the_page_shows_what_the_commands_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("\n$ sta ") == len(MISTAKES) == 10
    assert text.count("\nsta: error: ") + text.count("\nsta: warning: ") == 10
    assert stable(troubleshooting()) == stable(text), "the messages have changed: `make docs` writes the new ones"
