"""Idioms of ONNX models that are recognized behind the import: programs compute what onnxruntime computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sta

RANDOM = np.random.default_rng(0)
ROW = RANDOM.uniform(1.0, 2.0, 64)
PRODUCT = helper.make_node("MatMul", ["x", "weight"], ["h"])
CONSTANTS = {
    "weight": RANDOM.standard_normal((64, 64)) / 8,
    "row": ROW,
    "shift": RANDOM.standard_normal(64),
    "number": np.asarray(3.0),
    "two": np.asarray(2.0),
    "epsilon": np.asarray(1e-5),
}
LAYER_NORM = [
    helper.make_node("ReduceMean", ["h"], ["mean"], axes=[-1], keepdims=1),
    helper.make_node("Sub", ["h", "mean"], ["centred"]),
    helper.make_node("Pow", ["centred", "two"], ["squares"]),
    helper.make_node("ReduceMean", ["squares"], ["variance"], axes=[-1], keepdims=1),
    helper.make_node("Add", ["variance", "epsilon"], ["above_zero"]),
    helper.make_node("Sqrt", ["above_zero"], ["deviation"]),
    helper.make_node("Div", ["centred", "deviation"], ["normalized"]),
    helper.make_node("Mul", ["normalized", "row"], ["scaled"]),
    helper.make_node("Add", ["scaled", "shift"], ["y"]),
]
CASES = {
    "a layer normalization of nine nodes": LAYER_NORM,
    "a difference from a row": [helper.make_node("Sub", ["h", "shift"], ["y"])],
    "a row minus a value": [helper.make_node("Sub", ["shift", "h"], ["y"])],
    "a quotient by a number": [helper.make_node("Div", ["h", "number"], ["y"])],
    "a quotient by a row": [helper.make_node("Div", ["h", "row"], ["y"])],
    "a negation": [helper.make_node("Neg", ["h"], ["y"])],
    "a difference of values": [helper.make_node("Sub", ["x", "h"], ["y"])],
}


@pytest.mark.parametrize("nodes", CASES.values(), ids=CASES.keys())
def test_an_idiom_is_what_onnxruntime_computes(nodes: list[onnx.NodeProto], tmp_path: Path) -> None:
    runtime: Any = pytest.importorskip("onnxruntime")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 16, 64)) for name in "xy"]
    used = {name for node in (PRODUCT, *nodes) for name in node.input}
    constants = [
        numpy_helper.from_array(array.astype(np.float32), name) for name, array in CONSTANTS.items() if name in used
    ]
    graph = helper.make_graph([PRODUCT, *nodes], "idiom", ports[:1], ports[1:], constants)
    path = tmp_path / "idiom.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    samples = np.random.default_rng(1).standard_normal((12, 1, 16, 64)).astype(np.float32)
    program = sta.compile(path, calibration={"x": samples[:8]}, check=True)
    session = runtime.InferenceSession(str(path))
    exact = np.stack([session.run(None, {"x": sample})[0] for sample in samples[8:]]).astype(np.float64)
    found = np.stack([program.run({"x": sample}).outputs["y"] for sample in samples[8:]])
    assert 10 * np.log10(np.square(exact).sum() / np.square(found - exact).sum()) >= 30.0
