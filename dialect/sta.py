"""
The `sta` dialect: the STA machine, one operation an instruction.

Memory is explicit: `dram`, and on the chip `spad` (activations, exponentials, masks), `wbuf` (packed weights, parameter
blocks and tables) and `acc` (int32 accumulators). A memref's memory space is its memory; only `sta.load`, `sta.store`
and `sta.gather` see `dram`. Loops over tiles stay loops (`sta.loop` is the machine's hardware loop), and a tile is a
`sta.view` whose offset is affine in the loop counters, as address registers require.

Before `sta-allocate` a buffer is only named; afterwards `sta.alloc` and `sta.constant` carry their byte offset. Before
`sta-synchronize` the operations mean program order; afterwards semaphores and fences enforce it in the machine's
queues.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, cast

from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    DenseArrayBase,
    DictionaryAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    MemRefType,
    NoneAttr,
    Signedness,
    StridedLayoutAttr,
    StringAttr,
    SymbolRefAttr,
    UnitAttr,
    i64,
)
from xdsl.ir import Attribute, Block, Dialect, Operation, ParametrizedAttribute, Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    BaseAttr,
    IRDLOperation,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.traits import (
    EffectInstance,
    MemoryEffect,
    MemoryEffectKind,
    NoTerminator,
    Pure,
    RecursiveMemoryEffect,
    Resource,
    get_effects,
)
from xdsl.utils.exceptions import VerifyException

from sta.dialect.ir.buffer_types import MEMORIES, AccAttr, DramAttr, MemRef, SpaceAttr, SpadAttr, WbufAttr
from sta.dialect.ir.format_directives import Affine, Buffer, CountedBody, OptionalTypes, SizesAndStrides, Word
from sta.dialect.ir.port_attribute import PortAttr
from sta.dialect.ir.verification import expect
from sta.dialect.nm import (
    ELEMENT_TYPES,
    INTEGER,
    INTEGERS,
    Integer,
    MeaningAttr,
    PatternAttr,
    expect_rotation,
    integer,
    integer_value,
    integer_values,
    integers,
    si8,
    si16,
    si32,
    ui8,
    ui16,
)
from sta.spec import affine
from sta.spec.instructions.access import Access
from sta.spec.instructions.definition import UNITS, InstructionDefinition
from sta.spec.instructions.table import definition_of
from sta.spec.nm_format import DENSE, packed_size
from sta.spec.packing import Packing
from sta.spec.softmax import STATE_ARRAYS
from sta.spec.vector import ADD, COMBINATIONS

STORED_TYPES: tuple[IntegerType, ...] = (*ELEMENT_TYPES, ui16)
"""Element types of a memref: the types of tensors, and 16-bit exponentials."""
VALUES = "sta.values"
"""Attribute of a buffer: the model's values in it."""
PACKING = "sta.packing"
"""Attribute of packed weights: their tiles and encoding."""
CONSTANT_CLASSES = ("weights", "parameters", "tables", "embedding", "other")


@irdl_attr_definition
class PackingAttr(ParametrizedAttribute):
    """
    Tiles and encoding of packed weights: `#sta.packing<768 by 16, depths [768], 2:4, bitmap>`, tiles of 16 of 768
    columns.
    """

    name = "sta.packing"

    columns: Integer
    tile_columns: Integer
    depths: DenseArrayBase[IntegerType]
    pattern: PatternAttr

    def __init__(self, packing: Packing):
        super().__init__(
            integer(packing.columns),
            integer(packing.tile_columns),
            integers(packing.depths),
            PatternAttr(packing.pattern, packing.encoding),
        )

    @property
    def packing(self) -> Packing:
        """The packing as the specification's type."""
        return Packing(
            self.columns.value.data,
            self.depths.get_values(),
            self.tile_columns.value.data,
            self.pattern.pattern,
            self.pattern.encoding.data,
        )

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            columns = parser.parse_integer(allow_boolean=False)
            parser.parse_keyword("by")
            tile_columns = parser.parse_integer(allow_boolean=False)
            parser.parse_punctuation(",")
            parser.parse_keyword("depths")
            depths = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
            parser.parse_punctuation(",")
            pattern = PatternAttr.parse_inner(parser)
        return (integer(columns), integer(tile_columns), integers(depths), pattern)

    def print_parameters(self, printer: Printer) -> None:
        columns, tile_columns = self.columns.value.data, self.tile_columns.value.data
        with printer.in_angle_brackets():
            printer.print_string(f"{columns} by {tile_columns}, depths {list(self.depths.get_values())}, ")
            self.pattern.print_inner(printer)

    def verify(self) -> None:
        sizes = (self.columns.value.data, self.tile_columns.value.data, *self.depths.get_values())
        expect(all(size > 0 for size in sizes), "columns and depths of packed weights are positive")


@irdl_attr_definition
class HeldAttr(ParametrizedAttribute):
    """
    A value of the model in a buffer: the path of its module, its operation, the layout of its elements in the buffer,
    and their meaning, if known.

    Each axis is the sizes and strides of its parts, outermost first; strides and offset are in elements.

    ```mlir
    #sta.held<"encoder.dense", nm.linear, [[1:6144], [8:768], [768:1]] at 0, <0.25, -3, "encoder.dense:linear">>
    ```
    """

    name = "sta.held"

    path: StringAttr
    operation: StringAttr
    axes: ArrayAttr[DenseArrayBase[IntegerType]]
    offset: Integer
    meaning: MeaningAttr | NoneAttr

    def __init__(
        self,
        path: str,
        operation: str,
        axes: Sequence[Sequence[tuple[int, int]]],
        offset: int,
        meaning: MeaningAttr | None = None,
    ):
        flat = [integers([part for factor in axis for part in factor]) for axis in axes]
        super().__init__(
            StringAttr(path), StringAttr(operation), ArrayAttr(flat), integer(offset), meaning or NoneAttr()
        )

    @property
    def factors(self) -> list[list[tuple[int, int]]]:
        """Sizes and strides of the parts of each axis."""
        flat = [axis.get_values() for axis in self.axes]
        return [list(zip(axis[::2], axis[1::2], strict=True)) for axis in flat]

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        def factor() -> tuple[int, int]:
            size = parser.parse_integer(allow_boolean=False)
            parser.parse_punctuation(":")
            return size, parser.parse_integer(allow_boolean=False)

        def axis() -> DenseArrayBase[IntegerType]:
            factors = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, factor)
            return integers([part for pair in factors for part in pair])

        with parser.in_angle_brackets():
            path = parser.parse_str_literal()
            parser.parse_punctuation(",")
            operation = parser.parse_identifier()
            parser.parse_punctuation(",")
            axes = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, axis)
            parser.parse_keyword("at")
            offset = parser.parse_integer(allow_boolean=False)
            known = parser.parse_optional_punctuation(",") is not None
            meaning = MeaningAttr.new(MeaningAttr.parse_parameters(parser)) if known else NoneAttr()
        return (StringAttr(path), StringAttr(operation), ArrayAttr(axes), integer(offset), meaning)

    def print_parameters(self, printer: Printer) -> None:
        axes = ", ".join(
            "[" + ", ".join(f"{size}:{stride}" for size, stride in factors) + "]" for factors in self.factors
        )
        with printer.in_angle_brackets():
            printer.print_string_literal(self.path.data)
            printer.print_string(f", {self.operation.data}, [{axes}] at {self.offset.value.data}")
            if isinstance(self.meaning, MeaningAttr):
                printer.print_string(", ")
                self.meaning.print_parameters(printer)

    def verify(self) -> None:
        expect(all(len(axis) % 2 == 0 for axis in self.axes), "an axis is pairs of size and stride")


@irdl_attr_definition
class TilingAttr(ParametrizedAttribute):
    """
    The tiling chosen for a layer, and the next best one: sizes of a tile and the order of loops by name, the
    bottleneck, estimated cycles, and bytes on the chip.

    ```mlir
    #sta.tiling<"dense", linear, {rows = 128, order = "columns"}, compute, 7652, 4096, {rows = 64, cycles = 7638}>
    ```
    """

    name = "sta.tiling"

    path: StringAttr
    kind: StringAttr
    tile: DictionaryAttr
    bound: StringAttr
    cycles: Integer
    chip_bytes: Integer
    runner_up: DictionaryAttr

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            path = parser.parse_str_literal()
            parser.parse_punctuation(",")
            kind = parser.parse_identifier()
            parser.parse_punctuation(",")
            tile = DictionaryAttr(parser.parse_optional_dictionary_attr_dict())
            parser.parse_punctuation(",")
            bound = parser.parse_identifier()
            parser.parse_punctuation(",")
            cycles = parser.parse_integer(allow_boolean=False)
            parser.parse_punctuation(",")
            chip_bytes = parser.parse_integer(allow_boolean=False)
            parser.parse_punctuation(",")
            runner_up = DictionaryAttr(parser.parse_optional_dictionary_attr_dict())
        words = (StringAttr(path), StringAttr(kind), tile, StringAttr(bound))
        return (*words, integer(cycles), integer(chip_bytes), runner_up)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string_literal(self.path.data)
            printer.print_string(f", {self.kind.data}, {_dictionary_text(self.tile)}, {self.bound.data}, ")
            printer.print_string(f"{self.cycles.value.data}, {self.chip_bytes.value.data}, ")
            printer.print_string(_dictionary_text(self.runner_up))

    def verify(self) -> None:
        for value in (*self.tile.data.values(), *self.runner_up.data.values()):
            expect(isinstance(value, StringAttr) or _is_integer(value), f"{value} is no size and no order of loops")


def _is_integer(value: Attribute) -> bool:
    return isinstance(value, IntegerAttr) and cast(Integer, value).type == i64


def _dictionary_text(attribute: DictionaryAttr) -> str:
    values = (
        f'{name} = "{value.data}"' if isinstance(value, StringAttr) else f"{name} = {integer_value(value)}"
        for name, value in attribute.data.items()
    )
    return "{" + ", ".join(values) + "}"


def memref(shape: Sequence[int], element: Attribute, space: str, strides: Sequence[int] | None = None) -> MemRef:
    """A memref type in a memory; with `strides` (in elements) a view at an offset that is not part of the type."""
    if strides is None:
        return MemRefType(element, shape, memory_space=MEMORIES[space])
    return MemRefType(element, shape, StridedLayoutAttr(list(strides), None), MEMORIES[space])


def memref_of(value: SSAValue) -> MemRef:
    """
    The memref type of a value.

    Raises VerifyException if the value is not a memref of a static shape in a memory of the machine.
    """
    type_ = value.type
    if not isinstance(type_, MemRefType):
        raise VerifyException(f"expected a memref, got {type_}")
    reference = cast(MemRef, type_)
    if not isinstance(reference.memory_space, SpaceAttr):
        raise VerifyException(f"{reference} names no memory (dram, spad, wbuf or acc)")
    if reference.element_type not in STORED_TYPES:
        raise VerifyException(f"element type {reference.element_type} is none of si8, ui8, si16, si32, ui16")
    if DYNAMIC_INDEX in reference.get_shape():
        raise VerifyException(f"{reference} has a dynamic shape")
    return reference


def space_of(value: SSAValue) -> str:
    """The memory of a memref value."""
    space = memref_of(value).memory_space
    assert isinstance(space, SpaceAttr)
    return space.space


def element_of(value: SSAValue) -> IntegerType:
    """The element type of a memref value."""
    return cast(IntegerType, memref_of(value).element_type)


def element_name(element: Attribute) -> str:
    """The instruction set's name of an element type: s8, u8, s16 or s32."""
    integer_type = cast(IntegerType, element)
    sign = "u" if integer_type.signedness.data == Signedness.UNSIGNED else "s"
    return f"{sign}{integer_type.width.data}"


def element_bytes(value: SSAValue) -> int:
    """Bytes of one element of a memref value."""
    return element_of(value).width.data // 8


def strides_of(value: SSAValue) -> tuple[int, ...]:
    """Strides of a memref value in elements."""
    strides = memref_of(value).get_strides()
    assert strides is not None
    result: list[int] = []
    for stride in strides:
        if stride is None:
            raise VerifyException(f"{value.type} has a dynamic stride")
        result.append(stride)
    return tuple(result)


def buffer_bytes(value: SSAValue) -> int:
    """Bytes of a contiguous memref."""
    return memref_of(value).element_count() * element_bytes(value)


def _expect_offset(offset: Attribute | None) -> None:
    expect(offset is None or integer_value(offset) >= 0, "a byte offset is not negative")


def _expect_operand(value: SSAValue, what: str, space: str, elements: Sequence[Attribute], rank: int) -> MemRef:
    reference = memref_of(value)
    expect(space_of(value) == space, f"{what} must be in {space}, got {space_of(value)}")
    names = " or ".join(str(e) for e in elements)
    expect(reference.element_type in elements, f"{what} must hold {names}, got {reference.element_type}")
    expect(reference.get_num_dims() == rank, f"{what} must have {rank} axes, got {reference.get_num_dims()}")
    expect(strides_of(value)[-1] == 1, f"the last axis of {what} must be contiguous")
    return reference


def _expect_shape(value: SSAValue, shape: Sequence[int], what: str) -> None:
    got = memref_of(value).get_shape()
    expect(tuple(got) == tuple(shape), f"{what} must have shape {tuple(shape)}, got {tuple(got)}")


@dataclass(frozen=True)
class QueueResource(Resource):
    """The queues of the units, with semaphores and row statistics: what every operation of a unit changes."""

    def name(self) -> str:
        """The name in messages."""
        return "sta.queues"


_QUEUED = EffectInstance(MemoryEffectKind.WRITE, resource=QueueResource())


class QueueEffect(MemoryEffect):
    """An effect on the order of execution alone."""

    @classmethod
    def get_effects(cls, op: Operation) -> AbstractSet[EffectInstance]:
        """The queues are written."""
        return {_QUEUED}


class InstructionEffects(MemoryEffect):
    """Reads and writes of buffers, as the table says of the instruction that the operation stands for."""

    @classmethod
    def get_effects(cls, op: Operation) -> AbstractSet[EffectInstance]:
        """The queues are written, and each operand is read or written or both."""
        assert isinstance(op, UnitOp)
        effects = {_QUEUED}
        for access, value in op.accesses():
            if access.writes:
                effects.add(EffectInstance(MemoryEffectKind.WRITE, value))
            if not access.writes or access.updates:
                effects.add(EffectInstance(MemoryEffectKind.READ, value))
        return effects


class AllocationEffect(MemoryEffect):
    """Allocation of the operation's result."""

    @classmethod
    def get_effects(cls, op: Operation) -> AbstractSet[EffectInstance]:
        """The result is allocated."""
        return {EffectInstance(MemoryEffectKind.ALLOC, op.results[0])}


@irdl_op_definition
class ConstantOp(IRDLOperation):
    """
    Constant bytes in DRAM, held by the weight store: packed weights, parameter blocks, tables, embedding tables.

    ```mlir
    %w = sta.constant @"output.dense.weight@packed" weights at 4096 : dram<184320xui8>
    ```
    """

    name = "sta.constant"
    constant = prop_def(SymbolRefAttr)
    kind = prop_def(StringAttr, prop_name="class")
    """Class of its DRAM traffic: weights, parameters, tables, embedding or other."""
    offset = opt_prop_def(INTEGER)
    """Byte offset in DRAM, once allocated."""
    result = result_def(MemRefType)
    traits = traits_def(Pure())
    custom_directives = (Buffer, Word)
    assembly_format = "$constant custom<Word>($class) (`at` $offset^)? attr-dict `:` custom<Buffer>(type($result))"

    def __init__(self, name: str, kind: str, result_type: MemRef):
        super().__init__(
            properties={"constant": SymbolRefAttr(name), "class": StringAttr(kind)}, result_types=[result_type]
        )

    @property
    def store_name(self) -> str:
        """Name in the weight store."""
        return self.constant.root_reference.data

    def verify_(self) -> None:
        expect(space_of(self.result) == "dram", "a constant lives in dram")
        expect(self.kind.data in CONSTANT_CLASSES, f"class '{self.kind.data}' is none of {CONSTANT_CLASSES}")
        _expect_offset(self.offset)
        packing = self.attributes.get(PACKING)
        expect(packing is None or isinstance(packing, PackingAttr), f"{PACKING} is no #sta.packing<...>")


@irdl_op_definition
class AllocOp(IRDLOperation):
    """
    A buffer of the program, poisoned until something is written to it.

    ```mlir
    %x = sta.alloc "encoder.layer.0.output.dense" at 1024 : spad<128x384xsi16>
    ```
    """

    name = "sta.alloc"
    label = prop_def(StringAttr)
    """The model's name for the buffer's contents."""
    offset = opt_prop_def(INTEGER)
    """Byte offset in its memory, once allocated."""
    result = result_def(MemRefType)
    traits = traits_def(AllocationEffect())
    custom_directives = (Buffer,)
    assembly_format = "$label (`at` $offset^)? attr-dict `:` custom<Buffer>(type($result))"

    def __init__(self, label: str, result_type: MemRef):
        super().__init__(properties={"label": StringAttr(label)}, result_types=[result_type])

    def verify_(self) -> None:
        memref_of(self.result)
        _expect_offset(self.offset)
        values = self.attributes.get(VALUES)
        known = values is None or ArrayAttr.constr(BaseAttr(HeldAttr)).verifies(values)
        expect(known, f"{VALUES} is no list of #sta.held<...>")


@irdl_op_definition
class ViewOp(IRDLOperation):
    """
    A strided part of a buffer: its first element is element
    `offset + coefficients[0] * counters[0] + ...` of the source.

    ```mlir
    %tile = sta.view %x[%i * 8192 + 64] sizes [32, 64] strides [768, 1] : spad<128x768xsi8>
    ```
    """

    name = "sta.view"
    source = operand_def(MemRefType)
    counters = var_operand_def(IndexType)
    offset = prop_def(INTEGER)
    coefficients = prop_def(INTEGERS)
    result = result_def(MemRefType)
    traits = traits_def(Pure())
    custom_directives = (Affine, SizesAndStrides)
    assembly_format = (
        "$source `[` custom<Affine>($offset, $counters, $coefficients) `]` attr-dict "
        "custom<SizesAndStrides>(type($source), type($result))"
    )

    def __init__(self, source: SSAValue, terms: Sequence[tuple[SSAValue, int]], offset: int, result_type: MemRef):
        super().__init__(
            operands=[source, [counter for counter, _ in terms]],
            properties={
                "offset": integer(offset),
                "coefficients": integers([coefficient for _, coefficient in terms]),
            },
            result_types=[result_type],
        )

    @property
    def terms(self) -> tuple[tuple[SSAValue, int], ...]:
        """The loop counters and their coefficients, in elements."""
        return tuple(zip(self.counters, integer_values(self.coefficients), strict=True))

    def verify_(self) -> None:
        source, result = memref_of(self.source), memref_of(self.result)
        expect(len(self.counters) == len(self.coefficients), "every counter needs a coefficient")
        expect(source.memory_space == result.memory_space, "a view stays in its memory")
        expect(source.element_type == result.element_type, "a view keeps the element type")
        layout = result.layout
        free = isinstance(layout, StridedLayoutAttr) and isinstance(layout.offset, NoneAttr)
        expect(free, "a view has strides, and an offset that is not part of its type")
        expect(self.offset.value.data >= 0, "a view cannot start before its buffer")


@irdl_op_definition
class LoopOp(IRDLOperation):
    """
    A hardware loop: the body runs `count` times, with its counter at 0, 1, ..., count - 1.

    ```mlir
    sta.loop %i = 0 to 12 {
      sta.fence
    }
    ```
    """

    name = "sta.loop"
    count = prop_def(INTEGER)
    body = region_def("single_block")
    traits = traits_def(NoTerminator(), RecursiveMemoryEffect())
    custom_directives = (CountedBody,)
    assembly_format = "custom<CountedBody>($count, $body) attr-dict"

    def __init__(self, count: int, body: Region | None = None):
        region = body or Region(Block(arg_types=[IndexType()]))
        super().__init__(properties={"count": integer(count)}, regions=[region])

    @property
    def counter(self) -> SSAValue:
        """The loop counter."""
        return self.body.block.args[0]

    def verify_(self) -> None:
        expect(self.count.value.data >= 0, "a loop cannot run a negative number of times")
        types = [arg.type for arg in self.body.block.args]
        expect(types == [IndexType()], "the body takes the counter, an index, and nothing else")


def _types(*operands: str) -> str:
    """The part of an assembly format that holds the types of buffers."""
    return "`:` " + " `,` ".join(f"custom<Buffer>(type(${operand}))" for operand in operands)


_SEMAPHORES = "(`wait` $wait^)? (`post` $post^)? attr-dict"


Fields = dict[str, int | str]
"""Fields of an instruction by name."""


@dataclass(frozen=True)
class _Settings:
    """Fields as a definition's functions take them; they need not fit into an instruction."""

    definition: InstructionDefinition
    fields: Fields

    def __getitem__(self, name: str) -> int:
        value = self.fields.get(name, self.definition.field(name).default or 0)
        return self.definition.field(name).choices.index(value) if isinstance(value, str) else value

    def choice(self, name: str) -> str:
        value = self.fields.get(name)
        return value if isinstance(value, str) else self.definition.field(name).choices[self[name]]


@cache
def _flags(mnemonic: str) -> tuple[str, ...]:
    return tuple(field.name for field in definition_of(mnemonic).fields if field.kind == "flag")


class UnitOp(IRDLOperation):
    """An operation that runs on a unit of the machine: it may wait for semaphores and post to them."""

    MNEMONIC: ClassVar[str]
    """The instruction that it stands for."""
    ADDRESSES: ClassVar[Mapping[str, str]] = {}
    """Operands by the register field of their address, where that has another name."""
    LOADED_FIRST: ClassVar[tuple[str, ...]] = ()
    """Register fields that are loaded before the others, which follow in the order of the instruction's fields."""

    wait = opt_prop_def(INTEGERS)
    """Semaphores that must be at least 1 before it starts; each is decremented."""
    post = opt_prop_def(INTEGERS)
    """Semaphores incremented when its result is complete."""
    traits = traits_def(InstructionEffects())

    @property
    def definition(self) -> InstructionDefinition:
        """The instruction that it stands for."""
        return definition_of(self.MNEMONIC)

    def own_fields(self) -> Fields:
        """Fields of its instruction that follow from its operands and choices: sizes, types, and flags among these."""
        raise NotImplementedError

    def fields(self) -> Fields:
        """
        Fields of its instruction that are no registers and no semaphores.

        A flag is set by a unit attribute of its name, unless it follows from something else.
        """
        return {flag: int(flag in self.properties) for flag in _flags(self.MNEMONIC)} | self.own_fields()

    def accesses(self) -> Iterator[tuple[Access, SSAValue]]:
        """Reads and writes of its instruction, each with the operand."""
        for access in self.definition.accesses(_Settings(self.definition, self.fields())):
            yield access, getattr(self, self.ADDRESSES.get(access.address, access.address))

    def scalars(self) -> dict[str, affine.Affine[SSAValue]]:
        """Numbers in registers that are no addresses, by field name, in loop counters."""
        return {}

    def first_byte(self, access: Access) -> int:
        """Byte of the operand's first element at which an access begins."""
        return 0

    def row_stride(self, access: Access, operand: SSAValue) -> int:
        """Bytes from row to row of an access that has a register for them, as the register holds them."""
        return strides_of(operand)[0] * element_bytes(operand)

    def rows(self, access: Access, operand: SSAValue) -> int:
        """Rows of an access."""
        return access.rows if access.rows_register is None else memref_of(operand).get_shape()[0]


class TransferOp(UnitOp):
    """An operation that moves rows of bytes between DRAM and the chip."""

    LOADED_FIRST: ClassVar[tuple[str, ...]] = ("dram_stride", "sram_stride")

    def row_stride(self, access: Access, operand: SSAValue) -> int:
        """A single row has no next one."""
        return super().row_stride(access, operand) if access.rows > 1 else 0


@irdl_op_definition
class LoadOp(TransferOp):
    """
    Rows of bytes from DRAM to the scratchpad or the weight buffer (unit `ld`).

    ```mlir
    sta.load %x to %y wait [3] post [5] : dram<64xsi16>, wbuf<64xsi16>
    ```
    """

    name = "sta.load"
    MNEMONIC: ClassVar[str] = "ld"
    ADDRESSES: ClassVar[Mapping[str, str]] = {"dram": "source", "sram": "destination"}
    source = operand_def(MemRefType)
    destination = operand_def(MemRefType)
    custom_directives = (Buffer,)
    assembly_format = f"$source `to` $destination {_SEMAPHORES} {_types('source', 'destination')}"

    def __init__(self, source: SSAValue, destination: SSAValue):
        super().__init__(operands=[source, destination])

    def own_fields(self) -> Fields:
        return {**_copied(self.source), "space": space_of(self.destination)}

    def verify_(self) -> None:
        expect(space_of(self.source) == "dram", "a load reads dram")
        spaces = self.definition.field("space").choices
        expect(space_of(self.destination) in spaces, f"a load writes {' or '.join(spaces)}")
        _verify_transfer(self.source, self.destination)


def _sizes(value: SSAValue, second: str = "columns") -> Fields:
    rows, columns = memref_of(value).get_shape()
    return {"rows": rows, second: columns}


def _copied(value: SSAValue) -> Fields:
    """The sizes of what DMA moves; one axis is one row."""
    shape = memref_of(value).get_shape()
    return {"rows": shape[0] if len(shape) == 2 else 1, "row_bytes": shape[-1] * element_bytes(value)}


def _verify_transfer(source: SSAValue, destination: SSAValue) -> None:
    a, b = memref_of(source), memref_of(destination)
    expect(a.element_type == b.element_type, "a transfer keeps the element type")
    expect(a.get_num_dims() in (1, 2), "a transfer moves one or two axes")
    _expect_shape(destination, a.get_shape(), "the destination")
    expect(strides_of(source)[-1] == 1 and strides_of(destination)[-1] == 1, "rows must be contiguous")


@irdl_op_definition
class StoreOp(TransferOp):
    """
    Rows of bytes from the scratchpad to DRAM (unit `st`).

    ```mlir
    sta.store %x to %y : spad<8x64xsi16>, dram<8x64xsi16>
    ```
    """

    name = "sta.store"
    MNEMONIC: ClassVar[str] = "st"
    ADDRESSES: ClassVar[Mapping[str, str]] = {"dram": "destination", "sram": "source"}
    source = operand_def(MemRefType)
    destination = operand_def(MemRefType)
    custom_directives = (Buffer,)
    assembly_format = f"$source `to` $destination {_SEMAPHORES} {_types('source', 'destination')}"

    def __init__(self, source: SSAValue, destination: SSAValue):
        super().__init__(operands=[source, destination])

    def own_fields(self) -> Fields:
        return _copied(self.destination)

    def verify_(self) -> None:
        expect(space_of(self.source) == "spad", "a store reads spad")
        expect(space_of(self.destination) == "dram", "a store writes dram")
        _verify_transfer(self.source, self.destination)


@irdl_op_definition
class GatherOp(UnitOp):
    """
    Rows of a table in DRAM, named by indices in the scratchpad (unit `ld`); an index outside the table is an error.

    ```mlir
    sta.gather %table[%ids] to %rows : dram<30x8xsi16>, spad<6xsi32>, spad<6x8xsi16>
    ```
    """

    name = "sta.gather"
    MNEMONIC: ClassVar[str] = "gather"
    table = operand_def(MemRefType)
    indices = operand_def(MemRefType)
    destination = operand_def(MemRefType)
    custom_directives = (Buffer,)
    assembly_format = (
        f"$table `[` $indices `]` `to` $destination {_SEMAPHORES} {_types('table', 'indices', 'destination')}"
    )

    def __init__(self, table: SSAValue, indices: SSAValue, destination: SSAValue):
        super().__init__(operands=[table, indices, destination])

    def own_fields(self) -> Fields:
        return _copied(self.destination)

    def verify_(self) -> None:
        table = memref_of(self.table)
        expect(space_of(self.table) == "dram", "the table must be in dram")
        expect(table.get_num_dims() == 2, "the table must have two axes")
        indices = _expect_operand(self.indices, "the indices", "spad", (si32,), 1)
        _expect_operand(self.destination, "the destination", "spad", (table.element_type,), 2)
        _expect_shape(self.destination, (indices.get_shape()[0], table.get_shape()[1]), "the destination")


@irdl_op_definition
class ProductOp(UnitOp):
    """
    A tile product on the DMME array (unit `mm`): `acc[i, j] (+)= sum_k a[i, k] * b[j, k]`.

    `b` is either a packed block in the weight buffer (`memref<bytes x ui8, wbuf>`, with its pattern) or a dense
    operand in the scratchpad, `[columns, K]`, or `[K, columns]` if `transposed`. Of 16-bit activations a product takes
    one byte `plane`, `low` or `high`; a map with `wide` combines the two.

    ```mlir
    sta.mm %a, %b to %acc pattern <2:4, bitmap> accumulate : spad<6x8xsi8>, wbuf<20xui8>, acc<6x4xsi32>
    ```
    """

    name = "sta.mm"
    MNEMONIC: ClassVar[str] = "mm"
    acc = operand_def(MemRefType)
    a = operand_def(MemRefType)
    b = operand_def(MemRefType)
    pattern = prop_def(PatternAttr, default_value=PatternAttr(DENSE, "dense"))
    transposed = opt_prop_def(UnitAttr)
    accumulate = opt_prop_def(UnitAttr)
    scores = opt_prop_def(UnitAttr)
    """The product makes attention scores: its result must not leave the chip."""
    plane = opt_prop_def(StringAttr)
    """The byte of each element of 16-bit activations."""
    custom_directives = (Buffer, Word)
    assembly_format = (
        "$a `,` $b `to` $acc (`pattern` $pattern^)? (`plane` custom<Word>($plane)^)? (`transposed` $transposed^)? "
        f"(`accumulate` $accumulate^)? (`scores` $scores^)? {_SEMAPHORES} {_types('a', 'b', 'acc')}"
    )

    def __init__(
        self,
        acc: SSAValue,
        a: SSAValue,
        b: SSAValue,
        pattern: PatternAttr,
        *,
        transposed: bool = False,
        accumulate: bool = False,
        scores: bool = False,
        plane: str | None = None,
    ):
        flags = {"transposed": transposed, "accumulate": accumulate, "scores": scores}
        super().__init__(
            operands=[acc, a, b],
            properties={
                "pattern": pattern,
                **{key: UnitAttr() for key, value in flags.items() if value},
                **({} if plane is None else {"plane": StringAttr(plane)}),
            },
        )

    def own_fields(self) -> Fields:
        pattern, plane = self.pattern.pattern, None if self.plane is None else self.plane.data
        # Of 16-bit data the high bytes carry the sign.
        a_type = "u8" if plane == "low" else f"{element_name(element_of(self.a))[0]}8"
        return _sizes(self.a, "depth") | {
            "columns": memref_of(self.acc).get_shape()[1],
            "n": pattern.n,
            "m": pattern.m,
            "encoding": self.pattern.encoding.data,
            "b_space": space_of(self.b),
            "b_transposed": int(self.transposed is not None),
            "a_type": a_type,
            "a_wide": int(plane is not None),
        }

    def first_byte(self, access: Access) -> int:
        """A high plane begins one byte later."""
        return int(access.name == "a" and self.plane is not None and self.plane.data == "high")

    def verify_(self) -> None:
        acc = _expect_operand(self.acc, "acc", "acc", (si32,), 2)
        a = _expect_operand(self.a, "a", "spad", (si8, ui8) if self.plane is None else (si16, ui16), 2)
        planes = ("low", "high")
        expect(self.plane is None or self.plane.data in planes, f"plane {self.plane} is none of {', '.join(planes)}")
        rows, depth = a.get_shape()
        expect(acc.get_shape()[0] == rows, f"acc has {acc.get_shape()[0]} rows, a {rows}")
        columns = acc.get_shape()[1]
        if space_of(self.b) == "spad":
            _expect_operand(self.b, "b", "spad", (si8,), 2)
            _expect_shape(self.b, (depth, columns) if self.transposed else (columns, depth), "b")
            expect(self.pattern.pattern.is_dense, "an operand in spad is dense")
            return
        _expect_operand(self.b, "b", "wbuf", (ui8,), 1)
        expect(self.transposed is None, "a packed operand is not transposed")
        size = packed_size(columns, depth, self.pattern.pattern, self.pattern.encoding.data)
        _expect_shape(self.b, (size,), "the packed operand")


@irdl_op_definition
class SoftmaxOp(UnitOp):
    """
    Exponentials and their row sums from int32 scores in the accumulators (unit `sm`).

    Mode `row` processes all keys of a row. The online modes process the next chunk of keys, `online_first` the first:
    `sums` is then the state of the rows, which holds their sums, their maxima and the shifts for `sta.shift`. A `bias`
    is added to the scores, each with its own scale of the parameters.

    ```mlir
    sta.softmax row %scores to %p sums %sums parameters %values causal rows %i * 6 keys 2 : acc<6x4xsi32>, spad<6x4xui8>, spad<6xsi32>, wbuf<16xui8>
    ```
    """  # noqa: E501

    name = "sta.softmax"
    MNEMONIC: ClassVar[str] = "softmax"
    LOADED_FIRST: ClassVar[tuple[str, ...]] = ("mask", "mask_stride", "bias", "bias_stride")
    scores = operand_def(MemRefType)
    destination = operand_def(MemRefType)
    sums = operand_def(MemRefType)
    parameters = operand_def(MemRefType)
    mask = opt_operand_def(MemRefType)
    bias = opt_operand_def(MemRefType)
    row_offset = var_operand_def(IndexType)
    """Loop counters of the first row's index, for a causal softmax."""
    key_offset = var_operand_def(IndexType)
    """Loop counters of the first key's index."""
    mode = prop_def(StringAttr)
    causal = opt_prop_def(UnitAttr)
    row_base = prop_def(INTEGER)
    row_coefficients = prop_def(INTEGERS)
    key_base = prop_def(INTEGER)
    key_coefficients = prop_def(INTEGERS)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    custom_directives = (Affine, Buffer, OptionalTypes, Word)
    assembly_format = (
        "custom<Word>($mode) $scores `to` $destination `sums` $sums `parameters` $parameters (`mask` $mask^)? "
        "(`bias` $bias^)? (`causal` $causal^)? (`rows` custom<Affine>($row_base, $row_offset, $row_coefficients)^)? "
        f"(`keys` custom<Affine>($key_base, $key_offset, $key_coefficients)^)? {_SEMAPHORES} "
        f"{_types('scores', 'destination', 'sums', 'parameters')} "
        "custom<OptionalTypes>(ref($mask), type($mask), ref($bias), type($bias))"
    )

    def __init__(
        self,
        operands: tuple[SSAValue, SSAValue, SSAValue, SSAValue],
        mask: SSAValue | None,
        causal: bool,
        first_row: affine.Affine[SSAValue] | None = None,
        first_key: affine.Affine[SSAValue] | None = None,
        mode: str = "row",
        bias: SSAValue | None = None,
    ):
        row, key = first_row or affine.Affine(), first_key or affine.Affine()
        super().__init__(
            operands=[*operands, mask, bias, *([counter for counter, _ in form.terms] for form in (row, key))],
            properties={
                "mode": StringAttr(mode),
                "row_base": integer(row.base),
                "row_coefficients": integers([c for _, c in row.terms]),
                "key_base": integer(key.base),
                "key_coefficients": integers([c for _, c in key.terms]),
                **({"causal": UnitAttr()} if causal else {}),
            },
        )

    @property
    def first_row(self) -> affine.Affine[SSAValue]:
        """Index of the first row, in loop counters."""
        terms = zip(self.row_offset, integer_values(self.row_coefficients), strict=True)
        return affine.affine(self.row_base.value.data, terms)

    @property
    def first_key(self) -> affine.Affine[SSAValue]:
        """Index of the first key, in loop counters."""
        terms = zip(self.key_offset, integer_values(self.key_coefficients), strict=True)
        return affine.affine(self.key_base.value.data, terms)

    def scalars(self) -> dict[str, affine.Affine[SSAValue]]:
        """Places of the first row and of the first key."""
        return {"row_offset": self.first_row, "key_offset": self.first_key}

    def own_fields(self) -> Fields:
        return _sizes(self.scores, "keys") | {
            "has_mask": int(self.mask is not None),
            "has_bias": int(self.bias is not None),
            "probability_bits": str(8 * element_bytes(self.destination)),
            "mode": self.mode.data,
        }

    def verify_(self) -> None:
        shape = _expect_operand(self.scores, "the scores", "acc", (si32,), 2).get_shape()
        modes = self.definition.field("mode").choices
        expect(self.mode.data in modes, f"mode '{self.mode.data}' is none of {', '.join(modes)}")
        _expect_operand(self.destination, "the exponentials", "spad", (ui8, ui16), 2)
        _expect_shape(self.destination, shape, "the exponentials")
        _expect_operand(self.sums, "the sums", "spad", (si32,), 1)
        _expect_shape(self.sums, (shape[0] * (1 if self.mode.data == "row" else STATE_ARRAYS),), "the sums")
        _expect_operand(self.parameters, "the parameters", "wbuf", (ui8,), 1)
        for counters, coefficients in (
            (self.row_offset, self.row_coefficients),
            (self.key_offset, self.key_coefficients),
        ):
            expect(len(counters) == len(coefficients), "every counter needs a coefficient")
        if self.mask is not None:
            _expect_operand(self.mask, "the mask", "spad", (ui8,), 2)
            _expect_shape(self.mask, shape, "the mask")
        if self.bias is not None:
            _expect_operand(self.bias, "the bias", "spad", (si16,), 2)
            _expect_shape(self.bias, shape, "the bias")


@irdl_op_definition
class MapOp(UnitOp):
    """
    One pass of the vector unit over a tile (unit `vp`): the drain of accumulators, or a pass over the scratchpad.

    With `normalize` the residual operand is the row sums of a softmax, and the drain divides by them. With `wide` a row
    of the source holds the sums over the high bytes of 16-bit activations and then those over the low bytes. The
    residual is combined as `combine` says, by default added; it may have one column, for all of the result.

    ```mlir
    sta.map %acc to %y parameters %p residual %r per_channel : acc<6x4xsi32>, spad<6x4xsi8>, wbuf<68xui8>, spad<6x4xsi16>
    ```
    """  # noqa: E501

    name = "sta.map"
    MNEMONIC: ClassVar[str] = "map"
    LOADED_FIRST: ClassVar[tuple[str, ...]] = ("residual", "residual_stride", "table")
    source = operand_def(MemRefType)
    destination = operand_def(MemRefType)
    parameters = operand_def(MemRefType)
    table = opt_operand_def(MemRefType)
    residual = opt_operand_def(MemRefType)
    per_channel = opt_prop_def(UnitAttr)
    normalize = opt_prop_def(UnitAttr)
    statistics = opt_prop_def(UnitAttr)
    """Adds the rows it writes to the unit's row statistics."""
    wide = opt_prop_def(UnitAttr)
    combine = prop_def(StringAttr, default_value=StringAttr(ADD))
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    custom_directives = (Buffer, OptionalTypes, Word)
    assembly_format = (
        "$source `to` $destination `parameters` $parameters (`table` $table^)? (`residual` $residual^)? "
        "(`per_channel` $per_channel^)? (`normalize` $normalize^)? (`statistics` $statistics^)? (`wide` $wide^)? "
        f"(`combine` custom<Word>($combine)^)? {_SEMAPHORES} "
        f"{_types('source', 'destination', 'parameters')} "
        "custom<OptionalTypes>(ref($table), type($table), ref($residual), type($residual))"
    )

    def __init__(
        self,
        operands: tuple[SSAValue, SSAValue, SSAValue],
        table: SSAValue | None = None,
        residual: SSAValue | None = None,
        *,
        per_channel: bool = False,
        normalize: bool = False,
        statistics: bool = False,
        wide: bool = False,
        combine: str = ADD,
    ):
        flags = {"per_channel": per_channel, "normalize": normalize, "statistics": statistics, "wide": wide}
        super().__init__(
            operands=[*operands, table, residual],
            properties={
                **{key: UnitAttr() for key, value in flags.items() if value},
                "combine": StringAttr(combine),
            },
        )

    def own_fields(self) -> Fields:
        source = element_name(element_of(self.source))
        if space_of(self.source) == "acc":
            source = "acc" if self.wide is None else "acc_wide"
        residual = None if self.residual is None or self.normalize is not None else element_of(self.residual)
        return _sizes(self.destination) | {
            "source_type": source,
            "destination_type": element_name(element_of(self.destination)),
            "residual_type": "none" if residual is None else element_name(residual),
            "has_table": int(self.table is not None),
            "combine": self.combine.data,
            "residual_column": int(residual is not None and self._residual_is_a_column()),
        }

    def _residual_is_a_column(self) -> bool:
        assert self.residual is not None
        return memref_of(self.residual).get_shape()[1] != memref_of(self.destination).get_shape()[1]

    def verify_(self) -> None:
        source = memref_of(self.source)
        expect(space_of(self.source) in ("acc", "spad"), "a map reads acc or spad")
        expect(source.get_num_dims() == 2, "a map reads two axes")
        shape = source.get_shape()
        if self.wide is not None:
            expect(space_of(self.source) == "acc" and shape[1] % 2 == 0, "wide accumulators come in pairs, in acc")
            shape = (shape[0], shape[1] // 2)
        _expect_operand(self.destination, "the destination", "spad", ELEMENT_TYPES, 2)
        _expect_shape(self.destination, shape, "the destination")
        _expect_operand(self.parameters, "the parameters", "wbuf", (ui8,), 1)
        if self.table is not None:
            _expect_operand(self.table, "the table", "wbuf", (si16,), 1)
        if self.statistics is not None:
            expect(memref_of(self.destination).element_type == si16, "only rows of si16 have statistics")
        if self.normalize is not None:
            expect(self.residual is not None and self.per_channel is None, "normalize needs sums and scalar scales")
        combine = self.combine.data
        expect(combine in COMBINATIONS, f"combination '{combine}' is none of {', '.join(COMBINATIONS)}")
        if combine != ADD:
            expect(self.residual is not None and self.normalize is None, f"there is nothing to combine by '{combine}'")
        if self.residual is None:
            return
        if self.normalize is not None:
            _expect_operand(self.residual, "the sums", "spad", (si32,), 1)
            _expect_shape(self.residual, shape[:1], "the sums")
            return
        residual = _expect_operand(self.residual, "the residual", "spad", (si8, si16, si32), 2)
        if residual.get_shape() != (shape[0], 1):
            _expect_shape(self.residual, shape, "the residual")


@irdl_op_definition
class NormOp(UnitOp):
    """
    LayerNorm or RMSNorm of rows of the 16-bit stream (unit `vp`), to 16 bits, to an 8-bit copy, or both.

    ```mlir
    sta.norm layer %x parameters %p copy %c : spad<6x8xsi16>, wbuf<96xui8>, spad<6x8xsi8>
    ```
    """

    name = "sta.norm"
    MNEMONIC: ClassVar[str] = "norm"
    LOADED_FIRST: ClassVar[tuple[str, ...]] = ("destination", "destination_stride", "copy", "copy_stride")
    source = operand_def(MemRefType)
    parameters = operand_def(MemRefType)
    destination = opt_operand_def(MemRefType)
    copy = opt_operand_def(MemRefType)
    kind = prop_def(StringAttr)
    statistics = opt_prop_def(UnitAttr)
    """Reads the rows' sums from the unit's row statistics."""
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    custom_directives = (Buffer, OptionalTypes, Word)
    assembly_format = (
        "custom<Word>($kind) $source `parameters` $parameters (`to` $destination^)? (`copy` $copy^)? "
        f"(`statistics` $statistics^)? {_SEMAPHORES} "
        f"{_types('source', 'parameters')} "
        "custom<OptionalTypes>(ref($destination), type($destination), ref($copy), type($copy))"
    )

    def __init__(
        self,
        source: SSAValue,
        parameters: SSAValue,
        destination: SSAValue | None,
        copy: SSAValue | None,
        kind: str,
        *,
        statistics: bool = False,
    ):
        super().__init__(
            operands=[source, parameters, destination, copy],
            properties={"kind": StringAttr(kind), **({"statistics": UnitAttr()} if statistics else {})},
        )

    def own_fields(self) -> Fields:
        outputs = (self.destination is not None) + 2 * (self.copy is not None)
        return _sizes(self.source) | {"kind": self.kind.data, "outputs": outputs}

    def verify_(self) -> None:
        shape = _expect_operand(self.source, "the source", "spad", (si16,), 2).get_shape()
        _expect_operand(self.parameters, "the parameters", "wbuf", (ui8,), 1)
        kinds = self.definition.field("kind").choices
        expect(self.kind.data in kinds, f"kind '{self.kind.data}' is neither {' nor '.join(kinds)}")
        expect(self.destination is not None or self.copy is not None, "a norm that writes nothing")
        for value, element in ((self.destination, si16), (self.copy, si8)):
            if value is not None:
                _expect_operand(value, "the destination", "spad", (element,), 2)
                _expect_shape(value, shape, "the destination")


@irdl_op_definition
class RotateOp(UnitOp):
    """
    Rotary position embeddings of rows (unit `vp`): pairs of the first `width` columns, rotated by angles.

    ```mlir
    sta.rotate half 4 of %x by %cosines, %sines to %y parameters %p : spad<6x8xsi16>, spad<6x8xsi16>, spad<6x8xsi16>, spad<6x8xsi8>, wbuf<16xui8>
    ```
    """  # noqa: E501

    name = "sta.rotate"
    MNEMONIC: ClassVar[str] = "rotate"
    source = operand_def(MemRefType)
    cosines = operand_def(MemRefType)
    sines = operand_def(MemRefType)
    destination = operand_def(MemRefType)
    parameters = operand_def(MemRefType)
    pairing = prop_def(StringAttr)
    width = prop_def(INTEGER)
    custom_directives = (Buffer, Word)
    assembly_format = (
        "custom<Word>($pairing) $width `of` $source `by` $cosines `,` $sines `to` $destination `parameters` "
        f"$parameters {_SEMAPHORES} {_types('source', 'cosines', 'sines', 'destination', 'parameters')}"
    )

    def __init__(
        self,
        source: SSAValue,
        tables: tuple[SSAValue, SSAValue],
        destination: SSAValue,
        parameters: SSAValue,
        pairing: str,
        width: int,
    ):
        """`tables` are the cosines and the sines."""
        super().__init__(
            operands=[source, *tables, destination, parameters],
            properties={"pairing": StringAttr(pairing), "width": integer(width)},
        )

    def own_fields(self) -> Fields:
        return _sizes(self.source) | {
            "width": self.width.value.data,
            "source_type": element_name(element_of(self.source)),
            "destination_type": element_name(element_of(self.destination)),
            "pairing": self.pairing.data,
        }

    def verify_(self) -> None:
        shape = _expect_operand(self.source, "the source", "spad", (si8, si16), 2).get_shape()
        for value, elements, what in (
            (self.cosines, (si16,), "the cosines"),
            (self.sines, (si16,), "the sines"),
            (self.destination, (si8, si16), "the destination"),
        ):
            _expect_operand(value, what, "spad", elements, 2)
            _expect_shape(value, shape, what)
        _expect_operand(self.parameters, "the parameters", "wbuf", (ui8,), 1)
        expect_rotation(shape[1], self.width.value.data, self.pairing.data)


@irdl_op_definition
class ShiftOp(UnitOp):
    """
    Shifts each row of accumulators right by its own number of bits, in place (unit `vp`): a row's accumulators are
    brought to the maximum of the next chunk of keys.

    ```mlir
    sta.shift %acc by %shifts : acc<6x4xsi32>, spad<6xsi32>
    ```
    """

    name = "sta.shift"
    MNEMONIC: ClassVar[str] = "shift"
    acc = operand_def(MemRefType)
    shifts = operand_def(MemRefType)
    custom_directives = (Buffer,)
    assembly_format = f"$acc `by` $shifts {_SEMAPHORES} {_types('acc', 'shifts')}"

    def __init__(self, acc: SSAValue, shifts: SSAValue):
        super().__init__(operands=[acc, shifts])

    def own_fields(self) -> Fields:
        return _sizes(self.acc)

    def verify_(self) -> None:
        shape = _expect_operand(self.acc, "acc", "acc", (si32,), 2).get_shape()
        _expect_operand(self.shifts, "the shifts", "spad", (si32,), 1)
        _expect_shape(self.shifts, shape[:1], "the shifts")


@irdl_op_definition
class SyncOp(UnitOp):
    """
    No work: waits in a unit's queue, then posts once the earlier operations of that unit are complete.

    ```mlir
    sta.sync mm wait [3]
    ```
    """

    name = "sta.sync"
    MNEMONIC: ClassVar[str] = "sync"
    unit = prop_def(StringAttr)
    custom_directives = (Word,)
    assembly_format = f"custom<Word>($unit) {_SEMAPHORES}"

    def __init__(self, unit: str):
        super().__init__(properties={"unit": StringAttr(unit)})

    def own_fields(self) -> Fields:
        return {"unit": self.unit.data}

    def verify_(self) -> None:
        expect(self.unit.data in UNITS, f"unit '{self.unit.data}' is not one of {', '.join(UNITS)}")


@irdl_op_definition
class FenceOp(IRDLOperation):
    """
    The sequencer waits until every unit is idle.

    ```mlir
    sta.fence
    ```
    """

    name = "sta.fence"
    traits = traits_def(QueueEffect())
    assembly_format = "attr-dict"

    def __init__(self):
        super().__init__()


UNIT_OPERATIONS: tuple[type[UnitOp], ...] = (
    LoadOp,
    StoreOp,
    GatherOp,
    ProductOp,
    SoftmaxOp,
    MapOp,
    NormOp,
    RotateOp,
    ShiftOp,
    SyncOp,
)
"""The operations that run on units."""

STA = Dialect(
    "sta",
    [ConstantOp, AllocOp, ViewOp, LoopOp, *UNIT_OPERATIONS, FenceOp],
    [DramAttr, SpadAttr, WbufAttr, AccAttr, PortAttr, PackingAttr, HeldAttr, TilingAttr],
)


def operands_with(op: UnitOp, kind: MemoryEffectKind) -> list[SSAValue]:
    """The operands that an operation reads, or those that it writes, in their order."""
    effects = get_effects(op) or frozenset[EffectInstance]()
    affected = {effect.value for effect in effects if effect.kind == kind}
    return [operand for operand in op.operands if operand in affected]


def held_values(buffer: AllocOp) -> tuple[HeldAttr, ...]:
    """Descriptions of the model's values in a buffer, one entry each."""
    known = buffer.attributes.get(VALUES)
    entries = cast("ArrayAttr[Attribute]", known) if isinstance(known, ArrayAttr) else ()
    return tuple(entry for entry in entries if isinstance(entry, HeldAttr))


def record_packing(packed: SSAValue, packing: Packing) -> None:
    """Records the packing of a constant's weights."""
    assert isinstance(packed.owner, ConstantOp)
    packed.owner.attributes[PACKING] = PackingAttr(packing)


def packing_of(op: ConstantOp) -> Packing | None:
    """Packing of a constant's weights; None for other constants."""
    known = op.attributes.get(PACKING)
    return known.packing if isinstance(known, PackingAttr) else None
