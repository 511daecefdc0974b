"""Commands that say what a file holds: info, objdump, targets, version, help, where an instruction runs."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sta
from sta.api.cli.command_line import COMMANDS, main
from sta.api.cli.tables import size
from sta.backend.assembler import disassemble
from sta.spec.target import load_target
from tests.api.conftest import TOKENS, VOCABULARY, Files


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """The output of a command."""

    def run(*arguments: object, status: int = 0) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == status
        output, errors = capsys.readouterr()
        return errors if status else output

    return run


def test_info_is_what_the_program_says(said: Any, files: Files) -> None:
    program = sta.load(files.program)
    facts = json.loads(said("info", files.program, "--json"))
    assert facts["inputs"] == [port.to_json() for port in program.inputs]
    assert facts["target"] == program.target.to_json()
    assert (facts["cycles"], facts["file_bytes"]) == (program.cycles, files.program.stat().st_size)
    assert (facts["options"], facts["versions"]) == (program.container.options, program.container.versions)
    table = said("info", files.program)
    assert re.search(rf"input +ids +1 x {TOKENS} +int64", table)
    assert f"{program.cycles:,}" in table
    assert re.search("calibration +4 samples", table)
    on_chip = sum(facts["memory"][space] for space in ("spad", "wbuf", "acc"))
    assert f"{size(on_chip)} of {size(program.target.sram_bytes)}\n" in table


def test_where_shows_instructions_and_cycles_at_any_width(
    said: Any, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = sta.load(files.program)
    cycles = {row.module_path: row.cycles for row in program.profile().rows}
    for width in (60, 80):
        monkeypatch.setenv("COLUMNS", str(width))
        text = said("where", files.program, "layer.linear1")
        assert max(map(len, text.splitlines())) <= width
        assert re.search(rf"^ layer\.linear1 .*@\d+.* {cycles['layer.linear1']:,}( |$)", text, re.MULTILINE)


def test_info_of_a_program_that_does_not_say_how_it_was_made(said: Any, files: Files, tmp_path: Path) -> None:
    text = re.sub(r' "provenance": .*\n', "", disassemble(sta.load(files.program).container))
    (tmp_path / "m.s").write_text(text)
    said("asm", tmp_path / "m.s", "-o", tmp_path / "m.sta")
    assert "how it was made is not in the file" in said("info", tmp_path / "m.sta")


@pytest.mark.parametrize("bad", ['"x"', '{"options": {}}', '{"options": 1, "versions": {}}'])
def test_a_malformed_provenance_is_refused(said: Any, files: Files, tmp_path: Path, bad: str) -> None:
    text = re.sub(r' "provenance": .*\n', f' "provenance": {bad},\n', disassemble(sta.load(files.program).container))
    (tmp_path / "m.s").write_text(text)
    assert "'provenance' has no objects" in said("asm", tmp_path / "m.s", "-o", tmp_path / "m.sta", status=1)


def test_objdump_of_sections_and_modules(said: Any, files: Files) -> None:
    container = sta.load(files.program).container
    whole = said("objdump", files.program)
    assert said("objdump", files.program, "--section", "signature") in whole
    code = said("objdump", files.program, "--code")
    # Without --module every instruction is there, in order, under its module.
    assert [int(line.split()[0]) for line in code.splitlines() if line and "<" not in line and line != ".code"] == list(
        range(len(container.code))
    )
    part = json.loads(said("objdump", files.program, "--module", "layer.linear1", "--json"))["code"]
    expected = [pc for pc, path in enumerate(container.module_paths()) if path == "layer.linear1"]
    assert [entry["address"] for entry in part] == expected
    listed = said("objdump", files.program, "--module", "layer.linear1")
    assert set(re.findall("<(.*)>", listed)) == {"layer.linear1"}
    # A path stands for all that is in the module.
    paths = set(re.findall("<(.*)>", said("objdump", files.program, "--module", "layer")))
    assert paths == {path for path in container.module_paths() if path.startswith("layer.")}
    assert "did you mean 'code'?" in said("objdump", files.program, "--section", "cod", status=2)
    assert "did you mean 'layer.linear1'?" in said("objdump", files.program, "--module", "layer.linaer1", status=1)


def test_where_takes_prefixes_and_single_instructions(said: Any, files: Files) -> None:
    program = sta.load(files.program)
    found = json.loads(said("where", files.program, "layer", "--json"))["modules"]
    assert len(found) > 3
    assert all(module["path"].startswith("layer.") for module in found)
    schedule = program.schedule
    for address, instruction in enumerate(program.container.code):
        answer = json.loads(said("where", files.program, f"@{address}", "--json"))["instruction"]
        rows = np.flatnonzero(schedule.pc == address)
        if rows.size:
            assert (answer["start"], answer["end"]) == (schedule.start[rows[0]], schedule.end[rows[0]])
            assert answer["executions"] == rows.size
        if instruction.name == "mm":
            operands = {operand["name"]: operand for operand in answer["operands"]}
            assert operands["a"]["direction"] == "reads"
            assert operands["acc"]["space"] == "acc"
            assert all(operand["buffer"] for operand in operands.values())
    assert re.search(r"from cycle [\d,]+ to [\d,]+", said("where", files.program, f"@{schedule.pc[0]}"))


def test_targets_shows_and_checks_one(said: Any, tmp_path: Path) -> None:
    assert json.loads(said("targets", "sta-base", "--json")) == load_target("sta-base").to_json()
    values = load_target("sta-base").to_json() | {"name": "mine", "array_rows": 8}
    path = tmp_path / "t.yaml"
    path.write_text("\n".join(f"{key}: {value}" for key, value in values.items()))
    assert re.search(r" mine\n.*\n array_rows +8\n", said("targets", path))
    path.write_text(path.read_text() + "\narray_row: 1")
    assert "did you mean 'array_rows'?" in said("targets", path, status=1)


def test_version_and_help(said: Any) -> None:
    versions = json.loads(said("version", "--json"))
    assert {"sta-toolchain", "torch", "Python", "container", "native engine"} <= versions.keys()
    assert all(name in said("help") for name in COMMANDS)
    for name in COMMANDS:
        assert said("help", name) == said(name, "--help")
    assert "did you mean 'compile'?" in said("help", "complie", status=2)


def test_the_help_of_opt_lists_our_passes_first(said: Any) -> None:
    text = said("opt", "--help")
    ours, options, others = (text.index(part) for part in ("  nm-sink-views  ", "options:", "canonicalize,"))
    assert ours < options < others
    assert re.search(r"  torch-prune +Keeps the N largest", text)
    assert max(map(len, text.splitlines())) <= 80


def test_a_sample_of_many_runs(said: Any, files: Files, tmp_path: Path) -> None:
    batch = np.random.default_rng(3).integers(0, VOCABULARY, (3, 1, TOKENS))
    np.savez(tmp_path / "many.npz", ids=batch)
    for number in (1, 3):
        shown = said(
            "debug", files.program, "--inputs", tmp_path / "many.npz", "--sample", number, "--command", "print ids"
        )
        assert str(batch[number - 1][0][0]) in shown
    command = ["debug", files.program, "--inputs", tmp_path / "many.npz", "--command", "list"]
    assert "holds the inputs of 3 runs: choose one with --sample 1 to 3" in said(*command, status=1)
    assert "there is no run 4, they are 1 to 3" in said(*command, "--sample", 4, status=1)
    assert "there is no run 0" in said(*command, "--sample", 0, status=1)
    said("report", files.program, "--inputs", tmp_path / "many.npz", "--sample", 2, "-o", tmp_path / "r.html")
