"""
The number format of every value: 8 or 16 bits, and a scale.

The rows of the operators hold the policy (`sta.spec.operators`: the forms that each accepts). Operands of products are
8 bits wide: the input of a linear layer with a zero point, query, key and value of attention and the second factor of a
product of two values without. The residual
stream and everything else between products is 16 bits wide and symmetric: operands of additions, of products of two
values, of normalizations and of activations, and outputs. A value with both kinds of consumers is 16 bits wide, and
rounded once more to 8 for the products. A linear layer with a 16-bit input by request reads the stream's value in two
passes, at twice the cycles. A linear layer whose only use is an addition stays in the accumulators and is not rounded
before it. Scales come from the calibrated ranges (`sta.range`); scales of tables and constants from their own values.
Weights, biases and the parameters of normalizations stay float here.

The result is the module with a `torch.fake_quantize` on every stored value, which `convert-torch-to-nm` converts to
integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import IntegerType, ModuleOp, i1
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, Operation, SSAValue, Use
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.location import describe, module_path
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.weight_store import WeightStore
from sta.dialect.torch import si8, si16
from sta.passes.quantization.calibrate import range_of
from sta.passes.quantization.layer_selection import check_globs, matches
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.torch_operations import (
    array_of,
    makes_floats_of_integers,
    operations_of,
    replace,
    single_use,
)
from sta.passes.rewriting.uses_through_views import VIEWS, Consumer, consumers_of, redirect
from sta.spec.integers import HEADROOM, NARROW_STEPS, SMALLEST_RANGE, STREAM_LIMIT
from sta.spec.norm import EPSILON_LIMIT
from sta.spec.operators.operator import Form, stored


@dataclass(frozen=True)
class Format:
    """Storage format of a value: real = (integer - zero_point) * scale."""

    storage: IntegerType
    scale: float
    zero_point: int = 0


def symmetric(storage: IntegerType, low: float, high: float) -> Format:
    """The format without zero point with the smallest range around `low` and `high`."""
    largest = max(abs(low), abs(high), SMALLEST_RANGE)
    return Format(storage, _float32(largest / ((1 << (storage.width.data - 1)) - 1)))


def affine(low: float, high: float) -> Format:
    """The 8-bit format with a zero point and the smallest range around `low`, `high` and 0."""
    low, high = min(low, 0.0), max(high, 0.0, min(low, 0.0) + SMALLEST_RANGE)
    scale = _float32((high - low) / NARROW_STEPS)
    return Format(si8, scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))


def whole(low: float, high: float) -> Format:
    """The finest 16-bit format around `low`, `high` and 1 whose step is a power of two: integers keep their numbers."""
    largest = max(abs(low), abs(high), 1.0)
    return Format(si16, 2.0 ** math.ceil(math.log2(largest / STREAM_LIMIT)))


def _smallest_norm_range(norm: torch.NormOp) -> float:
    """
    The smallest range of a norm's input: on a finer scale, its epsilon would exceed the machine's.

    Samples that are zero, or small against epsilon, so compile like any others.

    Raises ValueError for a negative epsilon, which only an edited dump has here.
    """
    width, epsilon = torch.sizes_of(norm.input)[-1], torch.epsilon_of(norm)
    if not epsilon >= 0.0:
        raise ValueError(f"{describe(norm)}: its eps must be a number that is not negative, not {epsilon}")
    smallest_scale = math.sqrt(epsilon) * width / math.sqrt(EPSILON_LIMIT / 2)
    return smallest_scale * STREAM_LIMIT


def _float32(number: float) -> float:
    """`number` rounded to float32, in which fake_quantize computes."""
    return float(np.float32(number))


def quantize(module: ModuleOp, store: WeightStore, int16_inputs: Sequence[str] = ()) -> None:
    """
    Inserts `torch.fake_quantize` into the function `main` of a calibrated module, by the policy of this file.

    `int16_inputs` are globs over the module paths of linear layers whose input has 16 bits. Raises ValueError for a
    glob that matches no linear layer, and for a module that was not calibrated.
    """
    check_int16_inputs(module, int16_inputs)
    hoist_roundings(module)
    quantizer = _Quantizer(main_function(module), store, int16_inputs)
    arguments = [argument for argument in main_function(module).body.block.args if _is_float(argument)]
    for argument in arguments:
        quantizer.visit(argument)
    for operation in operations_of(module):
        if _makes_value(operation):
            quantizer.visit(operation.results[0])
        elif isinstance(operation, torch.LiteralOp) and _is_float(operation.result):
            quantizer.visit_literal(operation)
    erase_dead(module)


def check_int16_inputs(module: ModuleOp, globs: Sequence[str]) -> None:
    """Raises ValueError for the first glob that matches the module path of no linear layer."""
    check_globs(globs, [module_path(op) for op in operations_of(module) if isinstance(op, torch.LinearOp)])


def hoist_roundings(module: ModuleOp) -> None:
    """Rounds each value at its producer if all consumers round it to the same numbers behind rearrangements."""
    values = [*main_function(module).body.block.args]
    values += [op.results[0] for op in operations_of(module) if op.results and not isinstance(op, VIEWS)]
    for value in filter(_is_float, values):
        consumers = consumers_of(value)
        roundings = [one.use.operation for one in consumers if isinstance(one.use.operation, torch.FakeQuantizeOp)]
        formats = {_format(rounding) for rounding in roundings}
        if len(roundings) != len(consumers) or len(formats) != 1 or _is_rounded(value):
            continue
        uses = list(value.uses)
        hoisted = torch.FakeQuantizeOp(value, *_numbers(roundings[0]))
        hoisted.location = roundings[0].location
        owner = value.owner
        Rewriter.insert_op(
            hoisted, InsertPoint.after(owner) if isinstance(owner, Operation) else InsertPoint.at_start(owner)
        )
        for use in uses:
            use.operation.operands[use.index] = hoisted.result
        for rounding in dict.fromkeys(roundings):
            replace(rounding, [rounding.input])


def _format(rounding: torch.FakeQuantizeOp) -> Format:
    scale, zero_point, storage = _numbers(rounding)
    return Format(storage, scale, zero_point)


def _numbers(rounding: torch.FakeQuantizeOp) -> tuple[float, int, IntegerType]:
    return rounding.scale.value.data, rounding.zero_point.value.data, rounding.storage


def _is_rounded(value: SSAValue) -> bool:
    """True if all uses of `value` are roundings: those of a quantized model."""
    return value.first_use is not None and all(isinstance(use.operation, torch.FakeQuantizeOp) for use in value.uses)


def values_without_format(module: ModuleOp, store: WeightStore) -> list[SSAValue]:
    """The values in the function `main` of `module` whose format calibration has to determine."""
    hoist_roundings(module)
    quantizer = _Quantizer(main_function(module), store, ())
    arguments = [argument for argument in main_function(module).body.block.args if _is_float(argument)]
    values = [op.results[0] for op in operations_of(module) if _makes_value(op)]
    return [value for value in (*arguments, *values) if quantizer.lacks_format(value)]


def _is_float(value: SSAValue) -> bool:
    return isinstance(value.type, torch.VTensorType) and value.type.is_float


class _Quantizer:
    def __init__(self, function: FuncOp, store: WeightStore, int16_inputs: Sequence[str]) -> None:
        self._function = function
        self._store = store
        self._int16_inputs = int16_inputs
        self._primaries: dict[SSAValue, Format] = {}
        """Formats of values that were asked for since anything was rounded."""

    def visit(self, value: SSAValue) -> None:
        """Rounds `value` at its producer, and once more for consumers of another format."""
        if value.first_use is None or self._stays_in_accumulators(value) or _is_rounded(value):
            return
        self._primaries.clear()
        wanted = self._wanted(value)
        primary = self._primary(value)
        rounded = self._round(value, primary)
        for kind in dict.fromkeys(kind for _, kind in wanted):
            if kind != primary:
                narrow = self._round(rounded, kind, only=[])
                redirect(rounded, narrow, [consumer for consumer, wants in wanted if wants == kind])

    def _primary(self, value: SSAValue) -> Format:
        """The format in which `value` is stored where it is produced."""
        if value not in self._primaries:
            self._primaries[value] = self._stored(value)
        return self._primaries[value]

    def _stored(self, value: SSAValue) -> Format:
        formats = dict.fromkeys(kind for _, kind in self._wanted(value))
        made_wide = isinstance(value, BlockArgument) or isinstance(value.owner, torch.EmbeddingOp) or _is_whole(value)
        is_wide = all(kind.storage == si16 for kind in formats) and not _is_whole(value)
        return stored(formats, self._stream_format(value), always_stream=made_wide and not is_wide)

    def lacks_format(self, value: SSAValue) -> bool:
        """True if `value` is one that `visit` rounds."""
        return value.first_use is not None and not self._stays_in_accumulators(value) and not _is_rounded(value)

    def visit_literal(self, literal: torch.LiteralOp) -> None:
        """Rounds a constant that is stored like a value: one that is added, normalized or attended to."""
        uses = [use for use in literal.result.uses if not _is_parameter(use)]
        if not uses:
            return
        self._primaries.clear()
        array = array_of(literal.result, self._store)
        assert array is not None
        extremes = float(array.min(initial=0.0)), float(array.max(initial=0.0))
        for use in uses:
            if isinstance(use.operation, torch.ConcatenateOp):
                self._round(literal.result, self._primary(use.operation.result), only=[use])
        uses = [use for use in uses if not isinstance(use.operation, torch.ConcatenateOp)]
        for storage in (si16, si8):
            wanting = [use for use in uses if (storage == si8) == (form_of(use) is Form.OPERAND)]
            if wanting:
                self._round(literal.result, symmetric(storage, *extremes), only=wanting)

    def _wanted(self, value: SSAValue) -> list[tuple[Consumer, Format]]:
        """The consumers of `value`, each with the format in which it accepts it."""
        stream = self._stream_format(value)
        return [(consumer, self._wanted_by(consumer, value, stream)) for consumer in consumers_of(value)]

    def _wanted_by(self, consumer: Consumer, value: SSAValue, stream: Format) -> Format:
        operation = consumer.use.operation
        if isinstance(operation, torch.FakeQuantizeOp):
            return _format(operation)
        if isinstance(operation, torch.ConcatenateOp):
            return self._primary(operation.result)
        form = form_of(consumer.use)
        if form is Form.INPUT and not self._is_wide(operation):
            return affine(*self._narrow_range(value))
        if form is Form.OPERAND:
            return symmetric(si8, *self._narrow_range(value))
        return stream

    def _stream_format(self, value: SSAValue) -> Format:
        low, high = self._range(value)
        users = [consumer.use.operation for consumer in consumers_of(value)]
        norms = [user for user in users if isinstance(user, torch.NormOp)]
        room = 1.0 if self._is_bound(value) else HEADROOM
        if _is_whole(value):
            return whole(low * room, high * room)
        return symmetric(si16, low * room, max([high * room, *(_smallest_norm_range(norm) for norm in norms)]))

    def _is_bound(self, value: SSAValue) -> bool:
        """True if the range of `value` is a bound of all its numbers, rather than observed on samples."""
        if isinstance(value.owner, torch.EmbeddingOp):
            return array_of(value.owner.weight, self._store) is not None
        return _is_truth(value) or range_of(self._function, value, torch.BOUND) is not None

    def _is_wide(self, layer: Operation) -> bool:
        return torch.INT16_INPUT in layer.attributes or matches(module_path(layer), self._int16_inputs)

    def _narrow_range(self, value: SSAValue) -> tuple[float, float]:
        return range_of(self._function, value, torch.NARROW_RANGE) or self._range(value)

    def _range(self, value: SSAValue) -> tuple[float, float]:
        if isinstance(value.owner, torch.EmbeddingOp):
            table = array_of(value.owner.weight, self._store)
            if table is not None and not np.isfinite(table).all():
                raise ValueError(f"{describe(value.owner)}: its table holds numbers that are not finite")
            if table is not None:
                return float(table.min()), float(table.max())
        if _is_truth(value):
            return 0.0, 1.0
        found = range_of(self._function, value, torch.BOUND) or range_of(self._function, value)
        if found is None:
            place = describe(value.owner) if isinstance(value.owner, Operation) else "an input"
            raise ValueError(f"{place} has no calibrated range: calibrate the module before it is quantized")
        return found

    def _stays_in_accumulators(self, value: SSAValue) -> bool:
        """True if `value` is the result of a product used by one addition only, beside a rounded addend."""
        addition = _only_addition(value)
        if addition is None:
            return False
        rivals = [side for side in (addition.input, addition.other) if _source(side) is not value]
        if not rivals:
            return False
        # Of two added products, the first operand stays.
        return _only_addition(_source(rivals[0])) is None or _source(addition.input) is value

    def _round(self, value: SSAValue, kind: Format, only: list[Use] | None = None) -> SSAValue:
        """Inserts a fake_quantize after `value`, for the uses in `only` (all, if None)."""
        uses = list(value.uses) if only is None else only
        operation = torch.FakeQuantizeOp(value, kind.scale, kind.zero_point, kind.storage)
        if isinstance(value, BlockArgument):
            point = InsertPoint.at_start(value.block)
            operation.location = value.location
        else:
            assert isinstance(value.owner, Operation)
            point = InsertPoint.after(value.owner)
            operation.location = value.owner.location
        Rewriter.insert_op(operation, point)
        for use in uses:
            use.operation.operands[use.index] = operation.result
        return operation.result


def form_of(use: Use) -> Form:
    """Form in which the consumer accepts the value of `use`, by the policy of the operators' rows."""
    row = torch.find_row(use.operation)
    return Form.STREAM if row is None else row.form_of(use.index)


def narrow_kind(value: SSAValue) -> str | None:
    """Storage of `value` at 8 bits, "symmetric" or "affine"; None if no consumer accepts it so."""
    forms = [form_of(consumer.use) for consumer in consumers_of(value)]
    if Form.OPERAND in forms:
        return "symmetric"
    return "affine" if Form.INPUT in forms else None


def _makes_value(operation: Operation) -> bool:
    if isinstance(operation, torch.PointwiseOp | torch.RotateOp):
        return True
    row = torch.find_row(operation)
    return (row is not None and row.makes_value) or makes_floats_of_integers(operation)


def _is_whole(value: SSAValue) -> bool:
    """True if the numbers of `value` are integers, which the host gives."""
    return isinstance(value.owner, Operation) and makes_floats_of_integers(value.owner)


def _is_truth(value: SSAValue) -> bool:
    """True if the numbers of `value` are 0 and 1, of bools."""
    owner = value.owner
    return isinstance(owner, torch.ToDtypeOp) and _is_whole(value) and torch.tensor_type(owner.input).element_type == i1


def _is_parameter(use: Use) -> bool:
    """True if `use` is the use of a weight, a bias or a table, which are converted with their operation."""
    if isinstance(use.operation, torch.ConcatenateOp):
        return False
    row = torch.find_row(use.operation)
    if isinstance(use.operation, torch.RotateOp):
        return use.index > 0
    if row is None:
        return isinstance(use.operation, torch.FakeQuantizeOp | torch.FakeQuantizeChannelsOp)
    return row.makes_value and use.index >= len(row.takes)


def _source(value: SSAValue) -> SSAValue:
    """Value that `value` rearranges, past its rounding."""
    while isinstance(value.owner, VIEWS | torch.FakeQuantizeOp):
        value = value.owner.operands[0]
    return value


def _only_addition(value: SSAValue) -> torch.CombinationOperation | None:
    """The sum (or the like) that alone uses the product `value`, through views; None if there are others."""
    if not isinstance(value.owner, torch.LinearOp | torch.MatmulOp):
        return None
    current = value
    while single_use(current):
        user = next(iter(current.uses)).operation
        if isinstance(user, torch.CombinationOperation):
            return user if user.result.type == current.type else None
        if not isinstance(user, torch.ViewOp | torch.PermuteOp):
            return None
        current = user.result
    return None


@dataclass(frozen=True)
class TorchQuantizePass(ModulePass):
    """Rounds every stored value to 8 or 16 bits, by the calibrated ranges."""

    name = "torch-quantize"

    int16_inputs: tuple[str, ...] = ()
    """Globs over the module paths of linear layers whose input has 16 bits: "encoder.layer.*.output.dense"."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Inserts torch.fake_quantize into `op`. Raises ValueError as `quantize` does."""
        quantize(op, weights_of(ctx), self.int16_inputs)
