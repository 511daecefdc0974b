"""
Analysis of attention masks, independent of the operations that produce them.

A mask is traced back to its sources: constants, and at most one integer or bool input, which holds only 0 and 1. Every
element of every tensor on the way depends on at most one element of that input. So three arrays describe a tensor: its
elements where the input is zero, its elements where it is one, and the flat index of the input's element. The
interpreter runs the operators on the first two. If operands depend on different elements, every combination is tried: a
result that depends on two is refused, even if it has one value with both zero and with both one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import i1
from xdsl.ir import Block, BlockArgument, Operation, SSAValue

from sta.dialect import torch
from sta.dialect.interpreters.torch import TorchInterpretationError, evaluate, operation_name
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.torch_operations import is_aten
from sta.spec.operators.operator import Operator, Role

if TYPE_CHECKING:
    from torch import Tensor

BoolArray = NDArray[np.bool_]
IndexArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

INDEPENDENT = -1
"""The source index of an element that does not depend on the input."""

EXCLUDED_BELOW = -20.0
"""
The highest number that can leave a key out, where all scores are equal: a weight of exp(-20) = 2e-9 is none beside the
1/65535 that the machine resolves. How far below the scores a number must be is seen on samples
(`sta.passes.quantization.mask_depth`).
"""


class MaskError(ValueError):
    """A mask cannot be analysed; the message names the obstacle."""


@dataclass(frozen=True)
class Admissible:
    """
    Keys that a mask admits, [batch or 1, heads or 1, rows, keys].

    Key j is admissible for row i iff `constant` is true there, and the element of `argument` with flat index `source`
    is not zero (is zero, if `negated`). Where `source` is INDEPENDENT, only `constant` counts. `depth` is the highest
    number, [..., rows, keys], that is added to the score of a key that is left out; minus infinity where the mask is a
    bool tensor, or no key is left out.
    """

    argument: BlockArgument | None
    constant: BoolArray
    source: IndexArray
    negated: bool
    depth: FloatArray


@dataclass(frozen=True)
class _Known:
    """A tensor in the computation of a mask, or a Python value (in `zero` and `other` alike)."""

    argument: BlockArgument | None
    zero: Any
    other: Any
    source: Tensor | None
    is_input: bool = False
    """True if the elements are still the input's own numbers."""
    of_zeroness: bool = False
    """True if any other number of the input than 0 and 1 would give what 1 does."""


class MaskAnalysis:
    """Analyses masks of one module; shared parts are analysed once."""

    def __init__(self, store: WeightStore) -> None:
        self._store = store
        self._known: dict[SSAValue, _Known] = {}
        self._computed: set[SSAValue] | None = None

    def admits(self, mask: SSAValue) -> bool:
        """True if `admissible` knows the keys that `mask` admits."""
        try:
            self.admissible(mask)
        except MaskError:
            return False
        return True

    def constant(self, value: SSAValue) -> NDArray[Any] | None:
        """The elements of the tensor `value`; None if they depend on an input."""
        try:
            known = self._know(value)
        except MaskError:
            return None
        return known.zero.numpy() if known.argument is None else None

    def admissible(self, mask: SSAValue) -> Admissible:
        """
        Keys that the attention mask `mask` admits: true in a bool tensor, 0 in one added to the scores.

        Raises MaskError if that is not known before the model runs, or depends on more than whether one element of one
        input is zero.
        """
        known = self._know(mask)
        if known.is_input and torch.tensor_type(mask).element_type != i1:
            raise MaskError("it is an input that is added to the scores; pass a bool tensor")
        zero, other = truth_of(known.zero), truth_of(known.other)
        source = _source_array(known, zero.shape)
        depends = (source != INDEPENDENT) & (zero != other)
        if np.any(depends & zero) and np.any(depends & other):
            raise MaskError("it admits some keys where an input is zero, and others where it is not")
        if known.argument is not None and not depends.any() and not known.of_zeroness:
            raise MaskError("an input of zeros and ones does not change it, and other numbers may; pass a bool tensor")
        return Admissible(
            known.argument if depends.any() else None,
            zero | other,
            np.where(depends, source, INDEPENDENT),
            bool(np.any(depends & zero)),
            np.maximum(depth_of(known.zero), depth_of(known.other)),
        )

    def _know(self, value: SSAValue) -> _Known:
        if self._computed is None:
            self._computed = _computed_from_floats(value)
        if value in self._computed:
            raise MaskError("it depends on a floating-point input; pass an integer or bool tensor")
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
        elif argument is not None and not pads(operation) and not _is_followed(row, value):
            raise MaskError(f"it is made with {operation_name(operation).removeprefix('torch.')}")
        zero = self._run(operation, [operand.zero for operand in operands])
        if argument is None or row is None:
            return _Known(None, zero, zero, None)
        other = self._run(operation, [operand.other for operand in operands])
        if row.moves or pads(operation):
            return self._move(operation, operands, zero, other)
        if row.role is Role.CONVERSION:
            # Further operands only give the type, and their shapes do not count.
            operands = operands[:1]
        source = self._combined_source(operation, operands, zero, other)
        converts = row.role is Role.CONVERSION and operands[0].is_input
        is_input = converts and torch.tensor_type(value).element_type != i1
        asks = _asks_whether_zero(operation, row, operands) or (converts and not is_input)
        of_zeroness = all(one.of_zeroness or (asks and one.is_input) for one in operands if one.argument is not None)
        return _Known(argument, zero, other, source, is_input, of_zeroness)

    def _move(self, operation: Operation, operands: list[_Known], zero: Any, other: Any) -> _Known:
        first = operands[0]
        if first.source is None or any(operand.argument is not None for operand in operands[1:]):
            raise MaskError(f"{operation_name(operation).removeprefix('torch.')} takes positions from an input")
        arguments = [operand.zero for operand in operands[1:]]
        if pads(operation):
            arguments[1] = INDEPENDENT
        source = self._run(operation, [first.source, *arguments])
        return _Known(first.argument, zero, other, source, first.is_input, first.of_zeroness)

    def _combined_source(self, operation: Operation, operands: list[_Known], zero: Tensor, other: Tensor) -> Tensor:
        """The source of each element of an element-wise result. Raises MaskError if one depends on two."""
        import torch as pytorch

        varying = [index for index, operand in enumerate(operands) if operand.source is not None]
        sources = [_broadcast_source(operands[index], zero.shape) for index in varying]
        result, several = _merged(sources)
        if bool(several.any()):
            relevant = self._relevant(operation, operands, varying)
            used = [
                pytorch.where(matters, source, INDEPENDENT) for matters, source in zip(relevant, sources, strict=True)
            ]
            found, conflicts = _merged(used)
            if bool((conflicts & several).any()):
                raise MaskError("one of its elements depends on two elements of an input")
            result = pytorch.where(several, found, result)
        return pytorch.where(zero != other, result, INDEPENDENT)

    def _relevant(self, operation: Operation, operands: list[_Known], varying: list[int]) -> list[Tensor]:
        """For each operand of `varying`, the elements that it can change by itself, whatever the others are."""
        import torch as pytorch

        results: dict[tuple[bool, ...], Tensor] = {}
        for choice in product((False, True), repeat=len(varying)):
            values = [operand.zero for operand in operands]
            for index, is_other in zip(varying, choice, strict=True):
                values[index] = operands[index].other if is_other else operands[index].zero
            results[choice] = self._run(operation, values)
        first = next(iter(results.values()))
        relevant = [pytorch.zeros(first.shape, dtype=pytorch.bool) for _ in varying]
        for choice, result in results.items():
            for place in range(len(varying)):
                flipped = (*choice[:place], not choice[place], *choice[place + 1 :])
                relevant[place] |= result != results[flipped]
        return relevant

    def _run(self, operation: Operation, values: list[Any]) -> Any:
        try:
            return evaluate(operation, tuple(values), self._store)[0]
        except TorchInterpretationError as error:
            raise MaskError(str(error)) from error


def _computed_from_floats(value: SSAValue) -> set[SSAValue]:
    """The values beside `value` in its function that depend on a float input, or on rows of a table that one names."""
    block = value.owner if isinstance(value.owner, Block) else value.owner.parent
    assert block is not None
    found: set[SSAValue] = {one for one in block.args if _is_float(one)}
    given: set[SSAValue] = set(block.args)
    for operation in block.ops:
        if any(operand in given for operand in operation.operands):
            given.update(operation.results)
        is_table = isinstance(operation, torch.EmbeddingOp) and operation.results[0] in given
        if is_table or any(operand in found for operand in operation.operands):
            found.update(operation.results)
    return found


def _is_float(value: SSAValue) -> bool:
    return isinstance(value.type, torch.VTensorType) and value.type.is_float


def pads(operation: Operation) -> bool:
    """True if `operation` puts a number around the ends of axes."""
    return is_aten(operation, "constant_pad_nd")


def _is_followed(row: Operator | None, value: SSAValue) -> bool:
    """True if each element of `value`, a tensor that the operator of `row` gives, depends on one of each operand."""
    return isinstance(value.type, torch.VTensorType) and row is not None and (row.moves or row.combines)


def _input(argument: BlockArgument) -> _Known:
    """An input; only whether an element is zero distinguishes it."""
    import torch as pytorch

    kind = argument.type
    if not isinstance(kind, torch.VTensorType) or kind.is_float:
        raise MaskError("it depends on a floating-point input; pass an integer or bool tensor")
    if feeds_embedding(argument):
        raise MaskError("it is made of the indices of an embedding; pass the mask as an input of its own")
    dtype = pytorch.bool if kind.element_type == i1 else pytorch.int64
    zero = pytorch.zeros(kind.sizes, dtype=dtype)
    source = pytorch.arange(kind.element_count).reshape(kind.sizes)
    is_bool = kind.element_type == i1
    return _Known(argument, zero, pytorch.ones_like(zero), source, is_input=True, of_zeroness=is_bool)


def _asks_whether_zero(operation: Operation, row: Operator, operands: list[_Known]) -> bool:
    """True if the result depends on nothing of a number but whether it is zero."""
    if is_aten(operation, "eq.Scalar", "ne.Scalar"):
        return operands[1].zero == 0
    return row.label.startswith("logical_")


def _one_argument(operands: list[_Known]) -> BlockArgument | None:
    arguments = {operand.argument for operand in operands if operand.argument is not None}
    if len(arguments) > 1:
        raise MaskError("it depends on more than one input")
    return next(iter(arguments), None)


def feeds_embedding(argument: BlockArgument) -> bool:
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


def _broadcast_source(operand: _Known, shape: tuple[int, ...]) -> Tensor:
    import torch as pytorch

    assert operand.source is not None
    return pytorch.where(operand.zero != operand.other, operand.source, INDEPENDENT).expand(shape)


def _merged(sources: list[Tensor]) -> tuple[Tensor, Tensor]:
    """A source of each element, and whether it has others beside that one."""
    import torch as pytorch

    result = sources[0]
    several = pytorch.zeros(result.shape, dtype=pytorch.bool)
    for source in sources[1:]:
        several |= (result != INDEPENDENT) & (source != INDEPENDENT) & (result != source)
        result = pytorch.where(result == INDEPENDENT, source, result)
    return result, several


def truth_of(tensor: Tensor) -> BoolArray:
    """Elements at which a mask admits: true, or 0.0 added to the score."""
    array = tensor.numpy()
    if array.dtype == np.bool_:
        return array
    admitted, excluded = array == 0, array <= EXCLUDED_BELOW
    if not np.all(admitted | excluded):
        least = float(np.max(array[~(admitted | excluded)], initial=-np.inf))
        raise MaskError(
            f"it adds numbers to the scores (a bias, {least:g} among them), and only masks are supported: a key is "
            f"left out by {EXCLUDED_BELOW:g} or less, far below the scores; else take a model whose positions are "
            "embedded, or leave this attention to the host"
        )
    return admitted


def depth_of(tensor: Tensor) -> FloatArray:
    """Number that is added to the score of an excluded key; minus infinity where there is none."""
    array = tensor.numpy()
    if array.dtype == np.bool_:
        return np.full(array.shape, -np.inf, np.float32)
    return np.where(array <= EXCLUDED_BELOW, array, -np.inf).astype(np.float32)


def _source_array(known: _Known, shape: tuple[int, ...]) -> IndexArray:
    if known.source is None:
        return np.broadcast_to(np.int64(INDEPENDENT), shape)
    return known.source.numpy()
