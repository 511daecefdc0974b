"""Errors of a program."""

from __future__ import annotations

from sta.backend.container import Container


class ProgramError(ValueError):
    """
    A program breaks a rule of the machine.

    The message names the instruction and its module path; ``pc`` is the instruction, None if no single one is wrong.
    """

    def __init__(self, message: str, pc: int | None = None) -> None:
        super().__init__(message)
        self.pc = pc


def at(container: Container, pc: int) -> str:
    """Returns ``instruction 12 (mm, encoder.layer.0.attention.self.query)``: a place in a program."""
    parts = [container.code[pc].name] if pc < len(container.code) else []
    path = container.module_path(pc)
    return f"instruction {pc} ({', '.join([*parts, path] if path else parts)})"


def error_at(container: Container, pc: int, message: str) -> ProgramError:
    """Returns the error of an instruction; its message begins with the place."""
    return ProgramError(f"{at(container, pc)}: {message}", pc)
