"""
Resampling, along one axis after the other.

What ONNX makes of the unit vectors of an axis is the matrix of its resampling: positions of the axis where each row has
a single one, else a product. So every mode that is linear along each axis by itself is what ONNX's reference has.
"""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import UnitAttr
from xdsl.ir import Operation, SSAValue

from sta.dialect import torch
from sta.dialect.torch import sizes_of, tensor_type
from sta.frontend.onnx.folding import fold
from sta.frontend.onnx.graph import OnnxGraph, UnsupportedForm
from sta.frontend.onnx.movement import taken
from sta.frontend.onnx.operands import constant_operand
from sta.frontend.onnx.rule import Attributes, Rule

if TYPE_CHECKING:
    from onnx import NodeProto

Array = NDArray[Any]

_OF_ONE_AXIS = ("antialias", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "mode")
_LONGEST = 4096
"""Positions of the longest axis that is resampled: a matrix has the square of as many elements."""


def _resize(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """Resampling by constant factors or to constant sizes."""
    x = graph.value(node.input[0])
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        raise UnsupportedForm("crop with Slice, and resize then")
    if attributes["keep_aspect_ratio_policy"] not in (None, "stretch"):
        raise UnsupportedForm("sizes must be those of the result (keep_aspect_ratio_policy)")
    if not tensor_type(x).is_float:
        raise UnsupportedForm("only floats are supported")
    scales, sizes = (constant_operand(graph, node, index) for index in (2, 3))
    axes = attributes["axes"] or range(tensor_type(x).rank)
    by_size = sizes is not None and sizes.size > 0
    given = sizes if by_size else scales
    assert given is not None
    for axis, amount in zip(axes, given.tolist(), strict=True):
        axis %= tensor_type(x).rank
        if amount != (sizes_of(x)[axis] if by_size else 1):
            x = _resampled(graph, x, axis, _matrix(graph, attributes, sizes_of(x)[axis], amount, by_size))
    graph.set(node.output[0], x)


def _matrix(graph: OnnxGraph, attributes: Attributes, size: int, amount: float, by_size: bool) -> Array:
    """The matrix [result, size] of the resampling of an axis."""
    from onnx import helper

    if max(size, amount if by_size else size * amount) > _LONGEST:
        raise UnsupportedForm(f"axes of at most {_LONGEST} positions can be resampled")
    own = {name: attributes[name] for name in _OF_ONE_AXIS if attributes[name] is not None}
    if own["mode"] == "nearest":
        own["nearest_mode"] = attributes["nearest_mode"]
    operands = ["x", "", "", "sizes"] if by_size else ["x", "", "scales"]
    node = helper.make_node("Resize", operands, ["y"], name="resampling", **own)
    amounts = np.array([amount, size], np.int64) if by_size else np.array([amount, 1], np.float32)
    units = np.eye(size, dtype=np.float32)
    given = {"x": units, operands[-1]: amounts}
    return fold(node, given, graph.opset)["y"]


def _resampled(graph: OnnxGraph, x: SSAValue, axis: int, matrix: Array) -> SSAValue:
    """The product of `matrix` with every line of `x` along `axis`, whose 16 bits it reads; or positions of the axis."""
    if ((matrix == 0) | (matrix == 1)).all() and (matrix.sum(axis=1) == 1).all():
        return taken(graph, x, axis, matrix.argmax(axis=1))
    rank = tensor_type(x).rank
    order = [*range(axis), *range(axis + 1, rank), axis]
    rows = graph.permuted(x, order)
    weight = graph.literal(matrix.astype(np.float32), "resampling")
    sizes = (*sizes_of(rows)[:-1], len(matrix))
    made = graph.aten(torch.LinearOp, [rows, weight, graph.none()], sizes)
    assert isinstance(made.owner, Operation)
    made.owner.attributes[torch.INT16_INPUT] = UnitAttr()
    return graph.permuted(made, [order.index(place) for place in range(rank)])


RULES = {
    "Resize": Rule(
        _resize,
        (*_OF_ONE_AXIS, "axes", "extrapolation_value", "keep_aspect_ratio_policy", "nearest_mode"),
    )
}
