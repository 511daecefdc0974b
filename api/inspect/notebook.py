"""HTML of IR in a notebook."""

from __future__ import annotations

from collections import Counter
from html import escape
from io import StringIO
from typing import Any

from xdsl.dialects.builtin import ModuleOp
from xdsl.printer import Printer

MOST_CHARACTERS = 200_000
"""Characters of a module that a notebook shows; browsers become slow with more."""


def module_html(module: ModuleOp) -> str:
    """Returns the numbers of operations of a module by kind, and its text, folded."""
    counts = Counter(op.name for op in module.walk())
    summary = ", ".join(f"{name} {count}" for name, count in counts.most_common(8))
    text = StringIO()
    Printer(stream=text).print_op(module)
    shown = text.getvalue()
    rest = len(shown) - MOST_CHARACTERS
    more = f"\n… {rest:,} more characters" if rest > 0 else ""
    title = f"{sum(counts.values()):,} operations: {summary}"
    body = escape(shown[:MOST_CHARACTERS] + more)
    return f"<details><summary>{escape(title)}</summary><pre style='font-size: 12px'>{body}</pre></details>"


def show_modules(shell: Any) -> None:
    """Lets an IPython shell show modules of xDSL as HTML."""
    shell.display_formatter.formatters["text/html"].for_type(ModuleOp, module_html)
