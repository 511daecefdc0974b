"""`sta gui`: xDSL's window, in Textual's own driver."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from xdsl.interactive.app import InputApp

from sta.api.cli.command_line import main
from sta.api.dump.ir_dump import Dump
from sta.api.inspect.gui import application
from sta.passes.pipeline import pass_registry
from tests.api.conftest import files_of


def applied(app: InputApp, name: str) -> tuple[list[str], str]:
    """The passes that the window lists, and the module that it shows when one of them has been chosen."""

    async def choose() -> tuple[list[str], str]:
        async with app.run_test(size=(160, 60)) as pilot:
            nodes = {str(node.label): node for node in app.passes_tree.root.children}
            app.passes_tree.focus()
            app.passes_tree.move_cursor(nodes[name])
            await pilot.press("enter")
            await pilot.pause()
            return list(nodes), app.output_text_area.text

    return asyncio.run(choose())


@pytest.mark.parametrize(
    ("before", "name"),
    [
        ("import", "torch-canonicalize-views"),
        # Reads weights, and asks for the target.
        ("nm-sink-views", "nm-choose-encoding"),
    ],
)
def test_a_pass_is_applied_to_a_dump(before: str, name: str, dump: Dump, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(path for path in files_of(dump) if path.stem.partition("-")[2] == before)
    listed, shown = applied(application(path), name)
    assert pass_registry().keys() <= set(listed)
    assert main(["opt", str(path), "-p", name, "--no-print-debuginfo"]) == 0
    assert shown.rstrip() == capsys.readouterr().out.rstrip()


def test_a_module_of_no_dump_has_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "m.mlir"
    path.write_text("func.func @main(%x: tensor<4xsi8>) -> tensor<4xsi8> { func.return %x : tensor<4xsi8> }")
    _, shown = applied(application(path), "nm-sink-views")
    assert "func.return %x : tensor<4xsi8>" in shown
    _, shown = applied(application(None), "nm-sink-views")
    assert "arith.addi" in shown


def test_a_window_needs_a_terminal(dump: Dump, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gui", str(files_of(dump)[0])]) == 1
    assert "needs a terminal" in capsys.readouterr().err
    (tmp_path / "m.sta").write_bytes(b"\xff")
    assert main(["gui", str(tmp_path / "m.sta")]) == 1
    assert "m.sta is no text" in capsys.readouterr().err
    assert main(["gui", str(tmp_path / "missing.mlir")]) == 1
    assert "missing.mlir: No such file" in capsys.readouterr().err
