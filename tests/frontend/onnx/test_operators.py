"""Single ONNX operators: every broadcast by its shape, every attribute read or refused, as onnxruntime has it."""
# pyright: basic
# onnx has no types that pyright could check.

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, defs, helper, numpy_helper

from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.model_errors import ModelError, UnsupportedOperationsError
from sta.frontend.model import import_model
from sta.frontend.onnx.folding import fold
from sta.frontend.onnx.graph import OnnxGraph, UnsupportedForm
from sta.frontend.onnx.operators import translate
from sta.frontend.samples import InputType
from sta.passes.torch.canonicalize_views import canonicalize_views
from sta.passes.torch.check_supported import check_supported
from sta.passes.torch.fold_constants import fold_constants
from sta.passes.torch.fold_quantization import fold_quantization
from tests.support.onnx_models import run_onnxruntime
from tests.support.torch_modules import FLOAT_PASSES, signal_to_noise

RNG = np.random.default_rng(0)


def saved(directory: Path, nodes: list[Any], x: Any, constants: dict[str, Any], rank: int = 0) -> Path:
    """The file of a model of the nodes, from x, shaped like the array, to y, of as many axes or of another `rank`."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "one",
        [value("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [value("y", TensorProto.FLOAT, [f"size{axis}" for axis in range(rank or x.ndim)])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    path = directory / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def compared(path: Path, x: Any) -> float:
    """Decibels of the imported model, behind the float passes, against onnxruntime."""
    model = import_model(path)
    for rewrite in (fold_quantization, *FLOAT_PASSES):
        rewrite(model.module, model.weights)
    check_supported(model.module)
    (result,) = run_torch(model.module, CompileContext(model.weights), {"x": x}).values()
    reference = run_onnxruntime(path, x)
    assert result.shape == reference.shape
    return float("inf") if np.array_equal(result, reference) else signal_to_noise(reference, result)


def normal(*sizes: int) -> Any:
    return RNG.normal(size=sizes).astype(np.float32)


# --- Broadcasts ---


@pytest.mark.parametrize("columns", [4, 6])
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("shape", ["", "1", "n", "1 1", "1 n", "m 1", "m n"])
def test_the_bias_of_a_product_is_broadcast_by_its_shape(tmp_path: Path, rows: int, columns: int, shape: str) -> None:
    sizes = [{"m": rows, "n": columns, "1": 1}[axis] for axis in shape.split()]
    x = normal(rows, 8)
    node = helper.make_node("Gemm", ["x", "b", "c"], ["y"], name="product")
    assert compared(saved(tmp_path, [node], x, {"b": normal(8, columns), "c": normal(*sizes)}), x) > 100


@pytest.mark.parametrize("shape", [(4,), (6, 1), (2, 6), (1, 4), (1, 1, 6)])
def test_a_bias_that_does_not_broadcast_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    node = helper.make_node("Gemm", ["x", "b", "c"], ["y"], name="product")
    with pytest.raises(ModelError, match=r"Gemm node 'product': .* does not broadcast to \[4, 6\]"):
        import_model(saved(tmp_path, [node], normal(4, 8), {"b": normal(8, 6), "c": normal(*shape)}))


NORM_SHAPES = [(), (1,), (8,), (1, 1, 8), (5, 1), (5, 8), (3, 5, 8), (3, 1, 1), (1, 5, 1)]


@pytest.mark.parametrize("scale", NORM_SHAPES)
@pytest.mark.parametrize("offset", [None, *NORM_SHAPES])
def test_parameters_of_norms_are_broadcast_by_their_shape(tmp_path: Path, scale: Any, offset: Any) -> None:
    x = normal(3, 5, 8)
    constants = {"scale": normal(*scale)} | ({} if offset is None else {"offset": normal(*offset)})
    node = helper.make_node("LayerNormalization", ["x", *constants], ["y"], axis=-1)
    assert compared(saved(tmp_path, [node], x, constants), x) > 100


@pytest.mark.parametrize("kind", ["Add", "Mul"])
@pytest.mark.parametrize("shape", [(), (1,), (8,), (5, 1), (3, 1, 1), (1, 5, 8), (3, 5, 8), (1, 1, 1, 8), (2, 1, 1, 1)])
def test_sums_and_products_broadcast_both_ways(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    x = normal(3, 5, 8)
    path = saved(tmp_path, [helper.make_node(kind, ["c", "x"], ["y"])], x, {"c": normal(*shape)}, max(len(shape), 3))
    assert compared(path, x) > 100


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1), (1, 1, 1, 1)])
def test_constants_of_a_spelled_gelu_may_have_axes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    numbers = {"root": 2**0.5, "one": 1.0, "half": 0.5}
    nodes = [
        helper.make_node("Div", ["x", "root"], ["scaled"]),
        helper.make_node("Erf", ["scaled"], ["error"]),
        helper.make_node("Add", ["error", "one"], ["sum"]),
        helper.make_node("Mul", ["x", "half"], ["halved"]),
        helper.make_node("Mul", ["halved", "sum"], ["y"]),
    ]
    constants = {name: np.full(shape if name == "one" else (), value, np.float32) for name, value in numbers.items()}
    x = normal(2, 8)
    assert compared(saved(tmp_path, nodes, x, constants, max(len(shape), 2)), x) > 100


# --- Look-ups ---

GRID: Any = np.indices((3, 5))
"""Positions along the first and the second axis of a value [3, 5, 8], in its order."""
LOOK_UPS: dict[str, tuple[tuple[str, dict[str, Any]], Any]] = {
    "a part": (("Gather", {"axis": 1}), np.array([1, 2, 3])),
    "the last one": (("Gather", {"axis": 1}), np.array(-1)),
    "a part from the end": (("Gather", {"axis": 2}), np.array([[-3], [-2]])),
    "axes in another order": (("GatherND", {}), np.stack(GRID, -1).transpose(1, 0, 2)),
    "rows of each sample": (("GatherND", {"batch_dims": 1}), np.tile(np.array([[[2], [3]]]), (3, 1, 1))),
    "elements of each row": (("GatherElements", {"axis": 2}), np.broadcast_to(np.arange(4, 8), (3, 5, 4))),
    "elements of all": (("GatherND", {}), np.stack(list(np.indices((3, 2, 8))), -1) + np.array([0, 3, 0])),
}


@pytest.mark.parametrize("name", LOOK_UPS)
def test_a_look_up_at_positions_that_form_a_view_is_one(tmp_path: Path, name: str) -> None:
    (kind, attributes), positions = LOOK_UPS[name]
    x = normal(3, 5, 8)
    rank = {"the last one": 2, "a part from the end": 4}.get(name, 3)
    nodes = [helper.make_node(kind, ["x", "i"], ["taken"], **attributes), helper.make_node("Relu", ["taken"], ["y"])]
    assert compared(saved(tmp_path, nodes, x, {"i": positions}, rank), x) == float("inf")


@pytest.mark.parametrize(
    ("kind", "positions"),
    [
        ("Gather", np.array([0, 2])),
        ("GatherND", np.array([[0], [2], [2]])),
        ("GatherElements", np.zeros((3, 5, 8), int)),
    ],
)
def test_other_positions_of_a_value_are_moved_there(tmp_path: Path, kind: str, positions: Any) -> None:
    nodes = [helper.make_node(kind, ["x", "i"], ["t"], name="choice"), helper.make_node("Relu", ["t"], ["y"])]
    x = normal(3, 5, 8)
    assert compared(saved(tmp_path, nodes, x, {"i": positions}), x) == float("inf")


@st.composite
def look_ups(draw: st.DrawFn) -> tuple[Any, tuple[int, ...], Any]:
    """A node, the shape of its data, and its positions, from both ends."""
    sizes = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    kind = draw(st.sampled_from(["Gather", "GatherElements", "GatherND"]))
    integers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if kind == "GatherND":
        batch_axes = draw(st.integers(0, len(sizes) - 1))
        depth = draw(st.integers(1, len(sizes) - batch_axes))
        shape = (*sizes[:batch_axes], *draw(st.lists(st.integers(1, 3), min_size=0, max_size=2)), depth)
        limits = np.array(sizes[batch_axes : batch_axes + depth])
        attributes: dict[str, Any] = {"batch_dims": batch_axes}
    else:
        axis = draw(st.integers(0, len(sizes) - 1))
        inner = (draw(st.integers(1, 5)),)
        shape = (
            (*sizes[:axis], *inner, *sizes[axis + 1 :]) if kind == "GatherElements" else inner * draw(st.integers(0, 2))
        )
        limits, attributes = np.array(sizes[axis]), {"axis": axis - len(sizes) * draw(st.booleans())}
    positions = integers.integers(-np.broadcast_to(limits, shape), np.broadcast_to(limits, shape))
    return helper.make_node(kind, ["x", "i"], ["y"], **attributes), sizes, positions


@settings(max_examples=60, deadline=None)
@given(look_ups())
def test_look_ups_take_what_onnxs_reference_takes(case: tuple[Any, tuple[int, ...], Any]) -> None:
    node, sizes, positions = case
    x = np.arange(np.prod(sizes), dtype=np.float32).reshape(sizes)
    (expected,) = fold(node, {"x": x, "i": positions}, 21).values()
    with TemporaryDirectory() as folder:
        model = import_model(saved(Path(folder), [node], x, {"i": positions}, expected.ndim))
    context = CompileContext(model.weights)
    for rewrite in (None, fold_constants, canonicalize_views):
        if rewrite is not None:
            rewrite(model.module, model.weights)
        (result,) = run_torch(model.module, context, {"x": x}).values()
        assert np.array_equal(result, expected)


@pytest.mark.parametrize("kind", ["Gather", "GatherElements"])
def test_what_is_looked_up_in_equal_numbers_is_a_constant(tmp_path: Path, kind: str) -> None:
    positions = {"x": np.array([[0, 1, 2]])}
    nodes = [helper.make_node(kind, ["t", "x"], ["row"], axis=1), helper.make_node("Gather", ["w", "row"], ["y"])]
    table = np.ones((1, 7), np.int64)
    path = saved(tmp_path, nodes, positions["x"], {"t": table, "w": normal(2, 8)}, 3 + (kind == "Gather"))
    assert compared(path, positions["x"]) == float("inf")
    path = saved(tmp_path, nodes, positions["x"], {"t": np.arange(7)[None] % 2, "w": normal(2, 8)}, 3)
    with pytest.raises(UnsupportedOperationsError, match="its indices are made with numbers, which the host"):
        compared(path, positions["x"])


# --- Attributes ---


@pytest.mark.parametrize(("name", "kind"), [("INT8", np.int8), ("UINT8", np.uint8), ("INT16", np.int16)])
@pytest.mark.parametrize("zero_point", ["none", "same"])
def test_a_quantization_names_its_integers(tmp_path: Path, name: str, kind: Any, zero_point: str) -> None:
    zeros = ["zero"] if zero_point == "same" else []
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", *zeros], ["q"], output_dtype=getattr(TensorProto, name)),
        helper.make_node("DequantizeLinear", ["q", "scale", *zeros], ["f"]),
        helper.make_node("DequantizeLinear", ["w", "steps"], ["weight"]),
        helper.make_node("MatMul", ["f", "weight"], ["y"]),
    ]
    constants = {"scale": np.float32(0.05), "w": RNG.integers(-128, 128, (8, 5)).astype(np.int8)}
    constants |= {"steps": np.float32(0.01), "zero": np.zeros((), kind)}
    x = normal(4, 8)
    assert compared(saved(tmp_path, nodes, x, constants), x) > 60


def test_a_zero_point_of_other_integers_than_are_named_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"], name="q", output_dtype=TensorProto.INT8)
    constants = {"scale": np.float32(0.05), "zero": np.uint8(3)}
    with pytest.raises(ModelError, match="'q': values of int8 have a zero point of uint8"):
        import_model(saved(tmp_path, [node], normal(4, 8), constants))


REQUIRED: dict[str, Any] = {}
OTHER = {
    onnx.AttributeProto.INT: lambda value: value + 1 if value else 1,
    onnx.AttributeProto.FLOAT: lambda value: (value or 0.0) + 1.5,
    onnx.AttributeProto.STRING: lambda value: f"{value or ''}x",
    onnx.AttributeProto.INTS: lambda value: [0, 1],
}


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_running_sums_begin_at_either_end(tmp_path: Path, axis: int, reverse: int, exclusive: int) -> None:
    x = normal(3, 5, 8)
    node = helper.make_node("CumSum", ["x", "axis"], ["y"], reverse=reverse, exclusive=exclusive)
    assert compared(saved(tmp_path, [node], x, {"axis": np.array(axis)}), x) > 100


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize("pads", [(1, 2, 3, 0), (-1, 2, 0, -3), (2, -2, -1, 4)])
def test_padding_adds_and_cuts(tmp_path: Path, mode: str, pads: tuple[int, ...]) -> None:
    x = normal(3, 5, 8)
    constants = {"pads": np.array(pads), "axes": np.array([1, -1]), "number": np.array(0.5, np.float32)}
    node = helper.make_node("Pad", ["x", "pads", "number" if mode == "constant" else "", "axes"], ["y"], mode=mode)
    if mode == "reflect" and min(pads) < 0:
        return
    assert compared(saved(tmp_path, [node], x, constants), x) == float("inf")


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("offset", [-2, 0, 3])
def test_triangles_lie_on_either_side_of_a_diagonal(tmp_path: Path, upper: int, offset: int) -> None:
    x = normal(3, 5, 8)
    node = helper.make_node("Trilu", ["x", "k"], ["y"], upper=upper)
    assert compared(saved(tmp_path, [node], x, {"k": np.array(offset)}), x) == float("inf")


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("beta", [1.0, 0.25])
@pytest.mark.parametrize("transposed", [0, 1])
def test_products_are_scaled_and_transposed(tmp_path: Path, alpha: float, beta: float, transposed: int) -> None:
    x = normal(6, 6)
    node = helper.make_node(
        "Gemm", ["x", "b", "c"], ["y"], alpha=alpha, beta=beta, transA=transposed, transB=1 - transposed
    )
    assert compared(saved(tmp_path, [node], x, {"b": normal(6, 6), "c": normal(6)}), x) > 100


def test_an_operator_without_rule_is_its_body(tmp_path: Path) -> None:
    x = normal(2, 6, 4)
    node = helper.make_node("GroupNormalization", ["x", "scale", "offset"], ["y"], num_groups=3)
    assert compared(saved(tmp_path, [node], x, {"scale": normal(6), "offset": normal(6)}), x) > 90


def unread_attributes() -> list[tuple[str, str]]:
    """Every attribute of an operator that is translated, but of which no rule says that it is read."""
    from sta.frontend.onnx import operators

    return [
        (name, attribute)
        for name, rule in operators._rules().items()
        for attribute in defs.get_schema(name).attributes
        if attribute not in rule.reads
    ]


def test_there_are_attributes_that_no_rule_reads() -> None:
    assert ("LayerNormalization", "stash_type") in unread_attributes()
    assert ("QuantizeLinear", "block_size") in unread_attributes()
    assert ("Attention", "left_window_size") in unread_attributes()


@pytest.mark.parametrize(("name", "attribute"), unread_attributes())
def test_an_attribute_that_no_rule_reads_is_refused(name: str, attribute: str) -> None:
    schema = defs.get_schema(name)
    entry = schema.attributes[attribute]
    default = helper.get_attribute_value(entry.default_value) if entry.default_value.name else None
    kind = entry.type.value  # pyright: ignore[reportAttributeAccessIssue] - onnx has no types
    other = OTHER[kind](default.decode() if isinstance(default, bytes) else default)
    names = [f"input{index}" for index in range(max(schema.min_input, 1))]
    node = helper.make_node(name, names, ["y"], **{**REQUIRED.get(name, {}), attribute: other})
    graph = OnnxGraph({}, {one: InputType((4, 4), np.dtype(np.float32)) for one in names}, defs.onnx_opset_version())
    with pytest.raises(UnsupportedForm, match=f"its attribute {attribute} = "):
        translate(graph, node)


@pytest.mark.parametrize(
    ("kind", "attributes", "read"),
    [
        ("Gemm", {"alpha": 1.0, "beta": 1.0, "transA": 0}, {"transB": 1}),
        ("LayerNormalization", {"stash_type": 1}, {"epsilon": 0.5}),
    ],
)
def test_attributes_that_have_their_default_are_taken(tmp_path: Path, kind: str, attributes: Any, read: Any) -> None:
    x = normal(8, 8)
    node = helper.make_node(kind, ["x", "b", "c"], ["y"], **attributes, **read)
    constants = {"b": normal(8, 8) if kind == "Gemm" else normal(8), "c": normal(8)}
    assert compared(saved(tmp_path, [node], x, constants), x) > 100


# --- Positions ---


@pytest.mark.parametrize(
    ("node", "constants", "message"),
    [
        (("Gather", ["x", "i"], {"axis": 1}), {"i": np.array(8)}, "there is no position 8 in an axis of 8"),
        (("Gather", ["x", "i"], {"axis": 1}), {"i": np.array(-9)}, "there is no position -9"),
        (("GatherND", ["x", "i"], {}), {"i": np.array([[1, 8]])}, "there is no position 8 in an axis of 8"),
        (
            ("GatherElements", ["x", "i"], {"axis": 0}),
            {"i": np.full((1, 8), -5)},
            "there is no position -5 in an axis of 4",
        ),
        (("Squeeze", ["x", "i"], {}), {"i": np.array([0])}, "not all of them are 1"),
        (("Split", ["x", "i"], {"axis": 1}), {"i": np.array([7])}, "are not the 8 positions that there are"),
        (("Split", ["x"], {"axis": 1, "num_outputs": 2}), {}, "num_outputs = 2, and it has 1"),
        (("Slice", ["x", "i", "j"], {}), {"i": np.array([2]), "j": np.array([2])}, "it takes nothing of axis 0"),
        (("Slice", ["x", "i", "j"], {}), {"i": np.array([9]), "j": np.array([99])}, "it takes nothing of axis 0"),
    ],
)
def test_positions_that_are_not_there_are_refused(tmp_path: Path, node: Any, constants: Any, message: str) -> None:
    kind, operands, attributes = node
    path = saved(tmp_path, [helper.make_node(kind, operands, ["y"], **attributes)], normal(4, 8), constants)
    with pytest.raises(ModelError, match=message):
        check_supported(import_model(path).module)


def test_integers_are_not_divided_like_floats(tmp_path: Path) -> None:
    x = np.arange(8).reshape(2, 4)
    path = saved(tmp_path, [helper.make_node("Div", ["x", "c"], ["y"], name="part")], x, {"c": np.array(2)})
    with pytest.raises(UnsupportedOperationsError, match=r"onnx\.Div in part: only floats are supported"):
        check_supported(import_model(path).module)
