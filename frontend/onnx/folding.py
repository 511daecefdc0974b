"""
Computation of nodes that depend on no input.

ONNX's reference operators compute them, or onnxruntime, if it is installed, where those fail. The size of a result is
known before it is computed: a larger one than any model has is refused.
"""
# pyright: basic
# onnx and onnxruntime have no types that pyright could check.

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sta.frontend.errors import ModelError
from sta.frontend.onnx.file import attributes_of, label
from sta.frontend.onnx.graph import UnsupportedForm

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Array = NDArray[Any]

LARGEST_FOLDED = 1 << 26
"""Elements of the largest tensor that is computed: a larger one is an attack, or a mistake."""

_SHAPE_OPERAND = 1024
"""Elements of the largest operand that may be a shape, a length or the like."""

FROM_SHAPE = ("Shape", "Size", "EyeLike")
"""Operators whose result depends on the shape of their operand alone."""

# Of MaxUnpool no size is known before it is computed.
_NEVER_FOLDED = ("If", "Loop", "Scan", "DequantizeLinear", "MaxUnpool")


def is_foldable(node: NodeProto) -> bool:
    """True if `node` can be computed once its operands are known: all of ONNX's own without graphs inside or chance."""
    is_random = node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial")
    return not node.domain and node.op_type not in _NEVER_FOLDED and not is_random


def fold(node: NodeProto, given: Mapping[str, Array], opset: int) -> dict[str, Array]:
    """
    The results of `node` by name, for operands `given` by name.

    Raises ModelError, naming the node, if it cannot be computed or has a result of more than LARGEST_FOLDED elements,
    UnsupportedForm for results that are no tensors.
    """
    _check_sizes(node, given, opset)
    own = _OWN.get(node.op_type)
    names = [name for name in node.output if name]
    try:
        results = _by_reference(_model(node, given, opset, 0), given) if own is None else own(node, given)
    except Exception as error:  # whatever an operator raises for operands that do not fit, or that it does not support
        results = _by_onnxruntime(node, given, opset, error)
    if not all(isinstance(result, np.ndarray | np.generic) for result in results):
        raise UnsupportedForm("only tensors are supported, no sequences")
    return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}


def _check_sizes(node: NodeProto, given: Mapping[str, Array], opset: int) -> None:
    from onnx import shape_inference

    try:
        graph = shape_inference.infer_shapes(_model(node, given, opset, _SHAPE_OPERAND), data_prop=True).graph
    except Exception:  # operands that do not fit: computing it says so
        return
    for value in graph.output:
        sizes = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        if math.prod(sizes) > LARGEST_FOLDED:
            raise ModelError(f"{label(node)}: a constant of shape {sizes} is too large")


def _model(node: NodeProto, given: Mapping[str, Array], opset: int, known: int) -> ModelProto:
    """The model of `node` alone; operands of at most `known` elements are in it, the others are inputs."""
    from onnx import helper, numpy_helper

    inside = {name for name, array in given.items() if array.ndim < 2 and array.size <= known}
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
        if name not in inside
    ]
    graph = helper.make_graph(
        [node],
        "constant",
        inputs,
        [helper.make_empty_tensor_value_info(name) for name in node.output if name],
        [numpy_helper.from_array(given[name], name) for name in given if name in inside],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def _by_reference(model: ModelProto, given: Mapping[str, Array]) -> list[Any]:
    from onnx.reference import ReferenceEvaluator

    evaluator: Any = ReferenceEvaluator(model)
    # Numbers that a model drops (the logarithm of 0 for positions that are chosen otherwise) are no news to its user.
    with np.errstate(all="ignore"):
        return evaluator.run(None, dict(given))


def _by_onnxruntime(node: NodeProto, given: Mapping[str, Array], opset: int, failure: Exception) -> list[Any]:
    first = next((line.strip() for line in str(failure).splitlines() if line.strip()), type(failure).__name__)
    reason = f"{label(node)} depends on no input, and ONNX's reference operators cannot compute it: {first}"
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(f"{reason}; install onnxruntime, which may") from failure
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session: Any = onnxruntime.InferenceSession(
            _model(node, given, opset, 0).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run(None, dict(given))
    except Exception as error:  # whatever onnxruntime raises
        raise ModelError(f"{reason}; nor can onnxruntime") from error


def _gather_elements(node: NodeProto, given: Mapping[str, Array]) -> list[Array]:
    data, indices = (given[name] for name in node.input)
    axis = attributes_of(node).get("axis", 0)
    return [np.take_along_axis(data, np.where(indices < 0, indices + data.shape[axis], indices), axis)]


_OWN: Mapping[str, Callable[[NodeProto, Mapping[str, Array]], list[Array]]] = {"GatherElements": _gather_elements}
"""Operators whose reference has limits: ONNX's GatherElements takes no axis of more than 64 elements."""
