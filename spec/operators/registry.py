"""All rows: one module of this folder for each kind of operator, and rows of other packages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from sta.spec.operators.operator import Operator, Role
from sta.spec.outside import OPERATORS, find_addition, load_all, warn_once
from sta.spec.suggestion import suggestion
from sta.spec.tables import TABLE_FRACTION_BITS, RealFunction

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@cache
def operators() -> Mapping[str, Operator]:
    """The rows of all operators, by name; the toolchain's own first."""
    own = {row.name: row for row in _own()}
    onnx = {row.onnx.name: row.name for row in own.values() if row.onnx is not None}

    def accept(name: str, row: object) -> Operator:
        accepted = _accept(name, row)
        if accepted.onnx is not None and accepted.onnx.name in onnx:
            raise ValueError(f"its ONNX operator {accepted.onnx.name!r} is that of {onnx[accepted.onnx.name]!r}")
        return accepted

    added = load_all(OPERATORS, own.keys(), accept)
    return MappingProxyType({**own, **_without_shared_onnx(added)})


def _without_shared_onnx(added: Mapping[str, Operator]) -> dict[str, Operator]:
    """The rows without those of which several are for one ONNX operator; a warning for each of these."""
    kept: dict[str, Operator] = {}
    for name, row in added.items():
        others = [
            other.name
            for other in added.values()
            if row.onnx and other.onnx and other is not row and other.onnx.name == row.onnx.name
        ]
        if not others:
            kept[name] = row
            continue
        assert row.onnx is not None
        reason = f"its ONNX operator {row.onnx.name!r} is that of {others[0]!r} too"
        warn_once(f"{find_addition(OPERATORS, name).refusal(reason)}; both are left out")
    return kept


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
    check = _CHECKS.get(row.role)
    if check is None:
        raise ValueError(
            f"its role is {row.role.name}: packages can add functions of each element (ELEMENTWISE), operators made of "
            "others (COMPOSITION) and operators that depend on no input (CONSTANT)"
        )
    if row.onnx is not None and row.role is not Role.ELEMENTWISE:
        raise ValueError(f"it has an ONNX operator, and its role is {row.role.name}: ELEMENTWISE ones can have one")
    check(row)
    return row


def _check_composition(row: Operator) -> None:
    if not callable(row.parts):
        raise ValueError("it has no parts: give it the function of PyTorch tensors that calls other operators")


def _check_reference(row: Operator) -> None:
    if not callable(row.reference):
        raise ValueError("it has no reference: give it the function on float64 arrays")


def _check_elementwise(row: Operator) -> None:
    """Raises ValueError for a reference that is no function of each element."""
    _check_reference(row)
    assert row.reference is not None
    if not 0 <= row.curvature < math.inf:
        raise ValueError(
            f"its curvature is {row.curvature}: give it the largest magnitude of its second derivative, which bounds "
            "the error of its table"
        )
    by_keyword = [one.name for one in signature(row.reference).parameters.values() if one.kind not in _BY_POSITION]
    if by_keyword:
        raise ValueError(
            f"its reference takes {', '.join(by_keyword)} by keyword: give it a function of the array and the "
            "operator's arguments"
        )
    if row.onnx is not None and len(row.onnx.arguments) != len(row.defaults):
        raise ValueError(
            f"its ONNX operator {row.onnx.name!r} gives {len(row.onnx.arguments)} arguments after the tensor, and its "
            f"reference takes {len(row.defaults)}: give `Onnx` an `Attribute` or a value for each"
        )
    tried = np.array([-1.0, 0.0, 1.0])
    for example in row.examples:
        try:
            with np.errstate(all="ignore"):
                given = np.asarray(row.function(*example)(tried))
        except (Exception, SystemExit) as error:
            raise ValueError(f"its reference fails on the array {tried.tolist()} ({_described(error)})") from error
        if given.shape != tried.shape or given.dtype != tried.dtype:
            raise ValueError(f"its reference makes {given.dtype}{list(given.shape)} of float64{list(tried.shape)}")


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


_CHECKS: dict[Role, Callable[[Operator], None]] = {
    Role.ELEMENTWISE: _check_elementwise,
    Role.COMPOSITION: _check_composition,
    Role.CONSTANT: _check_reference,
}
"""The roles that rows of other packages may have, and what is asked of such a row."""


def row_of_overload(name: str) -> Operator | None:
    """
    The row of an overload as PyTorch spells it, `aten::add.Tensor` or, in place, `aten::add_.Tensor`; None if it has
    none.
    """
    namespace, _, name = name.partition("::")
    label, dot, overload = name.partition(".")
    if label.endswith("_") and not label.endswith("__"):
        label = label[:-1]
    return operators().get(f"{namespace}.{label}{dot}{overload}")


def parts_of(name: str) -> Callable[..., Any] | None:
    """
    The function of PyTorch tensors that an overload as PyTorch spells it is to be replaced with; None if it is no
    composition. It raises OutsideError, which names the package, for whatever its parts raise.
    """
    row = row_of_overload(name)
    if row is None or row.parts is None:
        return None
    parts, of = row.parts, row.name

    def made(*arguments: Any, **keywords: Any) -> Any:
        try:
            return parts(*arguments, **keywords)
        except (Exception, SystemExit) as error:
            raise find_addition(OPERATORS, of).refusal(f"its parts fail ({_described(error)})") from error

    return made


def rows_of(*roles: Role) -> list[Operator]:
    """The rows of some roles, in the order of `roles`."""
    return [row for role in roles for row in operators().values() if row.role is role]


def remedy_of(name: str) -> str:
    """Remedy for a model with the operator `name`; empty if none is known."""
    return operators()[name].remedy if name in operators() else ""


def supported_operators() -> str:
    """The operators that compile, as messages list them."""
    whole = [row.label for row in rows_of(Role.LINEAR, Role.EMBEDDING, Role.NORM, Role.ATTENTION)]
    others = [row.label for row in operators().values() if row.makes_value and row.label not in whole]
    others += [row.label for row in rows_of(Role.COMPOSITION)]
    return (
        f"{', '.join(whole[:-1])} and {whole[-1]} (also spelled out), {', '.join(others)}, rearrangements "
        "(view, permute, slice, expand, …), and whatever depends on no input"
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
