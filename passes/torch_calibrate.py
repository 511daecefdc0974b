"""
Ranges of a float module's values over calibration samples, kept on the operations that make them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import DenseArrayBase, Float64Type, ModuleOp, f64
from xdsl.ir import Attribute, Operation, SSAValue

from sta.dialect import torch
from sta.dialect.context import CompileContext
from sta.dialect.torch_interpreter import input_names, main_function, run_torch
from sta.passes.torch_rewriting import set_argument_attribute

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]
RANGE = "sta.range"
"""
Attribute [lowest, highest] of an operation with a float result, or of a float input.
"""


def calibrate(
    module: ModuleOp,
    context: CompileContext,
    samples: Iterable[Mapping[str, Array]],
    progress: Callable[[int], None] | None = None,
) -> None:
    """
    Runs the module on every sample and sets `sta.range` on each operation with a float result and each float input.

    `progress` is told the number of samples done. Raises ValueError if a value is not finite, naming the layer, and if
    there is no sample.
    """
    ranges: dict[SSAValue, tuple[float, float]] = {}

    def widen(value: SSAValue, low: float, high: float) -> None:
        before = ranges.get(value, (low, high))
        ranges[value] = (min(low, before[0]), max(high, before[1]))

    def observe(value: SSAValue, tensor: Tensor) -> None:
        if torch.tensor_type(value).is_float and tensor.numel():
            low, high = tensor.aminmax()
            widen(value, float(low), float(high))

    function = main_function(module)
    inputs = dict(zip(input_names(function), function.body.block.args, strict=True))
    done = 0
    for sample in samples:
        for name, value in inputs.items():
            if torch.tensor_type(value).is_float:
                widen(value, float(sample[name].min()), float(sample[name].max()))
        run_torch(module, context, dict(sample), observe)
        done += 1
        if progress is not None:
            progress(done)
    if not done:
        raise ValueError("calibration needs at least one sample")
    for value, (low, high) in ranges.items():
        _set_range(module, value, low, high)


def _set_range(module: ModuleOp, value: SSAValue, low: float, high: float) -> None:
    attribute = cast(Attribute, DenseArrayBase.from_list(f64, [low, high]))
    function = main_function(module)
    arguments = list(function.body.block.args)
    for index, argument in enumerate(arguments):
        if argument is value:
            set_argument_attribute(function, index, RANGE, attribute)
            return
    operation = value.owner
    assert isinstance(operation, Operation)
    operation.attributes[RANGE] = attribute


def range_of(module: ModuleOp, value: SSAValue) -> tuple[float, float] | None:
    """
    The calibrated range of a value, widened to hold 0; None if the value was not calibrated.
    """
    function = main_function(module)
    attribute = None
    if value in function.body.block.args:
        index = list(function.body.block.args).index(value)  # pyright: ignore[reportArgumentType] - it is one of them
        entries = function.arg_attrs
        attribute = None if entries is None else entries.data[index].data.get(RANGE)
    elif isinstance(value.owner, Operation):
        attribute = value.owner.attributes.get(RANGE)
    if not isinstance(attribute, DenseArrayBase):
        return None
    low, high = cast("DenseArrayBase[Float64Type]", attribute).get_values()
    if not np.isfinite([low, high]).all():
        return None
    return min(float(low), 0.0), max(float(high), 0.0)
