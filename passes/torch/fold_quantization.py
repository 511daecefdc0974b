"""
Conversion of quantize-dequantize pairs of quantized models to `torch.fake_quantize`, with their scales.

Pairs are those of PyTorch's export quantization, `quantized_decomposed`. A pair on a value becomes one operation; the
integers of a weight become its numbers and a `torch.fake_quantize_channels` that restores them. Unsigned values become
signed, with 128 subtracted from integers and zero point, which changes no number. `fold_value` and `fold_weight` fold
other forms of quantized models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects.builtin import IntegerType, ModuleOp, f32
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern

from sta.dialect import torch
from sta.dialect.interpreters.torch import operation_name
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.location import ROOT, describe, module_path
from sta.dialect.ir.model_errors import ModelError
from sta.dialect.ir.weight_store import WeightStore
from sta.dialect.torch import si8, si16
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.sweep import sweep
from sta.passes.rewriting.torch_operations import TorchBuilder, array_of, operations_of, replace

Array = NDArray[Any]

PREFIX = "torch.quantized_decomposed."
UNSIGNED_OFFSET = 128
_PRODUCTS = torch.LinearOp | torch.MatmulOp | torch.MmOp | torch.AddmmOp

_RANGES: dict[tuple[int, int], tuple[IntegerType, int]] = {
    (-128, 127): (si8, 0),
    (-127, 127): (si8, 0),
    (0, 255): (si8, UNSIGNED_OFFSET),
    (-32768, 32767): (si16, 0),
    (-32767, 32767): (si16, 0),
}
"""Storage of integers of a range, and the offset subtracted for it."""


class QuantizationError(ModelError):
    """A quantized model with numbers that the machine does not have; the message names the layer."""


@dataclass(frozen=True)
class Grid:
    """The numbers of a quantize-dequantize pair: (integer - zero_point) * scale, low <= integer <= high."""

    scale: float
    zero_point: int
    low: int
    high: int


def fold_value(builder: TorchBuilder, value: SSAValue, grid: Grid, where: str) -> SSAValue:
    """
    `value` rounded to `grid`, by a `torch.fake_quantize`.

    Raises QuantizationError, beginning with `where`, for a scale that is not positive and finite, a range that is
    neither that of int8, uint8 nor int16, a zero point outside of it, and a zero point other than 0 of an int16.
    """
    storage, offset = _storage(grid.low, grid.high, where)
    _check_scales(np.array([grid.scale]), where)
    if not grid.low <= grid.zero_point <= grid.high:
        raise QuantizationError(f"{where}: zero point {grid.zero_point} is outside of {grid.low} to {grid.high}")
    if storage == si16 and grid.zero_point:
        raise QuantizationError(
            f"{where}: 16-bit values have no zero point on this machine, and not {grid.zero_point}: quantize them "
            "symmetrically"
        )
    return builder.insert(torch.FakeQuantizeOp(value, grid.scale, grid.zero_point - offset, storage))


def fold_weight(
    builder: TorchBuilder, integers: Array, scales: Array, zero_points: Array, axis: int, name: str, where: str
) -> SSAValue:
    """
    The weight (integers - zero_points) * scales, float32, with a scale [n] for each position of `axis`.

    Raises QuantizationError, beginning with `where`, for scales that are not positive and finite, along another axis
    than the first, of another number than the weight has rows, and for zero points: those of uint8 must be 128.
    """
    offset = UNSIGNED_OFFSET if integers.dtype == np.uint8 else 0
    if integers.dtype != np.int8 and integers.dtype != np.uint8:
        raise QuantizationError(f"{where}: weights have 8 bits on this machine, and not {integers.dtype}")
    if axis % integers.ndim != 0:
        raise QuantizationError(f"{where}: its weight has a scale for each position of axis {axis}, and not of axis 0")
    if scales.shape != integers.shape[:1] or zero_points.shape != scales.shape:
        raise QuantizationError(f"{where}: {scales.size} scales for a weight of shape {list(integers.shape)}")
    _check_scales(scales, where)
    if (zero_points != offset).any():
        channel = int((zero_points != offset).argmax())
        given = f"and not {zero_points[channel]} as output channel {channel} has: quantize them symmetrically"
        if offset:
            reason = f"unsigned weights need the zero point {offset} on this machine, {given}, or as signed integers"
        else:
            reason = f"weights have no zero point on this machine, {given}"
        raise QuantizationError(f"{where}: {reason}")
    numbers = (integers.astype(np.int16) - offset).astype(np.float32) * scales.reshape(-1, *[1] * (integers.ndim - 1))
    literal = builder.literal(numbers.astype(np.float32), f"{name}.dequantized")
    steps = builder.literal(scales.astype(np.float32), f"{name}.scales")
    return builder.insert(torch.FakeQuantizeChannelsOp(literal, steps))


def _storage(low: int, high: int, where: str) -> tuple[IntegerType, int]:
    if (low, high) not in _RANGES:
        known = ", ".join(f"{first}..{last}" for first, last in _RANGES)
        raise QuantizationError(f"{where}: values of {low}..{high} are not supported, only those of {known}")
    return _RANGES[low, high]


def _check_scales(scales: Array, where: str) -> None:
    # Computed in float32: numbers too small or too large there are no scales.
    with np.errstate(over="ignore", under="ignore"):
        single = np.asarray(scales, np.float32)
    wrong = ~(np.isfinite(single) & (single >= np.finfo(np.float32).tiny))
    if wrong.any():
        raise QuantizationError(f"{where}: its scale {scales[int(wrong.argmax())]} is not a positive number")


def fold_quantization(module: ModuleOp, store: WeightStore) -> None:
    """
    Folds the pairs in the function `main` of `module`. Raises QuantizationError, naming the layer, for malformed pairs
    and pairs that the machine does not support.
    """
    sweep(module, FoldTensor(store), FoldChannels(store))
    erase_dead(module)
    _merge_equal(module)


def _is_pair_half(operation: Operation, name: str) -> bool:
    return operation_name(operation).startswith(f"{PREFIX}{name}")


@dataclass(frozen=True)
class FoldTensor(RewritePattern):
    """A dequantized tensor with one scale: a rounded value, a weight, or a constant."""

    store: WeightStore

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Rewrites the second half of a pair."""
        if not _is_pair_half(op, "dequantize_per_tensor"):
            return
        where = _where(op)
        grid = _grid(op, self.store)
        builder = TorchBuilder(op, self.store, rewriter)
        source = op.operands[0]
        integers = array_of(source, self.store)
        if integers is not None and integers.ndim == 2 and _is_weight(op.results[0]):
            scales = np.full(integers.shape[0], grid.scale, np.float32)
            zero_points = np.full(integers.shape[0], grid.zero_point)
            value = fold_weight(builder, integers, scales, zero_points, 0, _name(source), where)
        elif integers is not None:
            numbers = ((integers.astype(np.int64) - grid.zero_point) * grid.scale).astype(np.float32)
            value = builder.literal(numbers, f"{_name(source)}.dequantized")
        else:
            quantize, moves = self._quantization(source, where)
            rounded = fold_value(builder, self._rounded(quantize, grid, where), grid, where)
            value = self._moved(builder, rounded, moves)
        rewriter.replace(op, (), [value])

    def _quantization(self, integers: SSAValue, where: str) -> tuple[Operation, list[tuple[Operation, int]]]:
        """
        The first half of the pair, and the operations between the halves, last first, each with the result taken.

        Raises QuantizationError if these do more than move integers.
        """
        moves: list[tuple[Operation, int]] = []
        while isinstance(operation := integers.owner, Operation):
            if _is_pair_half(operation, "quantize_per_tensor"):
                return operation, moves
            row = torch.find_row(operation)
            if row is None or not row.moves:
                break
            moves.append((operation, operation.results.index(integers)))
            integers = operation.operands[0]
        made = operation_name(operation).removeprefix("torch.") if isinstance(operation, Operation) else "an input"
        raise QuantizationError(
            f"{where}: a value is dequantized that is no quantized one, but computed as integers ({made}): only views "
            "may stand between the halves of a pair"
        )

    def _moved(self, builder: TorchBuilder, value: SSAValue, moves: list[tuple[Operation, int]]) -> SSAValue:
        """`value` moved as the integers were."""
        for operation, taken in reversed(moves):
            copy = type(operation).create(
                operands=[value, *operation.operands[1:]],
                result_types=[torch.VTensorType(torch.sizes_of(result), f32) for result in operation.results],
                attributes=operation.attributes,
                properties=operation.properties,
            )
            builder.insert(copy)
            value = copy.results[taken]
        return value

    def _rounded(self, quantize: Operation, grid: Grid, where: str) -> SSAValue:
        """Operand of the first half of a pair. Raises QuantizationError if its grid is another one."""
        if (given := _grid(quantize, self.store)) != grid:
            raise QuantizationError(
                f"{where}: a value is quantized as {_text(given)} and dequantized as {_text(grid)}: both must be the "
                "same"
            )
        return quantize.operands[0]


@dataclass(frozen=True)
class FoldChannels(RewritePattern):
    """A tensor dequantized with a scale for each channel: a weight."""

    store: WeightStore

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Rewrites the second half of a pair."""
        if not _is_pair_half(op, "dequantize_per_channel"):
            return
        where = _where(op)
        source, scales, zero_points = op.operands[:3]
        integers, steps = (array_of(value, self.store) for value in (source, scales))
        if integers is None or steps is None:
            raise QuantizationError(
                f"{where}: only constants have a scale for each channel: fold weights when converting"
            )
        offsets = np.zeros(len(steps))
        if isinstance(zero_points.type, torch.VTensorType):
            given = array_of(zero_points, self.store)
            assert given is not None
            offsets = given
        axis = int(torch.number_of(op.operands[3]))
        builder = TorchBuilder(op, self.store, rewriter)
        rewriter.replace(op, (), [fold_weight(builder, integers, steps, offsets, axis, _name(source), where)])


def _is_weight(value: SSAValue) -> bool:
    """True if the constant `value` is the weight of a linear layer, rather than added or looked up."""
    for use in value.uses:
        if isinstance(use.operation, torch.TOp | torch.TransposeIntOp):
            if _is_weight(use.operation.results[0]):
                return True
        elif isinstance(use.operation, _PRODUCTS) and use.index > 0:
            return True
    return False


def _where(operation: Operation) -> str:
    """The layer of a pair: its producer's or consumer's, since converters give their own operators no module."""
    near = [operation, *_makers(operation, 2), *(use.operation for use in operation.results[0].uses)]
    named = [one for one in near if module_path(one) not in ("", ROOT)]
    return describe((named or [operation])[0])


def _makers(operation: Operation, steps: int) -> list[Operation]:
    """Chain of defining operations along first operands."""
    found: list[Operation] = []
    while len(found) < steps and operation.operands and isinstance(owner := operation.operands[0].owner, Operation):
        found.append(owner)
        operation = owner
    return found


def _name(value: SSAValue) -> str:
    owner = value.owner
    return (owner.resource if isinstance(owner, torch.LiteralOp) else None) or "weight"


def _grid(operation: Operation, store: WeightStore) -> Grid:
    numbers = [_number(value, store) for value in operation.operands[1:5]]
    return Grid(numbers[0], *(int(number) for number in numbers[1:]))


def _number(value: SSAValue, store: WeightStore) -> float:
    if not isinstance(value.type, torch.VTensorType) and torch.is_constant(value):
        return torch.number_of(value)
    array = array_of(value, store)
    if array is None or array.size != 1:
        where = describe(value.owner) if isinstance(value.owner, Operation) else "an input"
        raise QuantizationError(f"{where}: a scale or zero point is computed, and only constants can be compiled")
    return float(array.reshape(-1)[0])


def _text(grid: Grid) -> str:
    return f"{grid.low}..{grid.high} with scale {grid.scale:g} and zero point {grid.zero_point}"


def _merge_equal(module: ModuleOp) -> None:
    """Merges two roundings of a value to the same numbers."""
    seen: dict[tuple[SSAValue, float, int, IntegerType], SSAValue] = {}
    for operation in operations_of(module):
        if not isinstance(operation, torch.FakeQuantizeOp):
            continue
        grid = (operation.scale.value.data, operation.zero_point.value.data, operation.storage)
        key = (operation.input, *grid)
        before = operation.input.owner
        if isinstance(before, torch.FakeQuantizeOp) and grid == (
            before.scale.value.data,
            before.zero_point.value.data,
            before.storage,
        ):
            replace(operation, [before.result])
        elif key in seen:
            replace(operation, [seen[key]])
        else:
            seen[key] = operation.result


def is_quantized(module: ModuleOp) -> bool:
    """True if `module` has number formats of its own."""
    return any(isinstance(operation, torch.FakeQuantizeOp) for operation in operations_of(module))


@dataclass(frozen=True)
class TorchFoldQuantizationPass(ModulePass):
    """Folds the quantize-dequantize pairs of quantized models, and keeps their scales."""

    name = "torch-fold-quantization"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Folds the pairs of `op`. Raises QuantizationError for pairs that the machine does not support."""
        fold_quantization(op, weights_of(ctx))
