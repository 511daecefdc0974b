"""Functions of each element, and the distance of straight lines between the entries of a table from them."""

from collections.abc import Callable

import numpy as np
import pytest

from sta.spec.operators.operator import Operator, Role
from sta.spec.operators.registry import activation, activations, interpolation_bound, rows_of

ROWS = rows_of(Role.ELEMENTWISE)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        # Published values of the standard functions at -1 and 1.
        ("gelu", (-0.15865525393145707, 0.8413447460685429)),
        ("gelu_tanh", (-0.15880800939172324, 0.8411919906082768)),
        ("relu", (0.0, 1.0)),
        ("sigmoid", (0.2689414213699951, 0.7310585786300049)),
        ("silu", (-0.2689414213699951, 0.7310585786300049)),
        ("tanh", (-0.7615941559557649, 0.7615941559557649)),
    ],
)
def test_activation_values(name: str, values: tuple[float, float]) -> None:
    function: Callable[[np.ndarray], np.ndarray] = activation(name)
    np.testing.assert_allclose(function(np.array([-1.0, 1.0])), values, rtol=1e-15, atol=1e-17)
    assert function(np.zeros((2, 3))).shape == (2, 3)
    limits = function(np.array([-800.0, 800.0]))
    assert np.all(np.isfinite(limits))
    assert activations()[name] is function


def test_unknown_activation_gets_a_suggestion() -> None:
    with pytest.raises(ValueError, match="did you mean 'gelu'"):
        activation("gleu")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_largest_curvature_and_bend_are_those_of_the_function(row: Operator) -> None:
    x, step = np.linspace(-8, 8, 64001), 2.0**-10
    # A bend at 0 is at an entry of every table.
    x = x[np.abs(x) > step]
    found: list[float] = []
    for example in row.examples:
        function = row.function(*example)
        found.append(float(np.abs(function(x + step) - 2 * function(x) + function(x - step)).max()))
        bound = interpolation_bound(row.table_name(*example), 1 / 128)
        assert bound == row.curvature / 8 + row.bend / 4
    assert max(found) == pytest.approx(
        row.curvature * step**2 + row.bend * step, rel=1e-2 if row.bend else 1e-4, abs=1e-12
    )


def test_only_an_activation_has_a_bound() -> None:
    with pytest.raises(ValueError, match="did you mean 'gelu'"):
        interpolation_bound("gleu", 1.0)


def test_the_approximation_of_gelu_is_known() -> None:
    gelu = next(row for row in ROWS if row.name == "aten.gelu")
    assert gelu.refusal("tanh") is None
    assert gelu.refusal("sine") == "the approximation 'sine' is unknown"
