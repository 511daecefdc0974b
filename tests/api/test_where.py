"""`sta where`: from any line of any level to the model, and forward to instructions and cycles."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import sta
from sta.api.cli.command_line import main
from sta.api.dump.ir_dump import Dump
from sta.api.inspect.place_lookup import find, locations
from sta.runtime import Program
from tests.api.conftest import files_of


@pytest.fixture(scope="module")
def program(dump: Dump) -> Program:
    return sta.load(dump.directory.parent / "m.sta")


def where(place: object, dump: Dump, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Output of the command for a place."""
    assert main(["where", str(dump.directory.parent / "m.sta"), str(place), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["modules"]


def test_every_line_of_every_level_leads_to_the_model(dump: Dump) -> None:
    for path in files_of(dump):
        text = path.read_text()
        for number, line in enumerate(text.splitlines(), 1):
            own = locations(line, text)
            # Arguments of the function, its end, and inputs are of no module.
            if line.startswith("    ") and own and "return" not in line:
                (origin,) = find(f"{path}:{number}", None)
                assert (origin.path, *origin.source) == tuple(part for part in own[-1] if part)


def test_modules_have_the_instructions_and_cycles_of_the_debug_map_and_the_profile(program: Program) -> None:
    origins = find("*", program)
    assert {origin.path for origin in origins} == {
        path for _, path, _ in program.container.debug["instructions"] if path
    }
    cycles = {row.module_path: row.cycles for row in program.profile().rows}
    assert all(origin.cycles == cycles[origin.path] for origin in origins)
    addresses = [
        n for origin in find("*", program) for first, last in origin.instructions for n in range(first, last + 1)
    ]
    assert len(addresses) == len(set(addresses))
    for origin in origins:
        for first, last in origin.instructions:
            for address in range(first, last + 1):
                assert find(f"@{address}", program) == [origin]


def test_a_line_leads_to_instructions_from_every_level(dump: Dump, capsys: pytest.CaptureFixture[str]) -> None:
    for path in files_of(dump):
        lines = path.read_text().splitlines()
        number = next(n for n, line in enumerate(lines, 1) if "%" in line and 'loc("layer.linear1"(' in line)
        (origin,) = where(f"{path}:{number}", dump, capsys)
        assert origin["path"] == "layer.linear1"
        assert origin["cycles"] > 0
        assert origin["source"] == ["conftest.py:" + origin["source"][0].split(":")[1]]
        assert where(origin["source"][0], dump, capsys)
        assert where("layer.linear1", dump, capsys) == [origin]
        assert where(f"@{origin['instructions'][0][0]}", dump, capsys) == [origin]


def test_a_loop_is_where_its_end_says(dump: Dump) -> None:
    path = dump.directory / "loop.mlir"
    path.write_text('  sta.loop %0 = 0 to 2 {\n    %1 loc("inner"("a.py":1:0))\n  } loc("outer"("b.py":2:0))\n')
    try:
        assert find(f"{path}:1", None)[0].path == "outer"
        assert find(f"{path}:2", None)[0].source == ("a.py:1",)
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("layer.linaer1", "no module path matches 'layer.linaer1'; did you mean 'layer.linear1'?"),
        ("40", "no module path matches '40': an instruction is named by @ and its address: @40"),
        ("@99999", "@99999: the program has "),
        ("model.py:1", "no operation of the program comes from this line"),
    ],
)
def test_a_place_that_is_none(place: str, message: str, program: Program) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        find(place, program)
    with pytest.raises(ValueError, match=re.escape(f"give the program as well, as in `sta where layer.sta '{place}'`")):
        find(place, None)
