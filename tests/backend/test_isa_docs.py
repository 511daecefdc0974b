"""The generated documentation."""

import subprocess
import sys
from pathlib import Path

from sta.backend.isa_docs import document
from sta.spec.instructions.table import INSTRUCTIONS

COMMITTED = Path(__file__).parents[2] / "docs" / "isa.md"


def test_the_committed_documentation_is_current() -> None:
    command = [sys.executable, "-m", "sta.backend.isa_docs"]
    generated = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    assert COMMITTED.read_text(encoding="utf-8") == generated, "run: python -m sta.backend.isa_docs > docs/isa.md"


def test_every_instruction_and_field_is_documented() -> None:
    text = document()
    for definition in INSTRUCTIONS:
        section = text.split(f"### `{definition.name}`\n")[1].split("\n### ")[0]
        for field in definition.own_fields:
            assert f"| `{field.name}` |" in section
            assert field.description in section
