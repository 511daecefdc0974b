"""
The instruction table: the one place that says which instructions exist and how their bits are laid out.

An instruction is one 128-bit little-endian word. Bits 0-5 hold the opcode; the fields follow from the least significant
bit on, in the order of the table; the bits left over are reserved and must be zero. Instructions of a unit share the
first three fields after the opcode: predicate, wait and post.

Encoder, decoder, assembler, validator, engines and the generated documentation (``docs/isa.md``) all read this table.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, SupportsIndex

WORD_BYTES = 16
WORD_BITS = 8 * WORD_BYTES
OPCODE_BITS = 6
REGISTER_COUNT = 64
REGISTER_BITS = 48
SEMAPHORE_COUNT = 16
MAXIMUM_LOOP_DEPTH = 8
UNITS: tuple[str, ...] = ("ld", "st", "mm", "sm", "vp")
"""The execution units, in the order in which they are served where they compete in one cycle."""

FieldKind = Literal["unsigned", "signed", "register", "choice", "flag", "mask"]
FieldValue = SupportsIndex | str | Iterable[int]


class EncodingError(ValueError):
    """An instruction has an unknown name or field, or a value that its bits cannot hold or that is not defined."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the known word closest to a misspelt one, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


@dataclass(frozen=True)
class Field:
    """
    One field of an instruction word.

    Kinds: ``unsigned`` and ``signed`` (two's complement) integers, ``register`` (the number of an address register),
    ``choice`` (an index into ``choices``), ``flag`` (0 or 1) and ``mask`` (one bit a semaphore).
    """

    name: str
    bits: int
    kind: FieldKind
    description: str
    choices: tuple[str, ...] = ()
    bias: int = 0
    """Subtracted from the value before it is stored, so that 1..32 fits five bits."""
    lowest: int | None = None
    """The smallest value where it is not the smallest that the bits can hold."""
    default: int | None = None
    """The value when the field is left out; None: the field must be given."""
    supported: int | None = None
    """Values above this one are reserved for later versions: they encode, but no program may use them yet."""

    @property
    def minimum(self) -> int:
        """The smallest value the field may take."""
        if self.lowest is not None:
            return self.lowest
        return -(1 << (self.bits - 1)) if self.kind == "signed" else self.bias

    @property
    def maximum(self) -> int:
        """The largest value the field may take."""
        if self.kind == "choice":
            return len(self.choices) - 1
        if self.kind == "signed":
            return (1 << (self.bits - 1)) - 1
        return (1 << self.bits) - 1 + self.bias

    def check(self, value: int) -> None:
        """Raises EncodingError unless ``value`` is one the field may take."""
        if self.minimum <= value <= self.maximum:
            return
        if self.kind == "choice":
            legal = self.choices[self.minimum :]
            raise EncodingError(f"field '{self.name}' is {value}, which is not defined; defined: {', '.join(legal)}")
        raise EncodingError(f"field '{self.name}' is {value}, outside {self.minimum}..{self.maximum}")

    def number(self, value: FieldValue) -> int:
        """
        Returns the integer for a value given as integer, register or choice name, or semaphore numbers.

        Raises:
            EncodingError: the value has the wrong form or is out of range.
        """
        if isinstance(value, str):
            number = self._number_of_name(value)
        elif isinstance(value, Iterable):
            number = self._number_of_semaphores(value)
        else:
            number = operator.index(value)
        self.check(number)
        return number

    def _number_of_name(self, name: str) -> int:
        if self.kind == "register" and name[:1] == "r" and name[1:].isdecimal():
            return int(name[1:])
        if self.kind != "choice":
            raise EncodingError(f"field '{self.name}' is {name!r}, expected {self.expected}")
        if name not in self.choices:
            hint = suggestion(name, self.choices)
            raise EncodingError(f"field '{self.name}' is {name!r}, expected {self.expected}{hint}")
        return self.choices.index(name)

    def _number_of_semaphores(self, semaphores: Iterable[int]) -> int:
        if self.kind != "mask":
            raise EncodingError(f"field '{self.name}' is a list, expected {self.expected}")
        number = 0
        for semaphore in semaphores:
            if not 0 <= semaphore < self.bits:
                raise EncodingError(f"field '{self.name}' names semaphore {semaphore}, outside 0..{self.bits - 1}")
            number |= 1 << semaphore
        return number

    @property
    def expected(self) -> str:
        """What a value of this field looks like, for error messages and the documentation."""
        match self.kind:
            case "register":
                return f"a register r0..r{REGISTER_COUNT - 1}"
            case "choice":
                return "one of " + ", ".join(self.choices[self.minimum :])
            case "flag":
                return "0 or 1"
            case "mask":
                return f"semaphores out of 0..{self.bits - 1}"
            case _:
                return f"an integer {self.minimum}..{self.maximum}"


@dataclass(frozen=True)
class InstructionDefinition:
    """One row of the instruction table."""

    name: str
    opcode: int
    unit: str
    """The unit that executes it; ``sequencer`` for control flow, ``any`` where the field ``unit`` names it."""
    summary: str
    own_fields: tuple[Field, ...]

    @property
    def is_sequencer(self) -> bool:
        """Whether the sequencer executes the instruction itself, without a unit's queue."""
        return self.unit == "sequencer"

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """All fields after the opcode, from the least significant bit on."""
        return self.own_fields if self.is_sequencer else UNIT_FIELDS + self.own_fields

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Field name to position in ``fields``."""
        return {field.name: position for position, field in enumerate(self.fields)}

    @cached_property
    def used_bits(self) -> int:
        """Bits taken by the opcode and the fields; the rest of the word is reserved and zero."""
        return OPCODE_BITS + sum(field.bits for field in self.fields)

    def field(self, name: str) -> Field:
        """Returns the field of that name; raises EncodingError with a suggestion if there is none."""
        if name not in self.index:
            raise EncodingError(f"'{self.name}' has no field '{name}'{suggestion(name, self.index)}")
        return self.fields[self.index[name]]


def _register(name: str, description: str, *, optional: bool = False) -> Field:
    return Field(name, 6, "register", description, default=0 if optional else None)


def _size(name: str, bits: int, description: str) -> Field:
    return Field(name, bits, "unsigned", description, lowest=1)


def _flag(name: str, description: str) -> Field:
    return Field(name, 1, "flag", description, default=0)


UNIT_FIELDS = (
    Field("predicate", 4, "unsigned", "reserved for dynamic pruning; must be 0", default=0, supported=0),
    Field("wait", 16, "mask", "semaphores that must all be at least 1; each is decremented at the start", default=0),
    Field("post", 16, "mask", "semaphores that are incremented when the result is complete", default=0),
)
"""The fields every instruction of a unit begins with."""

_HALT = InstructionDefinition("halt", 1, "sequencer", "End of the program; the last instruction and nowhere else.", ())
_LEA = InstructionDefinition(
    "lea",
    2,
    "sequencer",
    "Address arithmetic: rd = rs + imm + c1*s1 + c2*s2.",
    (
        _register("rd", "register that is written; not r0 and not the counter of a loop around the instruction"),
        _register("rs", "register to start from", optional=True),
        Field("imm", 40, "signed", "constant to add", default=0),
        _register("c1", "counter of a loop around the instruction, or r0", optional=True),
        Field("s1", 24, "signed", "step of the first counter", default=0),
        _register("c2", "counter of a loop around the instruction, or r0", optional=True),
        Field("s2", 24, "signed", "step of the second counter", default=0),
    ),
)
_LOOP = InstructionDefinition(
    "loop",
    3,
    "sequencer",
    "Runs the instructions up to the matching `end` with counter = 0, 1, .., count-1. A count of 0 skips them.",
    (
        _register("counter", "register that counts; readable inside the body only"),
        Field("count", 24, "unsigned", "number of iterations"),
    ),
)
_END = InstructionDefinition("end", 4, "sequencer", "Closes the innermost loop.", ())
_FENCE = InstructionDefinition(
    "fence", 5, "sequencer", "The sequencer waits until all queues are empty and every result is complete.", ()
)
_SYNC = InstructionDefinition(
    "sync",
    8,
    "any",
    "No work and no cycles: waits, then posts once the earlier instructions of its unit are complete.",
    (Field("unit", 3, "choice", "the unit whose queue it passes through", choices=UNITS),),
)
_LD = InstructionDefinition(
    "ld",
    16,
    "ld",
    "Two-dimensional copy from DRAM to an SRAM space.",
    (
        _register("dram", "address of the first row in DRAM"),
        _register("sram", "address of the first row in the SRAM space"),
        _register("dram_stride", "bytes from one row to the next in DRAM", optional=True),
        _register("sram_stride", "bytes from one row to the next in the SRAM space", optional=True),
        _size("rows", 14, "number of rows"),
        _size("row_bytes", 20, "bytes in a row"),
        Field("space", 1, "choice", "the SRAM space", choices=("spad", "wbuf"), default=0),
    ),
)
_ST = InstructionDefinition(
    "st",
    17,
    "st",
    "Two-dimensional copy from spad to the writable part of DRAM.",
    (
        _register("dram", "address of the first row in DRAM"),
        _register("sram", "address of the first row in spad"),
        _register("dram_stride", "bytes from one row to the next in DRAM", optional=True),
        _register("sram_stride", "bytes from one row to the next in spad", optional=True),
        _size("rows", 14, "number of rows"),
        _size("row_bytes", 20, "bytes in a row"),
    ),
)
_GATHER = InstructionDefinition(
    "gather",
    18,
    "ld",
    "Copies the rows of a DRAM table that indices in spad name: row i = table[indices[i]]. An index outside 0..limit-1 "
    "stops the run.",
    (
        _register("table", "address of the table in DRAM; its rows lie next to each other"),
        _register("indices", "address of int32[rows] in spad"),
        _register("destination", "address of the first row in spad"),
        _register("destination_stride", "bytes from one row to the next in spad", optional=True),
        _register("limit", "number of rows in the table"),
        _size("rows", 14, "number of indices, and of rows copied"),
        _size("row_bytes", 20, "bytes in a row"),
    ),
)
_MM = InstructionDefinition(
    "mm",
    24,
    "mm",
    "Matrix product of a tile: acc[i, j] (int32) = sum over k of a[i, k] * b[j, k], or += with `accumulate`. A result "
    "outside int32 stops the run.",
    (
        _register("acc", "address of the int32 result in acc"),
        _register("a", "address of the activations in spad, one byte an element, a row's elements next to each other"),
        _register("b", "address of the second operand in the space that `b_space` names"),
        _register("acc_stride", "bytes from one row of the result to the next", optional=True),
        _register("a_stride", "bytes from one row of the activations to the next", optional=True),
        _register("b_stride", "bytes from one row of b to the next; r0 where b is a packed block", optional=True),
        _size("rows", 8, "rows of the result"),
        _size("columns", 8, "columns of the result"),
        _size("depth", 14, "length of the sum (k)"),
        Field("n", 5, "unsigned", "N of the N:M pattern of b", bias=1, default=1),
        Field("m", 5, "unsigned", "M of the N:M pattern of b; M = N is dense", bias=1, default=1),
        Field("encoding", 2, "choice", "how a packed b is stored", choices=("dense", "bitmap", "index"), default=0),
        Field(
            "b_space",
            1,
            "choice",
            "wbuf: b is a packed block of int8 weights; spad: b is a dense int8 matrix",
            choices=("wbuf", "spad"),
            default=0,
        ),
        _flag("b_transposed", "b in spad only: element (j, k) lies at b + k*b_stride + j, not at b + j*b_stride + k"),
        _flag("accumulate", "add to the accumulators instead of overwriting them"),
        Field("a_type", 2, "choice", "element type of the activations", choices=("s8", "u8"), default=0),
        _flag("scores", "the result is attention scores: it must not leave the chip"),
        _flag("a_wide", "the activations are one byte plane of 16-bit data: their elements lie two bytes apart"),
    ),
)
_SOFTMAX = InstructionDefinition(
    "softmax",
    32,
    "sm",
    "Exponentials of attention scores relative to the largest of their row, not yet normalized, and their sums.",
    (
        _register("scores", "address of the int32 scores in acc"),
        _register("destination", "address of the uint8 or uint16 exponentials in spad"),
        _register("sums", "address of int32 sums[rows] in spad; online of sums[rows], maxima[rows] and shifts[rows]"),
        _register("parameters", "address of the softmax parameter block in wbuf"),
        _register("mask", "address of the uint8 mask in spad; non-zero: the key is admissible", optional=True),
        _register("scores_stride", "bytes from one row of scores to the next", optional=True),
        _register("destination_stride", "bytes from one row of exponentials to the next", optional=True),
        _register("mask_stride", "bytes from one row of the mask to the next; 0: all rows share one", optional=True),
        _register("row_offset", "added to the row number in the causal test", optional=True),
        _register("key_offset", "added to the key number in the causal test", optional=True),
        _size("rows", 8, "number of rows (queries)"),
        Field("keys", 13, "unsigned", "number of columns (keys)", bias=1),
        _flag("has_mask", "read a mask"),
        _flag("causal", "key j is admissible only if j + key_offset <= i + row_offset"),
        Field("p_bits", 1, "choice", "width of the exponentials", choices=("8", "16"), default=0),
        Field(
            "mode",
            2,
            "choice",
            "`row`: all keys of a row; `online`: the next keys, `online_first`: the first keys of a row",
            choices=("row", "online", "online_first"),
            default=0,
        ),
    ),
)
_MAP = InstructionDefinition(
    "map",
    40,
    "vp",
    "Element by element: bias, requantization or normalization by the sums of a softmax, table, residual added or "
    "multiplied with, zero point, saturation.",
    (
        _register("source", "address of the source, in acc for `acc` and `acc_wide`, in spad otherwise"),
        _register("destination", "address of the result in spad"),
        _register("parameters", "address of the map parameter block in wbuf"),
        _register(
            "residual", "address in spad of the residual, or with `normalize` of int32 sums[rows]", optional=True
        ),
        _register("table", "address of the int16[513] table in wbuf", optional=True),
        _register("source_stride", "bytes from one row of the source to the next", optional=True),
        _register("destination_stride", "bytes from one row of the result to the next", optional=True),
        _register("residual_stride", "bytes from one row of the residual to the next", optional=True),
        _size("rows", 8, "number of rows"),
        _size("columns", 13, "number of columns"),
        Field(
            "source_type",
            3,
            "choice",
            "element type of the source; `acc_wide`: a row has `columns` high accumulators and then `columns` low ones",
            choices=("acc", "s32", "s16", "s8", "u8", "acc_wide"),
        ),
        Field("destination_type", 2, "choice", "element type of the result", choices=("s8", "u8", "s16", "s32")),
        Field(
            "residual_type",
            2,
            "choice",
            "element type of the residual",
            choices=("none", "s8", "s16", "s32"),
            default=0,
        ),
        _flag("has_table", "apply the table"),
        _flag("per_channel", "bias, multiplier and shift come one a column, not one for all"),
        _flag("normalize", "divide each row by its sum, as the drain of the product after a softmax does"),
        _flag("gather", "add each row of an s16 result to the unit's row statistics, from which a `norm` may start"),
        _flag("multiply", "multiply by the residual, instead of adding it"),
    ),
)
_NORM = InstructionDefinition(
    "norm",
    41,
    "vp",
    "LayerNorm or RMSNorm of int16 rows, to an int16 stream and an int8 copy of it.",
    (
        _register("source", "address of the int16 source in spad"),
        _register("destination", "address of the int16 result in spad", optional=True),
        _register("copy", "address of the int8 copy in spad", optional=True),
        _register("parameters", "address of the norm parameter block in wbuf"),
        _register("source_stride", "bytes from one row of the source to the next", optional=True),
        _register("destination_stride", "bytes from one row of the result to the next", optional=True),
        _register("copy_stride", "bytes from one row of the copy to the next", optional=True),
        _size("rows", 8, "number of rows"),
        _size("columns", 14, "number of columns"),
        Field("kind", 1, "choice", "which normalization", choices=("layer", "rms"), default=0),
        Field(
            "outputs",
            2,
            "choice",
            "what is written: bit 0 the int16 result, bit 1 the int8 copy",
            choices=("none", "destination", "copy", "both"),
            lowest=1,
        ),
        _flag("gathered", "take the rows' sums from the unit's row statistics, which saves a pass and clears them"),
    ),
)

_RESCALE = InstructionDefinition(
    "rescale",
    42,
    "vp",
    "Shifts each row of accumulators right, in place: what a row has summed up is brought to its new maximum. A shift "
    "outside 0..31 stops the run.",
    (
        _register("acc", "address of the int32 accumulators in acc"),
        _register("shifts", "address of int32[rows], the shift of each row, in spad"),
        _register("acc_stride", "bytes from one row of accumulators to the next", optional=True),
        _size("rows", 8, "number of rows"),
        _size("columns", 13, "number of columns"),
    ),
)

INSTRUCTIONS = (_HALT, _LEA, _LOOP, _END, _FENCE, _SYNC, _LD, _ST, _GATHER, _MM, _SOFTMAX, _MAP, _NORM, _RESCALE)
"""The instruction table."""

DEFINITIONS: Mapping[str, InstructionDefinition] = {definition.name: definition for definition in INSTRUCTIONS}
"""The instruction table by mnemonic."""

_BY_OPCODE = {definition.opcode: definition for definition in INSTRUCTIONS}


def definition_of(name: str) -> InstructionDefinition:
    """Returns the definition of a mnemonic; raises EncodingError with a suggestion if there is none."""
    if name not in DEFINITIONS:
        raise EncodingError(f"unknown instruction '{name}'{suggestion(name, DEFINITIONS)}")
    return DEFINITIONS[name]


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
        Returns the instruction ``name`` with the given fields; fields left out take their default.

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

    def semaphores(self, name: str) -> tuple[int, ...]:
        """Returns the semaphores of a mask field (``wait`` or ``post``), ascending."""
        mask = self[name]
        return tuple(bit for bit in range(SEMAPHORE_COUNT) if mask >> bit & 1)

    def encode(self) -> bytes:
        """Returns the 16 bytes of the instruction."""
        word = self.definition.opcode
        position = OPCODE_BITS
        for field, value in self:
            word |= ((value - field.bias) & ((1 << field.bits) - 1)) << position
            position += field.bits
        return word.to_bytes(WORD_BYTES, "little")


def _value(field: Field, given: Mapping[str, FieldValue]) -> int:
    if field.name in given:
        return field.number(given[field.name])
    if field.default is None:
        raise EncodingError(f"field '{field.name}' is missing, expected {field.expected}")
    return field.default


def decode(word: bytes, pc: int = 0) -> Instruction:
    """
    Returns the instruction in 16 bytes; ``pc``, its position in the program, is for the error message.

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
    return b"".join(instruction.encode() for instruction in instructions)


def decode_program(code: bytes) -> list[Instruction]:
    """
    Returns the instructions in a code section's bytes.

    Raises:
        EncodingError: the length is not a multiple of 16, or an instruction is malformed; the message names its pc.
    """
    if len(code) % WORD_BYTES:
        raise EncodingError(f"the code is {len(code)} bytes, not a multiple of {WORD_BYTES}")
    return [decode(code[start : start + WORD_BYTES], start // WORD_BYTES) for start in range(0, len(code), WORD_BYTES)]
