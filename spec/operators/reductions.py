"""Sums along an axis, which are products with ones, and operators that are spelled with them."""

from collections.abc import Sequence

import numpy as np

from sta.spec.operators.operator import Form, Operator, Role
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


_SPELLED = (
    "sum mean max min amax amin max.dim min.dim logsumexp log_softmax.int _log_softmax var.correction var.dim var "
    "std.correction std.dim std linalg_vector_norm norm.ScalarOpt_dim norm.Scalar group_norm native_group_norm "
    "instance_norm softmin.int"
).split()
"""Operators that `torch-spell-reductions` spells with sums, the largest element and functions of each element."""

OPERATORS = (
    Operator("aten.sum.dim_IntList", Role.SUM, "the sum along axes", takes=(Form.STREAM,), reference=total),
    Operator("aten.mean.dim", Role.SUM, "the mean along axes", takes=(Form.STREAM,), reference=mean),
    Operator("aten.cumsum", Role.SUM, "the sum up to each position", takes=(Form.STREAM,), reference=running_total),
    *(Operator(f"aten.{name}", Role.SPELLED) for name in _SPELLED),
)
