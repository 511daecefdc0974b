"""
SmoothQuant: outliers of a normalization's result go into the weights of the linear layers that take it.

Column c of the result is divided by s[c] and column c of the weights multiplied by it, with
s[c] = max|x[c]|^strength / max|w[c]|^(1 - strength) (Xiao et al., arXiv 2211.10438), divided by its geometric mean,
which changes no rounding. The division goes into the parameters of the normalization. Where its result is part of the
residual stream as well, the linear layers get a normalization of their own: one more pass of the vector unit, against
a second pass of the product with 16-bit inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.rewriter import InsertPoint, Rewriter

from sta.dialect import torch
from sta.dialect.location import module_path
from sta.dialect.torch_interpreter import main_function
from sta.dialect.weight_store import WeightStore
from sta.passes.torch_calibrate import ExtremesObserver, RangeObserver, set_range
from sta.passes.torch_rewriting import TorchBuilder, array_of, erase_dead, operations_of

Array = NDArray[Any]

SMALLEST_MAGNITUDE = 1e-5
"""What SmoothQuant takes for a column that is always zero."""


def smooth(
    module: ModuleOp, store: WeightStore, observers: Mapping[SSAValue, RangeObserver], strength: float
) -> list[str]:
    """
    Smooth what linear layers take from normalizations in the function `main` of a calibrated module.

    `observers` hold the extremes of each column of each result. `strength` is between 0 (all into the weights' favour)
    and 1. Returns the module paths of the normalizations.
    """
    smoothed: list[str] = []
    for operation in operations_of(module):
        if not isinstance(operation, torch.LayerNormOp):
            continue
        observer = observers.get(operation.result)
        if isinstance(observer, ExtremesObserver) and _smooth_norm(module, store, operation, observer, strength):
            smoothed.append(module_path(operation))
    erase_dead(module)
    return smoothed


def _smooth_norm(
    module: ModuleOp, store: WeightStore, norm: torch.LayerNormOp, seen: ExtremesObserver, strength: float
) -> bool:
    layers = [use.operation for use in norm.result.uses if use.index == 0]
    linears = [layer for layer in layers if isinstance(layer, torch.LinearOp)]
    weights = [array_of(linear.weight, store) for linear in linears]
    if not linears or any(weight is None for weight in weights):
        return False
    width = torch.sizes_of(norm.result)[-1]
    magnitude = np.maximum(np.abs(seen.low), np.abs(seen.high))
    against = np.max([np.abs(weight).max(axis=0) for weight in weights if weight is not None], axis=0)
    scale = smoothing_scale(magnitude, against, strength)
    gamma, beta = array_of(norm.weight, store), array_of(norm.bias, store)
    builder = TorchBuilder(norm, store)
    path = module_path(norm)
    divided = [
        builder.literal(((default if array is None else array) / scale).astype(np.float32), f"{path}.{name}.smoothed")
        for name, array, default in (("weight", gamma, np.ones(width)), ("bias", beta, np.zeros(width)))
    ]
    own = norm.clone()
    own.operands = [norm.operands[0], norm.operands[1], *divided, *norm.operands[4:]]
    own.location = norm.location
    Rewriter.insert_op(own, InsertPoint.after(norm))
    set_range(main_function(module), own.result, float((seen.low / scale).min()), float((seen.high / scale).max()))
    for linear, weight in zip(linears, weights, strict=True):
        assert weight is not None
        name = f"{module_path(linear)}.weight.smoothed"
        multiplied = TorchBuilder(linear, store).literal((weight * scale).astype(np.float32), name)
        linear.operands = [own.result, multiplied, linear.bias]
    return True


def smoothing_scale(inputs: Array, weights: Array, strength: float) -> Array:
    """
    What each column is divided by, float64 [width], for the largest magnitudes of its inputs and weights, [width] each.
    """
    inputs = np.maximum(np.asarray(inputs, np.float64), SMALLEST_MAGNITUDE)
    weights = np.maximum(np.asarray(weights, np.float64), SMALLEST_MAGNITUDE)
    logarithm = strength * np.log(inputs) - (1 - strength) * np.log(weights)
    return np.exp(logarithm - logarithm.mean())
