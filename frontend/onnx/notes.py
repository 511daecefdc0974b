"""Remedies for ONNX operators without translation, and how messages name them."""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

from typing import TYPE_CHECKING

from sta.spec.operators.elementwise import WITHOUT_ROW

if TYPE_CHECKING:
    from onnx import NodeProto

ONNXRUNTIME = "com.microsoft"
"""The domain of the operators that onnxruntime adds."""

_HOST = "let the host compute it, and cut the model there with onnx.utils.extract_model"
_STATIC = "quantize with pairs: onnxruntime.quantization.quantize_static with quant_format=QuantFormat.QDQ"
_BRANCHES = (
    "only graphs without control flow are supported: export the model with torch.onnx.export(dynamo=True), or fold the "
    "conditions with onnxsim"
)
_OPTIMIZED = (
    "onnxruntime's optimizer wrote it: compile the model as it was before, or write it with "
    "SessionOptions.graph_optimization_level = ORT_ENABLE_BASIC"
)

_FUNCTIONS = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Clip Cos Cosh Elu Floor HardSigmoid Log Round Selu Sign "
    "Sin Sinh Softplus Softsign Tan ThresholdedRelu"
).split()
"""Functions of each element."""

_NOTES = {
    "ArgMax": f"positions of values are no numbers of the machine: {_HOST}",
    "If": _BRANCHES,
    "Loop": _BRANCHES,
    "QLinearMatMul": _STATIC,
    "Scan": _BRANCHES,
    "TopK": f"positions of values are no numbers of the machine: {_HOST}",
}
"""By operator, ONNX's own and onnxruntime's of the same name."""


def operator_name(node: NodeProto) -> str:
    """The operator of `node` with its domain: `onnx.Conv`, `com.microsoft.BiasGelu`."""
    return f"{node.domain or 'onnx'}.{node.op_type}"


def note_of(node: NodeProto) -> str:
    """The remedy for an operator without translation; may be empty."""
    if node.op_type in _NOTES:
        return _NOTES[node.op_type]
    if not node.domain and node.op_type in _FUNCTIONS:
        return WITHOUT_ROW
    if node.domain.startswith((ONNXRUNTIME, "com.ms.")):
        return _OPTIMIZED
    if node.domain:
        return f"an operator of the domain {node.domain!r} has no translation: export the model in ONNX's own operators"
    return ""
