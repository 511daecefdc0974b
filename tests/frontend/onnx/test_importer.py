"""ONNX files as models: onnxruntime's numbers, names that survive, and errors that name the node."""
# pyright: basic
# onnx has no types that pyright could check.

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType

from sta.dialect.interpreters.torch import operation_name, run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.location import module_path
from sta.dialect.ir.model_errors import UnsupportedOperationsError
from sta.dialect.torch import LinearOp
from sta.frontend.errors import ModelError
from sta.frontend.model import ImportedModel, import_model
from sta.passes.torch.check_supported import check_supported
from sta.passes.torch.fold_constants import fold_constants
from sta.passes.torch.fold_quantization import QuantizationError, fold_quantization
from sta.passes.torch.recognize_gelu import recognize_gelu
from tests.support.onnx_models import ROWS, WIDTH, Builder, encoder, quantized, run_onnxruntime, samples


def saved(directory: Path, model: onnx.ModelProto) -> Path:
    path = directory / "model.onnx"
    onnx.save(model, path)
    return path


def decibels(value: np.ndarray, reference: np.ndarray) -> float:
    noise = float(np.square(reference.astype(np.float64) - value).sum())
    return float("inf") if noise == 0 else 10 * np.log10(np.square(reference.astype(np.float64)).sum() / noise)


def run_imported(model: ImportedModel, x: np.ndarray) -> np.ndarray:
    return next(iter(run_torch(model.module, CompileContext(model.weights), {"x": x}).values()))


def names(model: ImportedModel) -> list[str]:
    return [operation_name(operation) for operation in model.module.walk()]


def small(nodes: list[Any], weights: dict[str, np.ndarray], opset: int = 17, **sizes: Any) -> onnx.ModelProto:
    """A model of the nodes, from x [1, rows, width] to y."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [value("x", sizes.get("type", TensorProto.FLOAT), sizes.get("x", [1, ROWS, WIDTH]))],
        [value(sizes.get("result", "y"), TensorProto.FLOAT, sizes.get("y", ["a", "b", "c"]))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_a_float_model_computes_what_onnxruntime_does(tmp_path: Path) -> None:
    path = saved(tmp_path, encoder())
    model, x = import_model(path), samples(1)[0]
    assert model.input_names == ["x"]
    assert model.output_names == ["head/Add"]
    # Both compute in float32, in other orders.
    assert decibels(run_imported(model, x), run_onnxruntime(path, x)) > 100


@pytest.mark.parametrize("activations", [QuantType.QUInt8, QuantType.QInt8, QuantType.QInt16])
def test_a_quantized_model_computes_what_onnxruntime_does(tmp_path: Path, activations: Any) -> None:
    # The quantizer takes 16 bits into a domain of its own before version 21 of the operators.
    options: dict[str, Any] = {"activation_type": activations}
    if activations == QuantType.QInt16:
        options["extra_options"] = {"ActivationSymmetric": True}
    source = encoder(1)
    source.opset_import[0].version, source.ir_version = 21, 10
    path = quantized(tmp_path, source, **options)
    model, x = import_model(path), samples(1)[0]
    fold_quantization(model.module, model.weights)
    # What is rounded comes out the same, unless a number is next to a tie.
    assert decibels(run_imported(model, x), run_onnxruntime(path, x)) > 60


def test_a_quantized_model_keeps_its_scales(tmp_path: Path) -> None:
    path = quantized(tmp_path, encoder(1))
    constants = {entry.name: numpy_helper.to_array(entry) for entry in onnx.load(path).graph.initializer}
    nodes = [node for node in onnx.load(path).graph.node if node.op_type == "QuantizeLinear"]
    carried = {(float(constants[node.input[1]]), int(constants[node.input[2]]) - 128) for node in nodes}
    model = import_model(path)
    fold_quantization(model.module, model.weights)
    found = [operation for operation in model.module.walk() if operation.name == "torch.fake_quantize"]
    assert {(op.scale.value.data, op.zero_point.value.data) for op in found} == carried  # pyright: ignore[reportAttributeAccessIssue]
    assert not any("quantized_decomposed" in name for name in names(model))
    weights = [getattr(op.weight.owner, "name", "") for op in model.module.walk() if isinstance(op, LinearOp)]
    assert weights == ["torch.fake_quantize_channels"] * 8


def test_names_survive(tmp_path: Path) -> None:
    model = import_model(saved(tmp_path, encoder(1)))
    layers = [module_path(operation) for operation in model.module.walk() if isinstance(operation, LinearOp)]
    assert layers == [
        "embed",
        *(f"layers.0.attention.{name}" for name in ("q", "k", "v", "out")),
        "layers.0.up",
        "layers.0.down",
        "head",
    ]
    assert {"embed.kernel", "layers.0.norm1.weight", "head.bias"} <= set(model.weights.names())


@pytest.mark.parametrize(
    ("name", "metadata", "weight", "path"),
    [
        ("/encoder/layer.0/query/MatMul", "", "onnx::MatMul_12", "encoder.layer.0.query"),
        ("node_MatMul_3", "['', 'encoder', 'encoder.query', 'linear']", "val_3", "encoder.query"),
        ("node_MatMul_3", "no list", "encoder.query.weight", "encoder.query"),
        ("node_MatMul_3", "", "val_3", "node_MatMul_3"),
        ("", "", "val_3", "y"),
    ],
)
def test_paths_come_from_where_exporters_put_them(
    tmp_path: Path, name: str, metadata: str, weight: str, path: str
) -> None:
    node = helper.make_node("MatMul", ["x", weight], ["y"], name=name)
    if metadata:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=metadata)
    model = import_model(saved(tmp_path, small([node], {weight: np.ones((WIDTH, 5), np.float32)})))
    assert [module_path(operation) for operation in model.module.walk() if isinstance(operation, LinearOp)] == [path]


GELUS = {
    "half last": [
        ("Mul", ["x", "sum"], "product"),
        ("Mul", ["product", "half"], "y"),
    ],
    "half first": [("Mul", ["half", "sum"], "product"), ("Mul", ["product", "x"], "y")],
    "half of x": [("Mul", ["x", "half"], "product"), ("Mul", ["product", "sum"], "y")],
}


@pytest.mark.parametrize("spelling", list(GELUS))
@pytest.mark.parametrize("divides", [True, False])
def test_gelu_is_recognized(tmp_path: Path, spelling: str, divides: bool) -> None:
    constants = {"half": np.float32(0.5), "one": np.float32(1), "root": np.float32(2**0.5 if divides else 2**-0.5)}
    steps = [("Div" if divides else "Mul", ["x", "root"], "scaled"), ("Erf", ["scaled"], "error")]
    steps += [("Add", ["error", "one"], "sum"), *GELUS[spelling]]
    nodes = [helper.make_node(kind, inputs, [output]) for kind, inputs, output in steps]
    model = import_model(saved(tmp_path, small(nodes, {name: np.asarray(one) for name, one in constants.items()})))
    recognize_gelu(model.module, model.weights)
    assert [name for name in names(model) if name.startswith("torch.aten.")] == ["torch.aten.gelu"]
    x = samples(1)[0]
    np.testing.assert_array_equal(run_imported(model, x), torch.nn.functional.gelu(torch.from_numpy(x)).numpy())


def test_an_error_function_that_is_no_gelu_is_one(tmp_path: Path) -> None:
    nodes = [helper.make_node("Erf", ["x"], ["y"], name="odd")]
    model = import_model(saved(tmp_path, small(nodes, {})))
    assert "torch.aten.erf" in [operation.name for operation in model.module.walk()]


def test_rearrangements_are_those_of_onnx(tmp_path: Path) -> None:
    builder = Builder(0)
    node, constant = builder.node, builder.constant
    first, second = "left", "right"
    builder.nodes.append(helper.make_node("Split", ["x"], [first, second], axis=2))
    joined = node("Add", first, second, name="joined")
    part = node(
        "Slice", joined, *(constant(f"slice{i}", np.array([n])) for i, n in enumerate((-9, 12, 1))), name="part"
    )
    wide = node("Unsqueeze", part, constant("axes", np.array([1])), name="wide")
    narrow = node("Squeeze", wide, constant("squeezed", np.array([0])), name="narrow")
    one = node("Gather", narrow, constant("index", np.array(-2)), name="one", axis=1)
    flat = node("Flatten", one, name="flat", axis=-1)
    moved = node("Transpose", node("Identity", flat, name="same"), name="moved")
    weights = {entry.name: numpy_helper.to_array(entry) for entry in builder.weights}
    model = small(builder.nodes, weights, result=moved, y=["a", "b"])
    path = saved(tmp_path, model)
    x = samples(1)[0]
    np.testing.assert_array_equal(run_imported(import_model(path), x), run_onnxruntime(path, x))


def test_sizes_left_open_are_those_of_the_example(tmp_path: Path) -> None:
    path, x = saved(tmp_path, encoder(1, rows="rows")), samples(1)[0]
    with pytest.raises(ModelError, match=r"input 'x' has dynamic sizes \[1, rows, 24\]"):
        import_model(path)
    model = import_model(path, [x])
    assert model.input_types["x"].sizes == (1, ROWS, WIDTH)
    assert model.example_inputs["x"] is x
    with pytest.raises(ModelError, match=r"example input 'x' is \[1, 13, 25\], not \[1, rows, 24\]"):
        import_model(path, {"x": np.zeros((1, 13, 25), np.float32)})
    with pytest.raises(ModelError, match=r"no input 'y'; known are 'x'"):
        import_model(path, {"y": x})


def test_all_unsupported_operators_are_reported_at_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("TopK", ["x", "k"], ["v", "i"], name="choice", axis=2),
        helper.make_node("Hardmax", ["v"], ["h"], name="hard"),
        helper.make_node("ReduceProd", ["h"], ["y"], name="pool", axes=[1]),
    ]
    model = import_model(saved(tmp_path, small(nodes, {"k": np.array([1])})))
    fold_constants(model.module, model.weights)
    with pytest.raises(UnsupportedOperationsError) as caught:
        check_supported(model.module)
    assert [(found.name, found.module_path) for found in caught.value.operations] == [
        ("onnx.TopK", "choice"),
        ("onnx.Hardmax", "hard"),
        ("onnx.ReduceProd", "pool"),
    ]
    assert "cut the model there with onnx.utils.extract_model" in str(caught.value)


def test_operators_of_unknown_shape_are_reported_with_those_behind_them(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["n"], name="positions"),
        helper.make_node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Hardmax", ["f"], ["y"], name="hard"),
    ]
    with pytest.raises(UnsupportedOperationsError) as caught:
        import_model(saved(tmp_path, small(nodes, {})))
    assert [found.name for found in caught.value.operations] == ["onnx.NonZero", "onnx.Hardmax"]


def pair(scale: Any, zero_point: Any, opset: int = 21) -> onnx.ModelProto:
    """x, quantized and dequantized by the nodes "before" and "after"."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="before"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="after"),
    ]
    return small(nodes, {"scale": np.asarray(scale, np.float32), "zero": np.asarray(zero_point)}, opset)


@pytest.mark.parametrize("scale", [0.0, -0.5, np.inf, np.nan, 1e-42])
def test_scales_that_are_none_name_the_node(tmp_path: Path, scale: float) -> None:
    with pytest.raises(ModelError, match=r"QuantizeLinear node 'before': its scale .* is not a positive number"):
        import_model(saved(tmp_path, pair(scale, np.uint8(3))))


def test_numbers_that_the_machine_does_not_have_name_the_layer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"node 'before': values of uint16 are not supported, only"):
        import_model(saved(tmp_path, pair(0.1, np.uint16(3))))
    model = import_model(saved(tmp_path, pair(0.1, np.int16(3))))
    with pytest.raises(QuantizationError, match="16-bit values have no zero point"):
        fold_quantization(model.module, model.weights)


def test_a_zero_point_of_another_type_names_the_node(tmp_path: Path) -> None:
    model = pair(0.1, np.uint8(3))
    model.graph.initializer.append(numpy_helper.from_array(np.array(3, np.int8), "other"))
    model.graph.node[1].input[2] = "other"
    with pytest.raises(ModelError, match="'after': values of uint8 have a zero point of int8: both must be the same"):
        import_model(saved(tmp_path, model))


def test_a_scale_that_is_computed_names_the_node(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["scale"], name="largest", keepdims=0),
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="before"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="after"),
    ]
    with pytest.raises(ModelError, match="QuantizeLinear node 'before': its scale or zero point is computed when"):
        import_model(saved(tmp_path, small(nodes, {"zero": np.array(3, np.uint8)})))


def weight(scales: Any, zero_points: Any, axis: int = 1, dtype: Any = np.int8) -> onnx.ModelProto:
    """x times an integer weight [width, 5]."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scales", "zeros"], ["f"], name="weight", axis=axis),
        helper.make_node("MatMul", ["x", "f"], ["y"], name="product"),
    ]
    integers = np.arange(WIDTH * 5).reshape(WIDTH, 5).astype(dtype)
    constants = {"scales": np.asarray(scales, np.float32), "zeros": np.asarray(zero_points, dtype), "w": integers}
    return small(nodes, constants)


def test_a_weight_with_a_zero_point_names_the_layer(tmp_path: Path) -> None:
    model = import_model(saved(tmp_path, weight(np.ones(5), [0, 0, 7, 0, 0])))
    with pytest.raises(QuantizationError, match="product: weights have no zero point on this machine, and not 7"):
        fold_quantization(model.module, model.weights)


def test_unsigned_weights_are_taken_as_signed_ones(tmp_path: Path) -> None:
    path = saved(tmp_path, weight(0.01, 128, dtype=np.uint8))
    model, x = import_model(path), samples(1)[0]
    fold_quantization(model.module, model.weights)
    assert decibels(run_imported(model, x), run_onnxruntime(path, x)) > 100


def test_scales_of_input_channels_are_reported(tmp_path: Path) -> None:
    model = import_model(saved(tmp_path, weight(np.ones(WIDTH), np.zeros(WIDTH), axis=0)))
    with pytest.raises(UnsupportedOperationsError, match=r"onnx\.MatMul in product: its weight 'w' has a scale"):
        check_supported(model.module)


def test_old_operators_without_a_conversion_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to="FLOAT")]
    old = small(nodes, {}, opset=5)
    with pytest.raises(ModelError, match=r"uses version 5 of the ONNX operators, and its conversion to 13, .* fails"):
        import_model(saved(tmp_path, old))


def test_inputs_of_other_numbers_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    with pytest.raises(ModelError, match="input 'x' is float16, and only float32, int64, int32, bool are supported"):
        import_model(saved(tmp_path, small(nodes, {}, type=TensorProto.FLOAT16)))


def test_constants_are_not_made_larger_than_any_model_has(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["huge"], name="bomb"),
        helper.make_node("Add", ["x", "huge"], ["y"]),
    ]
    with pytest.raises(ModelError, match=r"ConstantOfShape node 'bomb': a constant of shape .* is too large"):
        import_model(saved(tmp_path, small(nodes, {"shape": np.array([1 << 20, 1 << 20])})))


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model file at"):
        import_model(tmp_path / "missing.onnx")
    path = saved(tmp_path, encoder(1))
    data = path.read_bytes()
    for damaged in (b"", b"PK\3\4 not a model", data[: len(data) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match="is not an ONNX file, or a damaged one"):
            import_model(path)


@given(st.data())
@settings(max_examples=40)
def test_damaged_models_are_refused_or_imported(data: st.DataObject) -> None:
    contents = bytearray(encoder(1).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        contents[data.draw(st.integers(0, len(contents) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.onnx"
        path.write_bytes(contents)
        with contextlib.suppress(ModelError):
            import_model(path)


def test_nodes_that_do_not_fit_name_the_node(tmp_path: Path) -> None:
    nodes = [helper.make_node("Transpose", ["x"], ["y"], name="turned", perm=[0, 1, 5])]
    with pytest.raises(ModelError, match="Transpose node 'turned' does not fit its operands"):
        import_model(saved(tmp_path, small(nodes, {})))
    path = saved(tmp_path, small([helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.ones(3, np.float32)}))
    with pytest.raises(ModelError, match=r"Add node 'y': \[1, 13, 24\] and \[3\] do not broadcast"):
        import_model(path)
