"""
Names that have changed since the record was made.

Each is applied to the recorded disassembly before it is compared: a regular expression and what replaces it, in this
order, line by line. Nothing but names belongs here: what a program does is compared. A record made anew needs none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

RENAMINGS: Sequence[tuple[str, str]] = (
    # An attempt at lowering that did not fit had left its arrays in the store: the next one got a number behind them.
    (r'(encoder\.layer\.\d\.[\w.]*\.dense(?:\.weight\.pruned_2_4@int8@packed|@parameters))\.2"', r'\1"'),
    # An instruction that shifts accumulators had the name of TOSA's operation on values.
    (r"^(\s*)rescale ", r"\1shift "),
    (r'"sta\.rescale"', '"sta.shift"'),
    # The flags of `map` and `norm` for row statistics: `gather` was the name of an instruction as well.
    (r"^(\s*map .*), gather(?=,|$)", r"\1, statistics"),
    (r"^(\s*norm .*), gathered(?=,|$)", r"\1, statistics"),
    # The width of exponentials has one name.
    (r"^(\s*softmax .*), p_bits=", r"\1, probability_bits="),
)
"""For example: `(r"^(\\s*)mm acc=", r"\\1matmul acc=")`."""


def renamed(lines: Iterable[str], renamings: Sequence[tuple[str, str]] = RENAMINGS) -> list[str]:
    """Returns recorded lines under today's names."""
    patterns = [(re.compile(pattern), replacement) for pattern, replacement in renamings]
    return [_renamed(line, patterns) for line in lines]


def _renamed(line: str, patterns: Sequence[tuple[re.Pattern[str], str]]) -> str:
    for pattern, replacement in patterns:
        line = pattern.sub(replacement, line)
    return line
