"""The end of an error message about a misspelt name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LIKENESS = 0.5
"""Least similarity, from 0 to 1, at which a word is suggested for another: difflib's ratio."""


def suggestion(word: str, known: Iterable[str], likeness: float = LIKENESS) -> str:
    """`; did you mean 'x'?` for the known word closest to a misspelt one; empty if none is close."""
    close = get_close_matches(word, list(known), 1, likeness)
    return f"; did you mean {close[0]!r}?" if close else ""
