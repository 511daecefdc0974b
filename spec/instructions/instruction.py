"""One instruction: its definition and the values of its fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sta.spec.instructions.access import Access
from sta.spec.instructions.definition import (
    SEMAPHORE_COUNT,
    EncodingError,
    Field,
    FieldValue,
    InstructionDefinition,
)
from sta.spec.instructions.table import definition_of


@dataclass(frozen=True, slots=True)
class Instruction:
    """
    One instruction: its definition and the values of its fields, in the order of ``definition.fields``.

    Build one with ``Instruction.make``, which checks; read a field with ``instruction["rows"]``.
    """

    definition: InstructionDefinition
    values: tuple[int, ...]

    @staticmethod
    def make(name: str, /, **fields: FieldValue) -> Instruction:
        """
        Returns the instruction ``name`` with the given fields; omitted fields get their default.

        A register is given as number or ``"r5"``, a choice as index or name, wait and post as bit mask or as the
        semaphores' numbers.

        Raises:
            EncodingError: unknown instruction or field, a field without default left out, a value out of range.
        """
        definition = definition_of(name)
        for given in fields:
            definition.field(given)
        try:
            values = tuple(_value(field, fields) for field in definition.fields)
        except EncodingError as error:
            raise EncodingError(f"{name}: {error}") from None
        return Instruction(definition, values)

    @property
    def name(self) -> str:
        """The mnemonic."""
        return self.definition.name

    @property
    def unit(self) -> str:
        """The unit that executes the instruction, or ``sequencer``."""
        return self.choice("unit") if self.definition.unit == "any" else self.definition.unit

    def __getitem__(self, name: str) -> int:
        """Returns the value of a field; raises EncodingError if the instruction has no such field."""
        definition = self.definition
        position = definition.index.get(name)
        if position is None:
            definition.field(name)
            raise AssertionError("unreachable: the line above raises")
        return self.values[position]

    def __iter__(self) -> Iterator[tuple[Field, int]]:
        """Iterates over the fields and their values."""
        return zip(self.definition.fields, self.values, strict=True)

    def choice(self, name: str) -> str:
        """Returns the name of the value of a choice field."""
        return self.definition.field(name).choices[self[name]]

    def accesses(self) -> tuple[Access, ...]:
        """
        Returns the operands that the instruction reads and writes.

        Raises:
            ValueError: the fields contradict each other: the pattern of a product is none, or does not go with its
                encoding.
        """
        return tuple(self.definition.accesses(self))

    def semaphores(self, name: str) -> tuple[int, ...]:
        """Returns the semaphores of a mask field (``wait`` or ``post``), ascending."""
        mask = self[name]
        return tuple(bit for bit in range(SEMAPHORE_COUNT) if mask >> bit & 1)


def _value(field: Field, given: Mapping[str, FieldValue]) -> int:
    if field.name in given:
        return field.number(given[field.name])
    if field.default is None:
        raise EncodingError(f"field '{field.name}' is missing, expected {field.expected}")
    return field.default
