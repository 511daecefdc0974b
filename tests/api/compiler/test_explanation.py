"""Output of `--explain`: a tiling for every layer with products, and a memory map without collisions."""

from __future__ import annotations

import json
from typing import Any

import pytest

import sta
from sta.api.cli.command_line import main
from tests.api.conftest import Files


def explained(files: Files, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Compiles the small model and returns what is printed."""
    capsys.readouterr()
    output = str(files.folder / "explained.sta")
    arguments = ["compile", str(files.model), "-o", output, "--calibration", str(files.calibration), "--explain"]
    assert main([*arguments, *options]) == 0
    return capsys.readouterr().out


def test_every_layer_with_products_is_there(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = json.loads(explained(files, capsys, "--json"))["explanation"]
    program = sta.load(files.folder / "explained.sta")
    with_products = {row.module_path for row in program.profile().rows if row.working}
    assert {layer["path"] for layer in found["layers"]} == with_products
    cycles = {row.module_path: row.cycles for row in program.profile().rows}
    for layer in found["layers"]:
        assert layer["run_cycles"] == cycles[layer["path"]]
        assert layer["cycles"] > 0
        assert layer["chip_bytes"] > 0
        assert layer["tile"]["rows"] <= 10
    # The three projections, the attention and the output of a multi-head attention are one module of PyTorch.
    sharing = {layer["path"]: layer["module_layers"] for layer in found["layers"]}
    assert sharing == {"layer.self_attn": 5, "layer.linear1": 1, "layer.linear2": 1}
    kinds = [layer["kind"] for layer in found["layers"]]
    assert kinds.count("linear") == len(kinds) - 1
    assert kinds.count("attention") == 1


def test_buffers_in_use_at_the_same_time_do_not_overlap(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    memory: dict[str, Any] = json.loads(explained(files, capsys, "--json"))["explanation"]["memory"]
    program = sta.load(files.folder / "explained.sta")
    buffers: list[dict[str, Any]] = memory["buffers"]
    assert {buffer["space"] for buffer in buffers} >= {"spad", "wbuf", "acc"}
    for place, buffer in enumerate(buffers):
        assert buffer["name"]
        assert 0 <= buffer["first"] <= buffer["last"] < len(program.container.code)
        assert buffer["offset"] + buffer["bytes"] <= memory["bytes"][buffer["space"]]
        for other in buffers[:place]:
            apart = buffer["last"] < other["first"] or other["last"] < buffer["first"]
            below, above = sorted((buffer, other), key=lambda one: one["offset"])
            free = below["offset"] + below["bytes"] <= above["offset"]
            assert buffer["space"] != other["space"] or apart or free, (buffer, other)


def test_the_table_names_layers_tiles_and_bounds(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    text = explained(files, capsys)
    assert "layer.self_attn" in text
    assert "layer.linear1" in text
    assert "runner-up" in text
    assert "columns" in text
    assert "compute" in text or "buffers" in text
    # What the run charges to a module with five layers stands there once, and layers that are alike are one row.
    rows = [line for line in text.splitlines() if "layer.self_attn" in line]
    assert len(rows) == len(set(rows)) < 5
    assert "layer.self_attn (3 layers alike)" in text
    assert text.count("″") == len(rows) - 1
