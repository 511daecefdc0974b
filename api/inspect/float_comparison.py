"""
A run of a program against the float model, operation by operation, and its outputs against the model as it was given.

Both ways execute the program itself on the reference engine. Accumulated: unchanged. Isolated: as soon as an operation
has written a part of its result, the float model's numbers, rounded to the result's format, replace it, so that the
next reader gets the float model's value. Rows of padding are skipped, since they influence nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sta.api.inspect.float_model import FloatModel, FloatTensor, Order
from sta.api.inspect.signal_to_noise import Agreement
from sta.dialect.nm import LinearOp, ProductOp
from sta.frontend.errors import ModelError
from sta.passes.options import StageProgress
from sta.runtime import Program
from sta.runtime.program import POISON
from sta.runtime.reference import ReferenceEngine
from sta.runtime.values.model_values import Value, values_of
from sta.runtime.values.observed_run import run_values
from sta.runtime.values.value_writes import OUTPUT, ValueWrites, output_values, value_writes
from sta.spec.pattern import Pattern

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Array = NDArray[Any]
Sample = tuple[Mapping[str, Array], Mapping[str, Array]]
"""The inputs of a run by name, for the host and as the device's integers."""
NO_TENSOR = "is no tensor of the float model"
"""The reason for values that the float model does not have, as norms with columns that SmoothQuant divided."""
PRODUCTS = (LinearOp.name, ProductOp.name)
"""The operations with weights that a compile prunes, as a debug map names them."""


@dataclass(frozen=True)
class Compared:
    """An operation of the program, and the agreement of its result with the float model's."""

    value: Value
    tensor: FloatTensor
    isolated: Agreement
    accumulated: Agreement
    pruned: Pattern | None
    """The pattern to which the compile pruned its weights, on purpose; None if it did not."""

    @property
    def path(self) -> str:
        """The path of the module; for an output the path of its producer's module."""
        return self.value.name or self.tensor.path

    @property
    def float_operation(self) -> str:
        """The operation of the float model with this result; earlier ones may be part of it."""
        return self.tensor.operation

    def is_wrong(self, decibels: float) -> bool:
        """True if it is below a bound by itself, and not for weights that were pruned."""
        return self.pruned is None and self.isolated.decibels < decibels

    def to_json(self) -> dict[str, Any]:
        """Returns all figures, for JSON."""
        output = {"output": self.value.source} if self.value.operation == OUTPUT else {}
        return {
            "module": self.path,
            "operation": self.value.operation,
            "float_operation": self.float_operation,
            **output,
            "instructions": [self.value.first, self.value.last],
            "shape": list(self.value.shape),
            "type": self.value.dtype.name,
            "scale": self.value.scale,
            "zero_point": self.value.zero_point,
            "pruned": None if self.pruned is None else str(self.pruned),
            "isolated": self.isolated.to_json(),
            "accumulated": self.accumulated.to_json(),
        }


@dataclass(frozen=True)
class OriginalOutput:
    """An output of the model as it was given, beside that of the program and of the float model in between."""

    name: str
    program: Agreement
    float_model: Agreement

    def to_json(self) -> dict[str, Any]:
        """Returns all that there is to say, for JSON to hold."""
        return {
            "output": self.name,
            "program": self.program.to_json(),
            "float_model": self.float_model.to_json(),
        }


@dataclass(frozen=True)
class Comparison:
    """All operations in the order of their completion."""

    compared: list[Compared]
    unseen: list[tuple[Value, str]]
    """Values that are not compared, with the reasons."""
    samples: int
    runner: str
    """Name of the runner of the model as it was given."""
    originals: list[OriginalOutput]
    """The outputs of the model as it was given; none if it could not be run."""
    not_run: str
    """The reason if it could not; "" if it was."""
    is_pruned: bool = False
    """True if the float model has the weights after the compile's pruning."""

    def departed(self, decibels: float) -> OriginalOutput | None:
        """
        The output in which already the float model is below a bound against the model as it was given, or None; one
        after pruning departs on purpose.
        """
        if self.is_pruned:
            return None
        return next((one for one in self.originals if not one.float_model.decibels >= decibels), None)

    def worst_first(self) -> list[Compared]:
        """The operations, the worst by itself first."""
        return sorted(self.compared, key=lambda one: one.isolated.decibels)

    def first_below(self, decibels: float) -> Compared | None:
        """The first operation whose accumulated SQNR is below a bound; None if there is none."""
        return next((one for one in self.compared if one.accumulated.decibels < decibels), None)

    def first_wrong(self, decibels: float) -> Compared | None:
        """The first operation below a bound by itself, though its weights are the float model's; None if none is."""
        return next((one for one in self.compared if one.is_wrong(decibels)), None)

    def worst_until(self, last: Compared) -> Compared:
        """The worst operation by itself up to a given one."""
        return min(self.compared[: self.compared.index(last) + 1], key=lambda one: one.isolated.decibels)


def compare(
    program: Program, model: FloatModel, samples: Sequence[Sample], names: tuple[str, str], report: StageProgress
) -> Comparison:
    """
    Compares a program with the model that it was compiled from.

    Args:
        program: the program.
        model: the model.
        samples: the inputs of each run.
        names: what messages call the program and the model.
        report: is told how far it is.

    Raises:
        ContainerError: the debug map is damaged.
        ValueError: program and model do not belong together, the debug map lacks what it takes, or the inputs fit
            neither.
        ProgramError: a run failed.
    """
    program.check()
    _check_inputs(program, model, names)
    values = [*_known(program, names[0]), *output_values(program.valid)]
    tensors = [_tensor(model, value, names) for value in values]
    writes = value_writes(program.valid, values)
    run = _Comparer(program, model, writes, tensors, report)
    for number, sample in enumerate(samples):
        run.add(sample, number, len(samples))
    return run.result(len(samples))


def model_of(
    program: Program,
    model: Path | ExportedProgram,
    names: tuple[str, str],
    report: StageProgress,
    after_pruning: bool = False,
) -> FloatModel:
    """
    The float model in the program's form: packed projections split, or whole as in a program of a quantized model.

    So a program compiled from the output of `sta quantize` can be compared with the float model, too.

    Args:
        program: the program.
        model: the model, or the file of one.
        names: what messages call the program and the model.
        report: is told how far it is.
        after_pruning: gives the model's layers the zeros that the compile gave them.

    Raises:
        ModelError: the model cannot be imported.
        ContainerError: the debug map is damaged.
        ValueError: program and model do not belong together, or the debug map lacks what it takes; or the compile has
            pruned nothing.
    """
    if after_pruning and not program.pruned:
        raise ValueError(f"{names[0]}: the compile pruned no layer: leave out --pruned")
    split = FloatModel(model, program.target, report, pruned=program.pruned if after_pruning else None)
    values = [*_known(program, names[0]), *output_values(program.valid)]
    if all(_fits(split, value) for value in values):
        return split
    whole = FloatModel(model, program.target, report, False, program.pruned if after_pruning else None)
    return whole if all(_fits(whole, value) for value in values) else split


def _fits(model: FloatModel, value: Value) -> bool:
    """True if the value is a tensor of the model, and the model has it."""
    if not value.source or value.scale is None:
        return True
    found = _found(model, value)
    return found is not None and bool(found.orders(value.shape))


def _found(model: FloatModel, value: Value) -> FloatTensor | None:
    return model.output(value.source) if value.operation == OUTPUT else model.tensor(value.source)


def _known(program: Program, name: str) -> list[Value]:
    values = values_of(program.container)
    if not any(value.source for value in values):
        raise ValueError(
            f"{name}: its debug map does not say which tensors of the float model its values are: compile the model "
            "again"
        )
    return values


def _check_inputs(program: Program, model: FloatModel, names: tuple[str, str]) -> None:
    given, expected = {one.name: tuple(one.shape) for one in program.inputs}, model.input_shapes
    for name in sorted({*given, *expected}):
        if given.get(name) != expected.get(name):
            sides = [f"is {list(shape)}" if shape else "is missing" for shape in (given.get(name), expected.get(name))]
            raise ValueError(
                f"{names[0]} was not compiled from {names[1]}: input {name!r} {sides[0]} in the program and {sides[1]} "
                "in the model"
            )


def _tensor(model: FloatModel, value: Value, names: tuple[str, str]) -> FloatTensor | None:
    """The tensor of the model for a value; None if there is none."""
    if not value.source or value.scale is None:
        return None
    is_output = value.operation == OUTPUT
    found = _found(model, value)
    what = f"output {value.source!r}" if is_output else f"{value.name}: {value.operation} computes {value.source!r}"
    if found is None:
        raise ValueError(f"{names[0]} was not compiled from {names[1]}: {what}, which the model does not have")
    if not found.orders(value.shape):
        raise ValueError(
            f"{names[0]} was not compiled from {names[1]}: {what}, {list(value.shape)} in the program and "
            f"{list(found.shape)} in the model"
        )
    return found


class _Comparer:
    """Runs sample after sample."""

    def __init__(
        self,
        program: Program,
        model: FloatModel,
        writes: ValueWrites,
        tensors: Sequence[FloatTensor | None],
        report: StageProgress,
    ) -> None:
        self._model, self._writes, self._report = model, writes, report
        self._engine = ReferenceEngine(program.valid)
        self._pruned = {} if model.is_pruned else program.pruned
        self._tensors = {
            index: tensor for index, tensor in enumerate(tensors) if tensor is not None and index in writes.last
        }
        self._orders: dict[int, Order] = {}
        self._isolated = {index: Agreement(self._scale(index)) for index in self._tensors}
        self._accumulated = {index: Agreement(self._scale(index)) for index in self._tensors}
        outputs = {index: writes.values[index] for index in self._tensors if writes.values[index].operation == OUTPUT}
        self._originals = {
            index: OriginalOutput(value.source, Agreement(self._scale(index)), Agreement(self._scale(index)))
            for index, value in outputs.items()
        }
        self._not_run = ""

    def add(self, sample: Sample, number: int, of: int) -> None:
        """Runs one sample in float and twice in integers."""

        def progress(part: float) -> None:
            self._report("compare", (number + part) / of)

        wanted = {tensor.value for tensor in self._tensors.values()}
        inputs, encoded = sample
        floats = self._model.run(inputs, wanted)
        accumulated = run_values(self._engine, self._writes, encoded, {}, POISON, lambda done: progress(done / 2))
        references: dict[int, Array] = {}
        counted: dict[int, NDArray[np.bool_]] = {}
        for index, tensor in self._tensors.items():
            real = self._real(index, accumulated[index])
            every = self._model.counted(inputs, tensor)
            reference = floats[tensor.value].reshape(-1)
            order = self._order(index, tensor, np.where(every, reference, np.nan), real)
            references[index], counted[index] = reference[order], every[order]
            self._accumulated[index].add(references[index][counted[index]], real[counted[index]])
        self._compare_original(inputs, accumulated, references, counted)
        rounded = {index: self._rounded(index, reference) for index, reference in references.items()}
        isolated = run_values(
            self._engine, self._writes, encoded, rounded, POISON, lambda done: progress((1 + done) / 2)
        )
        for index, reference in references.items():
            real = self._real(index, isolated[index])
            self._isolated[index].add(reference[counted[index]], real[counted[index]])

    def _compare_original(
        self,
        inputs: Mapping[str, Array],
        accumulated: Mapping[int, Array],
        references: Mapping[int, Array],
        counted: Mapping[int, NDArray[np.bool_]],
    ) -> None:
        """Compares the outputs, of the program and of the float model, with those of the model as it was given."""
        if self._not_run:
            return
        try:
            outputs = self._model.original(inputs)
        except ModelError as error:
            self._not_run = str(error)
            self._originals.clear()
            return
        for index, one in self._originals.items():
            kept, order = counted[index], self._orders[index]
            original = outputs[one.name].reshape(-1)[order][kept]
            one.program.add(original, self._real(index, accumulated[index])[kept])
            one.float_model.add(original, references[index][kept])

    def result(self, samples: int) -> Comparison:
        """Returns the comparison."""
        order = sorted(self._tensors, key=lambda index: (self._writes.last[index], index))
        values = self._writes.values
        compared = [
            Compared(
                values[index],
                self._tensors[index],
                self._isolated[index],
                self._accumulated[index],
                self._pruned.get(values[index].name) if values[index].operation in PRODUCTS else None,
            )
            for index in order
        ]
        unseen = [(value, self._reason(index)) for index, value in enumerate(values) if index not in self._tensors]
        originals = list(self._originals.values())
        pruned = self._model.is_pruned
        return Comparison(compared, unseen, samples, self._model.runner, originals, self._not_run, pruned)

    def _reason(self, index: int) -> str:
        if index in self._writes.last:
            return NO_TENSOR
        return "shares its buffer with others of the same module, so that it cannot be told from them"

    def _scale(self, index: int) -> float:
        return self._writes.values[index].scale or 1.0

    def _real(self, index: int, integers: Array) -> NDArray[np.float64]:
        return self._writes.values[index].real(integers)

    def _rounded(self, index: int, reference: Array) -> Array:
        """The float model's numbers in the format of a value, saturated."""
        value = self._writes.values[index]
        limits = np.iinfo(value.dtype)
        scaled = np.rint(reference.astype(np.float64) / self._scale(index)) + value.zero_point
        return np.clip(scaled, limits.min, limits.max).astype(value.dtype)

    def _order(self, index: int, tensor: FloatTensor, reference: Array, real: Array) -> Order:
        """
        The order in which the program holds the float model's numbers; NaN marks those that do not count. Several
        orders have one shape only if axes are equally long; the first sample decides between them.
        """
        if index not in self._orders:
            orders = tensor.orders(self._writes.values[index].shape)
            errors = [float(np.nansum(np.square(reference[order] - real))) for order in orders]
            self._orders[index] = orders[int(np.argmin(errors))]
        return self._orders[index]
