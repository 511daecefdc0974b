"""
Terms of what is added to the scores of attention: masks, which leave keys out, and biases.

A sum, a selection or a fill is taken apart; of constants, those numbers leave keys out that are far below all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from xdsl.dialects.builtin import f32, i1
from xdsl.ir import Operation, SSAValue

from sta.dialect import torch
from sta.dialect.interpreters.torch import operation_name
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.mask_analysis import EXCLUDED_BELOW, MaskAnalysis, pads
from sta.passes.rewriting.mask_cases import MaskCases
from sta.passes.rewriting.torch_operations import Array, TorchBuilder, array_of, is_aten

BIASED_ABOVE = -1e4
"""Numbers beside a bias leave a key out from here on downwards: BERT's -10000, and the least numbers of floats."""


@dataclass
class Terms:
    """Several masks, and several biases of float32."""

    masks: list[SSAValue] = field(default_factory=list[SSAValue])
    """Bool, true where a key counts, or float, which leave keys out where they are added."""
    biases: list[SSAValue] = field(default_factory=list[SSAValue])


class TermFinder:
    """Takes what is added to the scores of `attention` apart; new operations are in front of it."""

    def __init__(
        self,
        attention: torch.ScaledDotProductAttentionOp,
        analysis: MaskAnalysis,
        cases: MaskCases,
        store: WeightStore,
    ) -> None:
        self._attention = attention
        self._builder = TorchBuilder(attention, store)
        self._analysis = analysis
        self._cases = cases
        self._found = Terms()

    def terms_of(self, value: SSAValue) -> Terms:
        """The terms of `value`, a bool mask or a float that is added."""
        self._found = Terms()
        self._take(value, 1.0)
        return self._found

    def _take(self, value: SSAValue, factor: float) -> None:
        """Takes in `factor` times `value`."""
        if torch.tensor_type(value).element_type == i1:
            self._found.masks.append(value)
            return
        made = value if factor == 1 else self._scaled(value, factor)
        if self._analysis.admits(made) or self._cases.admits(made, self._attention):
            self._found.masks.append(made)
        elif (array := self._analysis.constant(made)) is not None:
            self._take_constant(array)
        elif not self._take_apart(value, factor):
            self._found.biases.append(made)

    def _take_constant(self, array: Array) -> None:
        """A constant bias, and the keys that its lowest numbers leave out."""
        admitted = array > BIASED_ABOVE
        bias = np.where(admitted, array, 0.0).astype(np.float32)
        self._found.biases.append(self._builder.literal(bias, "attention_bias"))
        if not admitted.all():
            added = np.where(admitted, 0.0, array).astype(np.float32)
            self._found.masks.append(self._builder.literal(added, "attention_mask"))

    def _take_apart(self, value: SSAValue, factor: float) -> bool:
        """Takes in the operands of a sum, a multiple, a selection or a fill; false for anything else."""
        operation = value.owner
        if not isinstance(operation, Operation):
            return False
        operands = operation.operands
        if is_aten(operation, "add.Tensor", "sub.Tensor") and torch.constant_of(operands[2]) == 1:
            if not all(torch.tensor_type(one).is_float for one in operands[:2]):
                return False
            self._take(operands[0], factor)
            self._take(operands[1], -factor if is_aten(operation, "sub.Tensor") else factor)
            return True
        if is_aten(operation, "mul.Scalar", "mul.Tensor", "div.Scalar", "div.Tensor"):
            number = self._number(operands[1])
            if not number or operands[0].type != value.type:
                return False
            self._take(operands[0], factor / number if "div" in operation_name(operation) else factor * number)
            return True
        row = torch.find_row(operation)
        moves = row is not None and (row.moves or pads(operation))
        if moves and all(map(torch.is_constant, operands[1:])):
            return self._take_moved(operation, factor)
        return self._take_selection(operation, factor)

    def _take_moved(self, operation: Operation, factor: float) -> bool:
        """Takes in the terms of what a view rearranges, each rearranged; false if there is but one."""
        outer, self._found = self._found, Terms()
        self._take(operation.operands[0], factor)
        inner, self._found = self._found, outer
        is_whole = len(inner.biases) == 1 and inner.biases[0] is operation.operands[0]
        if is_whole or (pads(operation) and torch.number_of(operation.operands[2]) != 0):
            return False
        outer.masks += [self._moved(mask, operation) for mask in inner.masks]
        outer.biases += [self._moved(bias, operation) for bias in inner.biases]
        return True

    def _moved(self, value: SSAValue, view: Operation) -> SSAValue:
        """`value`, which broadcasts to the operand of `view`, as `view` rearranges that; masks are padded with true."""
        whole = expanded(self._builder, value, torch.sizes_of(view.operands[0]))
        kind = torch.VTensorType(torch.sizes_of(view.results[0]), torch.tensor_type(value).element_type)
        arguments = list(view.operands[1:])
        if pads(view) and kind.element_type == i1:
            arguments[1] = self._builder.integer(1)
        moved = torch.operator_class(operation_name(view).removeprefix("torch."))
        return self._builder.aten(moved, [whole, *arguments], kind)

    def _take_selection(self, operation: Operation, factor: float) -> bool:
        operands = operation.operands
        if is_aten(operation, "masked_fill.Scalar", "masked_fill.Tensor"):
            kept, chosen, fill, is_kept = operands[0], operands[1], operands[2], False
        elif is_aten(operation, "where.self", "where.ScalarOther") and self._is_fill(operands[2], factor):
            kept, chosen, fill, is_kept = operands[1], operands[0], operands[2], True
        elif is_aten(operation, "where.self", "where.ScalarSelf"):
            kept, chosen, fill, is_kept = operands[2], operands[0], operands[1], False
        else:
            return False
        if not self._is_fill(fill, factor):
            return False
        number = self._number(fill)
        assert number is not None
        builder, sizes = self._builder, torch.sizes_of(chosen)
        negated = torch.VTensorType(sizes, i1)
        admitted = chosen if is_kept else builder.aten(torch.LogicalNotOp, [chosen], negated)
        choice = torch.operator_class("aten.where.Scalar")
        numbers = [builder.number(0.0), builder.number(number * factor)]
        added = builder.aten(choice, [admitted, *numbers], torch.VTensorType(sizes, f32))
        self._found.masks.append(added)
        if torch.is_constant(kept):
            return not torch.number_of(kept)
        self._take(kept, factor)
        return True

    def _is_fill(self, value: SSAValue, factor: float) -> bool:
        number = self._number(value)
        return number is not None and number * factor <= EXCLUDED_BELOW

    def _number(self, value: SSAValue) -> float | None:
        """The single number of a constant; None if it is none."""
        if torch.is_constant(value):
            return torch.number_of(value)
        array = self._analysis.constant(value)
        return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None

    def _scaled(self, value: SSAValue, factor: float) -> SSAValue:
        return self._builder.aten(torch.MulScalarOp, [value, self._builder.number(factor)], value.type)


def sum_of(builder: TorchBuilder, values: list[SSAValue], store: WeightStore) -> SSAValue:
    """The sum of float tensors of shapes that broadcast; constants are added here."""
    constants = [array for value in values if (array := array_of(value, store)) is not None]
    computed = [value for value in values if array_of(value, store) is None]
    if constants:
        total = constants[0] if len(constants) == 1 else sum(constants[1:], start=constants[0])
        computed.append(builder.literal(np.array(total, np.float32, order="C"), "attention_bias"))
    result, *others = computed
    for other in others:
        sizes = np.broadcast_shapes(torch.sizes_of(result), torch.sizes_of(other))
        kind = torch.VTensorType(sizes, f32)
        whole, part = (result, other) if torch.sizes_of(result) == sizes else (other, result)
        operands = [expanded(builder, whole, sizes), part, builder.integer(1)]
        result = builder.aten(torch.AddTensorOp, operands, kind)
    return result


def expanded(builder: TorchBuilder, value: SSAValue, sizes: tuple[int, ...]) -> SSAValue:
    """`value` broadcast to `sizes`."""
    given = torch.tensor_type(value)
    if given.sizes == sizes:
        return value
    kind = torch.VTensorType(sizes, given.element_type)
    return builder.aten(torch.ExpandOp, [value, builder.integers(sizes), builder.boolean(False)], kind)


def both_admit(builder: TorchBuilder, masks: list[SSAValue]) -> SSAValue:
    """The bool mask that admits what all of the bool `masks` admit."""
    result, *others = masks
    for mask in others:
        kind = torch.VTensorType(np.broadcast_shapes(torch.sizes_of(result), torch.sizes_of(mask)), i1)
        result = builder.aten(torch.operator_class("aten.logical_and"), [result, mask], kind)
    return result


def all_added(builder: TorchBuilder, masks: list[SSAValue]) -> SSAValue:
    """One mask for several: bool if all are, else a sum in which those that are not admitted are minus infinity."""
    if all(torch.tensor_type(mask).element_type == i1 for mask in masks):
        return both_admit(builder, masks)
    result, *others = [_added(builder, mask) for mask in masks]
    for mask in others:
        kind = torch.VTensorType(np.broadcast_shapes(torch.sizes_of(result), torch.sizes_of(mask)), f32)
        result = builder.aten(torch.AddTensorOp, [result, mask, builder.integer(1)], kind)
    return result


def _added(builder: TorchBuilder, mask: SSAValue) -> SSAValue:
    """The numbers that a mask adds to scores."""
    if torch.tensor_type(mask).element_type != i1:
        return mask
    choice = torch.operator_class("aten.where.Scalar")
    kind = torch.VTensorType(torch.sizes_of(mask), f32)
    return builder.aten(choice, [mask, builder.number(0.0), builder.number(-math.inf)], kind)
