"""
Difference between two texts of a module.

Values are numbered by position, so one more operation renames all later ones. Lines are therefore compared with each
operand as the kind of operation that defines it. Lines that are equal in this form show the new text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_VALUE = re.compile(r"%[\w$.-]+(?:#\d+)?")
_DEFINITION = re.compile(r'\s*(%[\w$.:, %-]+) = "?([\w.]+)')
_LOCATION = re.compile(r' loc\((?:[^()"]|"[^"]*"|\((?:[^()"]|"[^"]*"|\([^()]*\))*\))*\)')
_PATH = re.compile(r' loc\("((?:[^"\\]|\\.)*)"\(')
CONTEXT = 1
"""Unchanged lines around a change."""


@dataclass(frozen=True)
class Difference:
    """
    The unified diff of two texts, without locations and the lines of the model's source; a hunk's head is the module
    path of its beginning.
    """

    lines: tuple[str, ...]
    added: int
    removed: int

    @property
    def text(self) -> str:
        """The lines, each with its end."""
        return "".join(f"{line}\n" for line in self.lines)


def difference(before: str, after: str, names: tuple[str, str]) -> Difference:
    """Returns the changes from one text to the other; `names` are the names of their files."""
    (old_head, old), (new_head, new) = _parts(before), _parts(after)
    matcher = difflib.SequenceMatcher(None, _comparable(old), _comparable(new), autojunk=False)
    added = removed = 0
    lines: list[str] = []
    for group in matcher.get_grouped_opcodes(CONTEXT):
        lines.append(_head(group, new, old_head, new_head))
        for kind, old_start, old_end, new_start, new_end in group:
            if kind == "equal":
                lines += (f" {line}" for line in _shown(new[new_start:new_end]))
                continue
            removed += old_end - old_start
            added += new_end - new_start
            lines += (f"-{line}" for line in _shown(old[old_start:old_end]))
            lines += (f"+{line}" for line in _shown(new[new_start:new_end]))
    head = [f"--- {names[0]}", f"+++ {names[1]}"] if lines else []
    return Difference((*head, *lines), added, removed)


def _comparable(lines: Sequence[str]) -> list[str]:
    definitions: dict[str, str] = {}

    def kind(value: re.Match[str]) -> str:
        return definitions.get(value.group(), "%")

    result: list[str] = []
    for line in lines:
        result.append(_VALUE.sub(kind, line))
        defined = _DEFINITION.match(line)
        if defined is not None:
            definitions.update(dict.fromkeys(_VALUE.findall(defined[1]), f"%{defined[2]}"))
    return result


def _shown(lines: Sequence[str]) -> Iterator[str]:
    return (_LOCATION.sub("", line) for line in lines)


def _parts(text: str) -> tuple[int, list[str]]:
    """The number of lines with the lines of the model's source, and the other lines."""
    lines = text.splitlines()
    head = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return head, lines[head:]


def _head(group: Sequence[tuple[str, int, int, int, int]], new: Sequence[str], old_before: int, new_before: int) -> str:
    first, last = group[0], group[-1]
    old_range = f"{old_before + first[1] + 1},{last[2] - first[1]}"
    new_range = f"{new_before + first[3] + 1},{last[4] - first[3]}"
    paths = (_PATH.search(line) for line in new[first[3] : last[4]])
    path = next((found[1] for found in paths if found is not None), "")
    return f"@@ -{old_range} +{new_range} @@ {path}".rstrip()
