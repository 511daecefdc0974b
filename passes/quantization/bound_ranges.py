"""
Ranges of the values that a quantized model leaves in float, from the values that it rounds.

A value rounded to 8 bits cannot leave their range, so a sum of such values, or an activation of one, has a range that
is known without calibration data. It is wider than samples would show, which a 16-bit format has room for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from xdsl.dialects.builtin import ModuleOp, i1
from xdsl.ir import Operation, SSAValue

from sta.dialect import torch
from sta.dialect.ir.location import describe
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.quantization.calibrate import set_range
from sta.passes.rewriting.torch_operations import array_of
from sta.passes.rewriting.uses_through_views import VIEWS

Interval = tuple[float, float]


def bound_ranges(module: ModuleOp, store: WeightStore, values: Iterable[SSAValue]) -> list[SSAValue]:
    """
    Sets the bound of each of `values` in the function `main` of `module` that follows from roundings.

    Returns values without a bound: they depend on an input that is not rounded.
    """
    bounds = _Bounds(store)
    function, open_values = main_function(module), list[SSAValue]()
    for value in values:
        interval = bounds.of(value)
        if interval is None:
            open_values.append(value)
        else:
            set_range(function, value, *interval, torch.BOUND)
    return open_values


def place_of(value: SSAValue) -> str:
    """Name of `value` in messages."""
    return describe(value.owner) if isinstance(value.owner, Operation) else "an input"


class _Bounds:
    def __init__(self, store: WeightStore) -> None:
        self._store = store
        self._known: dict[SSAValue, Interval | None] = {}

    def of(self, value: SSAValue) -> Interval | None:
        """The lowest and highest number of `value`; None if unknown."""
        pending = [value]
        # Without recursion: a chain of residual additions is as long as the model is deep.
        while pending:
            current = pending[-1]
            operands = [operand for operand in _sources(current) if operand not in self._known]
            if operands and current not in self._known:
                pending += operands
                continue
            if current not in self._known:
                self._known[current] = self._interval(current)
            pending.pop()
        return self._known[value]

    def _interval(self, value: SSAValue) -> Interval | None:
        operation = value.owner
        if isinstance(operation, torch.FakeQuantizeOp):
            scale, zero_point = operation.scale.value.data, operation.zero_point.value.data
            low, high = operation.limits
            return (low - zero_point) * scale, (high - zero_point) * scale
        if isinstance(operation, torch.LiteralOp):
            array = array_of(value, self._store)
            return None if array is None else (float(array.min()), float(array.max()))
        if isinstance(operation, torch.ToDtypeOp) and torch.tensor_type(operation.input).element_type == i1:
            return 0.0, 1.0
        if isinstance(operation, torch.LayerNormOp | torch.RmsNormOp):
            return self._norm(operation)
        if isinstance(operation, torch.LinearOp):
            return self._linear(operation)
        known = [self._known[source] for source in _sources(value)]
        intervals = [interval for interval in known if interval is not None]
        if not isinstance(operation, Operation) or not known or len(intervals) < len(known):
            return None
        return _combined(operation, intervals)

    def _norm(self, norm: torch.NormOp) -> Interval:
        """A normalized row of n numbers has none that is larger than the root of n."""
        root = math.sqrt(torch.sizes_of(norm.input)[-1])
        weight = None if isinstance(norm.weight.type, torch.NoneType) else array_of(norm.weight, self._store)
        reach = root * (np.ones(1) if weight is None else np.abs(weight.astype(np.float64)))
        bias = array_of(norm.bias, self._store) if isinstance(norm, torch.LayerNormOp) else None
        offset = np.zeros(1) if bias is None else bias.astype(np.float64)
        return float((offset - reach).min()), float((offset + reach).max())

    def _linear(self, layer: torch.LinearOp) -> Interval | None:
        """Every weight at the worse end of the input's interval."""
        interval = self._known[layer.input]
        weight = layer.weight
        if isinstance(weight.owner, torch.FakeQuantizeChannelsOp):
            weight = weight.owner.input
        array = array_of(weight, self._store)
        if interval is None or array is None:
            return None
        ends = array.astype(np.float64)[:, :, None] * np.array(interval)
        bias = None if isinstance(layer.bias.type, torch.NoneType) else array_of(layer.bias, self._store)
        offset = np.zeros(1) if bias is None else bias.astype(np.float64)
        low, high = ends.min(axis=2).sum(axis=1) + offset, ends.max(axis=2).sum(axis=1) + offset
        return float(low.min()), float(high.max())


def _sources(value: SSAValue) -> list[SSAValue]:
    """The values whose intervals determine the interval of `value`."""
    operation = value.owner
    if isinstance(operation, torch.CombinationOperation | torch.MulTensorOp):
        return [operation.input, operation.other]
    if isinstance(operation, torch.ConcatenateOp):
        return list(operation.parts)
    if isinstance(operation, torch.ScaledDotProductAttentionOp):
        return [operation.value]
    if isinstance(operation, torch.EmbeddingOp):
        return [operation.weight]
    if isinstance(operation, _ONE_SOURCE):
        return [operation.input]
    return []


_ONE_SOURCE = VIEWS | torch.FunctionOperation | torch.LinearOp


def _combined(operation: Operation, intervals: list[Interval]) -> Interval | None:
    """The interval of the result; None where a function has no value within that of its argument."""
    (low, high), *rest = intervals
    if isinstance(operation, torch.ConcatenateOp):
        return min(low, *(low for low, _ in rest)), max(high, *(high for _, high in rest))
    if isinstance(operation, torch.AddTensorOp):
        return low + rest[0][0], high + rest[0][1]
    if isinstance(operation, torch.SubTensorOp):
        return low - rest[0][1], high - rest[0][0]
    if isinstance(operation, torch.MaximumOp):
        return max(low, rest[0][0]), max(high, rest[0][1])
    if isinstance(operation, torch.MinimumOp):
        return min(low, rest[0][0]), min(high, rest[0][1])
    if isinstance(operation, torch.MulTensorOp):
        ends = [one * other for one in (low, high) for other in rest[0]]
        return min(ends), max(ends)
    if isinstance(operation, torch.FunctionOperation):
        results = operation.function(np.linspace(low, high, 4097))
        if not np.isfinite(results).all():
            return None
        # Between two of the points an activation changes by no more than a little over their distance.
        step = 1.2 * (high - low) / 4096
        return float(results.min()) - step, float(results.max()) + step
    return low, high
