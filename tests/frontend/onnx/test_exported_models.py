"""ONNX as others write it: exporters, onnxruntime's optimizer and quantizers. Right numbers, or the true reason."""
# pyright: basic
# onnx and onnxruntime have no types that pyright could check.

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import sta
from sta.dialect.ir.model_errors import ModelError, UnsupportedOperationsError
from sta.frontend.model import import_model
from sta.passes.torch.fold_quantization import QuantizationError
from tests.support.onnx_graphs import MICROSOFT, checked, decibels, graph_file
from tests.support.onnx_models import encoder, quantized, run_onnxruntime, samples
from tests.support.torch_modules import signal_to_noise

RNG = np.random.default_rng(0)


def normal(*sizes: int) -> Any:
    return RNG.normal(size=sizes).astype(np.float32)


node = helper.make_node
X = normal(2, 16, 64)
IDS = np.arange(16)[None]


def microsoft(kind: str, inputs: list[str], outputs: list[str] | None = None, **attributes: Any) -> Any:
    return node(kind, inputs, outputs or ["y"], domain=MICROSOFT, **attributes)


# --- One operator ---

ROW, OTHER, THIRD = normal(64), normal(64), normal(64)
NORM = {"g": ROW, "b": OTHER, "c": THIRD}
OPERATORS: dict[str, tuple[list[Any], dict[str, Any], int]] = {
    "norm with an unused mean": ([node("LayerNormalization", ["x", "g", "b"], ["y", "mean"], axis=-1)], NORM, 17),
    "norm with a scale of three axes": (
        [node("LayerNormalization", ["x", "g", "b"], ["y"], axis=-1)],
        {"g": normal(1, 1, 64), "b": normal(1, 1, 64)},
        17,
    ),
    "norm with a scale for each row": (
        [node("LayerNormalization", ["x", "g", "b"], ["y"], axis=2)],
        {"g": normal(16, 64), "b": normal(16, 64)},
        17,
    ),
    "RMS norm": ([node("RMSNormalization", ["x", "g"], ["y"], epsilon=1e-3)], NORM, 23),
    "simplified norm in ONNX's domain": ([node("SimplifiedLayerNormalization", ["x", "g"], ["y"])], NORM, 17),
    "skip norm": ([microsoft("SkipLayerNormalization", ["x", "x", "g", "b", "c"])], NORM, 17),
    "skip norm without offset": ([microsoft("SkipLayerNormalization", ["x", "x", "g", "", "c"])], NORM, 17),
    "sum of a skip norm": (
        [microsoft("SkipLayerNormalization", ["x", "x", "g", "b", "c"], ["t", "", "", "y"])],
        NORM,
        17,
    ),
    "simplified skip norm": ([microsoft("SkipSimplifiedLayerNormalization", ["x", "x", "g"])], NORM, 17),
    "GELU with a bias": ([microsoft("BiasGelu", ["x", "b"])], NORM, 17),
    "fast GELU": ([microsoft("FastGelu", ["x"])], {}, 17),
    "fast GELU with a bias": ([microsoft("FastGelu", ["x", "b"])], NORM, 17),
    "quick GELU": ([microsoft("QuickGelu", ["x"], alpha=1.3)], {}, 17),
    "quick GELU by default": ([microsoft("QuickGelu", ["x"])], {}, 17),
    "fused product": ([microsoft("FusedMatMul", ["x", "w"], alpha=0.5, transB=1)], {"w": normal(8, 64)}, 17),
    "dropout with an unused mask": ([node("Dropout", ["x"], ["y", "mask"])], {}, 17),
    "a node that nothing needs": ([node("Relu", ["x"], ["y"]), node("NonZero", ["x"], ["unused"])], {}, 17),
    "power": ([node("Pow", ["x", "p"], ["z"]), node("Relu", ["x"], ["y"])], {"p": np.float32(2)}, 17),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_computes_what_onnxruntime_does(tmp_path: Path, name: str) -> None:
    nodes, constants, opset = OPERATORS[name]
    assert decibels(graph_file(tmp_path, nodes, {"x": X}, constants, opset=opset), {"x": X}) > 100


def test_old_operators_become_newer_ones_of_the_same_numbers(tmp_path: Path) -> None:
    nodes = [
        node("Unsqueeze", ["x"], ["u"], axes=[1]),
        # Until version 12, over all axes from this one on.
        node("Softmax", ["u"], ["s"], axis=2),
        node("Squeeze", ["s"], ["y"], axes=[1]),
    ]
    assert decibels(graph_file(tmp_path, nodes, {"x": X}, opset=11), {"x": X}) > 100


def test_sizes_of_minus_one_are_open(tmp_path: Path) -> None:
    model = onnx.load(graph_file(tmp_path, [node("Relu", ["x"], ["y"])], {"x": X}))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    onnx.save(model, tmp_path / "open.onnx")
    imported = import_model(tmp_path / "open.onnx", {"x": X})
    assert imported.input_types["x"].sizes == X.shape


# --- Constants ---

SUM = node("Add", ["x", "k"], ["y"])
FOLDED: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "Range": (
        [node("Range", ["a", "b", "d"], ["r"]), node("Cast", ["r"], ["k"], to=TensorProto.FLOAT)],
        {"a": np.int64(0), "b": np.int64(64), "d": np.int64(1)},
    ),
    "Range of a shape": (
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "i"], ["b"]),
            node("Range", ["a", "b", "d"], ["r"]),
            node("Cast", ["r"], ["k"], to=TensorProto.FLOAT),
        ],
        {"a": np.int64(0), "d": np.int64(1), "i": np.int64(2)},
    ),
    "Size": ([node("Size", ["x"], ["s"]), node("Cast", ["s"], ["k"], to=TensorProto.FLOAT)], {}),
    "OneHot": (
        [node("OneHot", ["i", "d", "v"], ["k"], axis=-1)],
        {"i": np.arange(16), "d": np.int64(64), "v": np.array([0, 1], np.float32)},
    ),
    "EyeLike": ([node("EyeLike", ["m"], ["k"])], {"m": normal(16, 64)}),
    "EyeLike of an input": (
        [node("Slice", ["x", "a", "b"], ["p"]), node("Squeeze", ["p", "a"], ["m"]), node("EyeLike", ["m"], ["k"])],
        {"a": np.array([0]), "b": np.array([1])},
    ),
    "Resize": (
        [node("Resize", ["m", "", "s"], ["k"], mode="nearest")],
        {"m": normal(1, 16, 32), "s": np.array([1, 1, 2], np.float32)},
    ),
    "Tile": ([node("Tile", ["m", "r"], ["k"])], {"m": normal(1, 16, 32), "r": np.array([1, 1, 2])}),
    "Pad": ([node("Pad", ["m", "r"], ["k"])], {"m": normal(1, 16, 32), "r": np.array([0, 0, 0, 0, 0, 32])}),
    "GatherElements": (
        [node("GatherElements", ["m", "r"], ["k"], axis=2)],
        {"m": normal(1, 16, 128), "r": np.arange(-64, 0)[::-1].reshape(1, 1, 64).repeat(16, 1)},
    ),
}


@pytest.mark.parametrize("name", FOLDED)
def test_whatever_depends_on_no_input_is_computed(tmp_path: Path, name: str) -> None:
    nodes, constants = FOLDED[name]
    assert decibels(graph_file(tmp_path, [*nodes, SUM], {"x": X}, constants), {"x": X}) > 100


@pytest.mark.parametrize(
    ("bomb", "constants"),
    [
        (node("Tile", ["m", "r"], ["t"], name="bomb"), {"m": normal(1024, 1024), "r": np.array([1024, 1024])}),
        (node("Add", ["m", "r"], ["t"], name="bomb"), {"m": normal(1 << 18, 1), "r": normal(1, 1 << 18)}),
        (
            node("Range", ["a", "b", "d"], ["t"], name="bomb"),
            {"a": np.float32(0), "b": np.float32(1e12), "d": np.float32(1)},
        ),
    ],
    ids=["Tile", "Add", "Range"],
)
def test_a_constant_larger_than_any_model_has_is_not_computed(tmp_path: Path, bomb: Any, constants: Any) -> None:
    nodes = [bomb, node("ReduceMax", ["t"], ["k"], keepdims=0), SUM]
    with pytest.raises(ModelError, match=r"node 'bomb': a constant of shape .* is too large"):
        import_model(graph_file(tmp_path, nodes, {"x": X}, constants))


def test_onnxruntime_computes_what_the_reference_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("no such operator")

    monkeypatch.setattr("onnx.reference.ReferenceEvaluator.run", fail)
    constants = {"m": normal(1, 16, 32), "r": np.array([1, 1, 2])}
    path = graph_file(tmp_path, [node("Tile", ["m", "r"], ["k"], name="tiles"), SUM], {"x": X}, constants)
    assert decibels(path, {"x": X}) > 100
    monkeypatch.setattr("onnxruntime.InferenceSession", fail)
    message = (
        "Tile node 'tiles' depends on no input, and ONNX's reference operators cannot compute it: no such operator"
    )
    with pytest.raises(ModelError, match=message):
        import_model(path)


# --- Attention ---

THREE = [node("MatMul", ["x", f"w{name}"], [name]) for name in "qkv"]
WEIGHTS = {f"w{name}": 0.1 * normal(64, 64) for name in "qkv"}
CAUSAL = np.tril(np.ones((16, 16), bool))
HEADS: dict[str, Any] = {"q_num_heads": 4, "kv_num_heads": 4}
ATTENTIONS: dict[str, tuple[list[Any], dict[str, Any], int]] = {
    "plain": ([*THREE, node("Attention", ["q", "k", "v"], ["y"], **HEADS)], WEIGHTS, 24),
    "unused cache": ([*THREE, node("Attention", ["q", "k", "v"], ["y", "keys", "values"], **HEADS)], WEIGHTS, 23),
    "causal": ([*THREE, node("Attention", ["q", "k", "v"], ["y"], is_causal=1, scale=0.3, **HEADS)], WEIGHTS, 23),
    "mask": ([*THREE, node("Attention", ["q", "k", "v", "m"], ["y"], **HEADS)], {**WEIGHTS, "m": CAUSAL}, 23),
    "added mask": (
        [*THREE, node("Attention", ["q", "k", "v", "m"], ["y"], **HEADS)],
        {**WEIGHTS, "m": np.where(CAUSAL, 0, -np.inf).astype(np.float32)},
        23,
    ),
    "shared heads": (
        [*THREE, node("Attention", ["q", "k", "v"], ["y"], q_num_heads=4, kv_num_heads=2)],
        {**WEIGHTS, "wk": normal(64, 32), "wv": normal(64, 32)},
        23,
    ),
    "onnxruntime's, of several heads": (
        [*THREE, microsoft("MultiHeadAttention", ["q", "k", "v", "b"], num_heads=4)],
        {**WEIGHTS, "b": normal(192)},
        17,
    ),
    "onnxruntime's, of itself": (
        [microsoft("Attention", ["x", "w", "b"], num_heads=4)],
        {"w": 0.1 * normal(64, 192), "b": normal(192)},
        17,
    ),
    "onnxruntime's, causal": (
        [microsoft("Attention", ["x", "w", "b"], num_heads=4, unidirectional=1)],
        {"w": 0.1 * normal(64, 192), "b": normal(192)},
        17,
    ),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_as_one_operator_computes_what_onnxruntime_does(tmp_path: Path, name: str) -> None:
    nodes, constants, opset = ATTENTIONS[name]
    assert decibels(graph_file(tmp_path, nodes, {"x": X}, constants, opset=opset), {"x": X}) > 100


@pytest.mark.parametrize(
    ("inputs", "outputs", "attributes"),
    [
        (["q", "k", "v"], ["y"], {"softcap": 5.0}),
        (["q", "k", "v", "", "p", "p"], ["y", "keys", "values"], {}),
        (["q", "k", "v"], ["a", "", "", "y"], {"qk_matmul_output_mode": 3}),
    ],
)
def test_attention_beyond_that_of_the_machine_is_made_of_other_operators(
    tmp_path: Path, inputs: list[str], outputs: list[str], attributes: Any
) -> None:
    nodes = [*THREE, node("Attention", inputs, outputs, name="attention", **HEADS, **attributes)]
    constants = {**WEIGHTS, "p": normal(2, 4, 3, 16)}
    path = graph_file(tmp_path, nodes, {"x": X}, constants, opset=23, rank=3 if outputs[0] == "y" else 4)
    assert decibels(path, {"x": X}) > 100


PADDING = np.ones((2, 16), np.int64)
PADDING[1, 10:] = 0
LOW = np.finfo(np.float32).min
SPELLED_CONSTANTS = {
    **WEIGHTS,
    "heads": np.array([2, 16, 4, 16]),
    "joined": np.array([2, 16, 64]),
    "axes": np.array([1, 2]),
    "one": np.float32(1),
    "low": LOW,
    "nothing": np.float32(0),
    "zero": np.int64(0),
    "wide": np.array([2, 1, 16, 16]),
    "four": np.float32(4),
}
MASKS = {
    "BERT's": [
        node("Unsqueeze", ["mask", "axes"], ["m"]),
        node("Cast", ["m"], ["f"], to=TensorProto.FLOAT),
        node("Sub", ["one", "f"], ["inverse"]),
        node("Mul", ["inverse", "low"], ["bias"]),
    ],
    "by a choice": [
        node("Unsqueeze", ["mask", "axes"], ["m"]),
        node("Equal", ["m", "zero"], ["out"]),
        node("Expand", ["out", "wide"], ["all"]),
        node("Where", ["all", "low", "nothing"], ["bias"]),
    ],
    "by a negated choice": [
        node("Unsqueeze", ["mask", "axes"], ["m"]),
        node("Cast", ["m"], ["in"], to=TensorProto.BOOL),
        node("Not", ["in"], ["out"]),
        node("Where", ["out", "low", "nothing"], ["bias"]),
    ],
}


def spelled(mask: list[Any], guarded: bool) -> list[Any]:
    """An attention with a mask of the input `mask`, as exporters spell it."""
    orders = {"q": [0, 2, 1, 3], "k": [0, 2, 3, 1], "v": [0, 2, 1, 3]}
    parts = [node("Reshape", [name, "heads"], [f"{name}4"]) for name in "qkv"]
    parts += [node("Transpose", [f"{name}4"], [f"{name}t"], perm=order) for name, order in orders.items()]
    guard = [node("IsNaN", ["p"], ["isnan"]), node("Where", ["isnan", "nothing", "p"], ["weights"])]
    return [
        *THREE,
        *parts,
        *mask,
        node("MatMul", ["qt", "kt"], ["scores"]),
        node("Div", ["scores", "four"], ["scaled"]),
        node("Add", ["scaled", "bias"], ["masked"]),
        node("Softmax", ["masked"], ["p"], axis=-1),
        *(guard if guarded else [node("Identity", ["p"], ["weights"])]),
        node("MatMul", ["weights", "vt"], ["mixed"]),
        node("Transpose", ["mixed"], ["moved"], perm=[0, 2, 1, 3]),
        node("Reshape", ["moved", "joined"], ["y"]),
    ]


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_a_padding_mask_may_be_an_input(tmp_path: Path, name: str, guarded: bool) -> None:
    inputs = {"x": X, "mask": PADDING}
    path = graph_file(tmp_path, spelled(MASKS[name], guarded), inputs, SPELLED_CONSTANTS)
    assert decibels(path, inputs) > 100


def test_numbers_made_of_a_mask_are_added_to_scores(tmp_path: Path) -> None:
    bias = [node("Cast", ["mask"], ["f"], to=TensorProto.FLOAT), node("Unsqueeze", ["f", "axes"], ["m"])]
    bias += [node("Exp", ["m"], ["e"]), node("Sqrt", ["e"], ["bias"])]
    path = graph_file(tmp_path, spelled(bias, True), {"x": X, "mask": PADDING}, SPELLED_CONSTANTS)
    assert decibels(path, {"x": X, "mask": PADDING}) > 100


# --- Conversions ---


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_indices_may_be_converted(tmp_path: Path, kind: Any) -> None:
    ids = {"ids": IDS.astype(kind)}
    nodes = [node("Cast", ["ids"], ["i"], to=TensorProto.INT64), node("Gather", ["t", "i"], ["y"])]
    assert decibels(graph_file(tmp_path, nodes, ids, {"t": normal(20, 64)}), ids) > 100


@pytest.mark.parametrize("kind", ["BFLOAT16", "FLOAT8E4M3FN", "INT4", "UINT4", "FLOAT4E2M1", "FLOAT16", "DOUBLE"])
def test_a_conversion_to_numbers_that_are_not_there_is_refused(tmp_path: Path, kind: str) -> None:
    nodes = [
        node("Cast", ["x"], ["c"], to=getattr(TensorProto, kind), name="narrow"),
        node("Cast", ["c"], ["y"], to=TensorProto.FLOAT, name="back"),
    ]
    with pytest.raises(UnsupportedOperationsError, match=r"onnx\.Cast in narrow: values cannot be converted to"):
        checked(graph_file(tmp_path, nodes, {"x": X}, opset=23))


def test_constants_of_other_floats_are_refused_with_advice_for_onnx(tmp_path: Path) -> None:
    nodes = [node("Gather", ["t", "ids"], ["e"], name="table"), node("Cast", ["e"], ["y"], to=TensorProto.FLOAT)]
    path = graph_file(tmp_path, nodes, {"ids": IDS}, {"t": normal(20, 64).astype(np.float16)})
    message = r"onnx\.Gather in table: its operand 't' is float16, and only float32 is supported: export the model"
    with pytest.raises(UnsupportedOperationsError, match=message) as caught:
        checked(path)
    assert "model.float()" not in str(caught.value)
    assert all(found.name.startswith("onnx.") for found in caught.value.operations)


# --- Foreign operators, and files ---


def test_foreign_operators_keep_domain_and_advice(tmp_path: Path) -> None:
    nodes = [
        microsoft("NGramRepeatBlock", ["x"], ["a"], name="first"),
        microsoft("EmbedLayerNormalization", ["a"], ["b"], name="second"),
        node("RotaryEmbedding", ["b", "c", "c"], ["d"], name="third", domain=MICROSOFT),
        node("Gadget", ["d"], ["y"], name="fourth", domain="acme"),
    ]
    with pytest.raises(UnsupportedOperationsError) as caught:
        checked(graph_file(tmp_path, nodes, {"x": X}, {"c": normal(16, 8)}))
    found = [(one.name, one.module_path) for one in caught.value.operations]
    assert found == [
        ("com.microsoft.NGramRepeatBlock", "first"),
        ("com.microsoft.EmbedLayerNormalization", "second"),
        ("com.microsoft.RotaryEmbedding", "third"),
        ("acme.Gadget", "fourth"),
    ]
    notes = [one.note for one in caught.value.operations]
    assert all("onnxruntime's optimizer wrote it" in note for note in notes[:3])
    assert "of the domain 'acme' has no translation" in notes[3]


def test_an_operator_that_onnx_does_not_have_is_named(tmp_path: Path) -> None:
    nodes = [node("Gelu", ["x"], ["g"], name="young"), node("FusedThing", ["g"], ["y"], name="strange")]
    with pytest.raises(UnsupportedOperationsError) as caught:
        import_model(graph_file(tmp_path, nodes, {"x": X}, opset=17))
    assert [(one.name, one.module_path) for one in caught.value.operations] == [
        ("onnx.Gelu", "young"),
        ("onnx.FusedThing", "strange"),
    ]
    assert "ONNX has it since version 20, and the model is of version 17" in caught.value.operations[0].note
    assert "ONNX has no such operator" in caught.value.operations[1].note


def with_weights_beside(directory: Path) -> Path:
    directory.mkdir()
    path = directory / "model.onnx"
    onnx.save(encoder(1), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_weights_beside_the_file_are_read_and_links_are_named(tmp_path: Path) -> None:
    plain = with_weights_beside(tmp_path / "blobs")
    assert import_model(plain).weights.names()
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("model.onnx", "weights.bin"):
        os.symlink(tmp_path / "blobs" / name, cache / name)
    with pytest.raises(ModelError, match=r"in weights\.bin, which is a link, and links are not followed: copy"):
        import_model(cache / "model.onnx")
    (tmp_path / "blobs" / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"the weights that .* keeps in other files cannot be read"):
        import_model(plain)


def test_a_model_that_is_not_valid_is_not_called_damaged(tmp_path: Path) -> None:
    path = graph_file(tmp_path, [node("Relu", ["missing"], ["y"])], {"x": X})
    with pytest.raises(ModelError, match="is not valid in ONNX: ") as caught:
        import_model(path)
    assert "damaged" not in str(caught.value)


def test_a_slice_that_takes_nothing_is_refused_by_node(tmp_path: Path) -> None:
    nodes = [node("Slice", ["x", "a", "b", "i"], ["s"], name="nothing"), node("Relu", ["s"], ["y"])]
    constants = {"a": np.array([3]), "b": np.array([3]), "i": np.array([1])}
    with pytest.raises(UnsupportedOperationsError, match=r"onnx\.Slice in nothing: it takes nothing of axis 1"):
        checked(graph_file(tmp_path, nodes, {"x": X}, constants))


# --- Quantized models ---

VIEWS: dict[str, tuple[list[Any], dict[str, Any], int]] = {
    "Transpose": ([node("Transpose", ["q"], ["t"], perm=[0, 2, 1])], {}, 16),
    "Reshape and Transpose": (
        [node("Reshape", ["q", "s"], ["r"]), node("Transpose", ["r"], ["t"], perm=[0, 2, 1])],
        {"s": np.array([4, 8, 64])},
        8,
    ),
    "Slice": ([node("Slice", ["q", "a", "b"], ["t"])], {"a": np.array([0]), "b": np.array([1])}, 64),
    "Identity": ([node("Identity", ["q"], ["t"])], {}, 64),
}


def between(nodes: list[Any]) -> list[Any]:
    return [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        *nodes,
        node("DequantizeLinear", ["t", "scale", "zero"], ["d"], name="after"),
        node("MatMul", ["d", "w"], ["y"], name="product"),
    ]


@pytest.mark.parametrize("name", VIEWS)
def test_views_between_the_halves_of_a_pair_keep_integers(tmp_path: Path, name: str) -> None:
    nodes, constants, width = VIEWS[name]
    constants = {**constants, "scale": np.float32(0.05), "zero": np.int8(3), "w": normal(width, 8)}
    assert decibels(graph_file(tmp_path, between(nodes), {"x": X}, constants), {"x": X}) > 100


def test_a_computation_between_the_halves_of_a_pair_is_refused(tmp_path: Path) -> None:
    constants = {"scale": np.float32(0.05), "zero": np.int8(3), "w": normal(64, 8)}
    path = graph_file(tmp_path, between([node("Relu", ["q"], ["t"])]), {"x": X}, constants)
    with pytest.raises(QuantizationError, match=r"computed as integers \(aten\.relu\): only views may stand between"):
        checked(path)


def test_unsigned_weights_are_told_their_zero_point(tmp_path: Path) -> None:
    nodes = [node("DequantizeLinear", ["w", "scale"], ["f"]), node("MatMul", ["x", "f"], ["y"], name="product")]
    constants = {"w": RNG.integers(0, 255, (64, 8)).astype(np.uint8), "scale": np.float32(0.01)}
    message = "product: unsigned weights need the zero point 128 on this machine, and not 0 as output channel 0 has"
    with pytest.raises(QuantizationError, match=message):
        checked(graph_file(tmp_path, nodes, {"x": X}, constants))


def test_dynamic_quantization_is_one_entry_and_its_advice_works(tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    onnx.save(encoder(1), tmp_path / "plain.onnx")
    quantize_dynamic(tmp_path / "plain.onnx", tmp_path / "dynamic.onnx")
    with pytest.raises(UnsupportedOperationsError, match="compile the float model with calibration data, or") as caught:
        import_model(tmp_path / "dynamic.onnx")
    assert len(caught.value.operations) == 1
    # Static quantization with default settings: pairs stand between the parts of GELU.
    settings = {"op_types_to_quantize": None, "activation_type": QuantType.QInt8, "per_channel": False}
    path = quantized(tmp_path, encoder(1), **settings)
    program, xs = sta.compile(path), samples(6, seed=2)
    results = np.stack([program.run({"x": x}).outputs["head/Add"] for x in xs])
    theirs = np.stack([run_onnxruntime(path, x) for x in xs])
    reference = np.stack([run_onnxruntime(tmp_path / "float.onnx", x) for x in xs])
    # Both round to 8 bits, in other places.
    assert signal_to_noise(theirs, results) > 29
    assert signal_to_noise(reference, results) > signal_to_noise(reference, theirs) - 1


def test_no_message_is_in_the_words_of_pytorch(tmp_path: Path) -> None:
    nodes = [node("Hardmax", ["x"], ["h"], name="hard"), node("ReduceProd", ["h"], ["y"], axes=[1], name="pool")]
    with pytest.raises(UnsupportedOperationsError) as caught:
        checked(graph_file(tmp_path, nodes, {"x": X}))
    assert [found.name for found in caught.value.operations] == ["onnx.Hardmax", "onnx.ReduceProd"]
    assert not re.search(r"aten\.|model\.float", "".join(map(str, caught.value.operations)))


@pytest.mark.parametrize("head", ["LogSoftmax", "Abs", "Erf"])
def test_a_head_of_one_operator_computes_what_onnxruntime_does(tmp_path: Path, head: str) -> None:
    path = graph_file(tmp_path, [node(head, ["x"], ["y"], name="head")], {"x": X})
    assert decibels(path, {"x": X}) > 100
