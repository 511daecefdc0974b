"""Reports of `sta run`: the race check, the profile, the trace."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sta
from sta.api.cli.command_line import main
from sta.backend.container import read_container, write_container
from sta.spec.instructions.instruction import Instruction

from .conftest import Files


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the command write into a folder of its own."""
    monkeypatch.chdir(tmp_path)


def run(files: Files, *options: str, program: Path | None = None) -> int:
    """Runs a program with options; returns the exit code."""
    return main(["run", str(program or files.program), "--inputs", str(files.inputs), "-o", "out.npz", *options])


def in_json(files: Files, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    """Returns what a run with options prints as JSON."""
    assert run(files, "--json", *options) == 0
    return json.loads(capsys.readouterr().out)


def test_without_options_there_are_no_reports(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_json(files, capsys).keys().isdisjoint({"races", "profile", "trace"})


def test_a_program_without_races(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files, "--check-races") == 0
    check = sta.load(files.program).check_races()
    assert (
        f"no races: {check.instructions:,} instructions, {check.accesses:,} tiles compared" in capsys.readouterr().out
    )
    assert in_json(files, capsys, "--check-races")["races"] == check.to_json()


def test_a_program_with_a_race(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    container = read_container(files.program)
    # Every semaphore that loads post to has a post too many: what waits for a load may start before it.
    masks = {(i.unit, i["post"]) for i in container.code if i.name == "ld" and i["post"]}
    container.code[:0] = [Instruction.make("sync", unit=unit, post=post) for unit, post in sorted(masks)]
    container.debug["instructions"] = [[pc + len(masks), *rest] for pc, *rest in container.debug["instructions"]]
    write_container(container, "racy.sta")
    assert run(files, program=Path("racy.sta")) == 0
    Path("out.npz").unlink()
    assert run(files, "--check-races", program=Path("racy.sta")) == 1
    message = capsys.readouterr().err
    assert message.startswith("sta: error: race: no semaphore or fence orders conflicting accesses\n")
    reads = r"^  instruction \d+ \(mm, layer\.self_attn\) of unit mm, .* may read wbuf bytes 0\.\.255 before "
    assert re.search(
        reads + r"instruction \d+ \(ld, layer\.self_attn\) of unit ld, .* has written them$", message, re.M
    )
    assert not Path("out.npz").exists()


def test_a_profile(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files, "--profile") == 0
    output = capsys.readouterr().out
    profile = sta.load(files.program).profile()
    for row in profile.rows:
        assert re.search(rf"^\s*{re.escape(row.module_path or '-')}\s+{row.cycles:,}\s", output, re.MULTILINE)
    assert re.search(rf"^\s*all\s+{profile.cycles:,}\s+100\.0 %", output, re.MULTILINE)
    assert re.search(r"^\s*attention\s+0 B\s+0\.0 %", output, re.MULTILINE)
    assert in_json(files, capsys, "--profile")["profile"] == json.loads(json.dumps(profile.to_json()))


def test_a_profile_of_groups(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    rows = in_json(files, capsys, "--profile-depth", "1")["profile"]["rows"]
    assert {row["module"] for row in rows} == {"", "embedding", "layer"}
    assert run(files, "--profile-depth=-1") == 2
    assert "argument --profile-depth: -1 is negative" in capsys.readouterr().err
    assert run(files, "--profile-depth", "all") == 2


def test_a_trace(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files, "--trace", "t.json") == 0
    program = sta.load(files.program)
    count = program.write_trace("expected.json")
    assert Path("t.json").read_bytes() == Path("expected.json").read_bytes()
    assert f"trace: t.json, {count:,} instructions" in capsys.readouterr().out
    assert in_json(files, capsys, "--trace", "t.json.gz")["trace"] == {"instructions": count}


def test_a_trace_that_cannot_be_written_is_refused_before_the_run(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(files, "--trace", "missing/t.json") == 1
    assert "there is no directory missing" in capsys.readouterr().err
    assert run(files, "--trace", "out.npz") == 2
    assert "--output and --trace name the same file" in capsys.readouterr().err
    assert not Path("out.npz").exists()


def run_with_little_space(arguments: str, kibibytes: int) -> subprocess.CompletedProcess[str]:
    """Runs a program where no file can get larger."""
    command = f"ulimit -f {kibibytes}; {sys.executable} -m sta run {arguments}"
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)


def test_without_the_trace_there_are_no_outputs(files: Files) -> None:
    done = run_with_little_space(f"{files.program} --inputs {files.inputs} -o out.npz --trace t.json", 8)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("sta: error: t.json: File too large\n")
    assert list(Path().iterdir()) == []


def test_without_the_outputs_there_is_no_trace(files: Files) -> None:
    np.savez("in.npz", ids=np.repeat(np.load(files.inputs)["ids"][None], 20, axis=0))
    done = run_with_little_space(f"{files.program} --inputs in.npz -o out.npz --trace t.json.gz", 8)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("sta: error: out.npz: File too large\n")
    assert [path.name for path in Path().iterdir()] == ["in.npz"]


def test_without_the_outputs_there_is_no_folder_for_them(files: Files) -> None:
    Path("in").mkdir()
    shutil.copy(files.inputs, "in/a.npz")
    assert run_with_little_space(f"{files.program} --inputs in -o out", 0).returncode == 1
    assert [path.name for path in Path().iterdir()] == ["in"]
