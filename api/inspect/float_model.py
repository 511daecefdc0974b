"""The float model before quantization, and its tensors in the layouts of a program."""

from __future__ import annotations

import math
from collections.abc import Mapping
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.ir import Operation, SSAValue

from sta.dialect import torch
from sta.dialect.host import device_inputs
from sta.dialect.interpreters.torch import input_names, output_names, run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.location import module_path
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.tensor_names import REARRANGEMENTS, float_names, origin, short_name
from sta.frontend.model import import_model
from sta.frontend.samples import split_samples
from sta.passes.options import StageProgress
from sta.passes.pipeline import FLOAT_PIPELINE, pass_registry
from sta.passes.quantization.padding_rows import counted_rows, padding_mask
from sta.passes.torch.canonicalize_views import TorchCanonicalizeViewsPass, canonicalize_views
from sta.passes.torch.prune import prune
from sta.spec.pattern import Pattern
from sta.spec.target import Target

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

Array = NDArray[Any]
Order = NDArray[np.int64]


class FloatModel:
    """A model, run in float by PyTorch, whose tensors have the names that a program's debug map uses."""

    def __init__(
        self,
        model: Path | ExportedProgram,
        target: Target,
        report: StageProgress,
        split_linears: bool = True,
        pruned: Mapping[str, Pattern] | None = None,
    ) -> None:
        """
        Imports a model, or the file of one, and runs the steps of ``FLOAT_PIPELINE``.

        With ``split_linears`` unset a packed projection of query, key and value stays one linear layer, as in a program
        of a quantized model, which has rounded its result as a whole. Layers get the patterns of `pruned`, by module
        path, as a compile prunes them.

        Raises:
            ModelError: the model cannot be imported.
            ValueError: it has no linear layer at one of the paths of `pruned`.
        """
        report("import", None)
        self._imported = import_model(model)
        assert self._imported.original is not None
        self._original = self._imported.original
        self._module = self._imported.module
        self._context = CompileContext(self._imported.weights, target)
        for name in FLOAT_PIPELINE:
            report(name, None)
            if name == TorchCanonicalizeViewsPass.name:
                canonicalize_views(self._module, self._imported.weights, split_linears)
            else:
                pass_registry()[name]()().apply(self._context, self._module)
        self.is_pruned = bool(pruned)
        """True if it has the weights after pruning."""
        if pruned:
            prune(self._module, self._imported.weights, None, {escape(path): one for path, one in pruned.items()})
        function = main_function(self._module)
        self._padding = padding_mask(self._module, self._context.weights)
        self._values = {name: value for value, name in float_names(function).items()}
        terminator = function.body.block.last_op
        assert isinstance(terminator, func.ReturnOp)
        self._outputs = dict(zip(output_names(function), terminator.arguments, strict=True))

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the inputs by name."""
        return {name: kind.sizes for name, kind in self._imported.input_types.items()}

    def tensor(self, name: str) -> FloatTensor | None:
        """Returns the tensor named ``name`` in a debug map; None if the model has none of this name."""
        value = self._values.get(name)
        return None if value is None else FloatTensor(value)

    def output(self, name: str) -> FloatTensor | None:
        """Returns the tensor of an output; None if the model has none of this name."""
        value = self._outputs.get(name)
        return None if value is None else FloatTensor(value)

    def counted(self, inputs: Mapping[str, Array], tensor: FloatTensor) -> NDArray[np.bool_]:
        """
        Flat mask of a tensor's elements that count. Positions excluded by the model's padding mask do not count, as in
        calibration.
        """
        positions = None if self._padding is None else self._padding.counted(inputs)
        elements = np.arange(math.prod(tensor.shape)).reshape(tensor.shape)
        result = np.zeros(elements.size, np.bool_)
        result[counted_rows(elements, positions)] = True
        return result

    @property
    def runner(self) -> str:
        """Name of the runner of the model as it was given: "PyTorch", "onnxruntime"."""
        return self._original.name

    def original(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """
        Runs the model as it was given, without import and float passes, and returns its outputs by name.

        Raises:
            ModelError: the inputs do not fit the model, or what runs it cannot.
        """
        return self._original.run(self._sample(inputs))

    def _sample(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return split_samples({name: array[np.newaxis] for name, array in inputs.items()}, self._imported.input_types)[0]

    def run(self, inputs: Mapping[str, Array], wanted: set[SSAValue]) -> dict[SSAValue, Array]:
        """
        Runs the model on inputs by name, and returns the requested tensors.

        Raises:
            ModelError: the inputs do not fit the model.
            TorchInterpretationError: an operation failed.
        """
        sample = self._sample(inputs)
        found: dict[SSAValue, Array] = {}

        def observe(value: SSAValue, result: Tensor, operands: Any) -> None:
            if value in wanted:
                found[value] = result.numpy().copy()

        function = main_function(self._module)
        given = device_inputs(self._module, self._context.weights, sample)
        for name, argument in zip(input_names(function), function.body.block.args, strict=True):
            if argument in wanted:
                found[argument] = given[name]
        run_torch(self._module, self._context, sample, observe)
        return found


class FloatTensor:
    """A tensor of the float model, and the possible orders of its elements in a program."""

    def __init__(self, value: SSAValue) -> None:
        self.value = value

    @property
    def operation(self) -> str:
        """The operation that defines it, past rearrangements: `gelu`, `linear`, `add`."""
        return short_name(origin(self.value))

    @property
    def path(self) -> str:
        """The path of its producer's module; "" for an input."""
        owner = origin(self.value).owner
        return module_path(owner) if isinstance(owner, Operation) else ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return torch.sizes_of(self.value)

    def orders(self, shape: tuple[int, ...]) -> list[Order]:
        """
        The possible orders of elements in a buffer of this shape, as positions in the flattened tensor.

        The compiler moves views through operations: a buffer holds a tensor directly, in the order of later views, or
        in the order before the views of an operand. Orders of another shape are considered only if none has this one.
        """
        if math.prod(shape) != math.prod(self.shape):
            return []
        start = np.arange(math.prod(shape)).reshape(self.shape)
        found = [start, *_after(self.value, start), *_before(self.value, start)]
        same = [order for order in found if _without_ones(order.shape) == _without_ones(shape)] or found
        distinct = {order.tobytes(): order.reshape(-1) for order in map(np.ascontiguousarray, same)}
        return list(distinct.values())


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _after(value: SSAValue, order: Order) -> list[Order]:
    """The orders that result from the rearrangements after a value."""
    found: list[Order] = []
    for use in value.uses:
        operation = use.operation
        if not isinstance(operation, REARRANGEMENTS):
            continue
        result = order
        if isinstance(operation, torch.PermuteOp):
            result = order.transpose(operation.axes)
        elif isinstance(operation, torch.ViewOp):
            result = order.reshape(torch.sizes_of(operation.result))
        found += [result, *_after(operation.result, result)]
    return found


def _before(value: SSAValue, order: Order) -> list[Order]:
    """The orders of a value before the rearrangements of an operand, if they were done after it."""
    operation = value.owner
    found: list[Order] = []
    operands = operation.operands if isinstance(operation, Operation) else ()
    for operand in operands:
        if not isinstance(operand.type, torch.VTensorType) or torch.sizes_of(operand) != order.shape:
            continue
        undone, current = order, operand
        while isinstance(current.owner, REARRANGEMENTS):
            rearrangement = current.owner
            if isinstance(rearrangement, torch.PermuteOp):
                undone = undone.transpose(np.argsort(rearrangement.axes))
            elif isinstance(rearrangement, torch.ViewOp):
                undone = undone.reshape(torch.sizes_of(rearrangement.input))
            current = rearrangement.operands[0]
            found.append(undone)
    return found
