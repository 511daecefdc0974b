"""
No fact of the instruction table, and no list of operators, is written down a second time, as far as that can be told
from syntax.

The facts are derived from the tables; the modules of all rooms and of the fuzzers are read as syntax trees. A number
is a second source where a module names a constant for it, a tuple or mapping of names where it lists units,
instructions or operators, nested ones included. So are a mapping from instructions to their own fields, a tuple with
the choices of a field, and a unit that is looked up in the list of units.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from sta.spec.alignment import ALIGNMENT
from sta.spec.instructions import definition
from sta.spec.instructions.table import DEFINITIONS, INSTRUCTIONS
from sta.spec.norm import LARGEST_WIDTH
from sta.spec.operators.registry import operators
from sta.spec.target import LARGEST_TILE

ROOT = Path(__file__).parents[1]
ROOMS = sorted(link.name for link in (ROOT / "src" / "sta").iterdir() if link.is_symlink())
HOME = (
    "spec/instructions/",
    "spec/alignment.py",
    "spec/nm_format.py",
    "spec/norm.py",
    "spec/tables.py",
    "spec/target.py",
)
"""Modules that define the facts."""

NAMES = frozenset(DEFINITIONS)
UNITS = frozenset(definition.UNITS)
FIELDS = {instruction.name: {field.name for field in instruction.own_fields} for instruction in INSTRUCTIONS}
NUMBERS = [
    frozenset(map(int, field.choices))
    for instruction in INSTRUCTIONS
    for field in instruction.own_fields
    if field.choices and all(map(str.isdecimal, field.choices))
]
"""Choices of fields that are numbers."""
CHOICES = [
    frozenset(field.choices)
    for instruction in INSTRUCTIONS
    for field in instruction.own_fields
    if len(field.choices) > 1 and not any(map(str.isdecimal, field.choices))
]
"""Choices of fields that are words."""
OPERATORS = frozenset(name.removeprefix("aten.") for name in operators())

NAMED_LIMITS = {
    "ALIGN": {ALIGNMENT},
    "SEMAPHORE": {definition.SEMAPHORE_COUNT},
    "DEPTH": {definition.MAXIMUM_LOOP_DEPTH, DEFINITIONS["mm"].field("depth").maximum},
    "COUNTER": {definition.MAXIMUM_LOOP_DEPTH},
    "REGISTER": {definition.REGISTER_COUNT, definition.REGISTER_BITS},
    "WIDTH": {LARGEST_WIDTH},
    "WIDEST": {LARGEST_WIDTH},
    "TILE": {LARGEST_TILE},
    "WORD": {definition.WORD_BITS, definition.WORD_BYTES},
    "OPCODE": {definition.OPCODE_BITS},
}
"""Parts of constants' names, and the limits that a constant of such a name would repeat."""


def field_limits() -> set[int]:
    """Upper limits of fields and the powers of two below them, as far as the numbers are telling."""
    sizes = [
        field
        for instruction in INSTRUCTIONS
        for field in instruction.own_fields
        if field.kind in ("unsigned", "signed") and field.bits > 8
    ]
    return {value for field in sizes for value in (field.maximum, field.maximum + 1)}


def value_of(node: ast.expr) -> int | None:
    """The integer that an expression of integers is."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, int) and not isinstance(node.value, bool) else None
    if not isinstance(node, ast.BinOp):
        return None
    left, right = value_of(node.left), value_of(node.right)
    if left is None or right is None:
        return None
    match node.op:
        case ast.LShift():
            return left << right if right < 100 else None
        case ast.Sub():
            return left - right
        case ast.Add():
            return left + right
        case ast.Mult():
            return left * right
        case _:
            return None


def constants(tree: ast.AST) -> Iterator[tuple[int, str, int]]:
    """Line, name and value of each constant that is named in capitals, in modules and classes."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        number = value_of(node.value)
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name) and target.id.isupper() and number is not None:
                yield node.lineno, target.id, number


def strings(nodes: list[ast.expr | None]) -> frozenset[str]:
    return frozenset(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def leaves(node: ast.expr) -> list[ast.expr | None]:
    """The elements of a display, and of displays in it."""
    if not isinstance(node, ast.Tuple | ast.List | ast.Set):
        return [node]
    return [leaf for element in node.elts for leaf in leaves(element)]


def lists(tree: ast.AST) -> Iterator[tuple[int, frozenset[str]]]:
    """Line and strings of everything that lists strings: displays, keys and values of mappings, patterns of `match`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            yield node.lineno, strings(list(node.elts))
        if isinstance(node, ast.Dict):
            yield node.lineno, strings(list(node.keys))
            yield node.lineno, strings([leaf for value in node.values for leaf in leaves(value)])
        if isinstance(node, ast.Match):
            patterns = [one for case in node.cases for one in ast.walk(case.pattern)]
            yield node.lineno, strings([one.value for one in patterns if isinstance(one, ast.MatchValue)])


def fields_by_instruction(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and instruction of every entry of a mapping that lists fields of the instruction that is its key."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Dict):
            continue
        for key, value in zip(node.keys, node.values, strict=True):
            listed = strings(leaves(value)) if isinstance(value, ast.Tuple | ast.List | ast.Set) else frozenset[str]()
            for name in strings([key]) & NAMES:
                if listed and listed <= FIELDS[name]:
                    yield node.lineno, name


def looked_up_units(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and unit of every call of `index` for one unit."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "index":
            for unit in strings(list(node.args)) & UNITS:
                yield node.lineno, unit


def number_lists(tree: ast.AST) -> Iterator[tuple[int, frozenset[int]]]:
    """Line and numbers of every constant that lists numbers, as such or as texts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Tuple):
            numbers = [value_of(element) for element in node.value.elts]
            words = strings(list(node.value.elts))
            yield (
                node.lineno,
                frozenset(
                    [number for number in numbers if number is not None]
                    + [int(word) for word in words if word.isdecimal()]
                ),
            )


def second_sources(source: str) -> list[str]:
    """Statements of a module's source that repeat the table."""
    tree, found = ast.parse(source), list[str]()
    found += [f"{line}: lists fields of '{name}'" for line, name in fields_by_instruction(tree)]
    found += [f"{line}: looks up the unit '{unit}'" for line, unit in looked_up_units(tree)]
    found += [f"{line}: lists the choices of a field" for line, numbers in number_lists(tree) if numbers in NUMBERS]
    for line, name, number in constants(tree):
        limits = {limit for part, known in NAMED_LIMITS.items() if part in name for limit in known}
        suffixed = name.endswith(("LIMIT", "ROWS", "KEYS", "COLUMNS", "STEP", "COUNT"))
        if number in limits or (suffixed and number in field_limits()):
            found.append(f"{line}: {name} is {number}, which the instruction table says")
    for line, names in lists(tree):
        if len(names & UNITS) > 2 and names <= UNITS:
            found.append(f"{line}: lists the units {', '.join(sorted(names))}")
        elif len(names & NAMES) > 2 and names <= NAMES:
            found.append(f"{line}: lists the instructions {', '.join(sorted(names))}")
        elif names in CHOICES:
            found.append(f"{line}: lists the choices {', '.join(sorted(names))}")
    return found


def all_modules() -> list[str]:
    return [path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py")]


def modules() -> list[str]:
    fuzzers = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests/fuzz").rglob("*.py")]
    return [path for path in (*all_modules(), *fuzzers) if not path.startswith(HOME)]


def operator_lists(source: str) -> list[str]:
    """Operators that a module lists by name, in displays, mappings, matches and strings of words."""
    tree, found = ast.parse(source), list[str]()
    words = [(line, frozenset(text.split())) for line, text in texts(tree)]
    for line, names in (*lists(tree), *words):
        plain = {name.removeprefix("torch.").removeprefix("aten.") for name in names}
        if len(plain) > 2 and plain <= OPERATORS:
            found.append(f"{line}: lists the operators {', '.join(sorted(plain))}")
    return found


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of each string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_no_module_lists_operators_that_rows_can_tell() -> None:
    paths = [path for path in all_modules() if not path.startswith("spec/operators/")]
    found = {path: operator_lists((ROOT / path).read_text(encoding="utf-8")) for path in paths}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "_VIEWS = ('view', 'reshape', 'squeeze.dim')",
        "_SIGNS = {'torch.aten.add.Scalar': 1, 'torch.aten.sub.Scalar': -1, 'torch.aten.rsub.Scalar': -1}",
        "_ELEMENTWISE = frozenset('eq.Scalar ne.Scalar logical_and'.split())",
    ],
)
def test_a_list_of_operators_is_found(source: str) -> None:
    assert len(operator_lists(source)) == 1


def test_no_module_repeats_the_instruction_table() -> None:
    found = {path: second_sources((ROOT / path).read_text(encoding="utf-8")) for path in modules()}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "SEMAPHORES = 32",
        "DEPTH_LIMIT = (1 << 14) - 1",
        "KEYS_LIMIT: int = 8192",
        "class SyncOp:\n    UNITS = ('ld', 'st', 'mm', 'sm', 'vp')",
        "ALIGNMENT = 64",
        "_SRAM_ALIGNMENT = 64",
        "LARGEST_TILE = 255",
        "WIDEST_NORM = 8192",
        "COUNTER_REGISTERS = 8",
        "STEP_LIMIT = (1 << 23) - 1",
        "CYCLES = {'ld': 1, 'st': 2, 'gather': 3}",
        "BOUNDS = {'compute': ('mm',), 'dma': ('ld', 'st'), 'softmax': ('sm',), 'vector': ('vp',)}",
        "WRITERS = {'nm.norm': ('norm', 'st'), 'nm.gather': ('gather',)}",
        "PRODUCTS = UNITS.index('mm')",
        "def f(name):\n    return {'gather': ['limit']}[name]",
        "BITS = (8, 16)",
        "WIDTHS = ('auto', '8', '16')",
        "MODES = ('row', 'online', 'online_first')",
        "def f(kind):\n    return kind in ('layer', 'rms')",
        "def f(name):\n    return name in ('lea', 'loop', 'end')",
        "def f(x):\n    match x:\n        case 'ld' | 'st':\n            pass\n        case 'mm':\n            pass",
    ],
)
def test_a_second_source_is_found(source: str) -> None:
    source = source.replace("32", str(definition.SEMAPHORE_COUNT))
    assert len(second_sources(source)) == 1


@pytest.mark.parametrize(
    "source",
    ["REPORT_INTERVAL = 64", "KINDS = ('map', 'filter')", "RANGE = (0, 255)", "x = {'ld': 1}", "BIAS_LIMIT = 1 << 30"],
)
def test_what_only_looks_alike_is_not(source: str) -> None:
    assert second_sources(source) == []
