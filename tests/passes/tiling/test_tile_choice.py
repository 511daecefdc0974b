"""Choices of tilings, kept in the IR and its text."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser

from sta.dialect import nm
from sta.passes.tiling.tile_choice import recorded
from tests.support.nm_builder import NmBuilder
from tests.support.pipeline_check import apply


def test_choices_are_kept_with_the_function_and_survive_text() -> None:
    builder = NmBuilder(path="encoder.layer.0.dense")
    case = builder.case(builder.clamp(builder.linear(builder.bytes("x", (30, 20)), 40, "w"), nm.si8))
    apply(case.module, case.context, "nm-fuse-epilogues", "convert-nm-to-sta", "sta-allocate", "sta-synchronize")
    (layer,) = recorded(case.module)
    assert layer["path"] == "encoder.layer.0.dense"
    assert layer["kind"] == "linear"
    assert layer["tile"]["rows"] <= 30
    assert set(layer["tile"]) == {"rows", "columns", "depth", "order"}
    assert layer["bound"] in {"compute", "DMA", "vector", "buffers", "sequencer"}
    assert layer["cycles"] > 0
    assert set(layer["runner_up"]) == {"rows", "columns", "depth", "order", "cycles"}
    parsed = Parser(case.context, str(case.module)).parse_module()
    assert recorded(parsed) == [layer]


def test_a_module_that_was_not_lowered_has_none() -> None:
    assert recorded(ModuleOp([])) == []
