"""Tables in Markdown, and the sections of pages in docs/ with the tables of the last run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
ACCURACY_PAGE = PAGE.with_name("accuracy.md")

Row = Sequence[str]


def table(header: Row, rows: Sequence[Row], texts: int = 1) -> str:
    """Returns a table; all columns but the first `texts` are numbers, which are aligned on the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    rule = ["-" * width if column < texts else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    lines: list[str] = []
    for row in [header, rule, *rows]:
        cells = [
            cell.ljust(width) if column < texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def replace_section(text: str, name: str, section: str) -> str:
    """
    Returns a page with the section between two markers replaced.

    Raises `ValueError` for a page that does not have the two markers once each, in this order.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, found_begin, rest = text.partition(begin)
    old, found_end, after = rest.partition(end)
    if not found_begin or not found_end or begin in old + after or end in before + after:
        raise ValueError(f"the page must have the lines {begin!r} and {end!r} once each, in this order")
    return f"{before}{begin}\n\n{section.strip()}\n\n{end}{after}"


def write_section(name: str, section: str, page: Path = PAGE) -> None:
    """Replaces a section of a page, completely or not at all."""
    text = replace_section(page.read_text(encoding="utf-8"), name, section)
    new = page.with_suffix(".md.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, page)
