"""The report of unsupported operations: all of them, with places, and nothing else."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.model_errors import UnsupportedOperation, UnsupportedOperationsError
from sta.frontend.model import import_model
from sta.passes.torch.check_supported import TorchCheckSupportedPass
from tests.support.torch_modules import FLOAT_PASSES, encoder


def problems(model: nn.Module, *inputs: torch.Tensor) -> list[tuple[str, str, str]]:
    """Names, module path and note of everything that is reported."""
    imported = import_model(model.eval(), inputs)
    context = CompileContext(imported.weights)
    for rewrite in FLOAT_PASSES:
        rewrite(imported.module, context.weights)
    try:
        TorchCheckSupportedPass().apply(context, imported.module)
    except UnsupportedOperationsError as error:
        return [(one.name, one.module_path.partition(" (")[0], one.note) for one in error.operations]
    return []


class Calls(nn.Module):
    def __init__(self, how: Any) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.how = how

    def forward(self, *values: torch.Tensor) -> Any:
        return self.how(*values)


X = torch.ones(2, 3, 4)


@pytest.mark.parametrize("norm_first", [True, False])
def test_an_encoder_is_supported(norm_first: bool) -> None:
    assert problems(encoder(norm_first), torch.randn(2, 5, 24)) == []


class Many(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Linear(4, 1)
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("steps", torch.arange(4.0).exp())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv1d(x, self.kernel(x)[0, None]).exp().lgamma() * self.scale.exp() + self.steps  # type: ignore[operator]


def test_everything_is_reported_at_once_but_what_is_constant() -> None:
    found = problems(Many(), X)
    assert [(name, path) for name, path, _ in found] == [
        ("aten.convolution", "forward"),
        ("aten.lgamma", "forward"),
    ]
    assert "must be constants" in found[0][2]


@torch.library.custom_op("sta_tests::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@twice.register_fake  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
def _twice_shape(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def foreign(x: torch.Tensor) -> Any:
    return torch.relu(twice(x)).diff(dim=1)


def doubled(x: torch.Tensor) -> Any:
    return torch.add(x, x, alpha=2)


def integers(x: torch.Tensor) -> Any:
    return (x > 0).long()


def negative_eps(x: torch.Tensor) -> Any:
    return nn.functional.layer_norm(x, (4,), eps=-1e-5)


def divided_by_zero(x: torch.Tensor) -> Any:
    return x / 0


@pytest.mark.parametrize(
    ("how", "name", "note"),
    [
        (foreign, "sta_tests.twice", ""),
        (foreign, "aten.diff", ""),
        (doubled, "aten.add.Tensor", "only alpha = 1"),
        (integers, "func.return", "not a float tensor"),
        (negative_eps, "aten.layer_norm", "its eps must be a number that is not negative, not -1e-05"),
        (divided_by_zero, "aten.div.Scalar", ""),
    ],
)
def test_notes(how: Any, name: str, note: str) -> None:
    found = problems(Calls(how), X)
    assert any(one == name and note in text for one, _, text in found), found


@pytest.mark.parametrize("name", ["add", "mul"])
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool])
def test_an_integer_input_is_no_operand(name: str, is_first: bool, dtype: torch.dtype) -> None:
    def how(x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        return getattr(torch, name)(*((n, x) if is_first else (x, n)))

    found = problems(Calls(how), X, torch.ones(2, 3, 4).to(dtype))
    assert [(one, "convert an integer input on the host" in note) for one, _, note in found] == [
        (f"aten.{name}.Tensor", True)
    ]


def test_an_index_without_axes() -> None:
    found = problems(nn.Embedding(9, 4), torch.tensor(3))
    assert [note for name, _, note in found if name == "aten.embedding"] == [
        "works on a tensor without axes: give it an axis of one element"
    ]


def test_computed_weights_and_indices() -> None:
    class Computed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(9, 4)

        def forward(self, x: torch.Tensor, ids: torch.Tensor) -> Any:
            return nn.functional.linear(x, x[0]), self.table(ids + ids)

    found = problems(Computed(), X, torch.from_numpy(np.array([[1, 2]])))  # pyright: ignore[reportUnknownMemberType]
    notes = {name: note for name, _, note in found}
    assert "must be constants" in notes["aten.linear"]
    assert "its indices are made with numbers" in notes["aten.embedding"]


def test_the_message_says_what_is_supported() -> None:
    problems = [
        UnsupportedOperation("aten.exp", f"layer.{index} (model.py:3)", "not here") for index in (0, 0, 1, 2, 3)
    ]
    error = UnsupportedOperationsError(problems, "linear and more")
    assert str(error).splitlines() == [
        "the model uses 5 operations that cannot be compiled:",
        "  aten.exp in layer.0 (model.py:3), layer.1 (model.py:3), layer.2 (model.py:3) and 1 more place: not here",
        "Supported are linear and more.",
    ]
