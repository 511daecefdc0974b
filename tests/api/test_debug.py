"""`sta debug`: breakpoints, steps and values of a compiled layer."""

import dataclasses
import itertools
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import sta
from sta.api.cli.command_line import main
from sta.api.inspect.debug_commands import Debugger
from sta.api.inspect.debug_session import Session
from sta.runtime import Program
from sta.runtime.program import POISON
from sta.runtime.values.model_values import Value
from sta.spec.instructions.instruction import Instruction


class Files(NamedTuple):
    """A program and the inputs of a run."""

    program: Path
    inputs: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Returns a compiled encoder layer, and inputs."""
    folder = tmp_path_factory.mktemp("debug")
    torch.manual_seed(1)  # pyright: ignore[reportUnknownMemberType]
    layer = nn.TransformerEncoderLayer(64, 2, 96, 0.0, batch_first=True).eval()
    source = torch.randn(1, 20, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sta.compile(layer, {"src": source}, target="sta-small").save(folder / "layer.sta")
    np.savez(folder / "in.npz", src=source.numpy())
    return Files(folder / "layer.sta", folder / "in.npz")


def debug(files: Files, *commands: str) -> int:
    options = [part for command in commands for part in ("--command", command)]
    return main(["debug", str(files.program), "--inputs", str(files.inputs), *options])


def transcript(capsys: pytest.CaptureFixture[str], files: Files, *commands: str) -> list[str]:
    assert debug(files, *commands) == 0
    return capsys.readouterr().out.splitlines()


def places(lines: list[str]) -> list[int]:
    """Returns the instructions that a transcript has been at."""
    return [int(match[1]) for line in lines if (match := re.match(r"=> +(\d+)", line))]


def test_break_at_a_module(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    lines = transcript(capsys, files, "break linear*", "continue", "continue", "delete 1", "continue")
    container = sta.load(files.program).container
    stops = places(lines)
    assert [container.module_path(pc) for pc in stops[:2]] == ["linear1", "linear2"]
    assert "the program has ended" in lines


def test_break_at_an_instruction_and_a_unit(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    code = sta.load(files.program).container.code
    product = next(pc for pc, instruction in enumerate(code) if instruction.name == "mm")
    assert places(transcript(capsys, files, f"break {product}", "c")) == [product]
    (at,) = places(transcript(capsys, files, "break unit sm", "c"))
    assert code[at].name == "softmax"


def test_break_at_a_write(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    lines = transcript(capsys, files, "break write acc 0 4", "c", "step")
    code = sta.load(files.program).container.code
    assert code[places(lines)[0]].name == "mm"
    assert any(line.strip().startswith("wrote acc 0x0: ") for line in lines)


def test_a_watch_stops_after_the_change(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    lines = transcript(capsys, files, "break linear1", "c", "delete 1", "watch linear1", "c", "back")
    assert any(re.fullmatch(r"2: watch linear1: \d+ bytes have changed", line) for line in lines)
    container = sta.load(files.program).container
    assert container.code[places(lines)[-1]].name == "map"
    assert container.module_path(places(lines)[-1]) == "linear1"


def test_steps(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    container = sta.load(files.program).container
    stops = places(transcript(capsys, files, "where", "layer", "layer", "layer", "layer"))
    paths = [container.module_path(pc) for pc in stops]
    assert len(paths) == 5
    assert all(path != before for before, path in itertools.pairwise(paths))
    assert places(transcript(capsys, files, "layer 2", "layer 2")) == [stops[2], stops[4]]
    lines = transcript(capsys, files, "break self_attn", "c", "where", "tile 2", "reverse")
    assert places(lines)[0] == places(lines)[-1]


def test_print_is_what_the_model_computes(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    program = sta.load(files.program)
    result = program.run(dict(np.load(files.inputs)))
    lines = transcript(capsys, files, "print output[0, 3, :4]", "print src[0, 3, :4]")
    unwritten = "4 of 4 elements are not written, -- in their places"
    assert lines[0].endswith(f" (not complete before the end of the run; {unwritten})")
    assert lines[1] == "[ --  --  --  --]"
    assert not lines[2].endswith(")")
    lines = transcript(capsys, files, "goto 1000000", "print output[0, 3, :4]", "integers output[0, 3, :4]")
    assert not lines[-4].endswith(")")
    printed = [float(word) for word in lines[-3].strip("[]").split()]
    assert np.allclose(printed, result.outputs["output"][0, 3, :4], atol=1e-5)
    assert [int(word) for word in lines[-1].strip("[]").split()] == result.raw["output"][0, 3, :4].tolist()


def test_print_says_how_far_a_value_is(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    lines = transcript(capsys, files, "print linear1[0, 0, :2]", "goto 1000000", "print linear1[0, 0, :2]")
    titles = [line for line in lines if line.startswith("linear1: ")]
    assert titles[0].endswith("(not written yet; 2 of 2 elements are not written, -- in their places)")
    assert "written" not in titles[1]
    assert "scale" in titles[0]


def _starts_in_a_used_buffer(session: Session, value: Value) -> bool:
    """True if a value begins outside of loops, and another has been written where it comes."""
    session.go_to(0)
    session.run_until(lambda place: place.walk.step.pc >= value.first)
    return session.run.walk.step.depth == 0 and not session.undefined(value.read).any()


def test_what_another_value_left_in_the_buffer_is_no_number(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    program = sta.load(files.program)
    session = Session(program, dict(np.load(files.inputs)), POISON, lambda position: None)
    reused = 0
    for value in session.values:
        session.go_to(0)
        session.run_until(lambda place, first=value.first: place.walk.step.pc >= first)
        left = ~session.undefined(value.read)
        reused += bool(left.any())
        # Where a loop's iteration before has written the value itself, it is the value's.
        if session.run.walk.step.depth == 0:
            assert session.stale(value).all()
        session.run_until(lambda place, last=value.last: place.walk.step.pc > last)
        assert not session.stale(value).any()
    assert reused
    shown = next(value for value in session.values if _starts_in_a_used_buffer(session, value))
    name = Debugger(session).name_of(shown)
    lines = transcript(capsys, files, f"goto {session.run.walk.position}", f"integers {name}")
    elements = f"{shown.read(session.run.memories).size:,}"
    assert any(f"{elements} of {elements} elements are not written, -- in their places" in line for line in lines)
    text = " ".join(lines)
    assert set(re.findall(r"--|-?\d+", text[text.rindex("[[") :])) == {"--"}


def test_what_is_not_written_is_no_number(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    """Shows a value while a part of it is written: numbers where they are final, signs elsewhere."""

    def shown(*commands: str) -> list[str]:
        text = " ".join(transcript(capsys, files, *commands, "integers self_attn#1[3, 0, :]"))
        return re.findall(r"--|-?\d+", text[text.rindex("[") :])

    final = shown("watch self_attn#2", "continue")
    assert len(final) == 64
    assert "--" not in final
    partly = shown("watch self_attn#1", "continue")
    assert 0 < partly.count("--") < len(partly)
    assert all(one in ("--", two) for one, two in zip(partly, final, strict=True))
    (dump,) = (line for line in transcript(capsys, files, "memory acc 0 4") if line.startswith("acc "))
    assert dump.split() == ["acc", "0x000000", "--", "--", "--", "--"]


def test_a_stop_says_when_it_is_and_what_the_other_units_do(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    schedule = sta.load(files.program).schedule
    lines = transcript(capsys, files, "break unit mm", "continue", "break unit sm", "continue")
    times = [line.strip() for line in lines if "meanwhile" in line]
    assert len(times) == 2
    for line, pc in zip(times, places(lines), strict=True):
        row = int(np.flatnonzero(schedule.pc == pc)[0])
        start, end = int(schedule.start[row]), int(schedule.end[row])
        assert line.startswith(f"cycles {start:,} to {end:,} of {schedule.cycles:,}; meanwhile ")
        busy = dict(re.findall(r"(\w\w) @(\d+) \S+ to", line))
        for number, unit in enumerate(("ld", "st", "mm", "sm", "vp")):
            rows = np.flatnonzero((schedule.unit == number) & (schedule.start <= start) & (schedule.end > start))
            expected: list[int] = [] if number == schedule.unit[row] else schedule.pc[rows].tolist()
            assert ([int(busy[unit])] if unit in busy else []) == expected


def test_registers_and_memory(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    lines = transcript(capsys, files, "break unit mm", "c", "registers", "memory spad 0x10 20", "list 1", "values")
    assert any(re.fullmatch(r"acc = 0x\w+ \([\d,]+\)", line) for line in lines)
    assert any(re.fullmatch(r"spad 0x000020  (\w\w ?){4}", line) for line in lines)
    assert any(line.split()[:2] == ["linear2", "nm.linear"] for line in lines)


def test_buffers_of_tiles_can_be_printed(capsys: pytest.CaptureFixture[str], files: Files) -> None:
    lines = transcript(capsys, files, "break unit vp", "c", "buffers *:acc*", "print self_attn:acc0[0, :3]")
    names = [line.split()[0] for line in lines if ":acc" in line.split("[")[0] and " acc 0x" in line]
    assert "self_attn:acc0" in names
    title = next(line for line in lines if line.startswith("self_attn:acc0: "))
    assert title.startswith("self_attn:acc0: acc, ")
    assert "int32" in title
    assert len(lines[-1].strip("[]").split()) == 3


WRONG = {
    "break nothing": "no module's path matches 'nothing'",
    "break unit xx": "unknown unit 'xx'; known: ld, st, mm, sm, vp",
    "break 99999": "there is no instruction 99999",
    "break write spad 0x99999999": "spad has bytes",
    "watch": "say what",
    "print linear": "no value is called 'linear'; did you mean 'linear",
    "print self_attn": "'self_attn' has several values: self_attn#1",
    "print linear1[a]": "'a' is no index",
    "print linear1[0, 0, 0, 0]": "is outside of",
    "print linear1#2": "there is no #2",
    "memory spda 0": "unknown memory 'spda'; did you mean 'spad'?",
    "contineu": "unknown command 'contineu'; did you mean 'continue'?",
    "step x": "the number of steps is 'x', expected a number",
    "buffers nothing": "no buffer's name matches 'nothing'; `buffers` lists all",
    "delete 7": "there is no breakpoint 7",
}


@pytest.mark.parametrize(("command", "message"), WRONG.items(), ids=WRONG)
def test_wrong_commands(capsys: pytest.CaptureFixture[str], files: Files, command: str, message: str) -> None:
    assert debug(files, command) == 1
    assert message in capsys.readouterr().err


def test_an_input_that_is_missing(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", scr=np.zeros(3))
    assert debug(Files(files.program, tmp_path / "in.npz"), "where") == 1
    assert "unexpected input 'scr'; did you mean 'src'?" in capsys.readouterr().err


def damaged(program: Program, path: str) -> tuple[int, Program]:
    """Returns the program with one wrong constant in an instruction of a module, and the instruction."""
    container = program.container
    places = [pc for pc, one in enumerate(container.code) if one.name == "mm" and container.module_path(pc) == path]
    pc = places[len(places) // 2]
    fields = {field.name: value for field, value in container.code[pc]}
    code = list(container.code)
    code[pc] = Instruction.make("mm", **{**fields, "depth": fields["depth"] - 1})
    return pc, Program(dataclasses.replace(container, code=code))


def test_a_wrong_constant_is_found_by_module_path(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    pc, program = damaged(sta.load(files.program), "linear2")
    program.save(tmp_path / "wrong.sta")
    script = ("break linear2", "continue", "step 60")
    good = transcript(capsys, files, *script)
    wrong = transcript(capsys, Files(tmp_path / "wrong.sta", files.inputs), *script)
    position = next(index for index, (a, b) in enumerate(zip(good, wrong, strict=True)) if a != b)
    # Both transcripts name the instruction that differs, before anything it has written.
    assert places(wrong[: position + 1])[-1] == pc
    assert places(good[: position + 1])[-1] == pc


def test_commands_from_standard_input(files: Files) -> None:
    command = [
        sys.executable,
        "-m",
        "sta",
        "debug",
        str(files.program),
        "--inputs",
        str(files.inputs),
    ]
    done = subprocess.run(
        command, input="# a script\n\nbreak linear1\nc\nquit\nnonsense\n", text=True, capture_output=True
    )
    assert done.returncode == 0
    assert "linear1" in done.stdout


def read_until(terminal: int, text: str, seconds: float = 60) -> str:
    """Returns what a terminal shows until a text is there, without control sequences."""
    seen, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536)
            # The line editor asks where the cursor is, as it would ask a terminal.
            if b"\x1b[6n" in seen:
                os.write(terminal, b"\x1b[1;1R")
                seen = seen.replace(b"\x1b[6n", b"")
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode(errors="replace"))
        if text in plain:
            return plain
    raise AssertionError(f"{text!r} is not shown: {seen!r}")


def test_at_a_terminal(files: Files, tmp_path: Path) -> None:
    terminal, other = pty.openpty()
    termios.tcsetwinsize(other, (40, 120))
    command = [
        sys.executable,
        "-m",
        "sta",
        "debug",
        str(files.program),
        "--inputs",
        str(files.inputs),
    ]
    environment = {**os.environ, "TERM": "xterm", "HOME": str(tmp_path)}
    process = subprocess.Popen(command, stdin=other, stdout=other, stderr=other, env=environment, close_fds=True)
    os.close(other)
    try:
        read_until(terminal, "(sta)")
        os.write(terminal, b"break linear2\r")
        read_until(terminal, "1: break linear2")
        os.write(terminal, b"conti\t")
        read_until(terminal, "continue")
        os.write(terminal, b"\r")
        read_until(terminal, "=>")
        os.write(terminal, b"nonsense\r")
        read_until(terminal, "unknown command 'nonsense'")
        os.write(terminal, b"quit\r")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    os.close(terminal)
    assert "+continue" in (tmp_path / ".sta_debug_history").read_text()


def test_a_module_of_a_program_without_debug_map(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    container = sta.load(files.program).container
    debug_map: dict[str, Any] = {"instructions": [], "buffers": [], "constants": []}
    Program(dataclasses.replace(container, debug=debug_map, ir="")).save(tmp_path / "bare.sta")
    assert debug(files._replace(program=tmp_path / "bare.sta"), "break linear1") == 1
    assert "no module's path matches 'linear1'; the program has no debug map of modules" in capsys.readouterr().err
