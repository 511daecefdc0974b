"""
Functions of each element, computed by tables: a function on float64, and a row.

A value of 8 bits is looked up exactly; a 16-bit table is interpolated linearly between its entries, with the error that
`interpolation_bound` states.
"""

import math
from collections.abc import Callable

import numpy as np

from sta.spec.operators.operator import Attribute, Constant, Form, Onnx, Operator, Reference, Role
from sta.spec.tables import Float64Array, RealFunction

WITHOUT_ROW = (
    "a function of each element that has no table: let the host compute it, or add its row (docs/adding-an-operator.md)"
)
"""Remedy for the functions that are not here."""


def pointwise(function: Callable[[float], float]) -> RealFunction:
    """
    Applies a function of Python floats to arrays.

    Python's `math` gives the same last bit whatever the processor; NumPy's vectorised versions need not.
    """
    vectorised = np.vectorize(function, otypes=[np.float64])

    def apply(x: Float64Array) -> Float64Array:
        return np.asarray(vectorised(np.asarray(x, dtype=np.float64)), dtype=np.float64)

    return apply


def elementwise(
    name: str,
    reference: Reference,
    summary: str,
    *,
    curvature: float,
    bend: float = 0.0,
    onnx: Onnx | None = None,
    examples: tuple[tuple[Constant, ...], ...] = ((),),
) -> Operator:
    """The row of a function of each element, from stream to stream; see `Operator` for the columns."""
    return Operator(
        name,
        Role.ELEMENTWISE,
        summary,
        takes=(Form.STREAM,),
        reference=reference,
        onnx=onnx,
        examples=examples,
        curvature=curvature,
        bend=bend,
    )


def _sigmoid(x: float) -> float:
    """Returns the logistic function, without overflow for large negative x."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    return math.exp(x) / (1.0 + math.exp(x))


def _gelu(x: float) -> float:
    """Returns x times the normal distribution function; `erfc` keeps the negative tail's digits."""
    return 0.5 * x * math.erfc(-x / math.sqrt(2.0))


def _gelu_tanh(x: float) -> float:
    """Returns GELU's tanh approximation (Hendrycks and Gimpel 2016)."""
    return 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


_GELU = {"none": pointwise(_gelu), "tanh": pointwise(_gelu_tanh)}


def gelu(x: Float64Array, approximate: str = "none") -> Float64Array:
    """
    GELU ``x * Phi(x)``, or its approximation by tanh (Hendrycks and Gimpel 2016).

    Raises ValueError for another approximation.
    """
    if approximate not in _GELU:
        raise ValueError(f"the approximation {approximate!r} is unknown")
    return _GELU[approximate](x)


OPERATORS = (
    elementwise(
        "aten.gelu",
        gelu,
        "the Gaussian error linear unit: exact, or approximated by tanh",
        onnx=Onnx("Gelu", (Attribute("approximate", "none"),)),
        examples=(("none",), ("tanh",)),
        curvature=math.sqrt(2 / math.pi),  # At 0.
    ),
    elementwise(
        "aten.relu",
        pointwise(lambda x: max(x, 0.0)),
        "max(x, 0)",
        onnx=Onnx("Relu"),
        curvature=0.0,  # Its only bend is at 0, which is an entry of every table.
    ),
    elementwise(
        "aten.tanh",
        pointwise(math.tanh),
        "the hyperbolic tangent",
        onnx=Onnx("Tanh"),
        curvature=4 / (3 * math.sqrt(3)),
    ),
    elementwise(
        "aten.silu",
        pointwise(lambda x: x * _sigmoid(x)),
        "x * sigmoid(x) (Elfwing et al. 2017)",
        curvature=0.5,  # At 0.
    ),
    elementwise(
        "aten.sigmoid",
        pointwise(_sigmoid),
        "1 / (1 + exp(-x))",
        onnx=Onnx("Sigmoid"),
        curvature=1 / (6 * math.sqrt(3)),
    ),
    elementwise(
        "aten.hardswish",
        pointwise(lambda x: x * min(max(x + 3.0, 0.0), 6.0) / 6.0),
        "x * min(max(x + 3, 0), 6) / 6 (Howard et al. 2019)",
        onnx=Onnx("HardSwish"),
        curvature=1 / 3,
        bend=0.5,  # At -3 and 3.
    ),
)
