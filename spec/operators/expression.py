"""
Functions of one value, composed of operators and numbers: what `torch.pointwise` computes.

An expression is a list of calls, written as Python would: `v1 = aten.mul.Scalar(x, 1.702); aten.sigmoid(v1)`. The
argument is `x`, the result of the i-th call `vi`, the result of the last one that of the expression. Every other
argument is a constant. The float64 function follows from the references of the operators' rows.
"""

from __future__ import annotations

import ast
import hashlib
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import cast

import numpy as np

from sta.spec.operators.operator import Constant, Operator
from sta.spec.operators.registry import operators
from sta.spec.tables import Float64Array

_NUMBERS = {"inf": math.inf, "nan": math.nan}
"""Floats that Python writes as names."""


@dataclass(frozen=True)
class Variable:
    """The argument of an expression, index 0, or the result of its call `index`, counted from 1."""

    index: int

    def __str__(self) -> str:
        return f"v{self.index}" if self.index else "x"


X = Variable(0)


@dataclass(frozen=True)
class Call:
    """A call of the operator `name`, as its row spells it, with variables, constants and tuples of constants."""

    name: str
    arguments: tuple[Variable | Constant, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(_text, self.arguments))})"


def _text(argument: Variable | Constant) -> str:
    if isinstance(argument, tuple):
        return f"[{', '.join(map(_text, cast(tuple[Constant, ...], argument)))}]"
    return str(argument) if isinstance(argument, Variable) else repr(argument)


@dataclass(frozen=True)
class Expression:
    """Calls in an order in which each uses earlier ones."""

    calls: tuple[Call, ...]

    def __str__(self) -> str:
        *others, last = self.calls
        return "".join(f"v{index}={call}; " for index, call in enumerate(others, 1)) + str(last)

    def __call__(self, x: Float64Array) -> Float64Array:
        """
        The function of float64 `x` [...], in float64; infinite or NaN where it has no value.

        Raises ValueError for arguments that an operator does not support.
        """
        values = [np.asarray(x, np.float64)]
        with np.errstate(all="ignore"):
            for call, row in zip(self.calls, self._rows, strict=True):
                assert row.reference is not None
                values.append(
                    row.reference(*(values[one.index] if isinstance(one, Variable) else one for one in call.arguments))
                )
        return np.asarray(values[-1], np.float64)

    @property
    def table_name(self) -> str:
        """A name for its table, short and its own."""
        return f"pointwise_{hashlib.sha256(str(self).encode()).hexdigest()[:8]}"

    @cached_property
    def _rows(self) -> list[Operator]:
        return [operators()[call.name] for call in self.calls]


@lru_cache(maxsize=1024)
def parse(text: str) -> Expression:
    """
    The expression that `text` writes.

    Raises ValueError, with the reason, if it writes none: for names that are no operators of elements with a reference,
    and variables that are not defined yet.
    """
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        raise ValueError(f"{text!r} is no expression: {error.msg}") from None
    calls: list[Call] = []
    for position, statement in enumerate(body, 1):
        is_last = position == len(body)
        if not isinstance(statement, ast.Expr if is_last else ast.Assign):
            raise ValueError(f"{ast.unparse(statement)!r} is no call, or the last one and not behind the others")
        if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] != [
            f"v{position}"
        ]:
            raise ValueError(f"the result of call {position} is v{position}, not {ast.unparse(statement.targets[0])}")
        assert isinstance(statement, ast.Expr | ast.Assign)
        calls.append(_call(statement.value, len(calls)))
    if not calls:
        raise ValueError("an expression has at least one call")
    return Expression(tuple(calls))


def _call(node: ast.expr, defined: int) -> Call:
    if not isinstance(node, ast.Call) or node.keywords:
        raise ValueError(f"{ast.unparse(node)!r} is no call of an operator")
    name = ast.unparse(node.func)
    row = operators().get(name)
    if row is None or not row.is_pointwise:
        raise ValueError(f"{name!r} is no operator that works element by element and has a reference")
    return Call(name, tuple(_argument(one, defined) for one in node.args))


def _number(node: ast.expr) -> float:
    """The number of a literal behind a minus sign."""
    value = _argument(node, -1)
    if not isinstance(value, int | float):
        raise ValueError(f"{ast.unparse(node)!r} is no number")
    return value


def _argument(node: ast.expr, defined: int) -> Variable | Constant:
    if isinstance(node, ast.List):
        return tuple(_argument(one, defined) for one in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(node.operand)
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in _NUMBERS:
        return _NUMBERS[node.id]
    known = {str(Variable(index)): Variable(index) for index in range(defined + 1)}
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    raise ValueError(f"{ast.unparse(node)!r} is no constant, and no result of an earlier call")
