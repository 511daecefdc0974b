"""Small ONNX graphs, and how close an import is to onnxruntime."""
# pyright: basic
# onnx and onnxruntime have no types that pyright could check.

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import import_model
from sta.passes.options import Options
from sta.passes.pipeline import FLOAT_PIPELINE, SUPPORTED, pass_of, pipeline
from tests.support.torch_modules import signal_to_noise

Array = NDArray[Any]
MICROSOFT = "com.microsoft"


def graph_file(
    directory: Path,
    nodes: list[Any],
    inputs: dict[str, Array],
    constants: dict[str, Any] | None = None,
    *,
    opset: int = 17,
    rank: int = 3,
) -> Path:
    """The file of a model of the nodes, from inputs shaped like arrays to y, of `rank` axes."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [value(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape) for name, array in inputs.items()],
        [value("y", TensorProto.FLOAT, [f"size{axis}" for axis in range(rank)])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    domains = sorted({node.domain for node in nodes} - {""})
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    path = directory / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def checked(path: Path, inputs: dict[str, Array] | None = None) -> Array | None:
    """The output of the import behind the float passes and the check of support; None without inputs."""
    model = import_model(path)
    context = CompileContext(model.weights)
    for step in pipeline(Options()):
        if step.name in (*FLOAT_PIPELINE, SUPPORTED):
            pass_of(step).apply(context, model.module)
    if inputs is None:
        return None
    (result,) = run_torch(model.module, context, inputs).values()
    return result


def decibels(path: Path, inputs: dict[str, Array]) -> float:
    """Decibels of the import against onnxruntime without rewriting of the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    result = checked(path, inputs)
    assert result is not None
    reference = np.asarray(onnxruntime.InferenceSession(path, options).run(None, inputs)[0])
    assert result.shape == reference.shape
    return float("inf") if np.array_equal(result, reference) else signal_to_noise(reference, result)
