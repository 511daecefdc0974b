"""
Names that have changed since the record was made.

Each is applied to the recorded disassembly before it is compared: a regular expression and what replaces it, in this
order, line by line. Nothing but names belongs here: what a program does is compared. A record made anew needs none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

RENAMINGS: Sequence[tuple[str, str]] = ((r"^(\s*map .*), multiply(?=,|$)", r"\1, combine=multiply"),)
"""For example: `(r"^(\\s*)mm acc=", r"\\1matmul acc=")`."""


def renamed(lines: Iterable[str], renamings: Sequence[tuple[str, str]] = RENAMINGS) -> list[str]:
    """Returns recorded lines under today's names."""
    patterns = [(re.compile(pattern), replacement) for pattern, replacement in renamings]
    return [_renamed(line, patterns) for line in lines]


def _renamed(line: str, patterns: Sequence[tuple[re.Pattern[str], str]]) -> str:
    for pattern, replacement in patterns:
        line = pattern.sub(replacement, line)
    return line
