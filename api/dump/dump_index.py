"""The index of a dump of IR, as text and as a page that needs nothing but a browser."""

from __future__ import annotations

from html import escape

from sta.api.dump.ir_dump import Dump, Step

MOST_LINES = 100
"""Lines of a diff on the page; the files hold all."""

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1c2733 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #d9dfe5 }
td { font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left }
pre { background: #f6f8fa; padding: .7rem; overflow-x: auto; font: 12px/1.4 ui-monospace, monospace }
summary { cursor: pointer; padding: .3rem 0 }
.unchanged { color: #7a8794 } .add { background: #d9f5df } .del { background: #fde2e0 } .hunk { color: #5b6b7b }
@media (max-width: 40rem) {
 body { font-size: 12px; margin: 1rem auto; padding: 0 .5rem } h1 { font-size: 1.5rem }
 th, td { padding: .25rem .2rem } td:first-child { overflow-wrap: anywhere; min-width: 6.5rem } }
@media (prefers-color-scheme: dark) {
 body { background: #12181f; color: #d5dde5 } th, td { border-color: #2b3641 } pre { background: #1a222b }
 a { color: #7fb2ff } .add { background: #173d24 } .del { background: #4a1f1d } }
"""


def text_index(dump: Dump) -> str:
    """One line for every step: its file, operations, time, and the lines that it added and removed."""
    rows = [("file", "operations", "seconds", "lines added", "removed"), *(_cells(step) for step in dump.steps)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return "\n".join([_title(dump), "", *lines]) + "\n"


def html_index(dump: Dump) -> str:
    """A page with the same table and what each step changed."""
    rows = "\n".join(_row(step) for step in dump.steps)
    diffs = "\n".join(_diff(dump, step) for step in dump.steps if step.diff_file is not None)
    heads = "".join(f"<th>{head}</th>" for head in ("step", "operations", "seconds", "lines added", "removed"))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(_title(dump))}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style></head><body>\n<h1>{escape(_title(dump))}</h1>\n"
        f"<table><thead><tr>{heads}</tr></thead><tbody>\n{rows}\n</tbody></table>\n"
        f"<h2>What each step changed</h2>\n{diffs}\n</body></html>\n"
    )


def _title(dump: Dump) -> str:
    part = "" if dump.only is None else f", {dump.only} only"
    return f"IR after every pass, for {dump.target['name']}{part}"


def _cells(step: Step) -> tuple[str, str, str, str, str]:
    name = step.file or f"   {step.name} (unchanged)"
    added, removed = ("", "") if step.file is None else (f"{step.added:,}", f"{step.removed:,}")
    return name, f"{step.operation_count:,}", f"{step.seconds:.3f}", added, removed


def _row(step: Step) -> str:
    name, *numbers = _cells(step)
    link = escape(name) if step.file is None else f'<a href="{escape(step.file)}">{escape(name)}</a>'
    style = ' class="unchanged"' if step.file is None else ""
    return f"<tr{style}><td>{link}</td>{''.join(f'<td>{number}</td>' for number in numbers)}</tr>"


def _diff(dump: Dump, step: Step) -> str:
    lines = dump.diff(step).splitlines()
    shown = "\n".join(_line(line) for line in lines[:MOST_LINES])
    rest = len(lines) - MOST_LINES
    more = f'<p>{rest:,} more lines in <a href="{step.diff_file}">{step.diff_file}</a></p>' if rest > 0 else ""
    head = f"{step.file}: {step.added:,} lines added, {step.removed:,} removed"
    return f"<details><summary>{escape(head)}</summary><pre>{shown}</pre>{more}</details>"


def _line(line: str) -> str:
    kind = {"+": "add", "-": "del", "@": "hunk"}.get(line[:1])
    return escape(line) if kind is None else f'<span class="{kind}">{escape(line)}</span>'
