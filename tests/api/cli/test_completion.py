"""Completion in shells, asked for as bash does."""

from __future__ import annotations

import os
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
