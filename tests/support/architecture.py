"""
The page `docs/architecture.md` and its picture, made from the code: rooms, imports between them, and the pipeline.

`python -m tests.support.architecture` writes both.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from html import escape
from pathlib import Path

from sta.passes.options import Options
from sta.passes.pipeline import pipeline
from sta.passes.step import Kind, Step
from tests.test_rooms import ROOMS, imports, modules, room_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
PICTURE = ROOT / "docs" / "architecture.svg"

FLOORS = (("api", "explore"), ("frontend", "passes", "runtime", "compress"), ("dialect", "backend"), ("spec",))
"""Rooms from the top down; a room imports what is below it, or beside it further right."""
COLOURS = {Kind.CLOSE: "#cfe3f7", Kind.LOSSY: "#fbdcb4", Kind.EQUAL: "#d3ecc8"}
MEANINGS = {
    Kind.CLOSE: "keeps the function up to the rounding of floats",
    Kind.LOSSY: "changes the function on purpose; its loss is reported",
    Kind.EQUAL: "keeps every bit",
}

LEVELS = (
    ("torch", "floats, operators as torch-mlir imports them"),
    ("nm", "integers on tensors"),
    ("sta", "the machine"),
)

_PAGE = """\
# Architecture

A model goes through the rooms of the repository, from floats to microcode. `make docs` generates picture and tables
from the code: the rooms' imports, and the list of steps in `passes/pipeline.py`.

![rooms, and a model's way through them](architecture.svg)

## Rooms

A room is a folder of the top level and a package `sta.<room>`: `src/sta` has one link for each. `tests/test_rooms.py`
enforces the imports of rooms.

{rooms}

## A model's way

`sta compile` imports the model (`frontend/`), runs these steps (`passes/`), and writes the last module into a container
(`backend/`). Each step has a kind, which `--check` enforces:

{kinds}

{steps}

A run: `runtime/validate.py` checks the container, completely and before anything runs; `runtime/steps.py`
resolves loops and address registers; an engine executes the steps, `runtime/reference.py` in NumPy or `runtime/native/`
in C++; the analyses in `runtime/analysis/` (timing, profile, trace, races, taint) draw from the same steps.

## Places of definitions

| fact | place |
|---|---|
| an integer operation | `spec/`, called by the interpreters and the reference engine |
| an operator of a model | its row in `spec/operators/` |
| an instruction: fields, accesses, meaning, cycles, taint | its files in `spec/instructions/` and `runtime/native/` |
| a target | a YAML file in `spec/targets/`, or of another package |
| a step of the pipeline, and its kind | `passes/pipeline.py` |
| an option of the compiler | `passes/options.py` |
| constants of tiling | `TilingPolicy` in `spec/tiling_policy.py` |

How to add one: [an operator](adding-an-operator.md), [a pass](adding-a-pass.md),
[an instruction](adding-an-instruction.md), [a command or an option](adding-a-command.md),
[a target](adding-a-target.md).
"""


def _summary(room: str) -> str:
    """The first sentence of a room's docstring."""
    text = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8")))
    assert text is not None, f"{room}/__init__.py says nothing"
    return text.split("\n\n")[0].replace("\n", " ")


def _folders(room: str) -> Iterator[str]:
    for init in sorted((ROOT / room).glob("*/__init__.py")):
        yield init.parent.name


def _imported(room: str) -> set[str]:
    """The rooms that the modules of a room import."""
    found = {room_of(name) for path in modules(room) for _, _, name in imports(path)}
    return {name for name in found if name is not None and name in ROOMS} - {room}


def _rooms_table() -> str:
    rows = ["| room | holds | folders | imports |", "|---|---|---|---|"]
    for room in (room for floor in FLOORS for room in floor):
        folders = ", ".join(f"`{name}/`" for name in _folders(room))
        imported = "everything" if len(_imported(room)) > 5 else ", ".join(sorted(_imported(room)))
        rows.append(f"| [{room}/](../{room}) | {_summary(room)} | {folders} | {imported} |")
    return "\n".join(rows)


def _kinds_table() -> str:
    return "\n".join(
        ["| kind | a step of this kind |", "|---|---|", *(f"| {k.value} | {m} |" for k, m in MEANINGS.items())]
    )


def _steps_table() -> str:
    rows = ["| step | kind |", "|---|---|"]
    rows += [f"| `{step.name}` | {step.kind.value} |" for step in _steps()]
    return "\n".join(rows)


def _steps() -> tuple[Step, ...]:
    return pipeline(Options())


def page() -> str:
    """The text of `docs/architecture.md`."""
    return _PAGE.format(rooms=_rooms_table(), kinds=_kinds_table(), steps=_steps_table())


class _Drawing:
    """An SVG picture; lengths in pixels."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, lines: list[str], bold: bool = True
    ) -> None:
        """A box with lines of text in the middle; the first is bold."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" fill="{fill}" stroke="#667"/>'
        )
        first = y + height / 2 - 8 * (len(lines) - 1) + 4
        for number, line in enumerate(lines):
            weight = ' font-weight="bold"' if bold and number == 0 else ""
            self.text(x + width / 2, first + 16 * number, line, f'text-anchor="middle"{weight}')

    def text(self, x: float, y: float, text: str, style: str = "") -> None:
        """One line of text."""
        self._parts.append(f'<text x="{x:g}" y="{y:g}" {style}>{escape(text)}</text>')

    def arrow(self, x1: float, y1: float, x2: float, y2: float, colour: str = "#667") -> None:
        """An arrow from the first point to the second."""
        self._parts.append(
            f'<path d="M{x1:g},{y1:g} L{x2:g},{y2:g}" stroke="{colour}" fill="none" marker-end="url(#tip)"/>'
        )

    def svg(self, width: int, height: int) -> str:
        """The whole picture."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="13">\n<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" '
            'markerWidth="7" markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#667"/></marker></defs>\n'
            '<rect width="100%" height="100%" fill="white"/>\n'
        )
        return head + "\n".join(self._parts) + "\n</svg>\n"


def picture() -> str:
    """The text of `docs/architecture.svg`: on the left a model's way, on the right the rooms and their imports."""
    drawing = _Drawing()
    bottom = _draw_way(drawing, 20, 20)
    _draw_rooms(drawing, 470, 20)
    return drawing.svg(1060, bottom + 20)


def _draw_way(drawing: _Drawing, x: int, y: int) -> int:
    """The levels of IR with the steps between them; returns the bottom."""
    drawing.text(x, y, "A model's way", 'font-weight="bold" font-size="16"')
    y += 14
    drawing.box(x, y, 400, 30, "#eee", ["nn.Module · .pt2 · .onnx"])
    y = _down(drawing, x, y + 30, "frontend: import")
    level = ""
    for step in _steps():
        following = _level_of(step)
        if following != level:
            level = following
            drawing.box(x, y, 400, 30, "#fff", [f"{level} dialect: {dict(LEVELS)[level]}"])
            y += 38
        drawing.box(x + 40, y, 320, 20, COLOURS[step.kind], [step.name], bold=False)
        y += 24
        if "-to-" in step.name:
            y += 8
    drawing.box(x, y + 4, 400, 30, "#fff", ["sta dialect, scheduled"])
    y = _down(drawing, x, y + 34, "backend: emit")
    drawing.box(x, y, 400, 30, "#eee", [".sta container"])
    y = _down(drawing, x, y + 30, "runtime: validate, execute, time")
    drawing.box(x, y, 400, 30, "#eee", ["outputs · cycles · profile · trace"])
    return y + 30


def _down(drawing: _Drawing, x: int, y: int, label: str) -> int:
    """An arrow downwards with a label beside it; returns its end."""
    drawing.arrow(x + 200, y, x + 200, y + 26)
    drawing.text(x + 210, y + 17, label)
    return y + 28


def _level_of(step: Step) -> str:
    """The dialect that a step works on."""
    return step.name.removeprefix("convert-").partition("-")[0]


def _draw_rooms(drawing: _Drawing, x: int, y: int) -> None:
    drawing.text(x, y, "The rooms, and what they import", 'font-weight="bold" font-size="16"')
    places: dict[str, tuple[float, float, float]] = {}
    for floor, rooms in enumerate(FLOORS):
        width = (570 - 14 * (len(rooms) - 1)) / len(rooms)
        for position, room in enumerate(rooms):
            places[room] = (x + position * (width + 14), y + 14 + floor * 150, width)
    for room, (left, top, width) in places.items():
        targets = sorted(name for name in _imported(room) if name in places and places[name][1] > top)
        for number, target in enumerate(targets):
            end, end_top, end_width = places[target]
            start = left + width * (number + 1) / (len(targets) + 1)
            goal = min(max(start, end + 12), end + end_width - 12)
            drawing.arrow(start, top + 84, goal, end_top - 2, "#9ab")
    for room, (left, top, width) in places.items():
        drawing.box(left, top, width, 84, "#f4f1ea", [f"{room}/", *_wrapped(room, width)])
    y += 14 + 150 * len(FLOORS) - 36
    for kind, meaning in MEANINGS.items():
        drawing.box(x, y, 60, 20, COLOURS[kind], [kind.value], bold=False)
        drawing.text(x + 70, y + 15, meaning)
        y += 26


def _wrapped(room: str, width: float) -> list[str]:
    """The folders of a room, in as many lines as fit."""
    lines = [""]
    for name in _folders(room):
        longer = f"{lines[-1]} {name}".strip()
        if len(longer) * 7 > width:
            lines.append(name)
        else:
            lines[-1] = longer
    return [line for line in lines if line]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")
