"""Expressions of one value: their text, their function, and what is none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sta.spec.operators.expression import Call, Expression, Variable, X, parse
from sta.spec.tables import RealFunction

NUMBERS = st.one_of(st.floats(allow_nan=False), st.integers(-(2**40), 2**40), st.booleans(), st.none(), st.text())


@st.composite
def expressions(draw: st.DrawFn) -> Expression:
    """Calls of operators that need no more than to be known, with any constants."""
    calls: list[Call] = []
    for position in range(draw(st.integers(1, 5))):
        name = draw(st.sampled_from(["aten.exp", "aten.mul.Tensor", "aten.where.ScalarOther", "aten.gelu"]))
        variables = st.integers(0, position).map(Variable)
        arguments = st.lists(st.one_of(variables, NUMBERS, st.lists(NUMBERS, max_size=2).map(tuple)), max_size=3)
        calls.append(Call(name, tuple(draw(arguments))))
    return Expression(tuple(calls))


@given(expressions())
def test_the_text_of_an_expression_is_read_back_as_the_same(expression: Expression) -> None:
    assert parse(str(expression)) == expression
    assert parse(str(expression)).table_name == expression.table_name


FUNCTIONS: list[tuple[str, RealFunction]] = [
    (
        "v1=aten.mul.Scalar(x, 1.702); v2=aten.sigmoid(v1); aten.mul.Tensor(x, v2)",
        lambda x: np.divide(x, 1 + np.exp(-1.702 * x)),
    ),
    (
        "v1=aten.gt.Scalar(x, 0); v2=aten.exp(x); aten.where.self(v1, x, v2)",
        lambda x: np.where(x > 0, x, np.exp(x)),
    ),
    ("v1=aten.where.ScalarOther(True, x, -inf); aten.exp(v1)", np.exp),
    (
        "v1=aten.lt.Scalar(x, 0.5); v2=aten.where.ScalarSelf(v1, -inf, x); aten.exp(v2)",
        lambda x: np.where(x < 0.5, 0, np.exp(x)),
    ),
    ("aten.pow.Scalar(2, x)", np.exp2),
    ("v1=aten.gt.Scalar(x, 0.0); aten.to.dtype(v1, 6, False, False, None)", lambda x: np.where(x > 0, 1.0, 0.0)),
]


@pytest.mark.parametrize(("text", "expected"), FUNCTIONS)
def test_the_function_is_that_of_its_operators(text: str, expected: RealFunction) -> None:
    x = np.linspace(-3, 3, 13)
    np.testing.assert_allclose(parse(text)(x), expected(x), rtol=1e-14)


def test_a_function_has_no_value_outside_its_domain() -> None:
    values = parse("aten.log(x)")(np.array([-1.0, 0.0, 1.0]))
    np.testing.assert_equal(values, [math.nan, -math.inf, 0.0])
    assert parse("aten.reciprocal(x)")(np.zeros(1)) == math.inf
    assert parse("aten.exp(x)")(np.array([1e4])) == math.inf


def test_expressions_that_differ_have_tables_of_other_names() -> None:
    texts = ["aten.exp(x)", "v1=aten.exp(x); aten.exp(v1)", "aten.mul.Scalar(x, 2)", "aten.mul.Scalar(x, 2.0)"]
    assert len({parse(text).table_name for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "at least one call"),
        ("x", "no call of an operator"),
        ("aten.exp(", "is no expression"),
        ("aten.linear(x)", "no operator that works element by element"),
        ("print(x)", "no operator that works element by element"),
        ("aten.exp(v1)", "no result of an earlier call"),
        ("aten.exp(y)", "no result of an earlier call"),
        ("v2=aten.exp(x); aten.exp(x)", "the result of call 1 is v1"),
        ("aten.exp(x); aten.exp(x)", "no call, or the last one"),
        ("aten.exp(x=1)", "no call of an operator"),
        ("aten.exp(1 + 1)", "no constant"),
    ],
)
def test_what_is_no_expression_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(text)


def test_the_argument_has_a_name() -> None:
    assert str(X) == "x"
