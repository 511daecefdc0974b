"""Normalizations over the last axis."""

from collections.abc import Sequence

import numpy as np

from sta.spec.operators.operator import Form, Operator, Role
from sta.spec.tables import Float64Array


def _axes(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(-len(shape), 0))


def layer_norm(
    x: Float64Array,
    normalized_shape: Sequence[int],
    weight: Float64Array | None = None,
    bias: Float64Array | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Float64Array:
    """Layer normalization (Ba et al. 2016) over the last axes, whose sizes are `normalized_shape`."""
    axes = _axes(normalized_shape)
    centred = x - x.mean(axis=axes, keepdims=True)
    y = centred / np.sqrt((centred * centred).mean(axis=axes, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(
    x: Float64Array, normalized_shape: Sequence[int], weight: Float64Array | None = None, eps: float | None = None
) -> Float64Array:
    """
    Normalization by the root of the mean square (Zhang and Sennrich 2019) over the last axes.

    `eps` None is PyTorch's: the smallest float32 that changes a one.
    """
    epsilon = float(np.finfo(np.float32).eps) if eps is None else eps
    y = x / np.sqrt((x * x).mean(axis=_axes(normalized_shape), keepdims=True) + epsilon)
    return y if weight is None else y * weight


OPERATORS = (
    Operator(
        "aten.layer_norm",
        Role.NORM,
        "normalization over the last axes, then weight and bias",
        takes=(Form.STREAM,),
        reference=layer_norm,
        spelling="layer norm",
    ),
    Operator(
        "aten.rms_norm",
        Role.NORM,
        "input divided by the root of its mean square, then weight",
        takes=(Form.STREAM,),
        reference=rms_norm,
        spelling="rms norm",
    ),
)
