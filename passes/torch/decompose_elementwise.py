"""
Quotients, powers, comparisons, logic and selections of several values as sums, products and functions of one value.

What a float value decides is a zero or a one: `x > y` is a function of `x - y`, `p and q` one of `p + q`, and
`where(p, x, y)` is `p * x + (1 - p) * y`. A triangle is a product with zeros and ones. Functions of one value are left
to `torch-fuse-pointwise`, behind this. Operands that both broadcast get the shape of the result. Layers whose
results are compared with one another get more bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32, i1
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.location import module_path
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.compared_layers import refine_compared_layers
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.pointwise import PointwiseValues
from sta.passes.rewriting.torch_operations import (
    TorchBuilder,
    identifier,
    literal_of,
    operations_of,
    replace,
)
from sta.spec.operators.operator import Operator, Role

Made = SSAValue | None

LARGEST = float(np.finfo(np.float32).max)
"""From here on a number stands for an infinite one: it has no place in a format beside others."""


def decompose_elementwise(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the function `main` of `module`; new constants go into `store`."""
    values = PointwiseValues(store)
    refine_compared_layers(operations_of(module), store)
    for operation in operations_of(module):
        _push_selections(operation, values, store)
    for operation in operations_of(module):
        if len(operation.results) == 1 and (made := _spelled(operation, values, store)) is not None:
            replace(operation, [made])
    erase_dead(module)


def _spelled(operation: Operation, values: PointwiseValues, store: WeightStore) -> Made:
    kind = operation.results[0].type
    row = torch.find_row(operation)
    if row is None or not isinstance(kind, torch.VTensorType):
        return None
    if row.spelling in _TRIANGLES and kind.element_type == f32:
        return _triangle(operation, _TRIANGLES[row.spelling], TorchBuilder(operation, store))
    if not row.is_pointwise:
        return None
    if kind.element_type not in (f32, i1) or values.is_function(operation.results[0]):
        return None
    speller = _Speller(operation, TorchBuilder(operation, store), values, store)
    return speller.spelled(row) if speller.has_floats else None


@dataclass
class _Speller:
    """One operation of several values."""

    operation: Operation
    builder: TorchBuilder
    values: PointwiseValues
    store: WeightStore

    @property
    def has_floats(self) -> bool:
        """True if a value that decides or is computed with is a float of the model, rather than one of ids or masks."""
        return any(self.values.argument_of(one) is not None for one in self.operation.operands if _is_tensor(one))

    def spelled(self, row: Operator) -> Made:
        """The result of the operation; None if it stays."""
        if row.role is Role.SELECTION:
            return self._selection()
        if row.role in (Role.ADDITION, Role.COMBINATION, Role.MULTIPLICATION):
            return self._whole()
        if row.role is Role.COMPARISON and row.spelling in _LOGIC:
            return self._logic(_LOGIC[row.spelling])
        if row.role is Role.COMPARISON:
            return self._comparison("ne" if row.spelling == "exclusion" else row.label)
        spell = {"quotient": self._quotient, "power": self._power, "weighted": self._prelu}.get(row.spelling)
        return None if spell is None else spell()

    # --- Of floats ---

    def _quotient(self) -> Made:
        """`x / y` as `x` times one over `y`, rounded if that is asked for."""
        value, divisor, *mode = self.operation.operands
        if literal_of(divisor) is not None or not _is_float(value):
            return None
        # A number of tokens is an integer, which the host counts.
        divisor = divisor if _is_float(divisor) else self._converted(divisor)
        quotient = self._product(value, self._function("reciprocal", divisor))
        rounding = torch.constant_of(mode[0]) if mode else None
        return quotient if rounding is None else self._function(str(rounding), quotient)

    def _power(self) -> Made:
        """A positive value to the power of another: `exp(y * log(x))`."""
        base, exponent = self.operation.operands
        if not all(map(_is_float, (base, exponent))):
            return None
        return self._function("exp", self._product(self._function("log", base), exponent))

    def _prelu(self) -> Made:
        """`max(x, 0) + weight * min(x, 0)`, the weight along the second axis."""
        value, weight = self.operation.operands
        if literal_of(weight) is None:
            return None
        column = self._literal(self._array(weight).reshape(-1, *(1 for _ in torch.sizes_of(value)[2:])))
        below = self._product(self._function("clamp_max", value, self.builder.number(0.0)), column)
        return self._sum(self._function("relu", value), below)

    def _whole(self) -> Made:
        """The same with truth values as numbers, and with one operand in the shape of the result."""
        operation, sizes = self.operation, torch.sizes_of(self.operation.results[0])
        first, second, *rest = operation.operands
        # What depends on integer inputs alone becomes numbers elsewhere.
        given = [
            one if self.values.argument_of(one) is None and literal_of(one) is None else self._number_of(one)
            for one in (first, second)
        ]
        given = self._one_whole(given[0], given[1], sizes)
        if given == [first, second]:
            return None
        return self.builder.aten(type_of(operation), [*given, *rest], operation.results[0].type)

    # --- Of truth values ---

    def _comparison(self, name: str) -> Made:
        """A function of the difference; of truth values, of zeros and ones."""
        left, right = (self._number_of(one) for one in self.operation.operands)
        if not all(map(_is_float, (left, right))):
            return None
        difference = self.builder.aten(torch.SubTensorOp, [left, right, self.builder.integer(1)], self._float_type())
        return self._compared(name, difference, 0.0)

    def _logic(self, least: float) -> Made:
        """True where the sum of zeros and ones is above a number."""
        if not all(map(_is_truth, self.operation.operands)):
            return None
        return self._compared("gt", self._sum(*map(self._number_of, self.operation.operands)), least)

    def _selection(self) -> Made:
        """`p * x + (1 - p) * y`, without the parts that are zero."""
        condition, chosen, other = _selected(self.operation)
        numbers = [_number_or_none(one, self.values) for one in (chosen, other)]
        if any(number is not None and not abs(number) < LARGEST for number in numbers):
            return None
        if not all(number is not None or _is_float(one) for number, one in zip(numbers, (chosen, other), strict=True)):
            return None
        parts = [
            self._part(condition, value, number, is_chosen)
            for value, number, is_chosen in zip((chosen, other), numbers, (True, False), strict=True)
        ]
        first, *others = [part for part in parts if part is not None]
        return self._sum(first, *others) if others else first

    def _part(self, condition: SSAValue, value: SSAValue, number: float | None, is_chosen: bool) -> Made:
        """`value` where the condition is `is_chosen`, else 0; None if that is 0 everywhere, and adds no axes."""
        if number is None:
            return self._product(self._ones(condition, is_chosen), value)
        whole = torch.sizes_of(condition) == torch.sizes_of(self.operation.results[0])
        return None if number == 0 and whole else self._ones(condition, is_chosen, number)

    def _ones(self, condition: SSAValue, is_chosen: bool, number: float = 1.0) -> SSAValue:
        """`number` where `condition` is `is_chosen`, 0 elsewhere."""
        if literal_of(condition) is not None:
            chosen = self._array(condition) == is_chosen
            return self._literal(np.where(chosen, np.float32(number), np.float32(0)))
        ones, builder = self._number_of(condition), self.builder
        factor = builder.number(number)
        if is_chosen:
            return ones if number == 1 else builder.aten(torch.MulScalarOp, [ones, factor], ones.type)
        return builder.aten(torch.operator_class("aten.rsub.Scalar"), [ones, factor, factor], ones.type)

    # --- Building ---

    def _compared(self, name: str, value: SSAValue, number: float) -> SSAValue:
        kind = torch.VTensorType(torch.sizes_of(value), i1)
        operation = torch.operator_class(f"aten.{name}.Scalar")
        return self.builder.aten(operation, [value, self.builder.number(number)], kind)

    def _function(self, name: str, value: SSAValue, *arguments: SSAValue) -> SSAValue:
        return self.builder.aten(torch.operator_class(f"aten.{name}"), [value, *arguments], value.type)

    def _one_whole(self, left: SSAValue, right: SSAValue, sizes: tuple[int, ...]) -> list[SSAValue]:
        """Both values, one of which is expanded to `sizes` if neither has them: a constant one, else the larger."""
        given = [left, right]
        if all(torch.sizes_of(one) != sizes for one in given):
            counts = [torch.tensor_type(one).element_count for one in given]
            is_second = literal_of(right) is not None or (literal_of(left) is None and counts[1] > counts[0])
            given[is_second] = self._expanded(given[is_second], sizes)
        return given

    def _sum(self, left: SSAValue, right: SSAValue) -> SSAValue:
        return self.builder.aten(torch.AddTensorOp, [left, right, self.builder.integer(1)], _joint_type(left, right))

    def _product(self, left: SSAValue, right: SSAValue) -> SSAValue:
        kind = _joint_type(left, right)
        return self.builder.aten(torch.MulTensorOp, self._one_whole(left, right, kind.sizes), kind)

    def _number_of(self, value: SSAValue) -> SSAValue:
        """A truth value as 0 or 1; another value as it is."""
        if not _is_truth(value):
            return value
        if literal_of(value) is not None:
            return self._literal(self._array(value))
        return self._converted(value)

    def _converted(self, value: SSAValue) -> SSAValue:
        """Integers or truth values as floats."""
        number, keep = self.builder.integer(torch.dtype_number(np.dtype(np.float32))), self.builder.boolean(False)
        kind = torch.VTensorType(torch.sizes_of(value), f32)
        return self.builder.aten(torch.ToDtypeOp, [value, number, keep, keep, self.builder.none()], kind)

    def _expanded(self, value: SSAValue, sizes: tuple[int, ...]) -> SSAValue:
        if literal_of(value) is not None:
            return self._literal(np.broadcast_to(self._array(value), sizes))
        operands = [value, self.builder.integers(sizes), self.builder.boolean(False)]
        return self.builder.aten(torch.ExpandOp, operands, torch.VTensorType(sizes, f32))

    def _array(self, value: SSAValue) -> np.ndarray:
        literal = literal_of(value)
        assert literal is not None
        return literal.array(self.store)

    def _literal(self, array: np.ndarray) -> SSAValue:
        name = f"{identifier(module_path(self.operation)) or 'constant'}.selected"
        return self.builder.literal(np.array(array, np.float32, order="C"), name)

    def _float_type(self) -> torch.VTensorType:
        return torch.VTensorType(torch.sizes_of(self.operation.results[0]), f32)


def _triangle(operation: Operation, triangle: Callable[..., np.ndarray], builder: TorchBuilder) -> Made:
    """The operand times ones in a triangle of the last two axes, and zeros elsewhere."""
    value, diagonal = operation.operands
    ones = triangle(np.ones(torch.sizes_of(value)[-2:], np.float32), torch.integer_of(diagonal))
    name = f"{identifier(module_path(operation)) or 'constant'}.triangle"
    return builder.aten(torch.MulTensorOp, [value, builder.literal(ones, name)], value.type)


_TRIANGLES: dict[str, Callable[..., np.ndarray]] = {"lower triangle": np.tril, "upper triangle": np.triu}
"""By the spelling of the operators that keep them."""

_LOGIC = {"conjunction": 1.5, "disjunction": 0.5}
"""Lower limit of the sum of two truth values, by the spelling of the operators that are true above it."""


def _selected(operation: Operation) -> tuple[SSAValue, SSAValue, SSAValue]:
    """The condition of a selection, the value where it is true, and the other one."""
    first, second, third = operation.operands
    return (first, second, third) if _is_truth(first) else (second, third, first)


def _number_or_none(value: SSAValue, values: PointwiseValues) -> float | None:
    number = torch.constant_of(value) if torch.is_constant(value) else values.number_of(value)
    return float(number) if isinstance(number, int | float) else None


def _push_selections(operation: Operation, values: PointwiseValues, store: WeightStore) -> None:
    """
    A function of a selection of a number that no format holds becomes the selection of the function of that number, as
    long as it is none: `exp(where(p, -inf, x))` is `where(p, 0, exp(where(p, 0, x)))`. Where a value is not chosen its
    function may overflow, and would widen the range of the others.
    """
    row = torch.find_row(operation)
    source = operation.operands[0].owner if operation.operands else None
    if row is None or row.role not in (Role.FUNCTION, Role.ELEMENTWISE) or not isinstance(source, Operation):
        return
    selects = torch.find_row(source)
    if selects is None or selects.role is not Role.SELECTION or not _is_float(source.results[0]):
        return
    condition, *parts = _selected(source)
    numbers = [_number_or_none(one, values) for one in parts]
    if all(number is None or abs(number) < LARGEST for number in numbers):
        return
    builder, arguments = TorchBuilder(operation, store), list(operation.operands[1:])
    select = torch.operator_class("aten.where.self")
    if row.domain[0] < 0 < row.domain[1]:
        zero = builder.literal(np.zeros((), np.float32), "selected")
        finite = [part if number is None else zero for part, number in zip(parts, numbers, strict=True)]
        sources = [builder.aten(select, [condition, *finite], source.results[0].type)] * 2
    else:
        sources = parts
    made = [
        builder.aten(type_of(operation), [one, *arguments], one.type)
        if number is None
        else builder.literal(_function_of(row, number, arguments), "selected")
        for one, number in zip(sources, numbers, strict=True)
    ]
    replace(operation, [builder.aten(select, [condition, *made], operation.results[0].type)])


def _function_of(row: Operator, number: float, arguments: list[SSAValue]) -> np.ndarray:
    """The function of a row at one number, float32 without axes."""
    assert row.reference is not None
    with np.errstate(all="ignore"):
        result = row.reference(np.array([number]), *(torch.constant_of(one) for one in arguments))
    return np.asarray(result, np.float32).reshape(())


def type_of(operation: Operation) -> type[torch.AtenOperation]:
    """The class of an operator's operation."""
    kind = type(operation)
    assert issubclass(kind, torch.AtenOperation)
    return kind


def _is_tensor(value: SSAValue) -> bool:
    return isinstance(value.type, torch.VTensorType)


def _is_float(value: SSAValue) -> bool:
    return isinstance(value.type, torch.VTensorType) and value.type.element_type == f32


def _is_truth(value: SSAValue) -> bool:
    return isinstance(value.type, torch.VTensorType) and value.type.element_type == i1


def _joint_type(left: SSAValue, right: SSAValue) -> torch.VTensorType:
    return torch.VTensorType(np.broadcast_shapes(torch.sizes_of(left), torch.sizes_of(right)), f32)


@dataclass(frozen=True)
class TorchDecomposeElementwisePass(ModulePass):
    """Spells quotients, comparisons, logic and selections of several values with functions of one value."""

    name = "torch-decompose-elementwise"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place; new constants go into the context's weight store."""
        decompose_elementwise(op, weights_of(ctx))
