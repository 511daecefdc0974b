"""
A candidate of the choice of formats: a copy of the module, prepared by a plan.

A candidate is made from the one that was kept before it, by the methods in which their plans differ: nothing is
smoothed or rounded twice. Its arrays are its own and vanish with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.tensor_names import BESIDE
from sta.dialect.ir.text import named_array
from sta.passes.quantization.calibrate import RangeObserver, set_range
from sta.passes.quantization.calibration_observer import RowObserver
from sta.passes.quantization.gptq import round_weights
from sta.passes.quantization.integer_weights import row_scales
from sta.passes.quantization.noise import Noise
from sta.passes.quantization.plan import Plan
from sta.passes.quantization.range_by_error import range_by_error
from sta.passes.quantization.smoothquant import smooth
from sta.passes.quantization.workers import in_parallel
from sta.passes.rewriting.torch_operations import TorchBuilder, literal_of, operations_of
from sta.passes.torch.quantize import narrow_kind, quantize

Array = NDArray[Any]
Progress = Callable[[int], None]


def _silent() -> None:
    """Says nothing about progress."""


@dataclass
class Candidate:
    """A calibrated module before its values are rounded, and the observations of its values."""

    module: ModuleOp
    context: CompileContext
    observers: MutableMapping[SSAValue, RangeObserver]
    plan: Plan = field(default_factory=Plan)
    """Methods that were applied to the module."""
    rounded: dict[str, str] = field(default_factory=dict[str, str])
    """Names in the store of weights rounded to 8 bits, by the name of the weights."""

    def copy(self) -> Candidate:
        """A candidate of its own; arrays are shared, and later ones are not."""
        module = self.module.clone()
        places: dict[SSAValue, SSAValue] = {}
        for before, after in zip(operations_of(self.module), operations_of(module), strict=True):
            places.update(zip(before.results, after.results, strict=True))
        arguments = (main_function(one).body.block.args for one in (self.module, module))
        places.update(zip(*arguments, strict=True))
        observers = {places[value]: observer for value, observer in self.observers.items() if value in places}
        return Candidate(module, self.context.clone(), observers, self.plan, dict(self.rounded))

    def prepare(self, plan: Plan, progress: Progress = lambda products: None) -> None:
        """
        Applies the methods of `plan` that were not applied before; `progress` is that of GPTQ.

        Each works on what those before it left: smoothing, ranges, weights.
        """
        store = self.context.weights
        if plan.smoothing is not None and self.plan.smoothing is None:
            smooth(self.module, store, self.observers, plan.smoothing)
        if plan.ranges_by_error and not self.plan.ranges_by_error:
            _set_narrow_ranges(self.module, self.observers)
        if plan.weights_by_calibration and not self.plan.weights_by_calibration:
            # They are on the grid already.
            names = round_weights(self.module, store, self.observers, progress)
            self.rounded.update(zip(names, names, strict=True))
        self.plan = plan

    def round_weights(self) -> None:
        """Rounds the weights of linear layers to 8 bits, as the conversion to integers will; the module stays."""
        store = self.context.weights
        literals = (literal_of(layer.weight) for layer in _layers(self.module))
        used = dict.fromkeys(literal.resource for literal in literals if literal is not None)
        missing = [name for name in used if name is not None and name not in self.rounded]

        def put(result: tuple[str, Array]) -> None:
            name, array = result
            self.rounded[name] = store.put_unique(f"{name}.rounded", array)

        in_parallel(lambda name: (name, rounded_weights(store.get(name))), missing, put)

    def quantized(self, int16_inputs: tuple[str, ...]) -> Candidate:
        """A copy whose values and weights are rounded."""
        self.round_weights()
        copy = self.copy()
        store = copy.context.weights
        quantize(copy.module, store, int16_inputs)
        for layer in _layers(copy.module):
            literal = literal_of(layer.weight)
            name = None if literal is None or literal.resource is None else copy.rounded[literal.resource]
            if name is not None:
                layer.operands = [layer.input, TorchBuilder(layer, store).literal(store.get(name), name), layer.bias]
        return copy

    def forget_rounded(self) -> None:
        """Drops the weights rounded to 8 bits, which the next judgement needs again."""
        self.rounded = {}
        self.forget_unused()

    @property
    def costs_cycles(self) -> bool:
        """True if its plan gave the program work of its own: normalizations with divided columns beside others."""
        return any(operation.attributes.get(torch.SMOOTHED) == BESIDE for operation in operations_of(self.module))

    def forget_unused(self) -> None:
        """Drops the arrays that the module does not use any more."""
        used = {name for operation in self.module.walk() if (name := named_array(operation)) is not None}
        self.rounded = {name: rounded for name, rounded in self.rounded.items() if name in used}
        self.context.weights.forget({*used, *self.rounded.values()})

    def decibels(self, noise: Noise, int16_inputs: tuple[str, ...], progress: Callable[[], None] = _silent) -> float:
        """The SQNR of its outputs once its values are rounded; `progress` is called after each sample."""
        quantized = self.quantized(int16_inputs)
        return noise.decibels(quantized.module, quantized.context, progress)


def _layers(module: ModuleOp) -> list[torch.LinearOp]:
    return [operation for operation in operations_of(module) if isinstance(operation, torch.LinearOp)]


def _set_narrow_ranges(module: ModuleOp, observers: Mapping[SSAValue, RangeObserver]) -> None:
    function = main_function(module)
    narrow = [
        (value, observer, kind == "symmetric")
        for value, observer in observers.items()
        if isinstance(observer, RowObserver) and (kind := narrow_kind(value)) is not None
    ]
    in_parallel(
        lambda one: (one[0], range_by_error(one[1], one[2])),
        narrow,
        lambda found: set_range(function, found[0], *found[1], torch.NARROW_RANGE),
    )


def rounded_weights(weights: Array) -> Array:
    """Weights [n, k] rounded to 8 bits, float32: symmetric, each row with the scale of its largest weight."""
    scales = row_scales(weights)[:, np.newaxis]
    # In place: a new array costs as much as a step.
    rounded = weights / scales
    np.rint(rounded, out=rounded)
    rounded *= scales
    return rounded.astype(np.float32, copy=False)
