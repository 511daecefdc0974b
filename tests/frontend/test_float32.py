"""Models in half and double precision: the same program as that of the model in float32, with a note."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.float32 import in_float32
from sta.frontend.model import import_model


class Converting(nn.Module):
    """Conversions as models write them: up before a norm and back, of a constant, and by another tensor's dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.last = nn.Linear(8, 8, bias=False)
        self.last.weight = self.first.weight
        self.register_buffer("shift", torch.arange(8.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = nn.functional.layer_norm(self.first(x).to(torch.float32), (8,))
        least = torch.full((), torch.finfo(x.dtype).min, dtype=x.dtype)
        kept = torch.maximum(self.norm(wide.type_as(x)), least)
        return self.last(kept) + self.shift.double().to(x.dtype)


def model() -> Converting:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    return Converting().eval()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", ["module", "program", "file"])
def test_a_model_of_another_precision_is_that_in_float32(kind: torch.dtype, form: str, tmp_path: Path) -> None:
    converted = model().to(kind)
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(1)).to(kind)
    given: Any = converted
    if form != "module":
        given = torch.export.export(converted, (x,))
    if form == "file":
        torch.export.save(given, tmp_path / "m.pt2")
        given = tmp_path / "m.pt2"
    name = str(kind).removeprefix("torch.")
    with pytest.warns(UserWarning, match=rf"the model is in {name}: its weights and inputs are converted to float32"):
        imported = import_model(given, (x,))
    inputs = {"x": x.float().numpy()}
    assert imported.input_types["x"].dtype == np.float32
    assert imported.example_inputs["x"].dtype == np.float32
    (output,) = run_torch(imported.module, CompileContext(imported.weights), inputs).values()
    assert imported.original is not None
    (original,) = imported.original.run(inputs).values()
    # The weights are those that the model has, rounded to its precision; nothing else is.
    whole = copy.deepcopy(converted).float()
    expected = whole(x.float()).detach().numpy()
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(original, expected, rtol=1e-4, atol=1e-5)
    assert {parameter.dtype for parameter in converted.parameters()} == {kind}


def test_a_program_in_float32_is_left_alone() -> None:
    program = torch.export.export(nn.Linear(3, 2), (torch.ones(1, 3),))
    assert in_float32(program) is program


def test_weights_with_two_names_stay_one() -> None:
    program = torch.export.export(model().half(), (torch.ones(1, 8, dtype=torch.float16),))
    with pytest.warns(UserWarning, match="float16"):
        converted = in_float32(program)
    state = converted.state_dict
    assert state["first.weight"] is state["last.weight"]
    assert program.state_dict["first.weight"].dtype == torch.float16


def test_numbers_beyond_float32_become_its_largest() -> None:
    class Clamped(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.maximum(x, torch.full((1,), torch.finfo(torch.float64).min, dtype=torch.float64))

    x = torch.randn(1, 4, dtype=torch.float64)
    with pytest.warns(UserWarning, match="float64"):
        imported = import_model(torch.export.export(Clamped(), (x,)), (x,))
    inputs = {"x": x.float().numpy()}
    (output,) = run_torch(imported.module, CompileContext(imported.weights), inputs).values()
    np.testing.assert_array_equal(output, inputs["x"])
