"""Modules that a check runs: those that a step changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from xdsl.dialects.builtin import FloatAttr, ModuleOp, f64

from sta.api.compiler import bit_check
from sta.api.compiler.bit_check import BitCheck, CheckError
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import import_model
from sta.passes.rewriting.torch_operations import TorchBuilder, operations_of
from sta.passes.step import Kind, Step

STEP = Step("torch-fold-constants", Kind.CLOSE)


class Scaled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3.0 * torch.relu(x)


def test_a_module_that_a_step_left_as_it_was_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[ModuleOp] = []

    def run(module: ModuleOp, *arguments: Any) -> Any:
        ran.append(module)
        return run_torch(module, *arguments)

    monkeypatch.setattr(bit_check, "run_torch", run)
    x = np.arange(8, dtype=np.float32) - 4
    imported = import_model(Scaled(), (torch.from_numpy(x),))  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    context, check = CompileContext(imported.weights), BitCheck({"x": x})
    for expected in (1, 1):
        check.compare(STEP, imported.module, context)
        assert len(ran) == expected
    assert [one.before for one in check.fidelity] == [float("inf")] * 2

    (relu,) = (one for one in operations_of(imported.module) if one.name == "torch.aten.relu")
    relu.attributes["note"] = FloatAttr(1.0, f64)
    check.compare(STEP, imported.module, context)
    assert len(ran) == 2

    (use,) = relu.results[0].uses
    use.operation.operands[1] = TorchBuilder(use.operation, imported.weights).number(4.0)
    with pytest.raises(CheckError, match="torch-fold-constants changed output 'output'"):
        check.compare(STEP, imported.module, context)
