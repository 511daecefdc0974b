"""The instruction table: the files of this folder, by opcode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules

import sta.spec.instructions
from sta.spec.instructions.definition import EncodingError, InstructionDefinition
from sta.spec.suggestion import suggestion

_ABOUT_ALL = ("access", "definition", "instruction", "row_statistics", "table")
"""The files that are not about one instruction."""


def _definitions() -> Iterator[InstructionDefinition]:
    for module in iter_modules(sta.spec.instructions.__path__):
        if module.name not in _ABOUT_ALL:
            yield import_module(f"sta.spec.instructions.{module.name}").DEFINITION


INSTRUCTIONS = tuple(sorted(_definitions(), key=lambda definition: definition.opcode))
"""The instruction table."""

DEFINITIONS: Mapping[str, InstructionDefinition] = {definition.name: definition for definition in INSTRUCTIONS}
"""The instruction table by mnemonic."""


def definition_of(name: str) -> InstructionDefinition:
    """Return the definition of a mnemonic; raise EncodingError with a suggestion if there is none."""
    if name not in DEFINITIONS:
        raise EncodingError(f"unknown instruction '{name}'{suggestion(name, DEFINITIONS)}")
    return DEFINITIONS[name]
