"""
Coverage of decoder and validator by the kept corpus, line by line: ``python -m tests.fuzz.coverage``.

Only lines in functions count: the others run when a module is imported. Of modules that also do other things, the
functions are named. Exits with 1 below 90 % of all lines together.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import coverage

ENOUGH = 0.9
DECODER_AND_VALIDATOR = {
    "backend/container.py": ("parse_", "check", "_read", "_check", "_is", "is_integer", "_offsets", "canonical_json"),
    "backend/isa.py": ("decode", "check", "minimum", "maximum", "__getitem__", "__iter__", "choice"),
    # The rest of the module steps through a run.
    "runtime/steps.py": (
        *("resolve", "_match_loops", "dynamic_instructions", "counts", "executions", "error", "counters", "steps"),
        *("step", "operands", "read", "lea", "enter", "leave", "written"),
    ),
    "spec/affine.py": ("",),
    "runtime/validate.py": ("",),
    "spec/host_prologue.py": ("__post_init__", "_type", "_table_type", "from_json", "_input", "_step", "_result"),
}
"""Files of the project, and how the names of their functions begin that decode or validate."""


@dataclass(frozen=True)
class Reached:
    """The lines of a file that count, and those of them that were reached."""

    path: str
    lines: frozenset[int]
    reached: frozenset[int]

    @property
    def missing(self) -> list[int]:
        """Lines that were not reached."""
        return sorted(self.lines - self.reached)


def functions(tree: ast.AST, prefixes: tuple[str, ...]) -> Iterator[ast.FunctionDef]:
    """Iterates over the functions whose names begin with one of the prefixes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith(prefixes):
            yield node


def body_lines(tree: ast.AST, prefixes: tuple[str, ...]) -> set[int]:
    """Returns the lines of the bodies of functions; docstrings are no statements, and go when lines are measured."""
    lines: set[int] = set()
    for function in functions(tree, prefixes):
        lines |= set(range(function.body[0].lineno, (function.end_lineno or 0) + 1))
    return lines


def measure(root: Path) -> tuple[int, list[Reached]]:
    """Returns how many containers are kept, and what they reach of the project at ``root``."""
    paths = {name: str((root / name).resolve()) for name in DECODER_AND_VALIDATOR}
    measured = coverage.Coverage(include=list(paths.values()), data_file=None)
    measured.start()
    try:
        # Imported under measurement, or it would not be seen.
        from tests.fuzz.containers import attempt
        from tests.fuzz.corpus import kept

        inputs = kept("containers")
        for data in inputs:
            attempt(data)
    finally:
        measured.stop()
    result: list[Reached] = []
    for name, path in paths.items():
        _, statements, _, missing, _ = measured.analysis2(path)
        wanted = body_lines(ast.parse(Path(path).read_text(encoding="utf-8")), DECODER_AND_VALIDATOR[name])
        lines = frozenset(set(statements) & wanted)
        result.append(Reached(name, lines, lines - set(missing)))
    return len(inputs), result


def main() -> int:
    """Prints the table; returns the exit code."""
    inputs, results = measure(Path(__file__).parents[2])
    for result in results:
        missing = f"; not reached: {', '.join(map(str, result.missing))}" if result.missing else ""
        print(f"{result.path:22} {len(result.reached):4} of {len(result.lines):4} lines{missing}")
    reached, lines = sum(len(result.reached) for result in results), sum(len(result.lines) for result in results)
    print(f"{inputs} inputs reach {100 * reached / lines:.1f} % of decoder and validator")
    return 0 if reached >= ENOUGH * lines else 1


if __name__ == "__main__":
    sys.exit(main())
