"""
Definition of an instruction, and the parts common to all instructions.

An instruction is one little-endian word. The opcode comes first, the fields follow from the least significant bit on in
the order of their definition; the bits left over are reserved and must be zero. Instructions of a unit share the first
three fields after the opcode: predicate, wait and post.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol, SupportsIndex, TypeAlias

from numpy.typing import NDArray

from sta.spec.instructions.access import Access
from sta.spec.pattern import Pattern
from sta.spec.suggestion import suggestion
from sta.spec.target import LARGEST_TILE, Target
from sta.spec.vector import RowStatistics

WORD_BYTES = 32
WORD_BITS = 8 * WORD_BYTES
OPCODE_BITS = 8
REGISTER_FIELD_BITS = 6
REGISTER_COUNT = 1 << REGISTER_FIELD_BITS
REGISTER_BITS = 48
SEMAPHORE_COUNT = 32
MAXIMUM_LOOP_DEPTH = 8
RESOURCES: Mapping[str, str] = {"ld": "dma", "st": "dma", "mm": "compute", "sm": "softmax", "vp": "vector"}
"""The part of the machine that each execution unit works with."""
UNITS: tuple[str, ...] = tuple(RESOURCES)
"""The execution units, in the order of service if they compete in one cycle."""

FieldKind = Literal["unsigned", "signed", "register", "choice", "flag", "mask"]
FieldValue = SupportsIndex | str | Iterable[int]
Array = NDArray[Any]


class EncodingError(ValueError):
    """An instruction has an unknown name or field, or a value that its bits cannot hold or that is not defined."""


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
    """The smallest value, if it is not the smallest that the bits can hold."""
    default: int | None = None
    """The value of an omitted field; None: the field is required."""
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

    @property
    def largest_power(self) -> int:
        """The largest power of two that the field may take: a size that divides others."""
        return 1 << (self.maximum.bit_length() - 1)

    def check(self, value: int) -> None:
        """Raises EncodingError unless the field accepts ``value``."""
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
        """Description of the field's values, for error messages and the documentation."""
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


def register(name: str, description: str, *, optional: bool = False) -> Field:
    """Returns a field that names an address register."""
    return Field(name, REGISTER_FIELD_BITS, "register", description, default=0 if optional else None)


def size(name: str, bits: int, description: str) -> Field:
    """Returns a field for a size, which is at least 1."""
    return Field(name, bits, "unsigned", description, lowest=1)


def tile_size(name: str, description: str) -> Field:
    """Returns a field for the rows or columns of a product's tile, which every target's tiles fit."""
    return size(name, LARGEST_TILE.bit_length(), description)


def flag(name: str, description: str) -> Field:
    """Returns a field of one bit that is 0 unless given."""
    return Field(name, 1, "flag", description, default=0)


UNIT_FIELDS = (
    Field("predicate", 8, "unsigned", "reserved for dynamic pruning; must be 0", default=0, supported=0),
    Field(
        "wait",
        SEMAPHORE_COUNT,
        "mask",
        "semaphores that must all be at least 1; each is decremented at the start",
        default=0,
    ),
    Field("post", SEMAPHORE_COUNT, "mask", "semaphores that are incremented when the result is complete", default=0),
)
"""The fields every instruction of a unit begins with."""


class Settings(Protocol):
    """The values of an instruction's fields."""

    def __getitem__(self, name: str, /) -> int:
        """Returns the value of a field."""
        ...

    def choice(self, name: str) -> str:
        """Returns the name of the value of a choice field."""
        ...


class Rule(Protocol):
    """A condition on the fields of one instruction; its docstring is the message when it is broken."""

    def __call__(self, settings: Settings, target: Target, /) -> bool:
        """Returns whether the condition holds."""
        ...


Operands: TypeAlias = Mapping[str, Array]
"""The accesses of one execution by name, as arrays ``[rows, columns]`` that share the machine's memory."""
Scalars: TypeAlias = Mapping[str, int]
"""The numbers in registers that hold no address, by field name."""
Execute: TypeAlias = Callable[[Operands, Scalars, RowStatistics], None]
"""One execution of an instruction: writes its results, and changes the row statistics of the vector unit."""


class Taint(NamedTuple):
    """Effect of an instruction on the marks of attention scores, beside passing them on from its sources."""

    sets: bool = False
    """True if its results are marked whatever it reads."""
    clears: bool = False
    """True if they are unmarked whatever it reads."""


class Products(NamedTuple):
    """The multiplications of one execution."""

    dense: int
    """Multiply-accumulates of the dense product of the same sizes."""
    pattern: Pattern
    """N:M of the weights: only N of each group of M are multiplied."""


def _no_accesses(_settings: Settings) -> Iterable[Access]:
    return ()


def _do_nothing(_settings: Settings) -> Execute:
    def execute(operands: Operands, scalars: Scalars, statistics: RowStatistics) -> None:
        pass

    return execute


def _no_cycles(_settings: Settings, _target: Target, _timed: int) -> int:
    return 0


def _no_latency(_target: Target) -> int:
    return 0


def _adds_no_statistics(_settings: Settings) -> bool:
    return False


def _passes_taint(_settings: Settings) -> Taint:
    return Taint()


@dataclass(frozen=True)
class InstructionDefinition:
    """The complete definition of an instruction."""

    name: str
    opcode: int
    unit: str
    """The unit that executes it; ``sequencer`` for control flow, ``any`` where the field ``unit`` names it."""
    summary: str
    own_fields: tuple[Field, ...] = ()
    details: str = ""
    """Text of the documentation after the summary."""
    control: Literal["", "address", "loop", "end", "fence", "halt"] = ""
    """Effect on the order of execution, for an instruction of the sequencer."""
    sets_register: str = ""
    """The field that names the register it writes, for an instruction of the sequencer."""
    scalars: tuple[str, ...] = ()
    """Register fields that hold a number and no address or stride of an access."""
    accesses: Callable[[Settings], Iterable[Access]] = _no_accesses
    """Operands read and written; raises ValueError if the fields contradict each other."""
    rules: tuple[Rule, ...] = ()
    """Rules of the validator for the fields."""
    semantics: Callable[[Settings], Execute] = _do_nothing
    """Returns, for given fields, the function that executes the instruction any number of times."""
    cycles: Callable[[Settings, Target, int], int] = _no_cycles
    """Cycles for which it keeps its unit busy; the last argument is the value of ``timed_register``."""
    timed_register: str = ""
    """The register field on whose value the cycles depend."""
    latency: Callable[[Target], int] = _no_latency
    """Cycles from the end of the work to the completion of the result."""
    taint: Callable[[Settings], Taint] = _passes_taint
    products: Callable[[Settings], Products] | None = None
    """Its multiplications, if it is a matrix product."""
    adds_statistics: Callable[[Settings], bool] = _adds_no_statistics
    """True if it adds its result to the row statistics."""

    @property
    def is_sequencer(self) -> bool:
        """True if the sequencer executes the instruction itself, without a unit's queue."""
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
        """Bits of the opcode and the fields; the rest of the word is reserved and zero."""
        return OPCODE_BITS + sum(field.bits for field in self.fields)

    def field(self, name: str) -> Field:
        """Returns the field of that name; raises EncodingError with a suggestion if there is none."""
        if name not in self.index:
            raise EncodingError(f"'{self.name}' has no field '{name}'{suggestion(name, self.index)}")
        return self.fields[self.index[name]]
