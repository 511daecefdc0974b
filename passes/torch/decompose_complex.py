"""
Complex numbers as pairs of real ones: the real parts and the imaginary parts are a tensor each.

Models rotate queries and keys with `view_as_real(view_as_complex(pairs) * constant)`, which is spelled with sums and
products here, as other models spell it (`torch-recognize-rotations`). What else makes complex numbers stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ComplexType, ModuleOp, f32
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.location import module_path
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.torch_operations import (
    TorchBuilder,
    array_of,
    identifier,
    is_aten,
    literal_of,
    operations_of,
    replace,
)

_Parts = tuple[SSAValue, SSAValue | None]
"""The real part, and the imaginary one; None where that is zero."""


def decompose_complex(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the function `main` of `module`; parts of constants go into `store`."""
    known: dict[SSAValue, _Parts] = {}
    for operation in operations_of(module):
        _Speller(TorchBuilder(operation, store), known, store).visit(operation)
    erase_dead(module)


def _is_complex(value: SSAValue) -> bool:
    return isinstance(value.type, torch.VTensorType) and isinstance(value.type.element_type, ComplexType)


@dataclass
class _Speller:
    """One operation on complex numbers."""

    builder: TorchBuilder
    known: dict[SSAValue, _Parts]
    store: WeightStore

    def visit(self, operation: Operation) -> None:
        """Notes the parts of the result of `operation`, or replaces it if they are what it gives."""
        if len(operation.results) != 1 or literal_of(operation.results[0]) is not None:
            return
        result = operation.results[0]
        if is_aten(operation, "view_as_real") and (parts := self._parts(operation.operands[0])) is not None:
            replace(operation, [self._put_together(parts)])
        elif _is_complex(result) and (parts := self._spelled(operation)) is not None:
            self.known[result] = parts

    def _spelled(self, operation: Operation) -> _Parts | None:
        if is_aten(operation, "view_as_complex"):
            return self._taken_apart(operation.operands[0])
        row = torch.find_row(operation)
        if row is not None and row.moves and all(map(torch.is_constant, operation.operands[1:])):
            return self._moved(operation)
        if is_aten(operation, "mul.Tensor", "add.Tensor", "sub.Tensor"):
            left, right = (self._parts(value) for value in operation.operands[:2])
            if left is None or right is None:
                return None
            if is_aten(operation, "mul.Tensor"):
                return self._product(left, right)
            if torch.constant_of(operation.operands[2]) == 1:
                return self._summed(is_aten(operation, "sub.Tensor"), left, right)
        return None

    def _parts(self, value: SSAValue) -> _Parts | None:
        """The parts of a complex or real value; None if they are not known."""
        if not _is_complex(value):
            return (value, None) if torch.tensor_type(value).element_type == f32 else None
        if value not in self.known and (array := array_of(value, self.store)) is not None:
            literal = literal_of(value)
            assert literal is not None
            name = literal.resource or identifier(module_path(literal)) or "constant"
            parts = [
                self.builder.literal(np.array(part, np.float32, order="C"), f"{name}.{kind}")
                for part, kind in ((np.real(array), "real"), (np.imag(array), "imaginary"))
            ]
            return parts[0], parts[1]
        return self.known.get(value)

    def _taken_apart(self, pairs: SSAValue) -> _Parts:
        *sizes, _ = torch.sizes_of(pairs)
        real, imaginary = (self.builder.slice(pairs, len(sizes), index, index + 1) for index in (0, 1))
        return self.builder.view(real, sizes), self.builder.view(imaginary, sizes)

    def _put_together(self, parts: _Parts) -> SSAValue:
        real, imaginary = parts
        sizes = torch.sizes_of(real)
        columns = [self.builder.view(part, (*sizes, 1)) for part in (real, self._or_zeros(imaginary, sizes))]
        listed = self.builder.insert(torch.ListConstructOp(columns, torch.VTensorType(None, None)))
        operands = [listed, self.builder.integer(len(sizes))]
        return self.builder.aten(torch.operator_class("aten.cat"), operands, torch.VTensorType((*sizes, 2), f32))

    def _or_zeros(self, part: SSAValue | None, sizes: tuple[int, ...]) -> SSAValue:
        return self.builder.literal(np.zeros(sizes, np.float32), "imaginary") if part is None else part

    def _moved(self, operation: Operation) -> _Parts | None:
        parts = self._parts(operation.operands[0])
        if parts is None:
            return None
        kind = torch.VTensorType(torch.sizes_of(operation.results[0]), f32)
        rest = operation.operands[1:]
        moved = [None if one is None else self._aten(operation, [one, *rest], kind) for one in parts]
        assert moved[0] is not None
        return moved[0], moved[1]

    def _aten(self, operation: Operation, operands: list[SSAValue], kind: torch.VTensorType) -> SSAValue:
        assert isinstance(operation, torch.AtenOperation)
        return self.builder.aten(type(operation), operands, kind)

    def _product(self, left: _Parts, right: _Parts) -> _Parts:
        (a, b), (c, d) = left, right
        real = self._sum(self._times(a, c), self._times(b, d), subtracts=True)
        assert real is not None
        return real, self._sum(self._times(a, d), self._times(b, c))

    def _summed(self, subtracts: bool, left: _Parts, right: _Parts) -> _Parts:
        real, imaginary = (self._sum(x, y, subtracts=subtracts) for x, y in zip(left, right, strict=True))
        assert real is not None
        return real, imaginary

    def _times(self, left: SSAValue | None, right: SSAValue | None) -> SSAValue | None:
        if left is None or right is None:
            return None
        return self.builder.aten(torch.MulTensorOp, [left, right], _joint_type(left, right))

    def _sum(self, left: SSAValue | None, right: SSAValue | None, *, subtracts: bool = False) -> SSAValue | None:
        """The sum or the difference, where None is zero."""
        if right is None:
            return left
        if left is None:
            return self.builder.aten(torch.operator_class("aten.neg"), [right], right.type) if subtracts else right
        combine = torch.SubTensorOp if subtracts else torch.AddTensorOp
        return self.builder.aten(combine, [left, right, self.builder.integer(1)], _joint_type(left, right))


def _joint_type(left: SSAValue, right: SSAValue) -> torch.VTensorType:
    return torch.VTensorType(np.broadcast_shapes(torch.sizes_of(left), torch.sizes_of(right)), f32)


@dataclass(frozen=True)
class TorchDecomposeComplexPass(ModulePass):
    """Spells sums, products and rearrangements of complex numbers with their real and imaginary parts."""

    name = "torch-decompose-complex"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place; parts of constants go into the context's weight store."""
        decompose_complex(op, weights_of(ctx))
