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
from sta.dialect.interpreters.torch import TorchInterpretationError, evaluate, operation_name, tensor_from
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.mask_analysis import EXCLUDED_BELOW, MaskAnalysis
from sta.passes.rewriting.torch_operations import Array, TorchBuilder, array_of, is_aten

BIASED_ABOVE = -1e4
"""Numbers beside a bias leave a key out from here on downwards: BERT's -10000, and the least numbers of floats."""


@dataclass(frozen=True)
class MaskTerm:
    """A mask: bool, or added to the scores; and the same as a bool value that is true where a key counts, if known."""

    value: SSAValue
    admitted: SSAValue | None


@dataclass
class Terms:
    """Several masks of scores, and several biases of float32."""

    masks: list[MaskTerm] = field(default_factory=list[MaskTerm])
    biases: list[SSAValue] = field(default_factory=list[SSAValue])


class TermFinder:
    """Takes values apart; new operations are built with `builder`."""

    def __init__(self, builder: TorchBuilder, analysis: MaskAnalysis, store: WeightStore) -> None:
        self._builder = builder
        self._analysis = analysis
        self._store = store
        self._found = Terms()

    def terms_of(self, value: SSAValue) -> Terms:
        """The terms of `value`, a bool mask or a float that is added."""
        self._found = Terms()
        self._take(value, 1.0)
        return self._found

    def _take(self, value: SSAValue, factor: float) -> None:
        """Takes in `factor` times `value`."""
        if torch.tensor_type(value).element_type == i1:
            self._found.masks.append(MaskTerm(value, value))
            return
        made = value if factor == 1 else self._scaled(value, factor)
        if self._analysis.admits(made):
            self._found.masks.append(MaskTerm(made, self._admitted(made)))
        elif (array := self._analysis.constant(made)) is not None:
            self._take_constant(array)
        elif not self._take_apart(value, factor):
            admitted = self._admitted(made)
            if admitted is None:
                self._found.biases.append(made)
            else:
                self._found.masks.append(MaskTerm(made, admitted))

    def _take_constant(self, array: Array) -> None:
        """A constant bias, and the keys that its lowest numbers leave out."""
        admitted = array > BIASED_ABOVE
        bias = np.where(admitted, array, 0.0).astype(np.float32)
        self._found.biases.append(self._builder.literal(bias, "attention_bias"))
        if not admitted.all():
            added = np.where(admitted, 0.0, array).astype(np.float32)
            mask = self._builder.literal(added, "attention_mask")
            self._found.masks.append(MaskTerm(mask, self._builder.literal(admitted, "attention_mask")))

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
        moves = is_aten(operation, "constant_pad_nd") or (row is not None and row.moves)
        if moves and all(map(torch.is_constant, operands[1:])):
            return self._take_moved(operation, factor)
        return self._take_selection(operation, factor)

    def _take_moved(self, operation: Operation, factor: float) -> bool:
        """Takes in the terms of what a view rearranges, each rearranged; false if there is but one."""
        outer, self._found = self._found, Terms()
        self._take(operation.operands[0], factor)
        inner, self._found = self._found, outer
        is_whole = len(inner.biases) == 1 and inner.biases[0] is operation.operands[0]
        pads = is_aten(operation, "constant_pad_nd") and torch.number_of(operation.operands[2]) != 0
        if is_whole or pads:
            return False
        for mask in inner.masks:
            admitted = None if mask.admitted is None else self._moved(mask.admitted, operation)
            outer.masks.append(MaskTerm(self._moved(mask.value, operation), admitted))
        outer.biases += [self._moved(bias, operation) for bias in inner.biases]
        return True

    def _moved(self, value: SSAValue, view: Operation) -> SSAValue:
        """`value`, which broadcasts to the operand of `view`, as `view` rearranges that; masks are padded with true."""
        whole = expanded(self._builder, value, torch.sizes_of(view.operands[0]))
        kind = torch.VTensorType(torch.sizes_of(view.results[0]), torch.tensor_type(value).element_type)
        arguments = list(view.operands[1:])
        if is_aten(view, "constant_pad_nd") and kind.element_type == i1:
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
        self._found.masks.append(MaskTerm(added, admitted))
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

    def _admitted(self, value: SSAValue) -> SSAValue | None:
        """
        The bool tensor of which `value` is a function, element by element: 0 where it is true, and a number that leaves
        a key out where it is false, or the other way round; None if `value` is no such function.
        """
        steps: list[Operation] = []
        while torch.tensor_type(value).is_float:
            operation = value.owner
            row = torch.find_row(operation) if isinstance(operation, Operation) else None
            if row is None or not isinstance(operation, Operation) or not (row.combines or row.moves):
                return None
            if row.combines and not all(map(torch.is_constant, operation.operands[1:])):
                return None
            steps.append(operation)
            value = operation.operands[0]
        if torch.tensor_type(value).element_type != i1 or not steps:
            return None
        try:
            false, true = (self._through(steps, number) for number in (False, True))
        except (TorchInterpretationError, ValueError):
            return None
        if not ((true == 0 and false <= EXCLUDED_BELOW) or (false == 0 and true <= EXCLUDED_BELOW)):
            return None
        for step in reversed(steps):
            row = torch.find_row(step)
            if row is not None and row.moves:
                value = self._moved(value, step)
        if true == 0:
            return value
        return self._builder.aten(torch.LogicalNotOp, [value], value.type)

    def _through(self, steps: list[Operation], start: bool) -> float:
        """The number that becomes of `start`."""
        value = tensor_from(np.array(start))
        for step in reversed(steps):
            row = torch.find_row(step)
            if row is not None and row.combines:
                value = evaluate(step, (value, *map(torch.constant_of, step.operands[1:])), self._store)[0]
        return float(value)


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
