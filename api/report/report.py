"""A report of a program: one self-contained HTML file, which opens without a network."""

from __future__ import annotations

import base64
import gzip
import html
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from sta.api.files.output_file import write_text
from sta.api.report.report_data import Sources, report_data


def write_report(path: Path, sources: Sources) -> int:
    """
    Writes a report to an HTML file, completely or not at all, and returns its size in bytes.

    Raises:
        OSError: the file cannot be written.
        ProgramError: the program deadlocks, or is too long to be recorded.
        ModuleNotFoundError: the library of charts (vl-convert-python) is not installed.
    """
    page = files("sta.api.report.page")
    parts = {
        "title": html.escape(sources.title),
        "style": page.joinpath("page.css").read_text(encoding="utf-8"),
        "data": _packed(report_data(sources)),
        "charts": _script(_charts()),
        "script": _script(page.joinpath("page.js").read_text(encoding="utf-8")),
    }
    text = page.joinpath("page.html").read_text(encoding="utf-8")
    pieces = text.split("{{")
    filled = pieces[0] + "".join(parts[piece.split("}}", 1)[0]] + piece.split("}}", 1)[1] for piece in pieces[1:])
    write_text(path, filled)
    return len(filled.encode())


def _charts() -> str:
    """Returns the JavaScript of Vega, Vega-Lite and Vega-Embed."""
    import vl_convert

    # The stub of the package says that it takes an argument; without one it gives everything.
    bundle: Any = vl_convert.javascript_bundle
    return bundle()


def _packed(data: dict[str, Any]) -> str:
    """Returns data as compressed JSON in base64: no character of it can end the element that holds it."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _script(text: str) -> str:
    """Returns JavaScript for the inside of a script element."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
