"""
GPTQ: the rounding error of each weight is compensated by the weights of the same output channel that are rounded after
it.

For inputs X [rows, K] of a linear layer, the squared error of its outputs is that of the weights' errors under the
matrix H = X^T X. GPTQ (Frantar et al., arXiv 2210.17323) rounds one column of the weights after the other and corrects
the rest; in the equivalent form of QuIP (Chee et al., arXiv 2307.13304, theorem 6), column k is rounded from
w[k] + sum over j < k of (w[j] - q[j]) * U[j, k], with H = U D U^T and U unit upper triangular: one Cholesky
decomposition and no inverse. Columns go by the size of their inputs, largest first.

Scales stay: one an output channel, set by its largest weight, which keeps its integer. Zero weights stay zero, and so
do patterns of zeros. Stored weights are multiples of the scale, which the conversion to integers rounds to themselves.

torchao's implementation (prototype.gptq) wants CUDA, and has no zeros to keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.dialect.interpreters.torch import tensor_from
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.quantization.calibrate import RangeObserver
from sta.passes.quantization.calibration_observer import RowObserver
from sta.passes.quantization.integer_weights import WEIGHT_MAGNITUDE, row_magnitudes, row_scales
from sta.passes.rewriting.torch_operations import TorchBuilder, literal_of, operations_of
from sta.passes.rewriting.uses_through_views import source_of_rows

Array = NDArray[Any]

DAMPING = 1.0
"""
Damping of the diagonal of H, relative to its mean. GPTQ uses 0.01 for 262,144 rows; from the few hundred rows here a
correction would otherwise learn chance.
"""
BLOCK = 32
"""Columns whose corrections by earlier blocks are one matrix product."""


def round_weights(
    module: ModuleOp,
    store: WeightStore,
    observers: Mapping[SSAValue, RangeObserver],
    known: MutableMapping[str, str] | None = None,
) -> None:
    """
    Rounds the weights of linear layers in the function `main` of a calibrated module by GPTQ.

    `observers` hold rows of each input; layers without such rows are left alone. `known` are the names in `store` of
    weights rounded before for the same inputs, and is extended.
    """
    known = {} if known is None else known
    layers = _layers_by_weight(module)
    unknown = {name: found for name, found in layers.items() if name not in known}
    for names, inputs in _groups(unknown, observers):
        weights = [store.get(name) for name in names]
        rounded = rounded_by_inputs(np.concatenate(weights), inputs)
        ends = np.cumsum([len(array) for array in weights])[:-1]
        for name, array in zip(names, np.split(rounded, ends), strict=True):
            known[name] = store.put_unique(f"{name}.rounded_by_calibration", array)
    for name, found in layers.items():
        if name not in known:
            continue
        for layer in found:
            weight = TorchBuilder(layer, store).literal(store.get(known[name]), known[name])
            layer.operands = [layer.input, weight, layer.bias]


def _layers_by_weight(module: ModuleOp) -> dict[str, list[torch.LinearOp]]:
    """The linear layers by the name of their weight, which several may share."""
    layers: dict[str, list[torch.LinearOp]] = {}
    for operation in operations_of(module):
        literal = literal_of(operation.weight) if isinstance(operation, torch.LinearOp) else None
        if literal is not None and literal.resource is not None:
            assert isinstance(operation, torch.LinearOp)
            layers.setdefault(literal.resource, []).append(operation)
    return layers


def _groups(
    layers: Mapping[str, Sequence[torch.LinearOp]], observers: Mapping[SSAValue, RangeObserver]
) -> Iterator[tuple[list[str], Array]]:
    """The weights with the same inputs, and the inputs' rows [rows, K]."""
    groups: dict[tuple[SSAValue, ...], list[str]] = {}
    for name, found in layers.items():
        groups.setdefault(tuple(dict.fromkeys(source_of_rows(layer.input) for layer in found)), []).append(name)
    for inputs, names in groups.items():
        seen = [observer for observer in map(observers.get, inputs) if isinstance(observer, RowObserver)]
        if len(seen) == len(inputs):
            yield names, np.concatenate([observer.rows() for observer in seen])


def rounded_by_inputs(weights: Array, inputs: Array) -> Array:
    """
    Weights float32 [n, K], rounded to multiples of each row's scale for inputs float32 [rows, K].

    The scale is `row_scales`. Zeros stay zero, and the largest of a row keeps its magnitude.
    """
    largest = row_magnitudes(weights)
    scales = row_scales(weights.astype(np.float64))
    order = np.argsort(-np.square(inputs, dtype=np.float64).sum(axis=0), kind="stable")
    feedback = _feedback(inputs[:, order])
    exact = (weights / scales[:, None]).astype(np.float32).T[order]
    magnitudes = np.abs(weights).T[order]
    free = (magnitudes > 0) & (magnitudes < largest)
    integers, errors = np.rint(exact), np.zeros_like(exact)
    for start in range(0, len(exact), BLOCK):
        block = slice(start, start + BLOCK)
        wanted = exact[block] + feedback[block, :start] @ errors[:start]
        for column, target in enumerate(wanted, start):
            target += feedback[column, start:column] @ errors[start:column]
            limited = np.clip(np.rint(target), -WEIGHT_MAGNITUDE, WEIGHT_MAGNITUDE)
            np.copyto(integers[column], limited, where=free[column])
            errors[column] = exact[column] - integers[column]
    rounded = np.empty_like(weights)
    rounded[:, order] = (integers * scales).T
    return rounded


def _feedback(inputs: Array) -> Array:
    """Share of the error of column j that column k compensates, float32 [K, K] at [k, j]; used for j < k."""
    # PyTorch's is several times as fast as NumPy's, and imported with the model.
    from torch import linalg

    decompositions: Any = linalg

    largest = float(np.abs(inputs).max(initial=0.0))
    # float32 is enough: with this damping, the condition number is no more than K. Its range is not, without a scale.
    inputs = inputs / largest if largest > 0 else inputs
    correlation = inputs.T @ inputs
    mean = float(np.diagonal(correlation).mean(dtype=np.float64))
    np.fill_diagonal(correlation, np.diagonal(correlation) + (DAMPING * mean if mean > 0 else 1.0))
    # Cholesky's factor is lower triangular: from the last column to the first, it is the upper one.
    lower: Array = decompositions.cholesky(tensor_from(correlation[::-1, ::-1].copy())).numpy()
    upper = lower[::-1, ::-1]
    return np.ascontiguousarray((upper / np.diagonal(upper)).T)
