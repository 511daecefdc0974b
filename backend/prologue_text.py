"""The host prologue as text."""

from __future__ import annotations

from collections.abc import Iterator

from sta.spec.host_prologue import HostPrologue

Row = tuple[str, str, str, str, str]
"""Name of a value, what it is, its type, and the module path and the operator of the model that it belongs to."""


def prologue_rows(prologue: HostPrologue) -> list[Row]:
    """Returns the values of a prologue: its inputs, then the results of its steps; behind them what it makes."""
    rows: list[Row] = []
    kinds = [str(kind) if kind is not None else "floats" for kind in prologue.types]
    for one in prologue.inputs:
        rows.append((f"%{len(rows)}", f"input {one.name!r}", kinds[len(rows)], "", ""))
    for step in prologue.steps:
        rows.append((f"%{len(rows)}", str(step), kinds[len(rows)], step.path, step.source))
    for name, number in prologue.results:
        rows.append((repr(name), f"%{number}", kinds[number], "", ""))
    return rows


def prologue_lines(prologue: HostPrologue) -> Iterator[str]:
    """Yields a line for each row: `%3 = cumsum %2 axis=1 : int64[1, 24]`, with its place behind `#`."""
    for name, value, kind, path, source in prologue_rows(prologue):
        shown = f"{name:>5} = {value} : {kind}"
        yield f"{shown:<80}  # <{path or '-'}> {source}".rstrip() if path or source else shown
