"""All rows: one module of this folder for each kind of operator, and rows of other packages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from types import MappingProxyType

from sta.spec.operators.operator import Operator, Role
from sta.spec.outside import OPERATORS, load_all
from sta.spec.suggestion import suggestion
from sta.spec.tables import TABLE_FRACTION_BITS, RealFunction

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@cache
def operators() -> Mapping[str, Operator]:
    """The rows of all operators, by name; the toolchain's own first."""
    own = {row.name: row for row in _own()}
    taken = {row.onnx.name: row.name for row in own.values() if row.onnx is not None}

    def accept(name: str, row: object) -> Operator:
        accepted = _accept(name, row)
        if accepted.onnx is not None and accepted.onnx.name in taken:
            raise ValueError(f"its ONNX operator {accepted.onnx.name!r} is that of {taken[accepted.onnx.name]!r}")
        return accepted

    return MappingProxyType({**own, **load_all(OPERATORS, own.keys(), accept)})


def _own() -> list[Operator]:
    rows: list[Operator] = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        module = import_module(f"{__package__}.{path.stem}")
        rows += getattr(module, "OPERATORS", ()) if path.stem != Path(__file__).stem else ()
    return rows


def _accept(name: str, row: object) -> Operator:
    """The row that another package adds under `name`. Raises ValueError for anything else."""
    if not isinstance(row, Operator):
        raise ValueError(f"it is a {type(row).__name__}, not an Operator of sta.spec.operators.operator")
    if len(name.split(".")) not in (2, 3):
        raise ValueError("its name must be that of an operator: namespace.operator, or namespace.operator.overload")
    if row.name != name:
        raise ValueError(f"its row is that of {row.name!r}: the entry point must have the operator's name")
    if row.role is not Role.ELEMENTWISE:
        raise ValueError(f"its role is {row.role.name}: packages can add functions of each element (ELEMENTWISE)")
    if row.reference is None:
        raise ValueError("it has no reference: give it the function on float64 arrays")
    by_keyword = [one.name for one in signature(row.reference).parameters.values() if one.kind not in _BY_POSITION]
    if by_keyword:
        raise ValueError(
            f"its reference takes {', '.join(by_keyword)} by keyword: give it a function of the array and the "
            "operator's arguments"
        )
    return row


def rows_of(*roles: Role) -> list[Operator]:
    """The rows of some roles, in the order of `roles`."""
    return [row for role in roles for row in operators().values() if row.role is role]


def remedy_of(name: str) -> str:
    """Remedy for a model with the operator `name`; empty if none is known."""
    return operators()[name].remedy if name in operators() else ""


def supported_operators() -> str:
    """The operators that compile, as messages list them."""
    whole = [row.label for row in rows_of(Role.LINEAR, Role.EMBEDDING, Role.NORM, Role.ATTENTION)]
    others = [row.label for row in rows_of(Role.ELEMENTWISE, Role.ADDITION, Role.MULTIPLICATION)]
    return (
        f"{', '.join(whole[:-1])} and {whole[-1]} (also spelled out), {', '.join(others)}, rearrangements without "
        "copies (view, permute, slice, …), and whatever depends on no input"
    )


# --- Elementwise functions by the names of their tables ---


@cache
def activations() -> Mapping[str, RealFunction]:
    """The elementwise functions on float64 arrays with their example arguments, by the sorted names of their tables."""
    found = {
        row.table_name(*example): row.function(*example)
        for row in rows_of(Role.ELEMENTWISE)
        for example in row.examples
    }
    return MappingProxyType(dict(sorted(found.items())))


def activation(name: str) -> RealFunction:
    """Returns an activation function on float64 arrays; raises `ValueError` with a suggestion for an unknown name."""
    found = activations()
    if name in found:
        return found[name]
    raise ValueError(f"unknown activation {name!r}{suggestion(name, found)}; known: {', '.join(found)}")


def interpolation_bound(name: str, input_scale: float) -> float:
    """
    Returns the bound (as a real number) of the distance between the activation `name` and straight lines between exact
    values at the entries of its 16-bit table: ``h^2 / 8 * max |f''| + h / 4 * |jump of f'|`` with ``h = 128 *
    input_scale``; a bend at an entry, like that of ReLU at 0, costs nothing.

    The result of `table_16` is off by at most this and half a unit of the table's output, from rounding the entries,
    wherever no entry saturates. Raises `ValueError` for an unknown activation.
    """
    activation(name)
    row = next(
        row for row in rows_of(Role.ELEMENTWISE) if name in [row.table_name(*example) for example in row.examples]
    )
    step = (1 << TABLE_FRACTION_BITS) * input_scale
    return step * step / 8 * row.curvature + step / 4 * row.bend
