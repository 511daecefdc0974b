"""
The range of every float value of a module, seen on samples; and what attention loses with 8-bit exponentials.

Not a pass: it needs data. The ranges are written down as the attribute `sta.range` (two float64: lowest, highest) of
the operation that computes the value, and of the function's argument, where `torch-quantize` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import DenseArrayBase, DictionaryAttr, FloatAttr, ModuleOp, f64
from xdsl.dialects.func import FuncOp
from xdsl.interpreter import PythonValues
from xdsl.ir import Attribute, BlockArgument, Operation, SSAValue

from sta.dialect import torch
from sta.dialect.context import CompileContext
from sta.dialect.location import describe
from sta.dialect.torch_interpreter import TorchInterpretationError, input_names, main_function, run_torch
from sta.passes.probability_bits import LOSS, NarrowFidelity
from sta.passes.torch_rewriting import set_argument_attribute

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]
Progress = Callable[[int], None]

RANGE = "sta.range"
"""The attribute that holds a range."""


class RangeObserver(Protocol):
    """Sees a value in every sample and decides on the range that its quantization covers."""

    def update(self, values: Array) -> None:
        """See the float32 array that the value is in one sample."""
        ...

    def range(self) -> tuple[float, float]:
        """The lowest and highest number to be represented."""
        ...


class ExtremesObserver:
    """The lowest and highest number that ever occurred."""

    def __init__(self) -> None:
        self._low = float("inf")
        self._high = float("-inf")

    def update(self, values: Array) -> None:
        """See the float32 array that the value is in one sample."""
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))

    def range(self) -> tuple[float, float]:
        """The lowest and highest number to be represented."""
        return self._low, self._high


def calibrate(
    module: ModuleOp,
    context: CompileContext,
    samples: Iterable[Mapping[str, Array]],
    progress: Progress | None = None,
    observer: Callable[[], RangeObserver] = ExtremesObserver,
) -> int:
    """
    Run `module` on every sample, inputs by name, and set `sta.range` on what it computes, and on each attention what it
    loses with 8-bit exponentials (`sta.narrow_fidelity`).

    `progress` is called with the number of samples done. `observer` makes what chooses each value's range. Returns the
    number of samples; raises ValueError if there are none, if one cannot be run, or if a value is not finite.
    """
    function = main_function(module)
    arguments = dict(zip(input_names(function), function.body.block.args, strict=True))
    observers: dict[SSAValue, RangeObserver] = {}
    attentions: dict[torch.ScaledDotProductAttentionOp, NarrowFidelity] = {}

    def observe(value: SSAValue, result: Tensor, operands: PythonValues) -> None:
        if not torch.tensor_type(value).is_float:
            return
        if isinstance(value.owner, torch.ScaledDotProductAttentionOp):
            query, key, values, mask, _, causal, scale, _ = operands
            seen = attentions.setdefault(value.owner, NarrowFidelity())
            seen.update(query, key, values, mask, causal, query.shape[-1] ** -0.5 if scale is None else scale)
        if value not in observers:
            observers[value] = observer()
        observers[value].update(result.numpy())

    count = 0
    for sample in samples:
        try:
            run_torch(module, context, sample, observe)
        except TorchInterpretationError as error:
            raise ValueError(f"calibration sample {count}: {error}") from error
        for name, argument in arguments.items():
            _observe_input(observers, observer, argument, sample[name])
        count += 1
        if progress is not None:
            progress(count)
    if count == 0:
        raise ValueError("calibration needs at least one sample")
    for value, seen in observers.items():
        _set_range(function, value, *seen.range())
    for attention, fidelity in attentions.items():
        attention.attributes[LOSS] = FloatAttr(fidelity.decibels(), f64)
    return count


def _observe_input(
    observers: dict[SSAValue, RangeObserver], observer: Callable[[], RangeObserver], argument: SSAValue, array: Array
) -> None:
    if not torch.tensor_type(argument).is_float or argument.first_use is None:
        return
    observers.setdefault(argument, observer()).update(array)


def _set_range(function: FuncOp, value: SSAValue, low: float, high: float) -> None:
    if not np.isfinite([low, high]).all():
        where = describe(value.owner) if isinstance(value.owner, Operation) else "an input"
        raise ValueError(
            f"{where}: values that are not finite on the calibration samples: look at this layer's weights and at the "
            "samples"
        )
    attribute = DenseArrayBase.from_list(f64, [low, high])
    if isinstance(value, BlockArgument):
        set_argument_attribute(function, value.index, RANGE, attribute)
        return
    operation = value.owner
    assert isinstance(operation, Operation)
    operation.attributes[RANGE] = attribute


def range_of(function: FuncOp, value: SSAValue) -> tuple[float, float] | None:
    """The calibrated range of `value`; None if it has none."""
    if not isinstance(value, BlockArgument):
        return _pair(value.owner.attributes.get(RANGE)) if isinstance(value.owner, Operation) else None
    attributes = function.arg_attrs.data[value.index] if function.arg_attrs is not None else DictionaryAttr({})
    return _pair(attributes.data.get(RANGE))


def _pair(attribute: Attribute | None) -> tuple[float, float] | None:
    if attribute is None:
        return None
    if not isinstance(attribute, DenseArrayBase):
        raise ValueError(f"{RANGE} is an array of two float64, not {attribute}")
    low, high = (float(number) for number in attribute.get_values())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType, reportUnknownMemberType]
    return low, high
