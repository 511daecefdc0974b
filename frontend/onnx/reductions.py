"""Reductions over axes, and running sums."""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from xdsl.ir import SSAValue

from sta.dialect.torch import sizes_of, tensor_type
from sta.frontend.onnx.graph import OnnxGraph, UnsupportedForm
from sta.frontend.onnx.movement import taken
from sta.frontend.onnx.operands import constant_operand
from sta.frontend.onnx.rule import Attributes, Rule

if TYPE_CHECKING:
    from onnx import NodeProto

Before = Callable[[OnnxGraph, SSAValue], SSAValue]
Reduce = Callable[[OnnxGraph, SSAValue, list[int], bool, list[int]], SSAValue]


def mean(graph: OnnxGraph, x: SSAValue, axes: list[int], keeps: bool, sizes: Sequence[int]) -> SSAValue:
    """The mean of `x` over axes."""
    return graph.call("mean.dim", [x, axes, keeps, None], sizes)


def largest(graph: OnnxGraph, x: SSAValue, axes: list[int], keeps: bool, sizes: Sequence[int]) -> SSAValue:
    """The maximum of `x` over axes."""
    return graph.call("amax", [x, axes, keeps], sizes, tensor_type(x).element_type)


def _smallest(graph: OnnxGraph, x: SSAValue, axes: list[int], keeps: bool, sizes: Sequence[int]) -> SSAValue:
    return graph.call("amin", [x, axes, keeps], sizes, tensor_type(x).element_type)


def _sum(graph: OnnxGraph, x: SSAValue, axes: list[int], keeps: bool, sizes: Sequence[int]) -> SSAValue:
    return graph.call("sum.dim_IntList", [x, axes, keeps, None], sizes, tensor_type(x).element_type)


def _log_of_sum(graph: OnnxGraph, x: SSAValue, axes: list[int], keeps: bool, sizes: Sequence[int]) -> SSAValue:
    return graph.call("log", [_sum(graph, x, axes, keeps, sizes)], sizes)


def _log_sum_exp(graph: OnnxGraph, x: SSAValue, axes: list[int], keeps: bool, sizes: Sequence[int]) -> SSAValue:
    return graph.call("logsumexp", [x, axes, keeps], sizes)


def _norm(graph: OnnxGraph, x: SSAValue, axes: list[int], keeps: bool, sizes: Sequence[int]) -> SSAValue:
    return graph.call("linalg_vector_norm", [x, 2.0, axes, keeps, None], sizes)


def _magnitude(graph: OnnxGraph, x: SSAValue) -> SSAValue:
    return graph.call("abs", [x], sizes_of(x), tensor_type(x).element_type)


def _square(graph: OnnxGraph, x: SSAValue) -> SSAValue:
    return graph.call("mul.Tensor", [x, x], sizes_of(x), tensor_type(x).element_type)


def _same(_graph: OnnxGraph, x: SSAValue) -> SSAValue:
    return x


def _reduce(
    graph: OnnxGraph,
    node: NodeProto,
    attributes: Attributes,
    *,
    reduce: Reduce,
    before: Before = _same,
    of_one: Before = _same,
    integers: bool = False,
) -> None:
    """A reduction over axes; `of_one` is what it makes of each element where there is no axis."""
    x = graph.value(node.input[0])
    if not (tensor_type(x).is_float or integers):
        raise UnsupportedForm("only floats are supported")
    sizes = sizes_of(x)
    given = constant_operand(graph, node, 1)
    axes = attributes["axes"] if given is None else given.tolist()
    if not axes and attributes["noop_with_empty_axes"]:
        graph.set(node.output[0], of_one(graph, before(graph, x)))
        return
    named = sorted(axis % len(sizes) for axis in axes) if axes else list(range(len(sizes)))
    keeps = bool(attributes["keepdims"])
    result = [1 if axis in named else size for axis, size in enumerate(sizes) if keeps or axis not in named]
    graph.set(node.output[0], reduce(graph, before(graph, x), named, keeps, result))


def _logarithm(graph: OnnxGraph, x: SSAValue) -> SSAValue:
    return graph.call("log", [x], sizes_of(x))


def _running_sum(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """The sum up to each position of an axis, or from it on."""
    x, axis = graph.value(node.input[0]), constant_operand(graph, node, 1)
    assert axis is not None
    kind = tensor_type(x)
    along = int(axis.reshape(-1)[0]) % kind.rank
    backwards = np.arange(kind.sizes[along])[::-1]
    given = taken(graph, x, along, backwards) if attributes["reverse"] else x
    made = graph.call("cumsum", [given, along, None], kind.sizes, kind.element_type)
    if attributes["exclusive"]:
        made = graph.call("sub.Tensor", [made, given, 1], kind.sizes, kind.element_type)
    graph.set(node.output[0], taken(graph, made, along, backwards) if attributes["reverse"] else made)


def _rule(title: str, reduce: Reduce, **options: object) -> Rule:
    function = partial(_reduce, reduce=reduce, **options)  # pyright: ignore[reportArgumentType]
    return Rule(function, ("axes", "keepdims", "noop_with_empty_axes"), title=title)


RULES = {
    "CumSum": Rule(_running_sum, ("exclusive", "reverse")),
    "ReduceL1": _rule("The sum of magnitudes over axes.", _sum, before=_magnitude),
    "ReduceL2": _rule("The root of the sum of squares over axes.", _norm, of_one=_magnitude),
    "ReduceLogSum": _rule("The logarithm of the sum over axes.", _log_of_sum, of_one=_logarithm),
    "ReduceLogSumExp": _rule("The logarithm of the sum of exponentials over axes.", _log_sum_exp),
    "ReduceMax": _rule("The maximum over axes.", largest, integers=True),
    "ReduceMean": _rule("The mean over axes.", mean),
    "ReduceMin": _rule("The minimum over axes.", _smallest, integers=True),
    "ReduceSum": _rule("The sum over axes.", _sum, integers=True),
    "ReduceSumSquare": _rule("The sum of squares over axes.", _sum, before=_square),
}
