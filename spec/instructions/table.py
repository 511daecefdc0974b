"""The instruction table: the files of this folder, by opcode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules

import sta.spec.instructions
from sta.spec.instructions.definition import EncodingError, InstructionDefinition
from sta.spec.suggestion import suggestion

_ABOUT_ALL = ("access", "cycles", "definition", "instruction", "row_statistics", "table")
"""Files that define no instruction."""


def _definitions() -> Iterator[InstructionDefinition]:
    for module in iter_modules(sta.spec.instructions.__path__):
        if module.name not in _ABOUT_ALL:
            yield import_module(f"sta.spec.instructions.{module.name}").DEFINITION


INSTRUCTIONS = tuple(sorted(_definitions(), key=lambda definition: definition.opcode))
"""The instruction table."""

DEFINITIONS: Mapping[str, InstructionDefinition] = {definition.name: definition for definition in INSTRUCTIONS}
"""The instruction table by mnemonic."""

(PRODUCT_UNIT,) = {definition.unit for definition in INSTRUCTIONS if definition.products is not None}
"""The unit that multiplies matrices: the array."""


def definition_of(name: str) -> InstructionDefinition:
    """Returns the definition of a mnemonic; raises EncodingError with a suggestion if there is none."""
    if name not in DEFINITIONS:
        raise EncodingError(f"unknown instruction '{name}'{suggestion(name, DEFINITIONS)}")
    return DEFINITIONS[name]
