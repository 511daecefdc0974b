"""
The words of instructions: the bit layout of the instruction table (``sta.spec.instructions``).

An instruction is one little-endian word. The opcode comes first, the fields follow from the least significant bit on,
in the order of the table; the bits left over are reserved and must be zero.
"""

from __future__ import annotations

from collections.abc import Iterable

from sta.spec.instructions.definition import OPCODE_BITS, WORD_BYTES, EncodingError
from sta.spec.instructions.instruction import Instruction
from sta.spec.instructions.table import INSTRUCTIONS

_BY_OPCODE = {definition.opcode: definition for definition in INSTRUCTIONS}


def encode(instruction: Instruction) -> bytes:
    """Returns the word of an instruction."""
    word = instruction.definition.opcode
    position = OPCODE_BITS
    for field, value in instruction:
        word |= ((value - field.bias) & ((1 << field.bits) - 1)) << position
        position += field.bits
    return word.to_bytes(WORD_BYTES, "little")


def decode(word: bytes, pc: int = 0) -> Instruction:
    """
    Returns the instruction in one word; ``pc``, its position in the program, is for the error message.

    Raises:
        EncodingError: unknown opcode, undefined field value, or a reserved bit that is not zero.
    """
    if len(word) != WORD_BYTES:
        raise EncodingError(f"instruction {pc}: {len(word)} bytes, expected {WORD_BYTES}")
    bits = int.from_bytes(word, "little")
    opcode = bits & ((1 << OPCODE_BITS) - 1)
    definition = _BY_OPCODE.get(opcode)
    if definition is None:
        raise EncodingError(f"instruction {pc}: unknown opcode {opcode}")
    bits >>= OPCODE_BITS
    values: list[int] = []
    for field in definition.fields:
        value = bits & ((1 << field.bits) - 1)
        bits >>= field.bits
        if field.kind == "signed" and value >> (field.bits - 1):
            value -= 1 << field.bits
        values.append(value + field.bias)
    if bits:
        raise EncodingError(f"instruction {pc}: {definition.name}: reserved bits are not zero")
    try:
        for field, value in zip(definition.fields, values, strict=True):
            field.check(value)
    except EncodingError as error:
        raise EncodingError(f"instruction {pc}: {definition.name}: {error}") from None
    return Instruction(definition, tuple(values))


def encode_program(instructions: Iterable[Instruction]) -> bytes:
    """Returns the code section's bytes for a sequence of instructions."""
    return b"".join(encode(instruction) for instruction in instructions)


def decode_program(code: bytes) -> list[Instruction]:
    """
    Returns the instructions in a code section's bytes.

    Raises:
        EncodingError: the length is not a multiple of a word's, or an instruction is malformed; names its pc.
    """
    if len(code) % WORD_BYTES:
        raise EncodingError(f"the code is {len(code)} bytes, not a multiple of {WORD_BYTES}")
    return [decode(code[start : start + WORD_BYTES], start // WORD_BYTES) for start in range(0, len(code), WORD_BYTES)]
