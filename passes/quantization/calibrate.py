"""
The range of every float value of a module, observed on samples; and the loss of attention with 8-bit exponentials.

The ranges become the annotation `sta.range` of the value's operation, or of the function's argument, for
`torch-quantize`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import DictionaryAttr, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.interpreter import PythonValues
from xdsl.ir import BlockArgument, Operation, SSAValue

from sta.dialect import torch
from sta.dialect.interpreters.torch import TorchInterpretationError, input_names, run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.location import describe
from sta.dialect.ir.main_function import main_function
from sta.passes.quantization.mask_depth import MaskDepths
from sta.passes.quantization.padding_rows import counted_rows, padding_mask
from sta.passes.quantization.probability_bits import NarrowFidelity
from sta.passes.quantization.workers import in_parallel
from sta.passes.rewriting.torch_operations import set_argument_attribute

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]


class RangeObserver(Protocol):
    """Observer of a value in every sample, which decides on the range of its quantization."""

    def update(self, values: Array) -> None:
        """Observes the float32 rows [rows, width] of the value in one sample."""
        ...

    def range(self) -> tuple[float, float]:
        """The lowest and highest number to be represented."""
        ...


class ExtremesObserver:
    """The lowest and highest number that ever occurred, of each column."""

    def __init__(self) -> None:
        self.low: Array = np.array(np.inf)
        """[width]."""
        self.high: Array = np.array(-np.inf)
        """[width]."""

    def update(self, values: Array) -> None:
        """Observes the float32 rows [rows, width] of the value in one sample."""
        self.low = np.minimum(self.low, values.min(axis=0))
        self.high = np.maximum(self.high, values.max(axis=0))

    def range(self) -> tuple[float, float]:
        """The lowest and highest number to be represented."""
        return float(self.low.min()), float(self.high.max())


def calibrate(
    module: ModuleOp,
    context: CompileContext,
    samples: Sequence[Mapping[str, Array]],
    progress: Callable[[int], None] = lambda done: None,
    observer: Callable[[SSAValue], RangeObserver] = lambda value: ExtremesObserver(),
) -> dict[SSAValue, RangeObserver]:
    """
    Runs `module` on every sample, inputs by name, and sets `sta.range` on every value, and on each attention its loss
    with 8-bit exponentials (`sta.narrow_fidelity`).

    Positions excluded by a padding mask do not count (`sta.passes.quantization.padding_rows`). `progress` is called
    with the number of samples done. `observer` creates the observer of a value's range. Returns the observers; raises
    ValueError if there are no samples, if one cannot be run, or if a value is not finite.
    """
    observation = Observation(module, context, observer)
    observation.update(samples, progress)
    observation.write()
    return observation.observers


@dataclass(frozen=True)
class _Run:
    """One run of a sample."""

    sample: Mapping[str, Array]
    outputs: dict[str, Array]
    seen: list[tuple[SSAValue, Tensor, PythonValues]]
    """Float values, and the operands of those that are attention."""


class Observation:
    """Statistics of a module's values, collected sample by sample; for the arguments see `calibrate`."""

    def __init__(
        self, module: ModuleOp, context: CompileContext, observer: Callable[[SSAValue], RangeObserver]
    ) -> None:
        self._module = module
        self._context = context
        self._observer = observer
        self._function = main_function(module)
        self._mask = padding_mask(module, context.weights)
        self._count = 0
        self.observers: dict[SSAValue, RangeObserver] = {}
        self._attentions: dict[torch.ScaledDotProductAttentionOp, NarrowFidelity] = {}
        self._depths = MaskDepths()

    def update(self, samples: Sequence[Mapping[str, Array]], progress: Callable[[int], None]) -> dict[str, Array]:
        """
        Runs samples and observes their values; `progress` is called after each with the number of all so far. Returns
        the outputs of the last by name. Raises ValueError if one fails.
        """
        outputs: dict[str, Array] = {}

        def observe(run: _Run) -> None:
            nonlocal outputs
            outputs = run.outputs
            self._observe(run)
            progress(self._count)

        in_parallel(self._run, list(enumerate(samples, self._count)), observe)
        return outputs

    def _run(self, numbered: tuple[int, Mapping[str, Array]]) -> _Run:
        """The values of a sample; statistics are the caller's, in the order of the samples."""
        index, sample = numbered
        seen: list[tuple[SSAValue, Tensor, PythonValues]] = []

        def note(value: SSAValue, result: Tensor, operands: PythonValues) -> None:
            if torch.tensor_type(value).is_float:
                is_attention = isinstance(value.owner, torch.ScaledDotProductAttentionOp)
                seen.append((value, result, operands if is_attention else ()))

        try:
            outputs = run_torch(self._module, self._context, sample, note)
        except TorchInterpretationError as error:
            raise ValueError(f"calibration sample {index}: {error}") from error
        return _Run(sample, outputs, seen)

    def _observe(self, run: _Run) -> None:
        sample = run.sample
        counted = None if self._mask is None else self._mask.counted(sample)
        for value, result, operands in run.seen:
            self._see_attention(value, operands)
            self._see(value, result.numpy(), counted)
        arguments = zip(input_names(self._function), self._function.body.block.args, strict=True)
        for name, argument in arguments:
            if torch.tensor_type(argument).is_float and argument.first_use is not None:
                self._see(argument, sample[name], counted)
        self._count += 1

    def _see(self, value: SSAValue, array: Array, counted: Array | None) -> None:
        if value not in self.observers:
            self.observers[value] = self._observer(value)
        self.observers[value].update(counted_rows(array, counted))

    def _see_attention(self, value: SSAValue, operands: PythonValues) -> None:
        if not isinstance(value.owner, torch.ScaledDotProductAttentionOp):
            return
        query, key, values, mask, _, causal, scale, _, *biases = operands
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        seen = self._attentions.setdefault(value.owner, NarrowFidelity())
        seen.update(query, key, values, mask, causal, scale, *biases)
        self._depths.update(value.owner, query, key, mask, causal, scale, *biases)

    def write(self) -> None:
        """
        Sets the observations as attributes.

        Raises ValueError if there were no samples or a value is not finite, UnsupportedOperationsError for masks whose
        numbers do not exclude keys.
        """
        if self._count == 0:
            raise ValueError("calibration needs at least one sample")
        self._depths.check()
        for value, seen in self.observers.items():
            set_range(self._function, value, *seen.range())
        for attention, fidelity in self._attentions.items():
            attention.attributes[torch.NARROW_FIDELITY] = torch.DecibelsAttr(fidelity.decibels())


def set_range(function: FuncOp, value: SSAValue, low: float, high: float, name: str = torch.RANGE) -> None:
    """Sets the range of `value`. Raises ValueError, naming the layer, if it is not finite."""
    if not np.isfinite([low, high]).all():
        where = describe(value.owner) if isinstance(value.owner, Operation) else "an input"
        raise ValueError(
            f"{where}: values that are not finite on the calibration samples: look at this layer's weights and at the "
            "samples"
        )
    attribute = torch.RangeAttr(low, high)
    if isinstance(value, BlockArgument):
        set_argument_attribute(function, value.index, name, attribute)
        return
    operation = value.owner
    assert isinstance(operation, Operation)
    operation.attributes[name] = attribute


def range_of(function: FuncOp, value: SSAValue, name: str = torch.RANGE) -> tuple[float, float] | None:
    """The calibrated range of `value`; None if it has none."""
    if isinstance(value, BlockArgument):
        noted = DictionaryAttr({}) if function.arg_attrs is None else function.arg_attrs.data[value.index]
        found = noted.data.get(name)
    else:
        found = value.owner.attributes.get(name) if isinstance(value.owner, Operation) else None
    return found.ends if isinstance(found, torch.RangeAttr) else None
