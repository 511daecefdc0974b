"""
Masks that bools of the run determine, in cases.

A mask may be bools, or floats that are added to scores: `where(bools, 0, -inf)`, `(1 - mask) * -1e9`, sums of such. It
is followed back to its atoms: bools that depend on integers alone, and inputs of numbers that hold 0 and 1. Everything
on the way combines elements at one position, or moves them, so that the interpreter computes one array for each case,
that is each choice of truths for all atoms. If each element of each case admits or excludes its key, the mask is a
function of the atoms, which is written with bools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from xdsl.dialects.builtin import i1
from xdsl.ir import BlockArgument, Operation, SSAValue

from sta.dialect import torch
from sta.dialect.interpreters.torch import TorchInterpretationError, evaluate, operation_name
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.mask_analysis import (
    BoolArray,
    FloatArray,
    MaskError,
    depth_of,
    feeds_embedding,
    pads,
    truth_of,
)
from sta.passes.rewriting.torch_operations import TorchBuilder, literal_of
from sta.spec.operators.operator import Elements

if TYPE_CHECKING:
    from torch import Tensor

MOST_ATOMS = 5
"""Atoms of a mask: there are twice as many cases for each."""

Truths = tuple[bool, ...]
Bools = SSAValue | BoolArray
"""Bools of the run, or constant ones."""


@dataclass(frozen=True)
class RunTimeMask:
    """A mask as bools of the run."""

    admitted: Bools
    """True where a key is admitted, as far as `possible` is."""
    possible: BoolArray
    """True for a key that some input admits, [batch or 1, heads or 1, rows or 1, keys or 1]."""
    depth: FloatArray
    """The highest number that is added to the score of a key that is left out; minus infinity where there is none."""
    masks: frozenset[BlockArgument]
    """Inputs of integers or floats that are followed as if they held only 0 and 1."""


@dataclass(frozen=True)
class _Cases:
    """A tensor, or a Python value: one for each choice of truths for its atoms."""

    atoms: tuple[SSAValue, ...]
    """Bools that broadcast to the tensor."""
    values: dict[Truths, Any]
    masks: frozenset[BlockArgument] = frozenset()


class MaskCases:
    """The cases of the masks of one module, in the order of their attentions; what they share is found once."""

    def __init__(self, store: WeightStore) -> None:
        self._store = store
        self._known: dict[SSAValue, _Cases] = {}
        self._masks: dict[SSAValue, RunTimeMask] = {}
        self._values: dict[tuple[SSAValue, bytes], SSAValue] = {}

    def mask(self, attention: torch.ScaledDotProductAttentionOp) -> RunTimeMask:
        """
        The mask of `attention` as bools of the run, which are computed in front of it.

        Raises MaskError if it has no such form.
        """
        self._builder = TorchBuilder(attention, self._store)
        if attention.attn_mask not in self._masks:
            self._masks[attention.attn_mask] = self._mask(attention.attn_mask)
        return self._masks[attention.attn_mask]

    def admits(self, mask: SSAValue, attention: torch.ScaledDotProductAttentionOp) -> bool:
        """True if the mask `mask` of `attention` has such a form."""
        self._builder = TorchBuilder(attention, self._store)
        try:
            self._mask(mask)
        except MaskError:
            return False
        return True

    def _mask(self, value: SSAValue) -> RunTimeMask:
        cases = self._know(value)
        if not cases.atoms:
            raise MaskError("it does not depend on an input")
        truths = {choice: truth_of(array) for choice, array in cases.values.items()}
        possible = np.logical_or.reduce(list(truths.values()))
        depth = np.maximum.reduce([depth_of(array) for array in cases.values.values()])
        free = {choice: _where_it_counts(array, possible) for choice, array in truths.items()}
        return RunTimeMask(self._written(cases.atoms, free), possible, depth, cases.masks)

    def value(self, mask: RunTimeMask, constant: BoolArray) -> SSAValue:
        """The mask where `constant` is true as well; Python's None where that is everywhere."""
        found = self._both(mask.admitted, constant)
        if isinstance(found, np.ndarray):
            return self._builder.none() if found.all() else self._as_value(found)
        assert isinstance(mask.admitted, SSAValue)
        return self._values.setdefault((mask.admitted, constant.tobytes()), found)

    # --- Cases ---

    def _know(self, value: SSAValue) -> _Cases:
        if value not in self._known:
            self._known[value] = self._derive(value)
        return self._known[value]

    def _derive(self, value: SSAValue) -> _Cases:
        operation = value.owner
        if isinstance(value, BlockArgument):
            return self._input(value)
        assert isinstance(operation, Operation)
        if torch.is_constant(value):
            return _Cases((), {(): torch.constant_of(value)})
        if literal_of(value) is not None:
            return _Cases((), {(): evaluate(operation, (), self._store)[0]})
        if _is_bool(value) and not _is_logic(operation) and _is_of_integers(value):
            return _atom(_without_expansion(self._builder, value))
        row = torch.find_row(operation)
        name = operation_name(operation).removeprefix("torch.")
        if (
            not isinstance(value.type, torch.VTensorType)
            or row is None
            or not (row.moves or row.combines or pads(operation))
        ):
            raise MaskError(f"it is made with {name}")
        operands = [self._know(operand) for operand in operation.operands]
        if row.moves or pads(operation):
            return self._moved(operation, operands)
        return self._combined(operation, operands)

    def _input(self, argument: BlockArgument) -> _Cases:
        kind = torch.tensor_type(argument)
        if kind.element_type == i1:
            return _atom(argument)
        if kind.is_float and not _makes_masks_only(argument):
            raise MaskError("it depends on a floating-point input; pass an integer or bool tensor")
        if feeds_embedding(argument):
            raise MaskError("it computes with the indices of an embedding as if they were a mask")
        bools = self._builder.aten(torch.ToDtypeOp, self._conversion(argument), torch.VTensorType(kind.sizes, i1))
        found = _atom(bools)
        dtype = torch.numpy_dtype(kind.element_type)
        values = {choice: _number(int(choice[0]), dtype) for choice in found.values}
        return _Cases(found.atoms, values, frozenset({argument}))

    def _conversion(self, value: SSAValue) -> list[SSAValue]:
        false = self._builder.boolean(False)
        number = self._builder.integer(torch.dtype_number(np.dtype(np.bool_)))
        return [value, number, false, false, self._builder.none()]

    def _combined(self, operation: Operation, operands: Sequence[_Cases]) -> _Cases:
        atoms = tuple(dict.fromkeys(atom for operand in operands for atom in operand.atoms))
        if len(atoms) > MOST_ATOMS:
            raise MaskError(f"it combines more than {MOST_ATOMS} masks of the run")
        values = {
            choice: self._run(operation, [_chosen(operand, atoms, choice) for operand in operands])
            for choice in product((False, True), repeat=len(atoms))
        }
        return _Cases(atoms, values, _masks(operands))

    def _moved(self, operation: Operation, operands: Sequence[_Cases]) -> _Cases:
        first, *rest = operands
        if any(operand.atoms for operand in rest):
            raise MaskError(f"{operation_name(operation)} takes positions from an input")
        sizes = torch.sizes_of(operation.operands[0])
        others = [operand.values[()] for operand in rest]
        values = {
            choice: self._run(operation, [array.expand(sizes), *others]) for choice, array in first.values.items()
        }
        return _Cases(tuple(self._moved_atom(operation, atom) for atom in first.atoms), values, _masks(operands))

    def _moved_atom(self, operation: Operation, atom: SSAValue) -> SSAValue:
        """The bools of an atom where `operation` moves the elements that they belong to."""
        sizes, result = torch.sizes_of(operation.operands[0]), torch.sizes_of(operation.results[0])
        row = torch.find_row(operation)
        if row is not None and row.elements is Elements.EXPANDED and _broadcasts(torch.sizes_of(atom), result):
            return atom
        given = (1,) * (len(sizes) - torch.tensor_type(atom).rank) + torch.sizes_of(atom)
        if isinstance(operation, torch.ViewOp) and (narrow := _narrow_view(sizes, result, given)) is not None:
            return self._builder.view(atom, narrow)
        if isinstance(operation, torch.PermuteOp):
            return self._builder.permute(self._builder.view(atom, given), operation.axes)
        whole = self._expanded(self._builder.view(atom, given), sizes)
        return self._builder.aten(
            type(operation),  # pyright: ignore[reportArgumentType] - one that moves elements is of the dialect
            [whole, *operation.operands[1:]],
            torch.VTensorType(result, i1),
        )

    def _expanded(self, value: SSAValue, sizes: Sequence[int]) -> SSAValue:
        if torch.sizes_of(value) == tuple(sizes):
            return value
        operands = [value, self._builder.integers(sizes), self._builder.boolean(False)]
        return self._builder.aten(torch.ExpandOp, operands, torch.VTensorType(sizes, i1))

    def _run(self, operation: Operation, values: Sequence[Any]) -> Any:
        try:
            return evaluate(operation, tuple(values), self._store)[0]
        except TorchInterpretationError as error:
            raise MaskError(str(error)) from error

    # --- Bools ---

    def _written(self, atoms: Sequence[SSAValue], truths: dict[Truths, BoolArray]) -> Bools:
        """The function of `atoms` that is true where the array of the choice is."""
        if not atoms:
            return truths[()]
        first, *rest = atoms
        yes, no = (
            self._written(rest, {choice[1:]: array for choice, array in truths.items() if choice[0] == truth})
            for truth in (True, False)
        )
        if _same(yes, no):
            return yes
        return self._either(self._both(first, yes), no if _implies(no, yes) else self._both(self._inverted(first), no))

    def _both(self, left: Bools, right: Bools) -> Bools:
        return self._logic("logical_and", left, right, neutral=True)

    def _either(self, left: Bools, right: Bools) -> Bools:
        return self._logic("logical_or", left, right, neutral=False)

    def _logic(self, name: str, left: Bools, right: Bools, neutral: bool) -> Bools:
        """Both or either of two bools, of which one is often the same everywhere."""
        for one, other in ((left, right), (right, left)):
            if isinstance(one, np.ndarray) and bool(np.all(one == neutral)):
                return other
            if isinstance(one, np.ndarray) and bool(np.all(one != neutral)):
                return one
        values = [self._as_value(left), self._as_value(right)]
        sizes = np.broadcast_shapes(*(torch.sizes_of(value) for value in values))
        return self._builder.aten(torch.operator_class(f"aten.{name}"), values, torch.VTensorType(sizes, i1))

    def _inverted(self, value: SSAValue) -> SSAValue:
        return self._builder.aten(torch.LogicalNotOp, [value], value.type)

    def _as_value(self, bools: Bools) -> SSAValue:
        return self._builder.literal(np.array(bools, order="C"), "mask") if isinstance(bools, np.ndarray) else bools


def _atom(value: SSAValue) -> _Cases:
    return _Cases((value,), {(truth,): _number(truth, np.dtype(np.bool_)) for truth in (False, True)})


def _number(value: int, dtype: np.dtype[Any]) -> Tensor:
    """A tensor of one number, with one axis: a tensor without axes would give its dtype to no other."""
    import torch as pytorch

    return pytorch.from_numpy(np.full(1, value, dtype))  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type


def _chosen(operand: _Cases, atoms: Sequence[SSAValue], choice: Truths) -> Any:
    truths = dict(zip(atoms, choice, strict=True))
    return operand.values[tuple(truths[atom] for atom in operand.atoms)]


def _masks(operands: Sequence[_Cases]) -> frozenset[BlockArgument]:
    return frozenset(argument for operand in operands for argument in operand.masks)


def _is_bool(value: SSAValue) -> bool:
    return isinstance(value.type, torch.VTensorType) and value.type.element_type == i1


def _is_logic(operation: Operation) -> bool:
    """True if `operation` combines bools: what they are made of tells more."""
    row = torch.find_row(operation)
    if row is None or not (row.moves or row.combines):
        return False
    return all(_is_bool(value) or torch.is_constant(value) for value in operation.operands)


def _makes_masks_only(argument: BlockArgument) -> bool:
    """True if nothing but masks of attention depends on `argument`."""
    pending, seen = list(argument.uses), set[Operation]()
    while pending:
        use = pending.pop()
        if isinstance(use.operation, torch.ScaledDotProductAttentionOp) and use.index == 3:
            continue
        if not use.operation.results or isinstance(use.operation, torch.ScaledDotProductAttentionOp):
            return False
        if use.operation not in seen:
            seen.add(use.operation)
            pending += [one for result in use.operation.results for one in result.uses]
    return True


def _is_of_integers(value: SSAValue) -> bool:
    """True if no float is behind `value`."""
    pending, seen = [value], set[SSAValue]()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        if isinstance(current.type, torch.VTensorType) and current.type.is_float:
            return False
        if isinstance(current.owner, Operation):
            pending += current.owner.operands
    return True


def _without_expansion(builder: TorchBuilder, value: SSAValue) -> SSAValue:
    """`value` before its axes of size 1 were repeated, where a function of each element follows."""
    operation = value.owner
    if isinstance(operation, torch.ExpandOp) and torch.tensor_type(operation.input).rank == len(torch.sizes_of(value)):
        return operation.input
    if not isinstance(operation, Operation) or len(operation.results) != 1:
        return value
    row = torch.find_row(operation)
    tensors = [one for one in operation.operands if isinstance(one.type, torch.VTensorType)]
    if row is None or not row.combines or len(tensors) != 1 or tensors[0] is not operation.operands[0]:
        return value
    narrow = _without_expansion(builder, tensors[0])
    if narrow is tensors[0]:
        return value
    kind = torch.VTensorType(torch.sizes_of(narrow), torch.tensor_type(value).element_type)
    operands = [narrow, *operation.operands[1:]]
    return builder.aten(type(operation), operands, kind)  # pyright: ignore[reportArgumentType] - an operator has a row


def _broadcasts(sizes: Sequence[int], full: Sequence[int]) -> bool:
    given = (1,) * (len(full) - len(sizes)) + tuple(sizes)
    return len(given) == len(full) and all(one in (1, size) for one, size in zip(given, full, strict=True))


def _narrow_view(sizes: Sequence[int], result: Sequence[int], given: Sequence[int]) -> list[int] | None:
    """
    The sizes after a view from `sizes` to `result` of a tensor `given`, which broadcasts to `sizes`, if the view only
    adds or drops axes of size 1; None for another.
    """
    kept = [one for one, size in zip(given, sizes, strict=True) if size != 1]
    if [size for size in sizes if size != 1] != [size for size in result if size != 1]:
        return None
    remaining = iter(kept)
    return [1 if size == 1 else next(remaining) for size in result]


def _where_it_counts(truths: BoolArray, possible: BoolArray) -> BoolArray:
    """Bools that are `truths` wherever `possible` is true, which alone leaves out the other keys: simple ones."""
    relevant = truths & possible
    if not relevant.any():
        return np.zeros((), np.bool_)
    return np.ones((), np.bool_) if bool(np.all(relevant == possible)) else truths | ~possible


def _same(left: Bools, right: Bools) -> bool:
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return bool(np.all(left == right))
    return left is right


def _implies(left: Bools, right: Bools) -> bool:
    """True if `right` is true wherever `left` is, as far as constants tell."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return bool(np.all(~left | right))
    return (isinstance(left, np.ndarray) and not left.any()) or (isinstance(right, np.ndarray) and bool(right.all()))
