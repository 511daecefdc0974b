"""Importing modules, exported programs and `.pt2` files: names, values, places, and errors."""

import json
import os
import re
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn
from xdsl.dialects.builtin import StringAttr

from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.location import describe, module_path
from sta.dialect.ir.main_function import main_function
from sta.frontend.errors import ModelError
from sta.frontend.importer import node_module_path, portable_path, resource_name
from sta.frontend.model import ImportedModel, import_model
from tests.support.torch_modules import largest_difference, outputs_of, overloads, parse, printed


class Two(nn.Module):
    """Two inputs, one of them an integer; nested modules; a buffer that is not persistent; a tied weight."""

    offset: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 6)
        self.block = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
        self.block[0].weight = nn.Parameter(torch.randn(6, 6))
        self.again = nn.Linear(6, 6, bias=False)
        self.again.weight = cast(nn.Linear, self.block[0]).weight
        self.register_buffer("offset", torch.arange(6.0), persistent=False)
        self.drop = nn.Dropout(0.5)

    def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.drop(self.block(self.table(ids) + self.offset))
        return {"hidden": self.again(hidden), "sum": hidden + scale}


INPUTS = {"ids": np.array([[1, 2, 6]]), "scale": np.ones((1, 3, 6), np.float32)}


def imported_two() -> tuple[Two, ImportedModel]:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    model = Two()
    # In another order than forward's.
    return model, import_model(model, {"scale": INPUTS["scale"], "ids": INPUTS["ids"]})


def test_a_module_computes_what_it_did_and_is_left_as_it_was() -> None:
    model, imported = imported_two()
    assert model.training
    assert model.drop.training
    result = run_torch(imported.module, CompileContext(imported.weights), INPUTS)
    assert largest_difference(result, outputs_of(model.eval(), INPUTS)) < 1e-6


def test_inputs_and_outputs_have_the_models_names() -> None:
    _, imported = imported_two()
    assert imported.input_names == ["ids", "scale"]
    assert imported.output_names == ["hidden", "sum"]
    assert {name: kind.sizes for name, kind in imported.input_types.items()} == {"ids": (1, 3), "scale": (1, 3, 6)}
    assert imported.input_types["ids"].dtype == np.int64
    function = main_function(imported.module)
    assert function.arg_attrs is not None
    assert [one.data["sta.name"] for one in function.arg_attrs] == [StringAttr("ids"), StringAttr("scale")]
    np.testing.assert_array_equal(imported.example_inputs["ids"], INPUTS["ids"])


def test_weights_are_named_after_parameters_and_stay_out_of_the_text() -> None:
    model, imported = imported_two()
    assert imported.weights.names() == ["block.0.bias", "block.0.weight", "offset", "table.weight"]
    weight = cast(nn.Linear, model.block[0]).weight.detach().numpy()
    assert np.shares_memory(imported.weights.get("block.0.weight"), weight)
    assert len(printed(imported.module)) < 4000


def test_operations_know_their_module_and_source_line() -> None:
    _, imported = imported_two()
    paths = {module_path(operation) for operation in imported.module.walk() if operation.name == "torch.aten.linear"}
    assert paths == {"block.0", "again"}
    addition = next(operation for operation in imported.module.walk() if operation.name == "torch.aten.add.Tensor")
    assert re.fullmatch(r"forward \(test_import_model\.py:\d+\)", describe(addition))


def test_no_path_of_this_machine_is_in_the_ir() -> None:
    _, imported = imported_two()
    text = printed(imported.module, locations=True)
    assert str(Path(__file__).parent) not in text
    assert os.path.expanduser("~") not in text
    assert "site-packages" not in text
    assert parse(text).is_structurally_equivalent(imported.module)


def test_importing_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    imported_two()
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_programs_and_files_import_alike_and_are_not_changed(tmp_path: Path) -> None:
    model, imported = imported_two()
    arguments = {name: torch.tensor(array) for name, array in INPUTS.items()}
    program = torch.export.export(model.eval(), (), arguments, strict=False)
    graph, state = str(program.graph), list(program.state_dict)
    from_program = import_model(program)
    assert (str(program.graph), list(program.state_dict)) == (graph, state)
    torch.export.save(program, tmp_path / "model.pt2")
    from_file = import_model(tmp_path / "model.pt2")
    expected = run_torch(imported.module, CompileContext(imported.weights), INPUTS)
    for other in (from_program, from_file):
        assert (other.input_names, other.output_names) == (imported.input_names, imported.output_names)
        np.testing.assert_array_equal(other.example_inputs["ids"], INPUTS["ids"])
        result = run_torch(other.module, CompileContext(other.weights), other.example_inputs)
        assert largest_difference(result, expected) == 0


def test_example_inputs_replace_those_of_a_program() -> None:
    program = torch.export.export(nn.Linear(3, 2), (torch.zeros(4, 3),))
    given = np.ones((4, 3), np.float32)
    assert import_model(program, (given,)).example_inputs["input"].sum() == 12
    with pytest.raises(ModelError, match=r"'input' is float32\[1, 3\], not float32\[4, 3\]"):
        import_model(program, {"input": given[:1]})
    with pytest.raises(ModelError, match="no input 'inputs'; did you mean 'input'"):
        import_model(program, {"inputs": given})
    with pytest.raises(ModelError, match="has 1 inputs"):
        import_model(program, (given, given))


class Returns(nn.Module):
    """Returns whatever `make` makes of the input."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor, *rest: torch.Tensor) -> Any:
        return self.make(x, *rest)


def one(x: torch.Tensor) -> Any:
    return x + 1


def pair(x: torch.Tensor) -> Any:
    return x + 1, x + 2


def single(x: torch.Tensor) -> Any:
    return [x + 1]


def nested(x: torch.Tensor) -> Any:
    return {"a": x + 1, "b": (x + 2, x + 3)}


def partly_none(x: torch.Tensor) -> Any:
    return x + 1, None, {"c": x}


def total(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> Any:
    return x + y + z


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (one, ["output"]),
        (pair, ["output_0", "output_1"]),
        (single, ["output_0"]),
        (nested, ["a", "b_0", "b_1"]),
        (partly_none, ["output_0", "output_2_c"]),
    ],
)
def test_output_names(make: Any, names: list[str]) -> None:
    assert import_model(Returns(make), (torch.ones(2),)).output_names == names


def test_inputs_without_names_in_forward() -> None:
    imported = import_model(Returns(total), tuple(torch.ones(2) for _ in range(3)))
    assert imported.input_names == ["x", "rest_0", "rest_1"]


class Flagged(nn.Module):
    def forward(self, x: torch.Tensor, double: bool) -> torch.Tensor:
        return x * 2 if double else x


def test_python_inputs_become_part_of_the_model() -> None:
    imported = import_model(Flagged(), {"x": np.ones(2, np.float32), "double": True})
    assert imported.input_names == ["x"]
    result = run_torch(imported.module, CompileContext(imported.weights), imported.example_inputs)
    assert result["output"].tolist() == [2, 2]


class Infinite(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, torch.tensor(float("-inf"))) + torch.zeros(0).sum()


def test_numbers_that_are_not_finite_arrive() -> None:
    imported = import_model(Infinite(), (torch.ones(2),))
    result = run_torch(imported.module, CompileContext(imported.weights), {"x": np.array([1, -1], np.float32)})
    assert result["output"].tolist() == [1, -np.inf]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight @ x + self.weight


def test_a_literal_used_twice_is_one_array() -> None:
    imported = import_model(Twice(), (torch.ones(3, 3),))
    literals = [operation for operation in imported.module.walk() if isinstance(operation, dialect.LiteralOp)]
    assert {literal.resource for literal in literals} == set(imported.weights.names())
    assert imported.weights.names() == ["weight"]


def test_modules_whose_names_are_no_identifiers() -> None:
    imported = import_model(nn.Sequential(nn.Linear(2, 2)), (torch.ones(1, 2),))
    assert imported.weights.names() == ["_0.bias", "_0.weight"]
    assert resource_name("a-b.0@x") == "a_b.0_x"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("encoder.layer.0", "encoder.layer.0"),
        ("L['self'].encoder.layer.0", "encoder.layer.0"),
        ("L__self___encoder", "encoder"),
        ("encoder.layer@1.act", "encoder.layer.act"),
        ("", "forward"),
    ],
)
def test_module_paths_lose_the_tracers_prefixes(path: str, expected: str) -> None:
    node = cast(Any, SimpleNamespace(meta={"nn_module_stack": {"key": (path, "Class")}}))
    assert node_module_path(node) == expected


def test_portable_paths() -> None:
    assert portable_path("/home/me/env/lib/python3/site-packages/transformers/a.py") == "transformers/a.py"
    assert portable_path("/home/me/model.py") == "model.py"
    assert portable_path("C:\\me\\model.py") == "model.py"


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model file at"):
        import_model(tmp_path / "none.pt2")
    (tmp_path / "text.pt2").write_text("hello")
    with pytest.raises(ModelError, match=r"not a \.pt2 file"):
        import_model(tmp_path / "text.pt2")
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    with pytest.raises(ModelError, match=r"arrays\.npz holds no exported program: save one with torch\.export\.save"):
        import_model(str(tmp_path / "arrays.npz"))
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt2")
    with pytest.raises(ModelError, match=r"weights\.pt2 holds no exported program: .* not with torch\.save"):
        import_model(tmp_path / "weights.pt2")
    with pytest.raises(ModelError, match="is a directory"):
        import_model(tmp_path)
    with pytest.raises(ModelError, match="not dict"):
        import_model(cast(Any, {}))


def test_a_truncated_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = torch.export.export(nn.Linear(3, 2), (torch.zeros(4, 3),))
    torch.export.save(program, tmp_path / "model.pt2")
    content = (tmp_path / "model.pt2").read_bytes()
    (tmp_path / "cut.pt2").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"not a \.pt2 file|cannot load|damaged"):
        import_model(tmp_path / "cut.pt2")
    assert capfd.readouterr().err == ""


def test_a_byte_that_changed(tmp_path: Path) -> None:
    program = torch.export.export(nn.Linear(3, 2), (torch.zeros(4, 3),))
    torch.export.save(program, tmp_path / "model.pt2")
    content = (tmp_path / "model.pt2").read_bytes()
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist() if member.file_size > 16}
    assert any("weight" in name for name in members)
    for name, data in members.items():
        damaged = bytearray(content)
        damaged[content.index(data) + len(data) // 2] ^= 1
        (tmp_path / "damaged.pt2").write_bytes(damaged)
        with pytest.raises(ModelError, match=rf"damaged\.pt2 is damaged: the checksum of {re.escape(name)}"):
            import_model(tmp_path / "damaged.pt2")


def test_a_hugging_face_program_without_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("m/models/model.json", json.dumps({"out_spec": '{"type": "transformers.outputs.Some"}'}))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"install transformers to load it \(transformers.outputs defines"):
        import_model(tmp_path / "m.pt2")


def test_dynamic_shapes_are_refused() -> None:
    batch = torch.export.Dim("batch", min=2, max=9)
    program = torch.export.export(nn.Linear(3, 2), (torch.zeros(4, 3),), dynamic_shapes=({0: batch},))
    with pytest.raises(ModelError, match=r"input 'input' has dynamic sizes \[.*, 3\].*without dynamic_shapes"):
        import_model(program)


class Counting(nn.Module):
    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return x + self.count


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.ones(2))

    def forward(self) -> torch.Tensor:
        return self.value + 1


class Masked(nn.Module):
    """nn.TransformerEncoder with a mask, which it looks at unless it is told whether it is causal."""

    def __init__(self, is_causal: bool | None) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 1, 4, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.is_causal = is_causal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(3, 3, dtype=torch.bool).triu(1)
        return self.encoder(x, mask=mask, is_causal=self.is_causal)


def test_a_mask_that_is_looked_at_comes_with_the_way_out() -> None:
    with pytest.raises(ModelError, match="tell them, with is_causal=True or False"):
        import_model(Masked(None), (torch.ones(1, 3, 4),))
    assert import_model(Masked(True), (torch.ones(1, 3, 4),)).output_names == ["output"]


class Prepared(nn.Module):
    """Weights that a first run divides, as RWKV's does, by a number for each layer."""

    def __init__(self, divisor: float) -> None:
        super().__init__()
        self.project = nn.Linear(4, 4)
        self.divisor = divisor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.project.weight.div_(self.divisor)
        return self.project(x)


def test_a_change_that_leaves_the_numbers_as_they_are_is_none() -> None:
    assert import_model(Prepared(1), (torch.ones(2, 4),)).output_names == ["output"]
    with pytest.raises(ModelError, match=r"changes project.weight when it runs.* by a run before the export"):
        import_model(Prepared(2), (torch.ones(2, 4),))


def test_models_that_cannot_be_exported(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match="changes count"):
        import_model(Counting(), (torch.ones(2),))
    with pytest.raises(ModelError, match="cannot export Branching: Could not guard on data-dependent"):
        import_model(Branching(), (torch.ones(2),))
    with pytest.warns(DeprecationWarning, match="jit.trace"):
        script = cast("nn.Module", torch.jit.trace(nn.ReLU(), torch.ones(2)))  # pyright: ignore[reportUnknownMemberType]
    with pytest.raises(ModelError, match="TopLevelTracedModule is TorchScript"):
        import_model(script, (torch.ones(2),))
    with pytest.raises(ModelError, match="the model has no inputs"):
        import_model(Constant(), ())
    with pytest.raises(ModelError, match="example inputs are needed"):
        import_model(nn.ReLU())
    with pytest.raises(ModelError, match="takes no 'inputs'; did you mean 'input'"):
        import_model(nn.ReLU(), {"inputs": np.ones(2)})
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input": np.ones((1, 3))}, "example input 'input' is float64, and only float32 is supported: convert it"),
        ([torch.ones(1, 3, dtype=torch.bfloat16)], "example input 0 is bfloat16, and only float32"),
        ((np.ones((1, 3), complex),), "example input 0 is complex128, and only float32"),
        ((np.array([["a"] * 3]),), "example input 0 cannot be read as a tensor"),
        ((torch.ones(0, 3),), r"input 'input' is empty, its sizes are \[0, 3\]"),
    ],
)
def test_example_inputs_that_no_model_takes(inputs: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_model(nn.Linear(3, 2), inputs)


class Returning(nn.Module):
    """Returns what a function makes of its input."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def test_outputs_that_are_nothing() -> None:
    with pytest.raises(ModelError, match="the model returns no tensor"):
        import_model(Returning(lambda x: 3), (torch.ones(1, 3),))  # pyright: ignore[reportUnknownLambdaType]
    with pytest.raises(ModelError, match=r"output 'output_1' is empty, its sizes are \[1, 0\]: leave it out"):
        import_model(Returning(lambda x: (x + x, (x + x)[:, :0])), (torch.ones(1, 3),))  # pyright: ignore[reportUnknownLambdaType]


@pytest.mark.parametrize("inputs", [torch.ones(1, 3), np.ones((1, 3)), "input", 3])
def test_example_inputs_are_named_or_listed(inputs: Any) -> None:
    with pytest.raises(TypeError, match=f"a mapping from input name .*, not {type(inputs).__name__}"):
        import_model(nn.Linear(3, 2), inputs)


class Prefixed(nn.Module):
    """A model with a part whose name begins like PyTorch's name for the model itself."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.self_attn(x)


def test_module_paths_are_those_of_the_model() -> None:
    module = import_model(Prefixed(), (torch.ones(2, 3),)).module
    assert "self_attn" in {module_path(operation) for operation in module.walk()}


def test_constants_of_one_shape_are_not_taken_for_each_other() -> None:
    class Steps(nn.Module):
        """Bools, of which torch-mlir makes copies that are soon gone, and a buffer with the name of such a copy."""

        constant_1: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("constant_1", torch.full((3, 4), 7.0))
            self.steps = [torch.arange(12).view(3, 4) == number for number in range(12)]

        def forward(self, x: torch.Tensor) -> Any:
            return tuple(x.masked_fill(~step, 7.0) for step in self.steps), self.constant_1 + x

    x = np.zeros((3, 4), np.float32)
    imported = import_model(Steps().eval(), {"x": x})
    outputs = run_torch(imported.module, CompileContext(imported.weights), {"x": x})
    *steps, named = outputs.values()
    assert [np.flatnonzero(array == 0).tolist() for array in steps] == [[number] for number in range(12)]
    assert np.all(named == 7.0)


@pytest.mark.parametrize("by_name", [True, False])
def test_a_tensor_that_is_the_example_of_two_inputs_is_two_inputs(by_name: bool) -> None:
    class Both(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + 2 * y

    x = torch.ones(1, 4)
    imported = import_model(Both(), {"x": x, "y": x} if by_name else (x, x))
    given = {"x": np.full((1, 4), 3.0, np.float32), "y": np.full((1, 4), 5.0, np.float32)}
    (found,) = run_torch(imported.module, CompileContext(imported.weights), given).values()
    assert found.tolist() == [[13.0] * 4]


def test_what_a_model_asserts_about_its_numbers_is_left_out() -> None:
    class Checked(nn.Module):
        def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            torch._check(lengths.max().item() <= 8)  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType] - PyTorch documents it
            return x * 2.0

    imported = import_model(Checked(), {"x": torch.ones(1, 4), "lengths": torch.tensor([4])})
    assert overloads(imported.module) == ["mul.Scalar"]
