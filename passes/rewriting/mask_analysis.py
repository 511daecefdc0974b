"""
Analysis of attention masks, independent of the operations that produce them.

A mask is traced back to its sources: constants, and at most one integer or bool input. Every element of every tensor on
the way depends on at most one element of that input, and only on whether it is zero. So three arrays describe a tensor:
its elements where the input is zero, its elements where it is not, and the flat index of the input's element. The
interpreter runs the operators on the first two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import i1
from xdsl.ir import BlockArgument, Operation, SSAValue

from sta.dialect import torch
from sta.dialect.interpreters.torch import TorchInterpretationError, evaluate, operation_name
from sta.dialect.ir.weight_store import WeightStore
from sta.spec.operators.operator import Operator, Role

if TYPE_CHECKING:
    from torch import Tensor

BoolArray = NDArray[np.bool_]
IndexArray = NDArray[np.int64]

INDEPENDENT = -1
"""The source index of an element that does not depend on the input."""

EXCLUDED_BELOW = -1e4
"""A score to which this or less is added has weight 0: exp underflows in float32."""


class MaskError(ValueError):
    """A mask cannot be analysed; the message names the obstacle."""


@dataclass(frozen=True)
class Admissible:
    """
    Keys that a mask admits, [batch or 1, heads or 1, rows, keys].

    Key j is admissible for row i iff `constant` is true there, and the element of `argument` with flat index `source`
    is not zero (is zero, if `negated`). Where `source` is INDEPENDENT, only `constant` counts.
    """

    argument: BlockArgument | None
    constant: BoolArray
    source: IndexArray
    negated: bool


@dataclass(frozen=True)
class _Known:
    """A tensor in the computation of a mask, or a Python value (in `zero` and `other` alike)."""

    argument: BlockArgument | None
    zero: Any
    other: Any
    source: Tensor | None
    is_input: bool = False
    """True if the elements are still the input's own numbers, of which `other` holds 1 for any that is not zero."""


class MaskAnalysis:
    """Analyses masks of one module; shared parts are analysed once."""

    def __init__(self, store: WeightStore) -> None:
        self._store = store
        self._known: dict[SSAValue, _Known] = {}

    def admissible(self, mask: SSAValue) -> Admissible:
        """
        Keys that the attention mask `mask` admits: true in a bool tensor, 0 in one added to the scores.

        Raises MaskError if that is not known before the model runs, or depends on more than whether one element of one
        input is zero.
        """
        known = self._know(mask)
        if known.is_input and torch.tensor_type(mask).element_type != i1:
            raise MaskError("it is an input that is added to the scores; pass a bool tensor")
        zero, other = _truth(known.zero), _truth(known.other)
        source = _source_array(known, zero.shape)
        depends = (source != INDEPENDENT) & (zero != other)
        if np.any(depends & zero) and np.any(depends & other):
            raise MaskError("it admits some keys where an input is zero, and others where it is not")
        return Admissible(
            known.argument if depends.any() else None,
            zero | other,
            np.where(depends, source, INDEPENDENT),
            bool(np.any(depends & zero)),
        )

    def _know(self, value: SSAValue) -> _Known:
        if value not in self._known:
            self._known[value] = self._derive(value)
        return self._known[value]

    def _derive(self, value: SSAValue) -> _Known:
        if isinstance(value, BlockArgument):
            return _input(value)
        operation = value.owner
        assert isinstance(operation, Operation)
        if torch.is_constant(value):
            constant = torch.constant_of(value)
            return _Known(None, constant, constant, None)
        if isinstance(operation, torch.LiteralOp):
            literal = evaluate(operation, (), self._store)[0]
            return _Known(None, literal, literal, None)
        operands = [self._know(operand) for operand in operation.operands]
        row = torch.find_row(operation)
        argument = _one_argument(operands)
        if isinstance(operation, torch.ListConstructOp):
            if argument is not None:
                raise MaskError("a list is made from an input")
        elif argument is not None and not _is_followed(row, value):
            raise MaskError(f"it is made with {operation_name(operation).removeprefix('torch.')}")
        zero = self._run(operation, [operand.zero for operand in operands])
        if argument is None or row is None:
            return _Known(None, zero, zero, None)
        other = self._run(operation, [operand.other for operand in operands])
        if row.moves:
            return self._move(operation, operands, zero, other)
        is_input = row.role is Role.CONVERSION and operands[0].is_input
        is_input = is_input and torch.tensor_type(value).element_type != i1
        return _Known(argument, zero, other, _combined_source(operands, zero, other), is_input)

    def _move(self, operation: Operation, operands: list[_Known], zero: Any, other: Any) -> _Known:
        first = operands[0]
        if first.source is None or any(operand.argument is not None for operand in operands[1:]):
            raise MaskError(f"{operation_name(operation).removeprefix('torch.')} takes positions from an input")
        source = self._run(operation, [first.source, *(operand.zero for operand in operands[1:])])
        return _Known(first.argument, zero, other, source, first.is_input)

    def _run(self, operation: Operation, values: list[Any]) -> Any:
        try:
            return evaluate(operation, tuple(values), self._store)[0]
        except TorchInterpretationError as error:
            raise MaskError(str(error)) from error


def _is_followed(row: Operator | None, value: SSAValue) -> bool:
    """True if each element of `value`, a tensor that the operator of `row` gives, depends on one of each operand."""
    return isinstance(value.type, torch.VTensorType) and row is not None and (row.moves or row.combines)


def _input(argument: BlockArgument) -> _Known:
    """An input; only whether an element is zero distinguishes it."""
    import torch as pytorch

    kind = argument.type
    if not isinstance(kind, torch.VTensorType) or kind.is_float:
        raise MaskError("it depends on a floating-point input; pass an integer or bool tensor")
    if _feeds_embedding(argument):
        raise MaskError("it is made of the indices of an embedding; pass the mask as an input of its own")
    dtype = pytorch.bool if kind.element_type == i1 else pytorch.int64
    zero = pytorch.zeros(kind.sizes, dtype=dtype)
    source = pytorch.arange(kind.element_count).reshape(kind.sizes)
    return _Known(argument, zero, pytorch.ones_like(zero), source, is_input=True)


def _one_argument(operands: list[_Known]) -> BlockArgument | None:
    arguments = {operand.argument for operand in operands if operand.argument is not None}
    if len(arguments) > 1:
        raise MaskError("it depends on more than one input")
    return next(iter(arguments), None)


def _feeds_embedding(argument: BlockArgument) -> bool:
    """True if the numbers of `argument` name rows of a table anywhere."""
    pending: list[SSAValue] = [argument]
    seen: set[Operation] = set()
    while pending:
        for use in pending.pop().uses:
            user = use.operation
            if isinstance(user, torch.EmbeddingOp):
                return True
            if user in seen or isinstance(user, torch.ScaledDotProductAttentionOp):
                continue
            seen.add(user)
            pending.extend(user.results)
    return False


def _combined_source(operands: list[_Known], zero: Tensor, other: Tensor) -> Tensor:
    """The source of each element of an element-wise result. Raises MaskError if one depends on two."""
    import torch as pytorch

    result = pytorch.full(zero.shape, INDEPENDENT)
    varies = zero != other
    for operand in operands:
        if operand.source is None:
            continue
        depends = operand.zero != operand.other
        source = pytorch.where(depends, operand.source, INDEPENDENT).expand(zero.shape)
        conflict = (result != INDEPENDENT) & (source != INDEPENDENT) & (result != source) & varies
        if conflict.any():
            raise MaskError("one of its elements depends on two elements of an input")
        result = pytorch.where(result == INDEPENDENT, source, result)
    return pytorch.where(varies, result, INDEPENDENT)


def _truth(tensor: Tensor) -> BoolArray:
    """Elements at which a mask admits: true, or 0.0 added to the score."""
    array = tensor.numpy()
    if array.dtype == np.bool_:
        return array
    admitted, excluded = array == 0, array <= EXCLUDED_BELOW
    if not np.all(admitted | excluded):
        raise MaskError("it adds numbers to the scores (a bias), and only masks are supported")
    return admitted


def _source_array(known: _Known, shape: tuple[int, ...]) -> IndexArray:
    if known.source is None:
        return np.broadcast_to(np.int64(INDEPENDENT), shape)
    return known.source.numpy()
