"""A program of today beside the recorded one."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from tests.record.entry import Entry
from tests.record.renamings import RENAMINGS, renamed

_FIGURES = ("cycles", "instructions", "dram_bytes", "macs", "dense_macs")
_SHOWN_LINES = 14
_LOOKED_AT = 400
_LONGEST_LINE = 400


@dataclass(frozen=True)
class Difference:
    """Difference between a program and its entry."""

    parts: tuple[str, ...]
    """Differences in words; empty if all is equal."""
    lines: tuple[str, ...] = ()
    """The first lines of the disassembly that differ, as a diff."""
    of_floats: bool = False
    """
    Constants differ, and instructions and costs do not: what floats of another processor would do, since calibration
    rounds them to scales and weights.
    """

    def __bool__(self) -> bool:
        return bool(self.parts)


def compare(recorded: Entry, found: Entry, renamings: Sequence[tuple[str, str]] = RENAMINGS) -> Difference:
    """
    Compares a program with its entry.

    The hash of the code is compared where the containers have one version: another version encodes otherwise, and the
    disassembly says whether the program is the same. So it is with the debug map where names have changed.
    """
    expected = renamed(recorded.text, renamings)
    parts: list[str] = []
    if recorded.version == found.version and recorded.code != found.code:
        parts.append("code")
    if recorded.constants != found.constants:
        parts.append("constants")
    if expected == recorded.text and recorded.debug != found.debug:
        parts.append("debug map")
    if recorded.outputs != found.outputs:
        parts.append("outputs")
    for figure in _FIGURES:
        before, after = getattr(recorded, figure), getattr(found, figure)
        if before != after:
            parts.append(f"{figure.replace('_', ' ')} {before:,} → {after:,}")
    if expected != found.text:
        parts.append("disassembly")
    return Difference(tuple(parts), _first_lines(expected, found.text), _is_of_floats(recorded, found, expected))


def _is_of_floats(recorded: Entry, found: Entry, expected: list[str]) -> bool:
    same = all(getattr(recorded, figure) == getattr(found, figure) for figure in _FIGURES)
    return same and recorded.constants != found.constants and _code(expected) == _code(found.text)


def _code(text: list[str]) -> list[str]:
    return text[text.index(".code") :]


def _first_lines(expected: list[str], found: list[str]) -> tuple[str, ...]:
    """Instructions are shown first: where one is new, the numbers in the debug map before them are others, too."""
    if expected == found:
        return ()
    is_code = _code(expected) != _code(found)
    before, after = (_code(expected), _code(found)) if is_code else (expected, found)
    pairs = enumerate(zip(before, after, strict=False))
    start = next((place for place, (a, b) in pairs if a != b), min(len(before), len(after)))
    # A diff of whole programs would take minutes; this is about the first place.
    first = max(start - 2, 0)
    before, after = (lines[first : first + _LOOKED_AT] for lines in (before, after))
    diff = itertools.islice(difflib.unified_diff(before, after, n=2, lineterm=""), 3, 3 + _SHOWN_LINES)
    lines = [f"{'instructions' if is_code else 'debug map and the like'}, line {start}:", *diff]
    return tuple(line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…" for line in lines)
