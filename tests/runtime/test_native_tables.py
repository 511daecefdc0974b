"""The native engine has the instructions of the table, and room for all values of their fields."""

from pathlib import Path

import pytest

pytest.importorskip("sta.runtime._native", reason="the native engine is not built")

from sta.runtime._native import LARGEST_ROW_BYTES, LARGEST_SIZE, SEMAPHORES, instruction_names
from sta.spec.instructions.definition import SEMAPHORE_COUNT, Field
from sta.spec.instructions.table import INSTRUCTIONS

OF_UNITS = [definition for definition in INSTRUCTIONS if not definition.is_sequencer]
SOURCES = Path(__file__).parents[2] / "runtime" / "native" / "instructions"
SIZES = ("rows", "columns", "depth", "keys")


def fields(*names: str) -> list[Field]:
    """Returns the fields of some names, of all instructions of units."""
    return [field for definition in OF_UNITS for field in definition.fields if field.name in names]


def test_the_engine_has_the_instructions_of_the_table() -> None:
    assert instruction_names() == sorted(definition.name for definition in OF_UNITS)


def test_each_instruction_is_one_file() -> None:
    registered = [path for path in SOURCES.glob("*.cpp") if "const Registration" in path.read_text(encoding="utf-8")]
    assert len(registered) == len(instruction_names())
    for path in registered:
        assert path.read_text(encoding="utf-8").startswith(f"// {path.stem}: ")


def test_the_engine_has_room_for_all_sizes_and_semaphores() -> None:
    assert max(field.maximum for field in fields(*SIZES)) <= LARGEST_SIZE
    assert max(field.maximum for field in fields("row_bytes")) <= LARGEST_ROW_BYTES
    assert SEMAPHORE_COUNT <= SEMAPHORES
