"""The microcode of a module as text: what `sta opt -t sta-asm` prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.utils.target import Target

from sta.backend.assembler import print_code
from sta.backend.emit import emit_code
from sta.dialect.interpreters.any_level import level_of


@dataclass(frozen=True)
class StaAsmTarget(Target):
    """
    The code of an allocated module of the `sta` dialect as assembly text, the section `.code` of its container.

    Neither weights nor a target are needed.
    """

    name = "sta-asm"

    def emit(self, ctx: Context, module: ModuleOp, output: IO[str]) -> None:
        """
        Writes the text.

        Raises ValueError for a module that is not of the `sta` dialect or not allocated, and for an operation that no
        instruction can express.
        """
        level = level_of(module)
        if level != "sta":
            raise ValueError(f"-t {self.name} takes a module of the sta dialect, and this is one of {level}")
        code, places = emit_code(module)
        output.writelines(f"{line}\n" for line in print_code(code, places))
