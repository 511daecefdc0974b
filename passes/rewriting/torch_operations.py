"""Shared helpers of the passes over the `torch` dialect: building and replacing operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.builder import Builder
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, ModuleOp, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter
from xdsl.rewriter import InsertPoint

from sta.dialect import torch
from sta.dialect.interpreters.torch import operation_name
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.weight_store import WeightStore
from sta.spec.operators.on_host import HOST_RULES

Array = NDArray[Any]


class TorchBuilder:
    """
    Builds operations of the `torch` dialect in front of `anchor`, with `anchor`'s location.

    Inside a pattern, `rewriter` is the pattern's.
    """

    def __init__(self, anchor: Operation, store: WeightStore, rewriter: PatternRewriter | None = None) -> None:
        self._anchor = anchor
        self._store = store
        self._inserter = Builder(InsertPoint.before(anchor)) if rewriter is None else rewriter

    def insert(self, operation: Operation) -> SSAValue:
        """Inserts `operation` and returns its first result."""
        operation.location = self._anchor.location
        self._inserter.insert(operation, InsertPoint.before(self._anchor))
        return operation.results[0]

    def integer(self, value: int) -> SSAValue:
        """A constant int."""
        return self.insert(torch.ConstantIntOp(value))

    def number(self, value: float) -> SSAValue:
        """A constant float."""
        return self.insert(torch.ConstantFloatOp(value))

    def boolean(self, value: bool) -> SSAValue:
        """A constant bool."""
        return self.insert(torch.ConstantBoolOp(value))

    def string(self, text: str) -> SSAValue:
        """A constant string."""
        return self.insert(torch.ConstantStrOp(text))

    def none(self) -> SSAValue:
        """None."""
        return self.insert(torch.ConstantNoneOp())

    def integers(self, values: Iterable[int]) -> SSAValue:
        """A constant list of ints."""
        return self.insert(torch.ListConstructOp([self.integer(value) for value in values], torch.IntType()))

    def literal(self, array: Array, name: str) -> SSAValue:
        """A constant tensor: in the text if it is a single number, else in the store as `name` (made unique)."""
        if array.size == 1 and np.all(np.isfinite(array)):
            return self.insert(_inline_literal(array))
        name = self._store.put_unique(name, array)
        return self.insert(torch.LiteralOp.named(name, array.shape, array.dtype))

    def aten(self, operation: type[torch.AtenOperation], operands: Sequence[SSAValue], result: Attribute) -> SSAValue:
        """The result, of type `result`, of an ATen operator on `operands`."""
        return self.insert(operation.with_operands(operands, result))

    def view(self, value: SSAValue, sizes: Sequence[int]) -> SSAValue:
        """`value` under the shape `sizes`; `value` itself if that is its shape."""
        given = torch.tensor_type(value)
        if given.sizes == tuple(sizes):
            return value
        result = torch.VTensorType(sizes, given.element_type)
        return self.aten(torch.ViewOp, [value, self.integers(sizes)], result)

    def permute(self, value: SSAValue, axes: Sequence[int]) -> SSAValue:
        """`value` with its axes in the order `axes`; `value` itself if that is their order."""
        if list(axes) == list(range(len(axes))):
            return value
        given = torch.tensor_type(value)
        result = torch.VTensorType([given.sizes[axis] for axis in axes], given.element_type)
        return self.aten(torch.PermuteOp, [value, self.integers(axes)], result)

    def transposed(self, value: SSAValue) -> SSAValue:
        """`value` with its last two axes exchanged."""
        rank = torch.tensor_type(value).rank
        return self.permute(value, [*range(rank - 2), rank - 1, rank - 2])

    def linear(self, value: SSAValue, weight: SSAValue, bias: SSAValue | None = None) -> SSAValue:
        """The linear layer of `value` [..., k] with weight [n, k] and bias [n]."""
        given = torch.tensor_type(value)
        result = torch.VTensorType((*given.sizes[:-1], torch.sizes_of(weight)[0]), given.element_type)
        return self.aten(torch.LinearOp, [value, weight, self.none() if bias is None else bias], result)

    def slice(self, value: SSAValue, axis: int, start: int, end: int, step: int = 1) -> SSAValue:
        """Positions start, start + step, … below end of `axis`; `value` itself if these are all."""
        given = torch.tensor_type(value)
        sizes = list(given.sizes)
        if (start, end, step) == (0, sizes[axis], 1):
            return value
        sizes[axis] = len(range(start, end, step))
        operands = [value, *(self.integer(number) for number in (axis, start, end, step))]
        return self.aten(torch.SliceTensorOp, operands, torch.VTensorType(sizes, given.element_type))

    def expand(self, value: SSAValue, sizes: Sequence[int]) -> SSAValue:
        """`value` with axes of size 1 repeated up to the shape `sizes`; `value` itself if that is its shape."""
        given = torch.tensor_type(value)
        if given.sizes == tuple(sizes):
            return value
        result = torch.VTensorType(sizes, given.element_type)
        return self.aten(torch.ExpandOp, [value, self.integers(sizes), self.boolean(False)], result)

    def concatenate(self, parts: Sequence[SSAValue], axis: int) -> SSAValue:
        """`parts` one after the other along `axis`, counted from the front; the part itself if there is one."""
        return parts[0] if len(parts) == 1 else self.insert(torch.ConcatenateOp(parts, axis))


def _inline_literal(array: Array) -> torch.LiteralOp:
    result = torch.VTensorType(array.shape, torch.element_type_of(array.dtype))
    number = array.reshape(-1)[0].item()
    shaped: Any = TensorType(result.element_type, array.shape)
    value: Any = DenseIntOrFPElementsAttr.from_list(shaped, [int(number) if isinstance(number, bool) else number])
    return torch.LiteralOp(value, result)


def main_block(module: ModuleOp) -> Block:
    """The one block of the function `main`. Raises ValueError if there is no such function."""
    return main_function(module).body.block


def operations_of(module: ModuleOp) -> list[Operation]:
    """The present operations of `main`; the list stays unchanged while operations are replaced."""
    return list(main_block(module).ops)


def replace(operation: Operation, values: Sequence[SSAValue]) -> None:
    """Lets `values` take the place of the results of `operation`, and erases it."""
    for result, value in zip(operation.results, values, strict=True):
        result.replace_all_uses_with(value)
    operation.detach()
    operation.erase()


def literal_of(value: SSAValue) -> torch.LiteralOp | None:
    """The literal that `value` is, or None."""
    return value.owner if isinstance(value.owner, torch.LiteralOp) else None


def array_of(value: SSAValue, store: WeightStore) -> Array | None:
    """The array of the literal that `value` is; None if it is none."""
    literal = literal_of(value)
    return None if literal is None else literal.array(store)


def makes_floats_of_integers(operation: Operation) -> bool:
    """True if `operation` converts integers or bools to floats."""
    if not isinstance(operation, torch.ToDtypeOp):
        return False
    return operation.result.type.is_float and not torch.tensor_type(operation.input).is_float


def beyond_host(value: SSAValue) -> str:
    """The operator nearest to `value`, among those that it is made with, which the host does not compute."""
    pending = [value]
    for current in pending:
        operation = current.owner
        if not isinstance(operation, Operation):
            continue
        name = operation_name(operation).removeprefix("torch.")
        tensors = [one for one in operation.operands if isinstance(one.type, torch.VTensorType)]
        if tensors and (name not in HOST_RULES or any(torch.tensor_type(one).is_float for one in tensors)):
            return name
        pending += [one for one in operation.operands if one not in pending]
    return "numbers"


def single_use(value: SSAValue) -> bool:
    """True if `value` is used exactly once."""
    return value.has_one_use()


def is_aten(operation: object, *overloads: str) -> bool:
    """True if `operation` is one of the ATen overloads, spelled as in `add.Tensor`."""
    return isinstance(operation, Operation) and operation_name(operation).removeprefix("torch.aten.") in overloads


def identifier(text: str) -> str:
    """`text` as an identifier of MLIR."""
    cleaned = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_.$") else "_" for letter in text)
    return f"_{cleaned}" if cleaned[:1].isdigit() else cleaned


def set_argument_attribute(function: FuncOp, index: int, name: str, value: Attribute) -> None:
    """Sets the attribute `name` of argument `index` of `function`, beside its other attributes."""
    from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr

    count = len(function.body.block.args)
    present = function.arg_attrs.data if function.arg_attrs is not None else (DictionaryAttr({}),) * count
    changed = [
        DictionaryAttr({**attributes.data, name: value}) if position == index else attributes
        for position, attributes in enumerate(present)
    ]
    function.arg_attrs = ArrayAttr(changed)
