"""Models that come quantized: by PyTorch's export quantization with STAQuantizer, and ONNX with pairs."""
# pyright: basic
# onnx and onnxruntime have no types that pyright could check.

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from tests.record.models import Inputs

ROWS, WIDTH, HEADS, HIDDEN = 13, 24, 3, 40
"""Sizes of the ONNX models, which divide nothing."""


def pt2e(model: nn.Module, samples: Sequence[Inputs], **options: Any) -> torch.export.ExportedProgram:
    """`model`, calibrated with all samples and converted; `options` are those of the quantizer."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    # PyTorch's encoder layers would be exported as one operator.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _quiet():
            return _pt2e(model, samples, options)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


@contextmanager
def _quiet() -> Generator[None]:
    """Without the advice that quantizers log."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def _pt2e(model: nn.Module, samples: Sequence[Inputs], options: dict[str, Any]) -> torch.export.ExportedProgram:
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e

    # No other place of the record names the module that has the quantizer.
    from sta.compress.sta_quantizer import STAQuantizer

    given = [{name: torch.from_numpy(array) for name, array in sample.items()} for sample in samples]
    exported = torch.export.export(model, (), given[0], strict=False).module()
    prepare = prepare_qat_pt2e if options.get("is_qat") else prepare_pt2e
    prepared = prepare(exported, STAQuantizer(**options))
    with torch.no_grad():
        for sample in given:
            prepared(**sample)
        return torch.export.export(convert_pt2e(prepared), (), given[0], strict=False)


class _Builder:
    """Nodes and weights of an ONNX graph, in order."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(seed)

    def node(self, kind: str, *inputs: str, name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def weight(self, name: str, *sizes: int, scale: float = 1.0, offset: float = 0.0) -> str:
        return self.constant(name, (self._random.normal(size=sizes) * scale + offset).astype(np.float32))

    def linear(self, path: str, x: str, inputs: int, outputs: int) -> str:
        kernel = self.weight(f"{path}.kernel", inputs, outputs, scale=inputs**-0.5)
        product = self.node("MatMul", x, kernel, name=f"{path}/MatMul")
        return self.node("Add", product, self.weight(f"{path}.bias", outputs, scale=0.1), name=f"{path}/Add")

    def norm(self, path: str, x: str) -> str:
        parameters = self.weight(f"{path}.weight", WIDTH, scale=0.1, offset=1.0), self.weight(f"{path}.bias", WIDTH)
        return self.node("LayerNormalization", x, *parameters, name=f"{path}/LayerNorm", epsilon=1e-5)

    def gelu(self, path: str, x: str) -> str:
        root, one, half = (
            self.constant(f"{path}.{name}", np.float32(value))
            for name, value in (("root", np.sqrt(2)), ("one", 1), ("half", 0.5))
        )
        error = self.node("Erf", self.node("Div", x, root, name=f"{path}/Div"), name=f"{path}/Erf")
        factor = self.node("Mul", self.node("Add", error, one, name=f"{path}/Add"), half, name=f"{path}/Mul")
        return self.node("Mul", x, factor, name=f"{path}/Mul_1")

    def heads(self, path: str, x: str, order: list[int]) -> str:
        sizes = self.constant(f"{path}.sizes", np.array([1, ROWS, HEADS, WIDTH // HEADS]))
        return self.node("Transpose", self.node("Reshape", x, sizes, name=f"{path}/Reshape"), name=path, perm=order)

    def layer(self, path: str, x: str) -> str:
        normed = self.norm(f"{path}.norm1", x)
        orders = {"q": [0, 2, 1, 3], "k": [0, 2, 3, 1], "v": [0, 2, 1, 3]}
        q, k, v = (
            self.heads(f"{path}.heads.{name}", self.linear(f"{path}.attention.{name}", normed, WIDTH, WIDTH), order)
            for name, order in orders.items()
        )
        factor = self.constant(f"{path}.factor", np.array([(WIDTH // HEADS) ** -0.25], np.float32))
        q, k = (self.node("Mul", one, factor, name=f"{one}/scaled") for one in (q, k))
        scores = self.node("Softmax", self.node("MatMul", q, k, name=f"{path}/scores"), name=f"{path}/softmax")
        mixed = self.node("MatMul", scores, v, name=f"{path}/mixed")
        moved = self.node("Transpose", mixed, name=f"{path}/moved", perm=[0, 2, 1, 3])
        joined = self.node(
            "Reshape", moved, self.constant(f"{path}.joined", np.array([0, 0, WIDTH])), name=f"{path}/joined"
        )
        x = self.node("Add", x, self.linear(f"{path}.attention.out", joined, WIDTH, WIDTH), name=f"{path}/residual1")
        hidden = self.linear(f"{path}.up", self.norm(f"{path}.norm2", x), WIDTH, HIDDEN)
        down = self.linear(f"{path}.down", self.gelu(f"{path}.gelu", hidden), HIDDEN, WIDTH)
        return self.node("Add", x, down, name=f"{path}/residual2")


def onnx_encoder(path: Path, layers: int) -> None:
    """Writes a float encoder whose input is `x` [1, 13, 24]."""
    builder, x = _Builder(layers), "x"
    x = builder.linear("embed", x, WIDTH, WIDTH)
    for index in range(layers):
        x = builder.layer(f"layers.{index}", x)
    output = builder.linear("head", builder.norm("norm", x), WIDTH, WIDTH)
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, ROWS, WIDTH]) for name in ("x", output)]
    graph = helper.make_graph(builder.nodes, "encoder", values[:1], values[1:], builder.weights)
    # The format that onnxruntime's quantizer reads.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def onnx_samples(count: int) -> list[Inputs]:
    """Inputs of `onnx_encoder`."""
    generator = np.random.default_rng(4)
    return [{"x": generator.standard_normal((1, ROWS, WIDTH), np.float32)} for _ in range(count)]


def onnx_quantized(folder: Path, layers: int, samples: Sequence[Inputs], **options: Any) -> Path:
    """The file of an encoder with quantize-dequantize pairs around its products, made by onnxruntime."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._samples = iter(samples)

        def get_next(self) -> Inputs | None:
            return next(self._samples, None)

    plain, path = folder / "float.onnx", folder / "quantized.onnx"
    onnx_encoder(plain, layers)
    settings: dict[str, Any] = {
        "quant_format": QuantFormat.QDQ,
        "op_types_to_quantize": ["MatMul"],
        "per_channel": True,
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
    }
    if options.pop("signed", False):
        settings["activation_type"] = QuantType.QInt8
    with _quiet():
        quantize_static(plain, path, Reader(), **{**settings, **options})
    return path
