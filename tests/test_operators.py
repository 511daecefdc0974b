"""
Every row of the operators, whatever it is: PyTorch has the operator, the reference computes it, models with it import,
and what the machine computes has the same bits on every level. A new row is tried without a line here, unless it needs
arguments of its own.
"""
# pyright: basic
# onnx has no types that pyright could check.

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from xdsl.ir import Operation

import sta
from sta.api.compiler.compilation import compile_model
from sta.api.inspect.operators_page import page
from sta.dialect import torch as dialect
from sta.dialect.interpreters.any_level import run_integers
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import import_model
from sta.frontend.program import quiet
from sta.passes.lowering.torch_to_nm.lowering import lowering_of_class
from sta.spec.operators.operator import Attribute, Elements, Operator, Role
from sta.spec.operators.registry import operators, rows_of
from tests.support.torch_modules import overloads

ROWS = list(operators().values())
RANDOM = np.random.default_rng(0)


def numbers(*sizes: int) -> np.ndarray:
    return RANDOM.normal(size=sizes)


X, Y, WIDE = numbers(2, 3, 8), numbers(2, 3, 8), numbers(2, 2, 5, 4)
MASK = RANDOM.random((2, 3, 8)) < 0.5
TABLE, INDICES = numbers(9, 4), np.array([[1, 8, 3]])

COMPARISONS = ("eq", "ge", "gt", "le", "lt", "ne")

ARGUMENTS: dict[str, list[tuple[Any, ...]]] = {
    "aten.linear": [(X, numbers(5, 8), numbers(5)), (X, numbers(5, 8), None)],
    "aten.embedding": [(TABLE, INDICES)],
    "aten.layer_norm": [(X, [8], numbers(8), numbers(8), 1e-3), (X, [3, 8], None, None, 1e-5)],
    "aten.rms_norm": [(X, [8], numbers(8), 1e-3), (X, [8], None, 1e-6)],
    "aten.scaled_dot_product_attention": [
        (WIDE, WIDE, WIDE + 1),
        (WIDE, WIDE, WIDE, RANDOM.random((5, 5)) < 0.8),
        (WIDE, WIDE, WIDE, numbers(5, 5)),
        (WIDE, WIDE, WIDE, None, 0.0, True, 0.3),
        (WIDE, WIDE[:, :1], WIDE[:, 1:], None, 0.0, False, None, True),
    ],
    "aten.matmul": [(X, numbers(2, 8, 3)), (X, numbers(8, 3))],
    "aten.bmm": [(X, numbers(2, 8, 3))],
    "aten.mm": [(X[0], numbers(8, 3))],
    "aten.mv": [(X[0], numbers(8))],
    "aten.dot": [(X[0, 0], Y[0, 0])],
    "aten.baddbmm": [(X[:, :, :5], X, numbers(2, 8, 5), 0.5, 2.0)],
    "aten.addmm": [(numbers(4), X[0], numbers(8, 4), 0.5, 2.0)],
    "aten.softmax.int": [(X, -1), (X, 1)],
    "aten._softmax": [(X, -1, False)],
    "aten.add.Tensor": [(X, Y), (X, Y[:, :1], 2.5)],
    "aten.mul.Tensor": [(X, Y), (X, Y[0])],
    "aten.div.Tensor": [(X, Y)],
    "aten.mul.Scalar": [(X, 2.5)],
    "aten.div.Scalar": [(X, 2.5)],
    "aten.masked_fill.Scalar": [(X, MASK, -3.0)],
    "aten.masked_fill.Tensor": [(X, MASK, np.array(-3.0))],
    "aten.where.self": [(MASK, X, Y)],
    "aten.where.ScalarOther": [(MASK, X, 2.0)],
    "aten.where.ScalarSelf": [(MASK, 2.0, X)],
    "aten.where.Scalar": [(MASK, 2.0, 3.0)],
    "aten.logical_not": [(MASK,)],
    "aten.sum.dim_IntList": [(X, [-1], True), (X, [0, 2], False)],
    "aten.mean.dim": [(X, [-1], True), (X, [0, 2], False)],
    "aten.cumsum": [(X, -1), (X, 1)],
    **{f"aten.{name}.Tensor": [(X, Y), (np.round(X), np.round(Y[0]))] for name in COMPARISONS},
    **{f"aten.{name}.Scalar": [(X, 0.25), (np.round(X), 1)] for name in COMPARISONS},
    **{f"aten.{name}": [(MASK, MASK[:1])] for name in ("logical_and", "logical_or", "logical_xor")},
    **{f"aten.bitwise_{name}.Tensor": [(MASK, MASK[:1])] for name in ("and", "or", "xor")},
    **{f"aten.__{name}__.Tensor": [(MASK, MASK[:1])] for name in ("and", "or", "xor")},
    "aten.bitwise_not": [(MASK,)],
    "aten.tril": [(X,), (X, 2)],
    "aten.triu": [(X,), (X, -1)],
    "aten.sub.Tensor": [(X, Y), (X, Y[0], 2.5)],
    "aten.rsub.Tensor": [(X, Y), (X, Y[0], 2.5)],
    "aten.add.Scalar": [(X, 2.5), (X, 2.5, 3)],
    "aten.sub.Scalar": [(X, 2.5), (X, 2.5, 3)],
    "aten.rsub.Scalar": [(X, 2.5), (X, 2.5, 3)],
    "aten.maximum": [(X, Y), (X, Y[0])],
    "aten.minimum": [(X, Y), (X, Y[0])],
    "aten.pow.Tensor_Tensor": [(np.abs(X), Y), (np.abs(X), Y[0])],
    "aten.pow.Scalar": [(2.5, X)],
    "aten.div.Tensor_mode": [(X, Y, "floor"), (X, Y[0], "trunc"), (X, Y, None)],
    "aten.div.Scalar_mode": [(X, 0.4, "floor")],
    "aten.floor_divide": [(X, Y)],
    "aten.floor_divide.Scalar": [(X, 0.4)],
    "aten.remainder.Tensor": [(X, Y)],
    "aten.fmod.Tensor": [(X, Y)],
    "aten.to.dtype": [(X, 11), (X, 4), (X, 7)],
    "aten.view": [(X, [6, 8])],
    "aten._unsafe_view": [(X, [6, 8])],
    "aten.unfold": [(X, 2, 4, 3), (X, 1, 2, 1)],
    "aten.reshape": [(X, [4, -1])],
    "aten.permute": [(X, [2, 0, 1])],
    "aten.slice.Tensor": [(X, 2, 1, 7, 2), (X, 0, None, None, 1)],
    "aten.flatten.using_ints": [(X, 1, 2), (X,)],
    "aten.unflatten.int": [(X, 2, [2, 4])],
    "aten.unsqueeze": [(X, 1)],
    "aten.squeeze": [(X[:1, :, :1],)],
    "aten.squeeze.dim": [(X[:1], 0), (X, 0)],
    "aten.squeeze.dims": [(X[:1], [0, 1])],
    "aten.transpose.int": [(X, 0, 2)],
    "aten.swapaxes": [(X, 0, 2)],
    "aten.swapdims": [(X, 0, 2)],
    "aten.movedim.int": [(X, 0, 2)],
    "aten.t": [(X[0],)],
    "aten.select.int": [(X, 1, 2)],
    "aten.chunk": [(X, 2, 2), (X, 3, 2)],
    "aten.split.Tensor": [(X, 3, 2)],
    "aten.split_with_sizes": [(X, [1, 2, 5], 2)],
    "aten.unbind.int": [(X, 1)],
    "aten.expand": [(X[:1], [4, -1, 8])],
    "aten.broadcast_to": [(X[:1], [4, 3, 8])],
    "aten.expand_as": [(X[:1], X)],
    "aten.repeat_interleave.self_int": [(X, 2, 1), (X, 2)],
    "aten.repeat": [(X, [2, 1, 1]), (X, [2, 1, 3, 2])],
    "aten.roll": [(X, [1, -2], [1, 2]), (X, [5])],
    "aten.flip": [(X, [0, -1])],
    "aten.constant_pad_nd": [(X, [1, 2, 0, 3], 0.5), (X, [-1, 2, 1, -2], 0)],
    "aten.slice_scatter": [(X, numbers(2, 1, 8), 1, 1, 2), (X, numbers(2, 3, 4), -1, None, None, 2)],
    "aten.select_scatter": [(X, numbers(2, 8), 1, -1)],
    "aten.index_select": [(X, 1, np.array([2, 0]))],
    "aten.gather": [(X, 2, np.array([[[1, 0, 2]], [[7, 0, 0]]])), (X, 1, np.array([[[2, 2]], [[0, 1]]]))],
    "aten.index.Tensor": [(X, [torch.tensor([1, 0])])],
    "aten.index.Tensor_hacked_twin": [(X, [torch.tensor([1, 0])])],
    "aten.cat": [([torch.tensor(X).float(), torch.tensor(Y).float()], 1)],
    "prims.collapse": [(X, 1, 2)],
}
"""Arguments of rows that are no functions of each element, whose rows have them."""


def within(domain: tuple[float, float], x: np.ndarray) -> np.ndarray:
    """Numbers of an operator's domain."""
    low, high = domain
    if np.isfinite([low, high]).all():
        return (low + high) / 2 + (high - low) / 2.1 * np.tanh(x)
    return x if np.isinf(low) else low + 0.1 + np.abs(x)


def arguments_of(row: Operator) -> list[tuple[Any, ...]]:
    if row.role in (Role.ELEMENTWISE, Role.FUNCTION):
        return [(within(row.domain, 3 * X), *example) for example in row.examples]
    return ARGUMENTS.get(row.name, [(X,)])


def overload_of(row: Operator) -> Any:
    namespace, name, *overload = row.name.removesuffix("_hacked_twin").split(".")
    return getattr(getattr(getattr(torch.ops, namespace), name), *overload or ["default"])


def gives_tensor(row: Operator) -> bool:
    return str(overload_of(row)._schema.returns[0].type) == "Tensor"


def call(row: Operator, arguments: tuple[Any, ...]) -> Any:
    """Calls PyTorch's operator, some of whose arguments have to be named."""
    function = overload_of(row)
    schema = list(zip(function._schema.arguments, arguments, strict=False))
    positional = [given for argument, given in schema if not argument.kwarg_only]
    return function(*positional, **{argument.name: given for argument, given in schema if argument.kwarg_only})


def tensors(arguments: tuple[Any, ...], dtype: torch.dtype = torch.float64) -> tuple[Any, ...]:
    return tuple(
        torch.tensor(one, dtype=dtype if one.dtype == np.float64 else None) if isinstance(one, np.ndarray) else one
        for one in arguments
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_pytorch_has_the_operator_and_the_dialect_an_operation(row: Operator) -> None:
    assert overload_of(row)._schema.name.removeprefix("aten::").replace("::", ".") == row.label
    assert dialect.operator_class(row.name).name == f"torch.{row.name}"
    if row.makes_value:
        assert row.reference is not None, "what the machine computes has a reference"
        assert row.summary
        operation: type[Operation] = dialect.computing_class(row.name)
        assert lowering_of_class(operation) is not None


@pytest.mark.parametrize("row", [row for row in ROWS if row.reference is not None], ids=lambda row: row.name)
def test_the_reference_computes_what_pytorch_does(row: Operator) -> None:
    assert row.reference is not None
    for arguments in arguments_of(row):
        expected, found = call(row, tensors(arguments)), row.reference(*arguments)
        parts = zip(expected, found, strict=True) if isinstance(found, list) else [(expected, found)]
        for theirs, ours in parts:
            assert theirs.shape == ours.shape
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-9, atol=1e-12)


LOOK_UPS: dict[str, tuple[Any, ...]] = {
    "aten.to.device": (X, torch.device("cpu"), torch.float64),
}
"""Arguments of rows without a reference that take more than tensors and numbers."""


def operands_of(row: Operator) -> tuple[Any, ...]:
    """Arguments for any row: bools where the operator is one of logic, else numbers."""
    if row.name in LOOK_UPS:
        return LOOK_UPS[row.name]
    if row.reference is not None:
        return arguments_of(row)[0]
    tensor = MASK if row.label.startswith(("bitwise", "logical", "__")) else np.abs(X)
    kinds = {"Tensor": tensor, "number": 2.0, "Optional[str]": "floor", "int": 6}
    schema = overload_of(row)._schema.arguments
    return tuple(kinds[str(one.type)] for one in schema if not one.has_default_value())


@pytest.mark.parametrize("row", [row for row in ROWS if row.moves], ids=lambda row: row.name)
def test_what_a_row_says_of_moved_elements_is_what_pytorch_does(row: Operator) -> None:
    x, *rest = tensors(operands_of(row))
    x = torch.arange(x.numel()).reshape(x.shape)
    result = call(row, (x, *rest))
    parts = list(result) if row.elements is Elements.PARTED else [result]
    assert isinstance(result, Tensor) != (row.elements is Elements.PARTED)
    assert all(set(part.reshape(-1).tolist()) <= set(range(x.numel())) for part in parts)
    match row.elements:
        case Elements.SAME:
            assert torch.equal(result, x)
        case Elements.RESHAPED:
            assert torch.equal(result.reshape(-1), x.reshape(-1))
        case Elements.EXCHANGED:
            assert torch.equal(result, x.transpose(*rest))
        case Elements.EXPANDED:
            assert torch.equal(result, x.expand(result.shape))
        case Elements.PARTED:
            join = torch.stack if parts[0].dim() < x.dim() else torch.cat
            assert torch.equal(join(parts, rest[-1]), x)
        case _:
            assert row.elements is Elements.MOVED


COMBINING = [row for row in ROWS if row.combines and row.role is not Role.CONVERSION]


@pytest.mark.parametrize("row", COMBINING, ids=lambda row: row.name)
def test_what_a_row_says_of_combined_elements_is_what_pytorch_does(row: Operator) -> None:
    given = tensors(operands_of(row))
    before = call(row, given)
    for index, one in enumerate(given):
        if not isinstance(one, Tensor) or one.shape != before.shape:
            continue
        changed = one.clone()
        changed[1, 2, 3] = ~changed[1, 2, 3] if one.dtype == torch.bool else changed[1, 2, 3] + 1
        after = call(row, (*given[:index], changed, *given[index + 1 :]))
        differs = (before != after).nonzero().tolist()
        assert differs in ([], [[1, 2, 3]])


@pytest.mark.parametrize("row", [row for row in ROWS if row.neutral is not None], ids=lambda row: row.name)
def test_a_neutral_number_changes_nothing(row: Operator) -> None:
    x = torch.tensor(X)
    assert torch.equal(call(row, (x, row.neutral)), x)
    assert not torch.equal(call(row, (x, 2.5)), x)


@pytest.mark.parametrize("name", ["uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bool"])
def test_the_numbers_of_dtypes_are_those_of_pytorch(name: str) -> None:
    converted = torch.ops.aten.to.dtype(torch.zeros(1), dialect.dtype_number(np.dtype(name)))
    assert converted.numpy().dtype == np.dtype(name)


class Calls(nn.Module):
    """Calls every operator that has a reference, on tensors that are its inputs."""

    def __init__(self, calls: list[tuple[Operator, tuple[Any, ...]]]) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, **inputs: Tensor) -> dict[str, Any]:
        given = iter(inputs.values())
        results: dict[str, Any] = {}
        for index, (row, arguments) in enumerate(self.calls):
            results[f"{row.name}_{index}"] = call(
                row, tuple(next(given) if isinstance(one, Tensor) else one for one in arguments)
            )
        return {
            name: part
            for name, result in results.items()
            for name, part in (
                [(name, result)]
                if isinstance(result, Tensor)
                else [(f"{name}_{i}", one) for i, one in enumerate(result)]
            )
        }


def test_every_operator_is_imported_and_kept_whole() -> None:
    calls = [
        (row, tensors(arguments, torch.float32))
        for row in ROWS
        if row.reference is not None
        for arguments in arguments_of(row)
    ]
    model = Calls(calls)
    inputs = {
        f"x{i}": one for i, one in enumerate(one for _, given in calls for one in given if isinstance(one, Tensor))
    }
    expected = {name: value.numpy() for name, value in model(**inputs).items()}
    program = torch.export.export(model, (), inputs, strict=False)
    imported = import_model(program)
    # Exporting takes some apart; the rest are torch-mlir's to keep, except that lists become slices.
    with quiet():
        graph = program.run_decompositions({}).graph
    exported = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    whole = [row for row in ROWS if row.kept and row.reference is not None and gives_tensor(row)]
    kept = {row.name for row in whole if str(overload_of(row)) in exported}
    assert kept >= {row.name for row in ROWS if row.makes_value}
    assert kept <= {f"aten.{name}" for name in overloads(imported.module)}
    arrays = {name: value.numpy() for name, value in inputs.items()}
    found = run_torch(imported.module, CompileContext(imported.weights), arrays)
    assert found.keys() == expected.keys()
    for name, result in found.items():
        np.testing.assert_allclose(result, expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


class Between(nn.Module):
    """A function of each element between two linear layers."""

    def __init__(self, row: Operator, example: tuple[Any, ...]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 8)
        self.row, self.example = row, tensors(example, torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        y, (low, high) = self.first(x), self.row.domain
        if np.isfinite(low):
            y = y.clamp(low + 0.1, high - 0.1) if np.isfinite(high) else y.abs() + low + 0.1
        return self.second(call(self.row, (y, *self.example))) + x


class Structured(nn.Module):
    """Every operator with structure that the machine computes."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.first, self.norm = nn.Embedding(9, 8), nn.Linear(8, 24), nn.LayerNorm(8)
        self.rms, self.last = nn.RMSNorm(8), nn.Linear(8, 8)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.table(ids))
        query, key, value = (part.view(1, -1, 2, 4).transpose(1, 2) for part in self.first(x).chunk(3, -1))
        y = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + y.transpose(1, 2).reshape(x.shape)
        x = torch.cat([x[:, 3:], x[:, :3]], 1)
        x = x.cumsum(-1) + x.sum(1, keepdim=True) + x.mean(1)
        x = x + torch.bmm(x.matmul(x.transpose(1, 2)), x) / 8
        return torch.maximum(torch.minimum(self.last(self.rms(x)) * x, x - y.mean(-1, keepdim=True).mean(1)), -x)


def compiled_alike(model: nn.Module, inputs: dict[str, np.ndarray]) -> list[str]:
    """Compiles, and compares nm interpreter and both engines; returns the operators of the float model."""
    compilation = compile_model(model.eval(), inputs, calibration={n: a[None] for n, a in inputs.items()}, check=True)
    program, module = compilation.program, compilation.integer_module
    assert program is not None
    assert module is not None
    expected = run_integers(module, compilation.context.weights, inputs)[0]
    for engine in ("reference", "native"):
        raw = program.run(inputs, engine=engine).raw
        for name, integers in expected.items():
            np.testing.assert_array_equal(raw[name], integers)
    return overloads(import_model(model, inputs).module)


@pytest.mark.parametrize("row", rows_of(Role.ELEMENTWISE, Role.FUNCTION), ids=lambda row: row.name)
def test_a_function_of_each_element_has_the_same_bits_on_every_level(row: Operator) -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    for example in row.examples:
        x = numbers(5, 8).astype(np.float32)
        found = [f"aten.{name}" for name in compiled_alike(Between(row, example), {"x": x})]
        assert row.name in found or not row.kept


def test_operators_with_structure_have_the_same_bits_on_every_level() -> None:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    found = {f"aten.{name}" for name in compiled_alike(Structured(), {"ids": np.array([[1, 8, 3, 4, 0]])})}
    assert {row.name for row in ROWS if row.makes_value and row.role is not Role.ELEMENTWISE} <= found


@pytest.mark.parametrize("row", [row for row in ROWS if row.onnx is not None], ids=lambda row: row.name)
def test_the_onnx_operator_computes_the_same(row: Operator, tmp_path: Path) -> None:
    assert row.onnx is not None
    for index, arguments in enumerate(arguments_of(row)):
        given_arrays = [one for one in arguments if isinstance(one, np.ndarray)]
        arrays = [one.astype(np.float32) if one.dtype.kind == "f" else one for one in given_arrays]
        names = [f"x{position}" for position in range(len(arrays))]
        rest = arguments[len(arrays) :]
        given = {
            one.name: value for one, value in zip(row.onnx.arguments, rest, strict=False) if isinstance(one, Attribute)
        }
        node = helper.make_node(row.onnx.name, names, ["y"], **given)
        values = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(one.dtype), one.shape)
            for name, one in zip(names, arrays, strict=True)
        ]
        output = helper.make_tensor_value_info(
            "y",
            onnx.TensorProto.BOOL if row.onnx.truth else onnx.TensorProto.FLOAT,
            np.broadcast_shapes(*(a.shape for a in arrays)),
        )
        graph = helper.make_graph([node], "row", values, [output])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
        path = tmp_path / f"{index}.onnx"
        onnx.save(model, path)
        inputs = dict(zip(names, arrays, strict=True))
        imported = import_model(path)
        assert overloads(imported.module) == [row.name.removeprefix("aten.")]
        (found,) = run_torch(imported.module, CompileContext(imported.weights), inputs).values()
        evaluator: Any = ReferenceEvaluator(model)
        (expected,) = evaluator.run(None, inputs)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_page_of_operators_is_the_rows() -> None:
    committed = Path(__file__).parents[1] / "docs" / "operators.md"
    assert committed.read_text(encoding="utf-8") == page(), "run: make docs"


class Sorted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sort(-1).values


def test_the_compiler_lists_the_rows() -> None:
    with pytest.raises(ValueError, match="cannot be compiled") as caught:
        sta.compile(Sorted(), {"x": np.zeros((2, 4), np.float32)})
    assert all(row.label in str(caught.value) for row in ROWS if row.makes_value)
