"""
Recognition of forward substitution: the inverse of a triangular matrix, row by row.

Linear attention by the delta rule (Yang et al. 2024) needs `(1 - A)^-1 - 1` of strictly lower triangular matrices A.
Models that are exported compute it in a loop over rows, each of which puts a row into the matrix. As a power of A with
an exponent of its size is zero, it is the sum of the powers before, which a logarithmic number of products makes:
`S + P + P @ S` has twice as many powers as their sum S, if P is the next one. Whether a chain of scattered rows is that
inverse is seen by running it on random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.interpreters.torch import TorchInterpretationError
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.spelled import Spelled, values_of
from sta.passes.rewriting.torch_operations import TorchBuilder, is_aten, operations_of, replace
from sta.spec.operators.operator import Role

_SMALLEST = 4
"""Rows of a matrix that is worth the products."""
_TOLERANCE = 1e-4
"""Largest error on random numbers, relative to the largest result."""


def recognize_inverses(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the function `main` of `module`."""
    inside: set[Operation] = set()
    operations = operations_of(module)
    positions = {one: index for index, one in enumerate(operations)}
    for operation in reversed(operations):
        if operation in inside or not is_aten(operation, "select_scatter"):
            continue
        found = _substitution(operation, positions, store)
        inside.update(found.spelled)
        if _is_inverse(found):
            replace(operation, [_sum_of_powers(TorchBuilder(operation, store), found.source)])
    erase_dead(module)


def _substitution(root: Operation, positions: dict[Operation, int], store: WeightStore) -> Spelled:
    """The longest chain of operations on rows that makes the result of `root` of one value."""
    pending, spelled = {root.results[0]}, list[Operation]()
    source, length = root.results[0], 0
    while True:
        owners = [value.owner for value in pending if isinstance(value.owner, Operation)]
        operation = max(owners, key=lambda one: positions[one], default=None)
        if operation is None or not _is_of_rows(operation):
            break
        spelled.append(operation)
        pending = (pending - set(operation.results)) | values_of(operation)
        if len(pending) == 1:
            (source,), length = pending, len(spelled)
    return Spelled(source, spelled[:length][::-1], root.results[0], store)


def _is_of_rows(operation: Operation) -> bool:
    row = torch.find_row(operation)
    return (row is not None and row.role is Role.VIEW) or is_aten(
        operation, "mul.Tensor", "add.Tensor", "sum.dim_IntList", "slice_scatter", "select_scatter"
    )


def _is_inverse(chain: Spelled) -> bool:
    """True if `chain` makes (1 - A)^-1 - 1 of strictly lower triangular matrices A."""
    sizes = chain.sizes
    if len(sizes) < 2 or sizes[-1] != sizes[-2] or sizes[-1] < _SMALLEST or chain.source.type != chain.result.type:
        return False
    if not _is_strictly_lower(chain.source):
        return False
    matrices = np.tril(np.random.default_rng(0).standard_normal(sizes, np.float32) * np.float32(0.2), -1)
    identity = np.eye(sizes[-1])
    expected = np.linalg.inv(identity - matrices) - identity
    try:
        found = chain.of(matrices)
    except TorchInterpretationError:
        return False
    return bool(np.abs(found - expected).max() <= _TOLERANCE * np.abs(expected).max())


def _is_strictly_lower(value: SSAValue) -> bool:
    """True for a multiple of a triangle that begins below the diagonal."""
    operation = value.owner
    while isinstance(operation, Operation) and is_aten(operation, "neg", "mul.Scalar", "div.Scalar"):
        operation = operation.operands[0].owner
    return (
        isinstance(operation, Operation) and is_aten(operation, "tril") and torch.number_of(operation.operands[1]) < 0
    )


def _sum_of_powers(builder: TorchBuilder, matrix: SSAValue) -> SSAValue:
    """The sum of all powers of strictly triangular matrices, from the first on."""
    total = power = matrix
    size, exponent = torch.sizes_of(matrix)[-1], 1
    while 2 * exponent < size:
        power = builder.aten(torch.MatmulOp, [power, power], matrix.type)
        product = builder.aten(torch.MatmulOp, [power, total], matrix.type)
        total = _sum(builder, _sum(builder, total, power), product)
        exponent *= 2
    return total


def _sum(builder: TorchBuilder, left: SSAValue, right: SSAValue) -> SSAValue:
    return builder.aten(torch.AddTensorOp, [left, right, builder.integer(1)], left.type)


@dataclass(frozen=True)
class TorchRecognizeInversesPass(ModulePass):
    """Replaces forward substitution by products of matrices."""

    name = "torch-recognize-inverses"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place."""
        recognize_inverses(op, weights_of(ctx))
