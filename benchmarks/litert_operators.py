"""
Single int8 operators of LiteRT (the reference kernels that are built into ai-edge-litert), as models of one operator.

Their rounding is gemmlowp's, half away from zero in two steps, so that they and ours may differ by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

# None of them is typed.
flatbuffers: Any = import_module("flatbuffers")
schema: Any = import_module("ai_edge_litert.schema_py_generated")
interpreters: Any = import_module("ai_edge_litert.interpreter")

Array = NDArray[Any]
Int8 = NDArray[np.int8]
Scale = tuple[float, int]
"""Scale and zero point: real = (integer - zero_point) * scale."""

SOFTMAX_OUTPUT: Scale = (1 / 256, -128)
"""The only output format of the int8 softmax."""


def fully_connected(x: Int8, x_scale: Scale, weights: Int8, scales: Array, bias: Array, output: Scale) -> Int8:
    """Returns int8 [m, n] of int8 `x` [m, k], `weights` [n, k] with a scale a channel, and int32 `bias` [n]."""
    bias_scales = np.float32(x_scale[0]) * scales.astype(np.float32)
    options = schema.FullyConnectedOptionsT()
    tensors = [
        _tensor(x.shape, schema.TensorType.INT8, [x_scale[0]], x_scale[1], 0),
        _tensor(weights.shape, schema.TensorType.INT8, scales.tolist(), 0, 1),
        _tensor(bias.shape, schema.TensorType.INT32, bias_scales.tolist(), 0, 2),
        _tensor((len(x), len(weights)), schema.TensorType.INT8, [output[0]], output[1], 0),
    ]
    buffers = [weights.tobytes(), bias.astype("<i4").tobytes()]
    kind = schema.BuiltinOperator.FULLY_CONNECTED, 4, schema.BuiltinOptions.FullyConnectedOptions, options
    return _run(_model(kind, tensors, buffers), x)


def softmax(x: Int8, scale: float) -> Int8:
    """Returns the softmax over the last axis of int8 `x`, in `SOFTMAX_OUTPUT`."""
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    tensors = [
        _tensor(x.shape, schema.TensorType.INT8, [scale], 0, 0),
        _tensor(x.shape, schema.TensorType.INT8, [SOFTMAX_OUTPUT[0]], SOFTMAX_OUTPUT[1], 0),
    ]
    kind = schema.BuiltinOperator.SOFTMAX, 1, schema.BuiltinOptions.SoftmaxOptions, options
    return _run(_model(kind, tensors, []), x)


def gelu(x: Int8, x_scale: Scale, output: Scale, approximate: bool) -> Int8:
    """Returns GELU of int8 `x`, by the error function or, `approximate`, by tanh."""
    options = schema.GeluOptionsT()
    options.approximate = approximate
    tensors = [
        _tensor(x.shape, schema.TensorType.INT8, [x_scale[0]], x_scale[1], 0),
        _tensor(x.shape, schema.TensorType.INT8, [output[0]], output[1], 0),
    ]
    kind = schema.BuiltinOperator.GELU, 1, schema.BuiltinOptions.GeluOptions, options
    return _run(_model(kind, tensors, []), x)


def _tensor(shape: Sequence[int], type_: int, scales: Sequence[float], zero_point: int, buffer: int) -> Any:
    tensor = schema.TensorT()
    tensor.shape, tensor.type, tensor.buffer = list(shape), type_, buffer
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = list(scales)
    tensor.quantization.zeroPoint = [zero_point] * len(scales)
    tensor.quantization.quantizedDimension = 0
    return tensor


def _model(kind: tuple[int, int, int, Any], tensors: list[Any], constants: Sequence[bytes]) -> bytes:
    """Returns a model of one operator: its inputs are all tensors but the last, the first of which is the model's."""
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = kind[:2]
    code.deprecatedBuiltinCode = min(kind[0], 127)
    operator = schema.OperatorT()
    operator.opcodeIndex = 0
    operator.inputs, operator.outputs = list(range(len(tensors) - 1)), [len(tensors) - 1]
    operator.builtinOptionsType, operator.builtinOptions = kind[2:]
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = tensors, [operator]
    graph.inputs, graph.outputs = [0], operator.outputs
    model = schema.ModelT()
    model.version = 3
    model.operatorCodes, model.subgraphs = [code], [graph]
    model.buffers = [_buffer(data) for data in (b"", *constants)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _buffer(data: bytes) -> Any:
    buffer = schema.BufferT()
    if data:
        buffer.data = np.frombuffer(data, np.uint8)
    return buffer


def _run(model: bytes, x: Int8) -> Int8:
    reference = interpreters.OpResolverType.BUILTIN_REF
    interpreter = interpreters.Interpreter(model_content=model, experimental_op_resolver_type=reference)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
