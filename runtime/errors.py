"""What can be wrong with a program."""

from __future__ import annotations

import re

from sta.backend.container import Container


class ProgramError(ValueError):
    """A program breaks a rule of the machine; the message names the instruction and its module path."""


def at(container: Container, pc: int) -> str:
    """Returns ``instruction 12 (mm, encoder.layer.0.attention.self.query)``: where in a program something happens."""
    parts = [container.code[pc].name] if pc < len(container.code) else []
    path = container.module_path(pc)
    return f"instruction {pc} ({', '.join([*parts, path] if path else parts)})"


def instruction_named_by(error: ValueError) -> int | None:
    """Returns the number of the first instruction whose place is in an error's message; None if there is none."""
    found = re.search(r"\binstruction (\d+) \(", str(error))
    return None if found is None else int(found[1])
