"""Look-ups: rows of tables, and elements at given positions."""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.dialect.torch import sizes_of, tensor_type
from sta.frontend.errors import ModelError
from sta.frontend.onnx.file import label
from sta.frontend.onnx.graph import OnnxGraph
from sta.frontend.onnx.operands import constant_operand
from sta.frontend.onnx.rule import Attributes, Rule

if TYPE_CHECKING:
    from onnx import NodeProto

Array = NDArray[Any]


def _gather(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """Rows of a constant table, or positions along an axis."""
    table, axis = graph.constant(node.input[0]), attributes["axis"]
    if table is not None and table.ndim == 2 and axis == 0:
        weight, rows = graph.value(node.input[0]), graph.value(node.input[1])
        operands = [weight, rows, graph.integer(-1), graph.boolean(False), graph.boolean(False)]
        sizes = (*sizes_of(rows), table.shape[1])
        graph.set(node.output[0], graph.aten(torch.EmbeddingOp, operands, sizes))
        return
    x = graph.value(node.input[0])
    kind = tensor_type(x)
    axis %= kind.rank
    positions = _positions(graph, node, kind.sizes[axis])
    if isinstance(positions, SSAValue):
        shape, flat = sizes_of(positions), graph.view(positions, (tensor_type(positions).element_count,))
    else:
        shape, flat = positions.shape, graph.literal(positions.reshape(-1), node.input[1])
    sizes = [*kind.sizes[:axis], sizes_of(flat)[0], *kind.sizes[axis + 1 :]]
    operands = [x, graph.integer(axis), flat]
    taken = graph.aten(torch.operator_class("aten.index_select"), operands, sizes, kind.element_type)
    graph.set(node.output[0], graph.view(taken, (*kind.sizes[:axis], *shape, *kind.sizes[axis + 1 :])))


def _gather_elements(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """The element at a position along an axis, for each element of the positions."""
    x = graph.value(node.input[0])
    kind = tensor_type(x)
    axis = attributes["axis"] % kind.rank
    positions = _positions(graph, node, kind.sizes[axis])
    taken = positions if isinstance(positions, SSAValue) else graph.literal(positions, node.input[1])
    operands = [x, graph.integer(axis), taken, graph.boolean(False)]
    result = graph.aten(torch.operator_class("aten.gather"), operands, sizes_of(taken), kind.element_type)
    graph.set(node.output[0], result)


def _gather_nd(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """Parts at constant positions along the first axes."""
    x, places = graph.value(node.input[0]), constant_operand(graph, node, 1)
    assert places is not None
    kind, batch_axes = tensor_type(x), attributes["batch_dims"]
    last = batch_axes + places.shape[-1]
    if last > kind.rank or places.shape[:batch_axes] != kind.sizes[:batch_axes]:
        raise ModelError(f"{label(node)}: positions {list(places.shape)} are none in a value {list(kind.sizes)}")
    shape = places.shape[:-1]
    # Positions along a batch axis are those of the result itself.
    own = [np.broadcast_to(grid, shape) for grid in np.indices(shape, sparse=True)[:batch_axes]]
    given = [_counted(node, places[..., axis - batch_axes], kind.sizes[axis]) for axis in range(batch_axes, last)]
    literals = [graph.literal(positions, node.input[1]) for positions in (*own, *given)]
    # torch-mlir's name of `index` with a list of tensors.
    select = torch.operator_class("aten.index.Tensor_hacked_twin")
    result = graph.aten(select, [x, graph.tensors(literals)], (*shape, *kind.sizes[last:]), kind.element_type)
    graph.set(node.output[0], result)


def _positions(graph: OnnxGraph, node: NodeProto, size: int) -> Array | SSAValue:
    """The positions that `node` takes from an axis of `size`: a constant, or a value."""
    constant = graph.constant(node.input[1])
    if constant is None:
        return graph.converted(graph.value(node.input[1]), np.dtype(np.int64))
    return _counted(node, constant, size)


def _counted(node: NodeProto, positions: Array, size: int) -> Array:
    """Positions in an axis of `size`, all counted from its start. Raises ModelError if there is one beyond its ends."""
    beyond = (positions < -size) | (positions >= size)
    if beyond.any():
        raise ModelError(f"{label(node)}: there is no position {positions[beyond].flat[0]} in an axis of {size}")
    return np.where(positions < 0, positions + size, positions).astype(np.int64)


RULES = {
    "Gather": Rule(_gather, ("axis",)),
    "GatherElements": Rule(_gather_elements, ("axis",)),
    "GatherND": Rule(_gather_nd, ("batch_dims",)),
}
