"""Sums along an axis, which are products with ones, and operators that are spelled with them."""

from collections.abc import Sequence

import numpy as np

from sta.spec.operators.operator import Attribute, Form, Onnx, Operator, Reference, Role
from sta.spec.tables import Float64Array


def _axes(x: Float64Array, dims: Sequence[int] | int | None) -> tuple[int, ...]:
    if dims is None or (not isinstance(dims, int) and not len(dims)):
        return tuple(range(x.ndim))
    return (dims,) if isinstance(dims, int) else tuple(dims)


def total(
    x: Float64Array, dim: Sequence[int] | int | None = None, keepdim: bool = False, dtype: int | None = None
) -> Float64Array:
    """The sum along axes; along all if none is given."""
    return np.sum(x, axis=_axes(x, dim), keepdims=keepdim)


def mean(
    x: Float64Array, dim: Sequence[int] | int | None = None, keepdim: bool = False, dtype: int | None = None
) -> Float64Array:
    """The mean along axes; along all if none is given."""
    return np.mean(x, axis=_axes(x, dim), keepdims=keepdim)


def running_total(x: Float64Array, dim: int, dtype: int | None = None) -> Float64Array:
    """The sum up to each position of an axis."""
    return np.cumsum(x, axis=dim)


_SPELLINGS = {
    "total": "sum",
    "mean": "mean",
    "largest": "max amax max.dim",
    "smallest": "min amin min.dim",
    "log-sum-exp": "logsumexp",
    "variance": "var var.dim var.correction",
    "deviation": "std std.dim std.correction",
    "vector norm": "linalg_vector_norm norm.ScalarOpt_dim norm.Scalar",
    "log-softmax": "log_softmax.int _log_softmax",
    "group norm": "group_norm",
    "native group norm": "native_group_norm",
    "instance norm": "instance_norm",
}
"""Operators that `torch-decompose-reductions` spells with sums, maxima and functions of each element."""

_ONNX = {"log_softmax.int": Onnx("LogSoftmax", (Attribute("axis", -1), None))}


def _sum(name: str, spelling: str, summary: str, reference: Reference) -> Operator:
    """The row of a sum; along other axes than the last it is spelled."""
    return Operator(name, Role.SUM, summary, takes=(Form.STREAM,), reference=reference, spelling=spelling)


OPERATORS = (
    _sum("aten.sum.dim_IntList", "total", "the sum along axes", total),
    _sum("aten.mean.dim", "mean", "the mean along axes", mean),
    _sum("aten.cumsum", "running total", "the sum up to each position of an axis", running_total),
    *(
        Operator(f"aten.{name}", Role.SPELLED, spelling=spelling, onnx=_ONNX.get(name))
        for spelling, names in _SPELLINGS.items()
        for name in names.split()
    ),
)
