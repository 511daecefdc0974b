"""
SmoothQuant: outliers of a normalization's result move into the weights of the linear layers that read it.

Column c of the result is divided by s[c] and column c of the weights multiplied by it, with s[c] = max|x[c]|^strength /
max|w[c]|^(1 - strength) (Xiao et al., arXiv 2211.10438), divided by its geometric mean, which changes no rounding. The
division goes into the parameters of the normalization. If its result is part of the residual stream as well, the linear
layers get a normalization of their own: one more pass of the vector unit, against a second pass of the product with
16-bit inputs.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter

from sta.dialect import torch
from sta.dialect.ir.location import module_path
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.tensor_names import BESIDE, INSTEAD
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.quantization.calibrate import RangeObserver, set_range
from sta.passes.quantization.calibration_observer import RowObserver
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.torch_operations import TorchBuilder, array_of, operations_of
from sta.passes.rewriting.uses_through_views import Consumer, consumers_of, redirect

Array = NDArray[Any]

SMALLEST_MAGNITUDE = 1e-5
"""SmoothQuant's magnitude for a column that is always zero."""


def smooth(
    module: ModuleOp, store: WeightStore, observers: MutableMapping[SSAValue, RangeObserver], strength: float
) -> list[str]:
    """
    Applies SmoothQuant to the normalizations in front of linear layers in the function `main` of a calibrated module.

    `observers` hold the observations of each result, and get those of the added results. `strength` is between 0 (all
    into the weights' favour) and 1. Returns the module paths of the normalizations.
    """
    smoothed: list[str] = []
    divided: list[tuple[torch.LayerNormOp, SSAValue]] = []
    for operation in operations_of(module):
        if not isinstance(operation, torch.LayerNormOp):
            continue
        seen = observers.get(operation.result)
        consumers = [consumer for consumer in consumers_of(operation.result) if _is_input(consumer)]
        layers = _layers_with_weights(consumers, store)
        if not isinstance(seen, RowObserver) or not layers or len(layers) < len(consumers):
            continue
        scale = _scale(seen, [weight for _, weight in layers], strength)
        own = _divided_norm(operation, store, scale)
        observers[own] = seen.divided(scale)
        set_range(main_function(module), own, *observers[own].range())
        for linear, weight in layers:
            name = f"{module_path(linear)}.weight.smoothed"
            # Products are float64; without an array of them.
            multiplied = np.multiply(weight, scale, out=np.empty(weight.shape, np.float32), casting="same_kind")
            literal = TorchBuilder(linear, store).literal(multiplied, name)
            linear.operands = [linear.input, literal, linear.bias]
        redirect(operation.result, own, consumers)
        smoothed.append(module_path(operation))
        divided.append((operation, own))
    erase_dead(module)
    for norm, own in divided:
        assert isinstance(own.owner, Operation)
        own.owner.attributes[torch.SMOOTHED] = INSTEAD if norm.parent is None else BESIDE
    return smoothed


def _is_input(consumer: Consumer) -> bool:
    """True if `consumer` is a linear layer whose columns are the columns of the value."""
    layer = consumer.use.operation
    return isinstance(layer, torch.LinearOp) and consumer.use.index == 0 and consumer.keeps_columns


def _layers_with_weights(consumers: Sequence[Consumer], store: WeightStore) -> list[tuple[torch.LinearOp, Array]]:
    """The linear layers with known weights, each with its weight."""
    found: list[tuple[torch.LinearOp, Array]] = []
    for consumer in consumers:
        layer = consumer.use.operation
        assert isinstance(layer, torch.LinearOp)
        weight = array_of(layer.weight, store)
        if weight is not None:
            found.append((layer, weight))
    return found


def _scale(seen: RowObserver, weights: Sequence[Array], strength: float) -> Array:
    magnitude = np.maximum(np.abs(seen.low), np.abs(seen.high))
    against = np.max([np.abs(weight).max(axis=0) for weight in weights], axis=0)
    return smoothing_scale(magnitude, against, strength)


def _divided_norm(norm: torch.LayerNormOp, store: WeightStore, scale: Array) -> SSAValue:
    """The result of a normalization like `norm`, with parameters divided by `scale`."""
    builder = TorchBuilder(norm, store)
    parameters = [builder.literal(array, name) for name, array in _divided_parameters(norm, store, scale)]
    own = norm.clone()
    own.operands = [norm.operands[0], norm.operands[1], *parameters, *norm.operands[4:]]
    own.location = norm.location
    Rewriter.insert_op(own, InsertPoint.after(norm))
    return own.result


def _divided_parameters(norm: torch.LayerNormOp, store: WeightStore, scale: Array) -> list[tuple[str, Array]]:
    path = module_path(norm)
    gamma, beta = array_of(norm.weight, store), array_of(norm.bias, store)
    gamma = np.ones(len(scale)) if gamma is None else gamma
    beta = np.zeros(len(scale)) if beta is None else beta
    named = ((f"{path}.weight.smoothed", gamma), (f"{path}.bias.smoothed", beta))
    return [(name, (array / scale).astype(np.float32)) for name, array in named]


def smoothing_scale(inputs: Array, weights: Array, strength: float) -> Array:
    """Divisor of each column, float64 [width], from the largest magnitudes of inputs and weights, [width] each."""
    inputs = np.maximum(np.asarray(inputs, np.float64), SMALLEST_MAGNITUDE)
    weights = np.maximum(np.asarray(weights, np.float64), SMALLEST_MAGNITUDE)
    logarithm = strength * np.log(inputs) - (1 - strength) * np.log(weights)
    return np.exp(logarithm - logarithm.mean())
