"""A small Transformer in ONNX, in float and quantized by onnxruntime's static quantizer."""
# pyright: basic
# onnx and onnxruntime have no types that pyright could check.

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]

ROWS, WIDTH, HEADS, HIDDEN = 13, 24, 3, 40
"""Sizes that divide nothing."""


class Builder:
    """Nodes and weights of a graph, in order."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(seed)

    def node(self, kind: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Adds a node that is called as its result is; returns the name."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def weight(self, name: str, *sizes: int, scale: float = 1.0, offset: float = 0.0) -> str:
        """Adds a random float32 weight; returns its name."""
        return self.constant(name, (self._random.normal(size=sizes) * scale + offset).astype(np.float32))

    def constant(self, name: str, array: Array) -> str:
        """Adds a constant; returns its name."""
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def linear(self, path: str, x: str, inputs: int, outputs: int) -> str:
        """A product with a weight, and the addition of a bias, as PyTorch's exporter writes them."""
        weight = self.weight(f"{path}.kernel", inputs, outputs, scale=inputs**-0.5)
        product = self.node("MatMul", x, weight, name=f"{path}/MatMul")
        return self.node("Add", product, self.weight(f"{path}.bias", outputs, scale=0.1), name=f"{path}/Add")

    def norm(self, path: str, x: str) -> str:
        """A layer normalization."""
        parameters = self.weight(f"{path}.weight", WIDTH, scale=0.1, offset=1.0), self.weight(f"{path}.bias", WIDTH)
        return self.node("LayerNormalization", x, *parameters, name=f"{path}/LayerNorm", epsilon=1e-5)

    def gelu(self, path: str, x: str) -> str:
        """GELU, spelled out."""
        inner = self.node("Div", x, self.constant(f"{path}.root", np.array(np.sqrt(2), np.float32)), name=f"{path}/Div")
        error = self.node("Erf", inner, name=f"{path}/Erf")
        plus = self.node("Add", error, self.constant(f"{path}.one", np.array(1, np.float32)), name=f"{path}/Add")
        half = self.node("Mul", plus, self.constant(f"{path}.half", np.array(0.5, np.float32)), name=f"{path}/Mul")
        return self.node("Mul", x, half, name=f"{path}/Mul_1")

    def heads(self, path: str, x: str, order: list[int]) -> str:
        """[1, rows, width] as [1, heads, ...]; its shape is computed from that of x, as exporters do."""
        shape = self.node("Shape", x, name=f"{path}/Shape", start=0, end=1)
        rest = self.constant(f"{path}.sizes", np.array([-1, HEADS, WIDTH // HEADS]))
        sizes = self.node("Concat", shape, rest, name=f"{path}/Concat", axis=0)
        return self.node("Transpose", self.node("Reshape", x, sizes, name=f"{path}/Reshape"), name=path, perm=order)

    def layer(self, path: str, x: str) -> str:
        """A Transformer layer that normalizes first."""
        normed = self.norm(f"{path}.norm1", x)
        projections = {name: self.linear(f"{path}.attention.{name}", normed, WIDTH, WIDTH) for name in "qkv"}
        orders = {"q": [0, 2, 1, 3], "k": [0, 2, 3, 1], "v": [0, 2, 1, 3]}
        q, k, v = (self.heads(f"{path}.heads.{name}", projections[name], orders[name]) for name in "qkv")
        factor = self.constant(f"{path}.factor", np.array([(WIDTH // HEADS) ** -0.25], np.float32))
        q, k = (self.node("Mul", one, factor, name=f"{one}/scaled") for one in (q, k))
        scores = self.node("MatMul", q, k, name=f"{path}/scores")
        mixed = self.node("MatMul", self.node("Softmax", scores, name=f"{path}/softmax"), v, name=f"{path}/mixed")
        moved = self.node("Transpose", mixed, name=f"{path}/moved", perm=[0, 2, 1, 3])
        joined = self.node("Reshape", moved, self.constant(f"{path}.joined", np.array([0, 0, WIDTH])), name=f"{path}/j")
        x = self.node("Add", x, self.linear(f"{path}.attention.out", joined, WIDTH, WIDTH), name=f"{path}/residual1")
        hidden = self.linear(f"{path}.up", self.norm(f"{path}.norm2", x), WIDTH, HIDDEN)
        down = self.linear(f"{path}.down", self.gelu(f"{path}.gelu", hidden), HIDDEN, WIDTH)
        return self.node("Add", x, down, name=f"{path}/residual2")

    def model(self, outputs: list[str], rows: int | str = ROWS) -> onnx.ModelProto:
        """The model of the input x [1, rows, width]."""
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "encoder",
            [value("x", onnx.TensorProto.FLOAT, [1, rows, WIDTH])],
            [value(name, onnx.TensorProto.FLOAT, [1, rows, WIDTH]) for name in outputs],
            self.weights,
        )
        # Version 17 of the operators, and the format that onnxruntime's quantizer reads.
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def encoder(layers: int = 2, seed: int = 0, rows: int | str = ROWS) -> onnx.ModelProto:
    """A float encoder."""
    builder, x = Builder(seed), "x"
    x = builder.linear("embed", x, WIDTH, WIDTH)
    for index in range(layers):
        x = builder.layer(f"layers.{index}", x)
    return builder.model([builder.linear("head", builder.norm("norm", x), WIDTH, WIDTH)], rows)


def samples(count: int, seed: int = 1) -> Array:
    """Inputs [count, 1, rows, width]."""
    return np.random.default_rng(seed).normal(size=(count, 1, ROWS, WIDTH)).astype(np.float32)


def quantized(directory: Path, model: onnx.ModelProto, **options: Any) -> Path:
    """The file of `model`, quantized with quantize-dequantize pairs around its products."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._samples = iter({"x": sample} for sample in samples(4))

        def get_next(self) -> dict[str, Array] | None:
            return next(self._samples, None)

    plain, path = directory / "float.onnx", directory / "quantized.onnx"
    onnx.save(model, plain)
    settings: dict[str, Any] = {
        "quant_format": QuantFormat.QDQ,
        "op_types_to_quantize": ["MatMul"],
        "per_channel": True,
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
    }
    quantize_static(plain, path, Reader(), **{**settings, **options})
    return path


def run_onnxruntime(path: Path, x: Array) -> Array:
    """The first output, as onnxruntime computes it node by node."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return np.asarray(onnxruntime.InferenceSession(path, options).run(None, {"x": x})[0])
