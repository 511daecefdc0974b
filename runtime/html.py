"""Small tables in HTML, for programs and results in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = "text-align: left; padding: 1px 10px;"


def table(rows: Iterable[Sequence[str]], header: Sequence[str] = (), title: str = "") -> str:
    """Returns a table; texts are escaped."""
    lines = [_row(row, "td") for row in rows]
    if header:
        lines.insert(0, _row(header, "th"))
    caption = f"<b>{escape(title)}</b>" if title else ""
    return f"{caption}<table>{''.join(lines)}</table>"


def _row(cells: Sequence[str], tag: str) -> str:
    begin, end = f'<{tag} style="{_STYLE}">', f"</{tag}>"
    return f"<tr>{''.join(begin + escape(cell) + end for cell in cells)}</tr>"
