"""Titles of docstrings: noun phrases, or sentences in the third person."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (*sorted(link.name for link in (ROOT / "src" / "sta").iterdir() if link.is_symlink()), "benchmarks", "tests")

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign | ast.AnnAssign
_CLAUSE = re.compile(r"(What|Whatever|Whether|How|Where|Which|Who|Whoever|Whom|Whose|When|Why|That|Those)\b")
_IMPERATIVE = re.compile(
    r"(Add|Append|Build|Call|Check|Collect|Compute|Convert|Copy|Draw|Emit|Execute|Find|Fold|Give|Import|Insert|Keep|Let|"
    r"Load|Make|Parse|Place|Print|Put|Raise|Read|Remove|Replace|Return|Rewrite|Round|Run|Save|See|Set|Store|Take|Write)"
    r" (?!of\b|and\b|in\b|time\b)"
)


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of each docstring, those of attributes included."""
    for node in ast.walk(tree):
        before: ast.AST | None = node
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.Expr(value=ast.Constant(value=str(text))) if isinstance(before, _Documented):
                    yield child.lineno, text.strip()
                case ast.stmt():
                    before = child
                case _:
                    pass


def faults(source: str) -> list[str]:
    """Titles that begin with a relative clause or an imperative, each with its line."""
    return [
        f"{line}: {text.splitlines()[0]}"
        for line, text in docstrings(ast.parse(source))
        if _CLAUSE.match(text) or _IMPERATIVE.match(text)
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_titles_are_noun_phrases_or_sentences(folder: str) -> None:
    found = {
        path.relative_to(ROOT).as_posix(): lines
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (lines := faults(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        '"""What a module holds."""',
        'class X:\n    """How it works."""',
        'class X:\n    y: int\n    """Whether it holds."""',
        'X = 1\n"""\nWhere it is.\n"""',
        'def f() -> int:\n    """Return the number."""',
    ],
)
def test_a_clause_and_an_imperative_are_found(source: str) -> None:
    assert len(faults(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        '"""Contents of a module."""',
        'def f() -> bool:\n    """Returns whether it holds."""',
        'def f() -> str:\n    """Name and size of a file."""',
        'def f() -> None:\n    print()\n    """What is no docstring."""',
        '"""Load time of a program."""',
    ],
)
def test_other_titles_are_accepted(source: str) -> None:
    assert faults(source) == []
