"""
The examples in the docstrings of a dialect's operations as a lit test, a function each.

    python -m tests.support.docstring_examples

writes `tests/filecheck/dialects/*/examples.mlir`.
"""

from __future__ import annotations

import inspect
import re
from io import StringIO
from pathlib import Path

from xdsl.ir import Dialect, Operation
from xdsl.parser import Parser
from xdsl.printer import Printer

from sta.dialect.ir.context import CompileContext
from sta.dialect.nm import NM
from sta.dialect.sta import STA

DIALECTS = (NM, STA)
FILECHECK = Path(__file__).parents[1] / "filecheck" / "dialects"
_BLOCK = re.compile(r"```mlir\n(.*?)\n```", re.DOTALL)
_HEAD = """\
// Generated from the docstrings of dialect/{name}.py by `python -m tests.support.docstring_examples`; do not edit.
// RUN: sta opt %s | sta opt | filecheck %s
// RUN: sta opt %s --print-op-generic | sta opt | filecheck %s

builtin.module {{
// CHECK: builtin.module {{
"""


def example_of(operation: type[Operation]) -> str:
    """
    The example in the docstring of an operation.

    Raises AssertionError if there is none.
    """
    found = _BLOCK.search(inspect.getdoc(operation) or "")
    assert found is not None, f"the docstring of {operation.name} has no example"
    return found[1]


def arguments_of(example: str) -> list[str]:
    """
    The values that an example uses and does not define, as `%name: type`.

    Raises ParseError if the example is no text of operations.
    """
    parser = Parser(CompileContext(), example)
    while parser.parse_optional_operation() is not None:
        pass
    return [f"%{name}: {_text(values[0].type)}" for name, values in parser.forward_ssa_references.items()]


def _text(type_: object) -> str:
    text = StringIO()
    Printer(stream=text).print_attribute(type_)  # pyright: ignore[reportArgumentType] - a type is an attribute
    return text.getvalue()


def lit_test(dialect: Dialect) -> str:
    """The lit test of a dialect: what is read is printed as it stands in the docstrings."""
    lines = [_HEAD.format(name=dialect.name)]
    for operation in dialect.operations:
        example = example_of(operation)
        head = f"  func.func @{operation.name}({', '.join(arguments_of(example))}) {{"
        body = [head, *(f"    {line}" for line in example.splitlines()), "    func.return", "  }"]
        for line in body:
            indent = " " * (len(line) - len(line.lstrip()))
            lines.append(f"{line}\n{indent}// CHECK-NEXT: {line.strip()}\n")
    return "".join([*lines, "}\n// CHECK-NEXT: }\n"])


def path_of(dialect: Dialect) -> Path:
    """Path of a dialect's lit test."""
    return FILECHECK / dialect.name / "examples.mlir"


def main() -> None:
    """Writes the lit tests."""
    for dialect in DIALECTS:
        path_of(dialect).write_text(lit_test(dialect), encoding="utf-8")


if __name__ == "__main__":
    main()
