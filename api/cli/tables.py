"""Tables and numbers for people; a table fits the terminal."""

from __future__ import annotations

import json
import re
import textwrap
import unicodedata
from collections.abc import Sequence

from sta.api.cli.terminal import columns, has_characters

_GAP = "   "
_MARGIN = " "
_BREAK = re.compile(r"(?<=\s)|(?<=[./_:])(?=[^\d\s.])")
"""Places at which a text may go on in the next line; none is inside of a number."""

Row = Sequence[str]


def count(value: int) -> str:
    """Returns ``1,234,567``."""
    return f"{value:,}"


def noun(number: int, word: str) -> str:
    """Returns ``1 sample`` or ``1,234 samples``."""
    return f"{count(number)} {word}{'s' * (number != 1)}"


def percent(fraction: float) -> str:
    """Returns ``73.1 %`` for 0.731."""
    return f"{100 * fraction:.1f} %"


def size(value: int) -> str:
    """Returns a number of bytes as ``812 B``, ``1.5 KiB`` or ``21.9 MiB``."""
    if value < 1024:
        return f"{value} B"
    if value < 1024 * 1024:
        return f"{value / 1024:.1f} KiB"
    return f"{value / (1024 * 1024):.1f} MiB"


def duration(seconds: float) -> str:
    """Returns a time as ``12.3 µs``, ``4.56 ms`` or ``7.89 s``."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} µs"
    return f"{seconds * 1e3:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"


def shortened(path: str, most: int) -> str:
    """Returns a path without folders from its middle where it is longer than that; its end is never cut."""
    folders = path.split("/")
    # An absolute path begins with an empty name.
    begin = 2 if path.startswith("/") else 1
    if len(path) <= most or len(folders) < begin + 2:
        return path
    sign = "…" if has_characters("…") else "..."
    shorter = (
        "/".join([*folders[:begin], sign, *folders[position:]]) for position in range(begin + 1, len(folders) - 1)
    )
    least = "/".join([*folders[:begin], sign, folders[-1]])
    return next((one for one in shorter if len(one) <= most), least)


def print_table(
    header: Row, rows: Sequence[Row], title: str = "", numbers: Sequence[int] = (), drop: Sequence[int] | None = None
) -> None:
    """
    Prints a table on standard output.

    Where the terminal is too narrow, columns are left out and named below, and then texts go on in a next line; a
    number is never cut.

    Args:
        header: the columns' titles.
        rows: the cells, one text a column.
        title: the line above.
        numbers: positions of the columns that are aligned on the right.
        drop: positions of the columns that may be left out, in this order (default: the last first, all but the first
            two).
    """
    available = columns()
    order = range(len(header) - 1, 1, -1) if drop is None else drop
    kept, widths = _layout([header, *rows], numbers, order, available)
    if title:
        print_sentence(title)
    for number, row in enumerate([header, *rows]):
        for line in _lines([row[position] for position in kept], widths, [position in numbers for position in kept]):
            print(line)
        if number == 0:
            print("─" * (2 * len(_MARGIN) + sum(widths) + len(_GAP) * (len(widths) - 1)))
    if len(kept) < len(header):
        left_out = ", ".join(" ".join(name.split()) for place, name in enumerate(header) if place not in kept)
        note = f"left out at {available} columns: {left_out} (-v shows all)"
        print_sentence(note)


def print_sentence(text: str) -> None:
    """Prints a line on standard output, or as many as the terminal takes for it; words are not broken."""
    available = columns()
    print("\n".join(textwrap.wrap(text, available, break_long_words=False)) if available else text)


def _layout(
    table: Sequence[Row], numbers: Sequence[int], order: Sequence[int], available: int | None
) -> tuple[list[int], list[int]]:
    """The positions of the columns that are shown, and their widths."""
    kept = list(range(len(table[0])))
    texts = [[row[position] for row in table] for position in kept]
    widths = [max(map(_width, column)) for column in texts]
    if available is None:
        return kept, widths
    least = [_least(column, position in numbers) for position, column in enumerate(texts)]
    # While there are columns to leave out, the names of rows keep half of the line, and other texts a quarter.
    shares = [0 if place in numbers else min(widths[place], available // (4 if place else 2)) for place in kept]
    readable = [max(pair) for pair in zip(least, shares, strict=True)]
    for position in order:
        if _total([readable[one] for one in kept]) <= available:
            break
        kept.remove(position)
    for limits in (readable, least):
        # The widest gives way first.
        for place in sorted(kept, key=lambda place: widths[place], reverse=True):
            excess = _total([widths[one] for one in kept]) - available
            widths[place] -= max(0, min(excess, widths[place] - limits[place]))
    return kept, [widths[position] for position in kept]


def _least(texts: Sequence[str], is_number: bool) -> int:
    """The least width of a column, title first: that of its longest piece, or number."""
    pieces = max(_width(piece.rstrip()) for text in texts for piece in _BREAK.split(text))
    return max(pieces, max(map(_width, texts[1:]), default=0)) if is_number else pieces


def _total(widths: Sequence[int]) -> int:
    """The width of a line."""
    return 2 * len(_MARGIN) + sum(widths) + len(_GAP) * (len(widths) - 1)


def _lines(cells: Row, widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """A row in one line, or more where a text is longer than its column."""
    folded = [_folded(cell, width) for cell, width in zip(cells, widths, strict=True)]
    lines: list[str] = []
    for number in range(max(map(len, folded))):
        parts = [
            _padded(pieces[number] if number < len(pieces) else "", width, on_right)
            for pieces, width, on_right in zip(folded, widths, right, strict=True)
        ]
        lines.append((_MARGIN + _GAP.join(parts)).rstrip())
    return lines


def _folded(text: str, width: int) -> list[str]:
    """The text in lines of a width; what cannot be split is longer."""
    lines = [""]
    for piece in _BREAK.split(text) if _width(text) > width else [text]:
        if lines[-1] and _width((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def _padded(text: str, width: int, on_right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if on_right else text + space


def _width(text: str) -> int:
    """The columns that a text takes: two for characters of East Asia, none for accents that stand alone."""
    return sum(
        2 if unicodedata.east_asian_width(character) in "WF" else not unicodedata.combining(character)
        for character in text
    )


def json_text(value: object, ascii_only: bool = False) -> str:
    """Returns a value as one line of canonical JSON: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=ascii_only, allow_nan=False)


def print_json(value: object) -> None:
    """Prints a value as one line of canonical JSON; escapes what the encoding of standard output does not have."""
    text = json_text(value)
    print(text if has_characters(text) else json_text(value, ascii_only=True))
