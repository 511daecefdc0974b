"""Tables and numbers for people: with rich if it is installed, in plain columns if only NumPy is."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

_WIDTH = 200
"""Width of a table that does not go to a terminal; nothing is cut off at a narrow one's edge."""

Row = Sequence[str]


def count(value: int) -> str:
    """Returns ``1,234,567``."""
    return f"{value:,}"


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


def print_table(header: Row, rows: Sequence[Row], title: str = "", numbers: Sequence[int] = ()) -> None:
    """
    Prints a table on standard output.

    Args:
        header: the columns' titles.
        rows: the cells, one text a column.
        title: the line above.
        numbers: positions of the columns that are aligned on the right.
    """
    try:
        from rich.console import Console
        from rich.table import Table
    except ModuleNotFoundError:
        _print_plain(header, rows, title, numbers)
        return
    from rich import box

    table = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    for position, name in enumerate(header):
        table.add_column(name, justify="right" if position in numbers else "left")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else _WIDTH
    Console(width=width, markup=False, highlight=False, emoji=False).print(table)


def _print_plain(header: Row, rows: Sequence[Row], title: str, numbers: Sequence[int]) -> None:
    widths = [max(len(row[position]) for row in [header, *rows]) for position in range(len(header))]
    rule = ["-" * width for width in widths]
    if title:
        print(title)
    for row in [header, rule, *rows]:
        cells = [
            cell.rjust(width) if position in numbers else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def json_text(value: object) -> str:
    """Returns a value as one line of canonical JSON: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def print_json(value: object) -> None:
    """Prints a value as one line of canonical JSON."""
    print(json_text(value))
