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

Products and vectors are PyTorch's, whose threads can be limited (`sta.passes.quantization.workers`). torchao's
implementation (prototype.gptq) wants CUDA, and has no zeros to keep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.dialect.interpreters.torch import tensor_from
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.quantization.calibrate import RangeObserver
from sta.passes.quantization.calibration_observer import MOST_ROWS, RowObserver
from sta.passes.quantization.integer_weights import WEIGHT_MAGNITUDE, row_scales
from sta.passes.quantization.workers import in_parallel
from sta.passes.rewriting.torch_operations import TorchBuilder, literal_of, operations_of
from sta.passes.rewriting.uses_through_views import source_of_rows

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]

DAMPING = 1.0
"""
Damping of the diagonal of H, relative to its mean. GPTQ uses 0.01 for 262,144 rows; from the few hundred rows here a
correction would otherwise learn chance.
"""
BLOCK = 32
"""Columns whose corrections by earlier blocks are one matrix product."""
PANEL = 192
"""Rows of the factor of H that are decomposed together."""


def round_weights(
    module: ModuleOp,
    store: WeightStore,
    observers: Mapping[SSAValue, RangeObserver],
    progress: Callable[[int], None] = lambda products: None,
) -> list[str]:
    """
    Rounds the weights of linear layers in the function `main` of a calibrated module by GPTQ.

    `observers` hold rows of each input; layers without such rows are left alone. `progress` is called with the
    multiply-accumulates of weights that are done. Returns the names in `store` of the rounded weights.
    """
    layers = _layers_by_weight(module)
    groups = _groups(layers, store, observers)
    rounded: list[str] = []

    def put(result: tuple[_Group, list[Array]]) -> None:
        group, arrays = result
        for name, array in zip(group.names, arrays, strict=True):
            rounded.append(store.put_unique(f"{name}.rounded_by_calibration", array))
            _replace_weight(layers[name], store, rounded[-1])
        progress(group.products)

    in_parallel(lambda group: (group, group.rounded(store)), groups, put)
    return rounded


@dataclass(frozen=True)
class _Group:
    """Weights with the same inputs, which are rounded together."""

    names: tuple[str, ...]
    observers: tuple[RowObserver, ...]
    """Hold the rows of the inputs."""
    outputs: int
    width: int

    @property
    def products(self) -> int:
        """Multiply-accumulates of GPTQ, about."""
        return _products(self.outputs, self.width)

    def rounded(self, store: WeightStore) -> list[Array]:
        weights = [store.get(name) for name in self.names]
        inputs = np.concatenate([observer.rows() for observer in self.observers])
        ends = np.cumsum([len(array) for array in weights])[:-1]
        return np.split(rounded_by_inputs(np.concatenate(weights), inputs), ends)


def products_of_rounding(module: ModuleOp) -> int:
    """Multiply-accumulates of GPTQ for the linear layers of `module`, about."""
    groups: dict[SSAValue, int] = {}
    for layer in operations_of(module):
        if isinstance(layer, torch.LinearOp):
            source = source_of_rows(layer.input)
            groups[source] = groups.get(source, 0) + torch.sizes_of(layer.weight)[0]
    return sum(_products(outputs, torch.sizes_of(source)[-1]) for source, outputs in groups.items())


def _products(outputs: int, width: int) -> int:
    """Multiply-accumulates of H and of the corrections, half of a square each, and of a decomposition."""
    return width**2 * (3 * outputs + 3 * MOST_ROWS + width) // 6


def _replace_weight(layers: Iterable[torch.LinearOp], store: WeightStore, name: str) -> None:
    for layer in layers:
        weight = TorchBuilder(layer, store).literal(store.get(name), name)
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
    layers: Mapping[str, Sequence[torch.LinearOp]],
    store: WeightStore,
    observers: Mapping[SSAValue, RangeObserver],
) -> list[_Group]:
    """The weights of `layers`, of those whose inputs' rows are known."""
    groups: dict[tuple[SSAValue, ...], list[str]] = {}
    for name, found in layers.items():
        groups.setdefault(tuple(dict.fromkeys(source_of_rows(layer.input) for layer in found)), []).append(name)
    known: list[_Group] = []
    for inputs, names in groups.items():
        seen = [observer for observer in map(observers.get, inputs) if isinstance(observer, RowObserver)]
        if len(seen) == len(inputs):
            shapes = [store.get(name).shape for name in names]
            known.append(_Group(tuple(names), tuple(seen), sum(shape[0] for shape in shapes), shapes[0][1]))
    return known


def rounded_by_inputs(weights: Array, inputs: Array) -> Array:
    """
    Weights float32 [n, K], rounded to multiples of each row's scale for inputs float32 [rows, K].

    The scale is `row_scales` in float64. Zeros stay zero, and the largest of a row keeps its magnitude.
    """
    import torch as pytorch

    scales = tensor_from(row_scales(weights, np.float64))
    energies = np.einsum("ij,ij->j", inputs, inputs, dtype=np.float64)
    order = tensor_from(np.argsort(-energies, kind="stable"))
    feedback = _feedback(tensor_from(inputs)[:, order])
    # A row for each column of the weights; arrays of all weights are few, since each costs as much as a product.
    columns = tensor_from(weights).T.contiguous()
    errors = pytorch.empty_like(columns)
    for start in range(0, len(order), BLOCK):
        block = slice(start, start + BLOCK)
        exact = (columns[order[block]] / scales).float()
        integers = pytorch.addmm(exact, feedback[block, :start], errors[:start])
        _round_block(exact, integers, feedback[block, block], errors[block])
        columns[order[block]] = (integers * scales).float()
    return columns.T.contiguous().numpy()


def _round_block(exact: Tensor, integers: Tensor, feedback: Tensor, errors: Tensor) -> None:
    """
    Rounds one column after the other, [columns, n], and sets its errors.

    `exact` are the weights by their scales. `integers` are those with the corrections by blocks before, and are rounded
    in place; feedback [columns, columns] is that within the block.
    """
    import torch as pytorch

    # A weight that is not free has one integer within its limits.
    free = (exact != 0) & (exact.abs() < WEIGHT_MAGNITUDE)
    low = pytorch.where(free, -float(WEIGHT_MAGNITUDE), exact)
    high = pytorch.where(free, float(WEIGHT_MAGNITUDE), exact)
    before = errors.T
    rows = zip(*(array.unbind(0) for array in (exact, integers, low, high, feedback, errors)), strict=True)
    for column, (value, integer, least, most, shares, error) in enumerate(rows):
        integer.addmv_(before[:, :column], shares[:column])
        pytorch.clamp(integer.round_(), least, most, out=integer)
        pytorch.sub(value, integer, out=error)


def _feedback(inputs: Tensor) -> Tensor:
    """
    Share of the error of column j that column k compensates, float32 [K, K] at [k, j] for j < k, for inputs
    [rows, K]; what is above the diagonal has no meaning.

    It is the factor F of H = F^T D F, from its last rows to its first: H is made as far as it is needed, and is never
    whole. PyTorch's own decomposition takes three times as long.
    """
    import torch as pytorch
    from torch import linalg

    decompositions: Any = linalg
    width = inputs.shape[1]
    # float32 is enough: with this damping, the condition number is no more than K. Its range is not, without a scale.
    size = float(decompositions.vector_norm(inputs, dtype=pytorch.float64)) / math.sqrt(width)
    scaled = inputs / size if size > 0 else inputs
    factor = pytorch.empty(width, width)
    for end in range(width, 0, -PANEL):
        start = max(end - PANEL, 0)
        panel = factor[start:end, :end]
        pytorch.mm(scaled[:, start:end].T, scaled[:, :end], out=panel)
        panel.addmm_(factor[end:, start:end].T, factor[end:, :end], alpha=-1)
        corner = panel[:, start:]
        corner.diagonal().add_(DAMPING)
        # Cholesky's factor of a matrix read backwards is the other one: U^T U instead of L L^T.
        corner.copy_(decompositions.cholesky(corner.flip(0, 1), upper=True).flip(0, 1))
        panel[:, :start] = decompositions.solve_triangular(corner.T, panel[:, :start], upper=True)
    factor /= factor.diagonal().clone()[:, None]
    return factor
