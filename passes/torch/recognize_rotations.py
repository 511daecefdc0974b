"""
Recognition of rotary position embeddings as one operation.

`x * cos + cat((-x2, x1)) * sin` has many spellings: halves or neighbours as pairs, a part of the columns, sums and
differences of parts that are put together again, views in between. Whatever is made of one value of the same shape with
sums, multiples by constants, and movements is linear: it is run on unit rows, from which the cosines and sines follow
if it is a rotation, and then on random numbers, which show that it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.interpreters.torch import TorchInterpretationError
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.location import module_path
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.spelled import Spelled, tensors_of, values_of
from sta.passes.rewriting.torch_operations import TorchBuilder, identifier, is_aten, literal_of, operations_of, replace
from sta.passes.rewriting.uses_through_views import VIEWS
from sta.spec.operators.operator import Role
from sta.spec.rotation import HALF, PAIRINGS, partners

Array = NDArray[np.float32]

_LONGEST = 40
"""Most operations of a spelling."""
_TOLERANCE = 1e-5
"""Largest error on random numbers, relative to the largest result."""


def recognize_rotations(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the function `main` of `module`."""
    inside: set[Operation] = set()
    for operation in reversed(operations_of(module)):
        if operation not in inside and _may_end(operation):
            inside.update(_rotate(operation, store))
    erase_dead(module)


def _may_end(operation: Operation) -> bool:
    """True for what may be the last operation of a rotation."""
    types = [result.type for result in operation.results]
    is_tensor = len(types) == 1 and isinstance(types[0], torch.VTensorType)
    return is_tensor and _is_linear(operation) and torch.tensor_type(operation.results[0]).rank > 1


def _rotate(root: Operation, store: WeightStore) -> list[Operation]:
    """Replaces `root` if it is the last operation of a rotation, of which it returns the operations."""
    for source, spelled in _sources(root):
        found = _rotation(_Linear(source, spelled, root.results[0], store))
        if found is None:
            continue
        builder = TorchBuilder(root, store)
        name = identifier(module_path(root)) or "rotation"
        tables = [builder.literal(table, f"{name}.{kind}") for table, kind in zip(found[1:], _TABLES, strict=True)]
        replace(root, [builder.insert(torch.RotateOp(source, tables[0], tables[1], found[0]))])
        return [one for one in spelled if one is not root]
    return []


_TABLES = ("cosines", "sines")


def _sources(root: Operation) -> Iterator[tuple[SSAValue, list[Operation]]]:
    """Values of the shape of `root` of which alone it is made, with the operations in between, the nearest first."""
    result = root.results[0]
    positions = {one: index for index, one in enumerate(root.parent.ops)} if root.parent is not None else {}
    pending: set[SSAValue] = {result}
    spelled: list[Operation] = []
    while pending and len(spelled) < _LONGEST:
        if len(pending) == 1 and result not in pending:
            (source,) = pending
            if source.type == result.type and _mixes(spelled):
                yield source, spelled[::-1]
        owners = [value.owner for value in pending if isinstance(value.owner, Operation)]
        if not owners:
            return
        operation = max(owners, key=lambda one: positions[one])
        if not _is_linear(operation):
            return
        spelled.append(operation)
        pending -= set(operation.results)
        pending |= values_of(operation)


def _mixes(spelled: list[Operation]) -> bool:
    """True if columns are put together, and rows multiplied by different numbers: else it is no rotation."""
    return any(is_aten(one, "cat") for one in spelled) and any(
        is_aten(one, "mul.Tensor") and any(literal_of(value) is not None for value in one.operands) for one in spelled
    )


def _is_linear(operation: Operation) -> bool:
    """True if the result of `operation` is a sum of multiples of what its operands hold that is not constant."""
    if torch.tensor_type(operation.results[0]).element_type != f32 or len(operation.results) != 1:
        return False
    if is_aten(operation, "add.Tensor", "sub.Tensor", "cat", "stack"):
        return all(literal_of(value) is None for value in tensors_of(operation))
    if is_aten(operation, "mul.Tensor"):
        return sum(literal_of(value) is None for value in operation.operands) == 1
    if is_aten(operation, "neg", "mul.Scalar"):
        return True
    row = torch.find_row(operation)
    return isinstance(operation, VIEWS) or (row is not None and row.role is Role.VIEW)


class _Linear(Spelled):
    """The effect of linear operations on a value, of its shape."""

    def of_columns(self, columns: NDArray[np.bool_]) -> Array:
        """The result for ones in `columns`, and zeros elsewhere."""
        return self.of(np.array(np.broadcast_to(columns.astype(np.float32), self.sizes), order="C"))


def _rotation(linear: _Linear) -> tuple[str, Array, Array] | None:
    """Pairing, cosines and sines [..., width] of a rotation; None if `linear` is none."""
    try:
        for pairing, width in _possible(linear):
            cosines, sines = _angles(linear, pairing, width)
            if _is_rotation(linear, pairing, cosines, sines):
                return pairing, _narrow(cosines), _narrow(sines)
    except TorchInterpretationError:
        return None
    return None


def _possible(linear: _Linear) -> Iterator[tuple[str, int]]:
    """Pairings and widths by the columns to which the first one contributes."""
    columns = linear.sizes[-1]
    first = np.arange(columns) == 0
    reached = np.flatnonzero(np.abs(linear.of_columns(first)).reshape(-1, columns).max(axis=0))
    others = reached[reached != 0]
    if len(others) != 1 or columns < 2:
        return
    if 2 * others[0] <= columns:
        yield HALF, int(2 * others[0])
    if others[0] == 1:
        # Of neighbours, those that stay as they are can be rotated by nothing.
        yield PAIRINGS[1], columns - columns % 2


def _angles(linear: _Linear, pairing: str, width: int) -> tuple[Array, Array]:
    """The factors of the columns of pairs for themselves, and for their partners, as models hold the sines."""
    columns = linear.sizes[-1]
    paired = partners(columns, width, pairing)
    is_first = np.arange(columns) < paired
    of_first, of_second = (linear.of_columns(one)[..., :width] for one in (is_first, np.arange(columns) > paired))
    first = is_first[:width]
    return np.where(first, of_first, of_second), np.where(first, -of_second, of_first)


def _is_rotation(linear: _Linear, pairing: str, cosines: Array, sines: Array) -> bool:
    generator = np.random.default_rng(0)
    value: Array = generator.standard_normal(linear.sizes, np.float32)
    width: int = cosines.shape[-1]
    paired = partners(width, width, pairing)
    own = value[..., :width]
    turned = np.where(np.arange(width) < paired, -own[..., paired], own[..., paired])
    expected = np.concatenate((own * cosines + turned * sines, value[..., width:]), axis=-1)
    found = linear.of(value)
    return bool(np.abs(found - expected).max() <= _TOLERANCE * np.abs(found).max())


def _narrow(table: Array) -> Array:
    """`table` with one element along each axis but the last along which it is constant, without leading axes of one."""
    for axis in range(table.ndim - 1):
        first = table.take([0], axis=axis)
        if np.array_equal(np.broadcast_to(first, table.shape), table):
            table = first
    while table.ndim > 1 and table.shape[0] == 1:
        table = table[0]
    return np.array(table, np.float32, order="C")


@dataclass(frozen=True)
class TorchRecognizeRotationsPass(ModulePass):
    """Replaces spelled-out rotary position embeddings by torch.rotate."""

    name = "torch-recognize-rotations"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place; cosines and sines go into the context's weight store."""
        recognize_rotations(op, weights_of(ctx))
