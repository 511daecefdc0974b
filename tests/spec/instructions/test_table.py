"""The table holds the files of the folder, and each file's definitions agree."""

from pathlib import Path

import numpy as np
import pytest

import sta.spec.instructions
from sta.spec.instructions import table
from sta.spec.instructions.definition import (
    SEMAPHORE_COUNT,
    UNITS,
    WORD_BITS,
    EncodingError,
    Field,
    InstructionDefinition,
)
from sta.spec.instructions.instruction import Instruction
from sta.spec.instructions.table import DEFINITIONS, INSTRUCTIONS, definition_of
from sta.spec.vector import RowStatistics

FOLDER = Path(sta.spec.instructions.__path__[0])


def smallest(definition: InstructionDefinition) -> Instruction:
    """The instruction with the smallest value in each field that must be given, registers numbered."""
    given = {
        field.name: number if field.kind == "register" else field.minimum
        for number, field in enumerate(definition.fields, 1)
        if field.default is None
    }
    return Instruction.make(definition.name, **given)


def test_every_file_of_the_folder_defines_the_instruction_that_it_is_named_after() -> None:
    about_all = {"__init__", "access", "cycles", "definition", "instruction", "row_statistics", "table"}
    assert {path.stem for path in FOLDER.glob("*.py")} - about_all == set(DEFINITIONS)
    for name, definition in DEFINITIONS.items():
        module = __import__(f"sta.spec.instructions.{name}", fromlist=["DEFINITION"])
        assert module.DEFINITION is definition


def test_a_file_without_a_definition_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "forgotten.py").write_text('"""Nothing."""\n')
    monkeypatch.setattr(sta.spec.instructions, "__path__", [*sta.spec.instructions.__path__, str(tmp_path)])
    with pytest.raises(AttributeError, match="DEFINITION"):
        list(table._definitions())  # pyright: ignore[reportPrivateUsage] # the assembly itself is tested


def test_opcodes_are_different_and_give_the_order() -> None:
    opcodes = [definition.opcode for definition in INSTRUCTIONS]
    assert opcodes == sorted(set(opcodes))


@pytest.mark.parametrize("definition", INSTRUCTIONS, ids=lambda definition: definition.name)
class TestEveryInstruction:
    def test_it_fits_a_word_and_has_a_unit(self, definition: InstructionDefinition) -> None:
        assert definition.used_bits <= WORD_BITS
        assert definition.unit in {*UNITS, "any", "sequencer"}
        assert bool(definition.control) == definition.is_sequencer

    def test_defaults_are_stored_as_zero_so_that_fields_can_be_added(self, definition: InstructionDefinition) -> None:
        assert [field.name for field in definition.fields if field.default not in (None, field.bias)] == []

    def test_its_registers_are_those_of_its_accesses_and_its_scalars(self, definition: InstructionDefinition) -> None:
        registers = {field.name for field in definition.fields if field.kind == "register"}
        if definition.is_sequencer:
            assert {definition.sets_register} - {""} <= registers
            return
        named = set(definition.scalars)
        for instruction in everything(definition):
            for access in instruction.accesses():
                named |= {access.address, access.stride, access.rows_register} - {None}
        assert named == registers
        assert {definition.timed_register} - {""} <= registers

    def test_only_dma_touches_dram(self, definition: InstructionDefinition) -> None:
        spaces = {access.space for instruction in everything(definition) for access in instruction.accesses()}
        assert ("dram" in spaces) == (definition.unit in ("ld", "st"))


def everything(definition: InstructionDefinition) -> list[Instruction]:
    """Instructions with each flag set and each choice taken, one at a time, as far as they go together."""
    plain = smallest(definition)
    variants = [plain]
    for position, (field, _) in enumerate(plain):
        for value in range(1, field.maximum + 1) if field.kind in ("choice", "flag") else ():
            values = [*plain.values[:position], value, *plain.values[position + 1 :]]
            variants.append(Instruction(definition, tuple(values)))
    if definition.name == "mm":
        # A packed block needs a pattern that goes with its encoding.
        variants = [one for one in variants if one["encoding"] == 0]
    return variants


def test_a_product_on_arrays_alone() -> None:
    random = np.random.default_rng(5)
    a, b = (random.integers(-128, 128, shape, np.int8) for shape in ((3, 8), (5, 8)))
    registers = {"acc": 1, "a": 2, "b": 3}
    product = Instruction.make("mm", **registers, rows=3, columns=5, depth=8, b_space="spad", accumulate=1)
    acc = np.full((3, 5), 7, np.int32)
    definition_of("mm").semantics(product)({"acc": acc, "a": a, "b": b}, {}, RowStatistics(3))
    assert np.array_equal(acc, a.astype(np.int64) @ b.T + 7)


def test_the_causal_test_reads_its_offsets_as_numbers() -> None:
    fields = {"scores": 1, "destination": 2, "sums": 3, "parameters": 4, "rows": 2, "keys": 3, "causal": 1}
    softmax = definition_of("softmax").semantics(Instruction.make("softmax", **fields))
    operands = {
        "scores": np.zeros((2, 3), np.int32),
        "destination": np.zeros((2, 3), np.uint8),
        "sums": np.zeros((1, 2), np.int32),
        "parameters": np.frombuffer((1 << 30).to_bytes(4, "little") + (30).to_bytes(12, "little"), np.uint8)[None],
    }
    softmax(operands, {"row_offset": 1, "key_offset": 0}, RowStatistics(1))
    assert (operands["destination"] != 0).tolist() == [[True, True, False], [True, True, True]]


def test_a_look_up_outside_its_table_is_refused() -> None:
    gather = definition_of("gather")
    fields = {"table": 1, "indices": 2, "destination": 3, "limit": 4, "rows": 2, "row_bytes": 4}
    execute = gather.semantics(Instruction.make("gather", **fields))
    operands = {
        "table": np.arange(12, dtype=np.uint8).reshape(3, 4),
        "indices": np.array([[2, 3]], np.int32),
        "destination": np.zeros((2, 4), np.uint8),
    }
    with pytest.raises(ValueError, match=r"index 3 at position 1 is outside 0\.\.2"):
        execute(operands, {}, RowStatistics(1))
    assert not operands["destination"].any()


def test_a_misspelt_mnemonic_gets_a_suggestion() -> None:
    with pytest.raises(EncodingError, match="did you mean 'softmax'"):
        definition_of("sofmax")


def test_wait_and_post_have_a_bit_for_every_semaphore() -> None:
    masks: list[Field] = [field for field in definition_of("mm").fields if field.kind == "mask"]
    assert [field.bits for field in masks] == [SEMAPHORE_COUNT, SEMAPHORE_COUNT]
