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


def instruction_named_by(error: ProgramError) -> int | None:
    """Returns the number of the instruction whose place an error's message begins with; None if with none."""
    found = re.match(r"instruction (\d+) \(", str(error))
    return None if found is None else int(found[1])
