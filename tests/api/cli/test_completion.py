"""Completion in shells, asked for as bash does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sta.api.cli.command_table import COMMANDS
from sta.api.cli.completion import SHELLS, script


def completions(line: str, folder: Path) -> set[str]:
    """Completions of the end of a command line, by the protocol of argcomplete."""
    out = folder / "completions"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(out), "_ARGCOMPLETE_IFS": "\n"}
    asked |= {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    done = subprocess.run([sys.executable, "-m", "sta"], env={**os.environ, **asked}, cwd=folder, check=False)
    assert done.returncode == 0
    return set(out.read_text(encoding="utf-8").split("\n"))


def test_commands_are_completed(tmp_path: Path) -> None:
    assert completions("sta ", tmp_path) >= set(COMMANDS)
    assert completions("sta obj", tmp_path) == {"objdump"}


def test_options_and_choices_of_a_command_are_completed(tmp_path: Path) -> None:
    assert completions("sta compile --calib", tmp_path) == {"--calibration"}
    assert completions("sta completion b", tmp_path) == {"bash"}
    assert "--quiet" in completions("sta run --q", tmp_path)


def test_files_are_completed(tmp_path: Path) -> None:
    (tmp_path / "layer.sta").touch()
    assert completions("sta run la", tmp_path) == {"layer.sta"}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_the_command(shell: str) -> None:
    assert "sta" in script(shell).split()


def test_only_the_script_of_zsh_is_marked_as_one() -> None:
    scripts = {shell: script(shell) for shell in SHELLS}
    assert [shell for shell, text in scripts.items() if text.startswith("#compdef")] == ["zsh"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_accepts_its_script() -> None:
    done = subprocess.run(["bash", "-c", f"{script('bash')}\ncomplete -p sta"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
