"""Sums along the last axis: products with a constant matrix of ones, exact in the accumulators."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sta.dialect import nm, torch
from sta.passes.lowering.torch_to_nm.conversion import Conversion, Quantized, Storage
from sta.passes.lowering.torch_to_nm.lowering import Lowering
from sta.passes.quantization.integer_weights import requantization


def _refused_sum(operation: torch.SumOp | torch.MeanOp) -> str | None:
    """A sum or mean is of float values, along the last axis, which stays with size 1."""
    if not torch.tensor_type(operation.input).is_float:
        return _OF_INTEGERS
    rank = torch.tensor_type(operation.input).rank
    axes = [axis % rank for axis in torch.integers_of(operation.dim)]
    return None if axes == [rank - 1] and torch.constant_of(operation.keepdim) else _OF_OTHER_AXES


def _refused_cumsum(operation: torch.CumsumOp) -> str | None:
    """A running sum is of float values, along the last axis."""
    if not torch.tensor_type(operation.input).is_float:
        return _OF_INTEGERS
    rank = torch.tensor_type(operation.input).rank
    return None if torch.integer_of(operation.dim) % rank == rank - 1 else _OF_OTHER_AXES


_OF_INTEGERS = "only float values can be summed: convert an integer input on the host"
_OF_OTHER_AXES = "sums are along the last axis: run torch-decompose-reductions first"


def _sum(conversion: Conversion, op: torch.SumOp, storage: Storage) -> Quantized:
    """The sum of each row."""
    return _product_with_ones(conversion, op, _row_of_ones(op), 1.0, storage)


def _mean(conversion: Conversion, op: torch.MeanOp, storage: Storage) -> Quantized:
    """The sum of each row, with a scale that divides by its length."""
    return _product_with_ones(conversion, op, _row_of_ones(op), 1.0 / torch.sizes_of(op.input)[-1], storage)


def _running_sum(conversion: Conversion, op: torch.CumsumOp, storage: Storage) -> Quantized:
    """The sums of the first elements of each row."""
    count = torch.sizes_of(op.input)[-1]
    return _product_with_ones(conversion, op, np.tril(np.ones((count, count), np.int8)), 1.0, storage)


def _row_of_ones(op: torch.SumOp | torch.MeanOp) -> NDArray[np.int8]:
    return np.ones((1, torch.sizes_of(op.input)[-1]), np.int8)


def _product_with_ones(
    conversion: Conversion,
    op: torch.SumOp | torch.MeanOp | torch.CumsumOp,
    ones: NDArray[np.int8],
    factor: float,
    storage: Storage,
) -> Quantized:
    """The product of the 16-bit rows with `ones` [n, k], times `factor`."""
    x = conversion.stream(conversion.quantized(op.input))
    accumulators = conversion.emit(nm.ProductOp(x.value, conversion.constant("ones@int8", ones, nm.si8))).result
    columns = len(ones)
    multiplier, shift = requantization(np.full(columns, x.scale * factor), storage.scale)
    rescaled = conversion.emit(
        nm.RescaleChannelsOp(
            accumulators,
            conversion.constant(f"{conversion.path}.bias@int32", np.zeros(columns, np.int32), nm.si32),
            conversion.constant(f"{conversion.path}.multiplier", multiplier, nm.si32),
            conversion.constant(f"{conversion.path}.shift", shift, nm.si8),
        )
    ).result
    return conversion.clamp(rescaled, storage)


LOWERINGS = (
    Lowering(torch.SumOp, _refused_sum, _sum),
    Lowering(torch.MeanOp, _refused_sum, _mean),
    Lowering(torch.CumsumOp, _refused_cumsum, _running_sum),
)
