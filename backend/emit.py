"""
From the `sta` dialect to microcode: registers for the affine addresses, one instruction an operation.

The only module of the back end that knows xDSL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import (
    DenseArrayBase,
    DictionaryAttr,
    ModuleOp,
)
from xdsl.ir import Block, Operation, SSAValue
from xdsl.traits import MemoryEffectKind

from sta.backend.container import Container
from sta.dialect import nm, sta
from sta.dialect.host import prologue_of
from sta.dialect.ir.accuracy import fidelity_of, pruned_layers
from sta.dialect.ir.addresses import address_of, argument_attributes, expect_addresses, offset_of
from sta.dialect.ir.location import describe, module_path
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.port_attribute import port_of
from sta.dialect.ir.quantized_value import Meaning
from sta.dialect.ir.text import print_with_locations
from sta.dialect.ir.weight_store import WeightStore
from sta.spec.affine import Affine
from sta.spec.alignment import aligned
from sta.spec.instructions.definition import MAXIMUM_LOOP_DEPTH, REGISTER_COUNT, EncodingError
from sta.spec.instructions.instruction import Instruction
from sta.spec.instructions.table import definition_of
from sta.spec.target import Target

FIRST_TEMPORARY = 1
COUNTER_REGISTERS = MAXIMUM_LOOP_DEPTH
LAST_TEMPORARY = REGISTER_COUNT - COUNTER_REGISTERS - 1
STEP_LIMIT = definition_of("lea").field("s1").maximum
ZERO: Affine[int] = Affine()
"""The value of register 0."""


class OperationError(EncodingError):
    """An operation that no instruction can express: `operation`."""

    def __init__(self, operation: Operation, message: str):
        super().__init__(f"{describe(operation)}: {message}")
        self.operation = operation


class Emitter:
    """Emits one function."""

    def __init__(self, function: func.FuncOp):
        self.function = function
        self.code: list[Instruction] = []
        self.locations: list[tuple[str, str]] = []
        self.counters: dict[SSAValue, Affine[int]] = {}
        self.held: dict[Affine[int], int] = {}
        """Registers by their values, which are affine in counter registers; the least recently used first."""
        self.current = ("", "")
        self.spans: dict[Operation, tuple[int, int]] = {}
        """The first instruction of each operation, and the one after its last."""

    def run(self) -> list[Instruction]:
        """The microcode of the function, ending in a fence and a halt."""
        expect_addresses(self.function)
        for op in self.function.body.block.ops:
            self._operation(op)
        self.current = ("", "")
        self._append(Instruction.make("fence"))
        self._append(Instruction.make("halt"))
        return self.code

    def _append(self, instruction: Instruction) -> None:
        self.code.append(instruction)
        self.locations.append(self.current)

    def _operation(self, op: Operation) -> None:
        start = len(self.code)
        self._instructions(op)
        self.spans[op] = (start, len(self.code))

    def _instructions(self, op: Operation) -> None:
        self.current = (module_path(op), op.name)
        match op:
            case sta.LoopOp():
                self._loop(op)
            case sta.FenceOp():
                self._append(Instruction.make("fence"))
            case sta.UnitOp():
                try:
                    self._unit(op)
                except EncodingError as error:
                    raise OperationError(op, str(error)) from error
            case sta.AllocOp() | sta.ConstantOp() | sta.ViewOp() | func.ReturnOp():
                return
            case _:
                raise ValueError(f"{op.name} is no instruction")

    def _loop(self, loop: sta.LoopOp) -> None:
        register = REGISTER_COUNT - 1 - len(self.counters)
        if len(self.counters) >= MAXIMUM_LOOP_DEPTH:
            raise ValueError(f"{module_path(loop)}: loops nest deeper than the machine's {MAXIMUM_LOOP_DEPTH}")
        self._append(Instruction.make("loop", counter=register, count=loop.count.value.data))
        # Registers written in the body are not loop-carried, and are undefined after the loop.
        self.held = {}
        self.counters[loop.counter] = Affine(0, ((register, 1),))
        for op in loop.body.block.ops:
            self._operation(op)
        del self.counters[loop.counter]
        self.held = {}
        self._append(Instruction.make("end"))

    def _register(self, value: Affine[int]) -> int:
        """A register that holds a value; if none does, the least recently used one."""
        if value == ZERO:
            return 0
        if value in self.held:
            register = self.held.pop(value)
        else:
            register = self._free_register()
            self._load(register, value)
        self.held[value] = register
        return register

    def _free_register(self) -> int:
        if len(self.held) < LAST_TEMPORARY:
            taken = set(self.held.values())
            return next(r for r in range(FIRST_TEMPORARY, LAST_TEMPORARY + 1) if r not in taken)
        oldest = next(iter(self.held))
        return self.held.pop(oldest)

    def _load(self, register: int, value: Affine[int]) -> None:
        pieces = [piece for counter, step in sorted(value.terms) for piece in _pieces(counter, step)] or [(0, 0)]
        source, constant = 0, value.base
        for start in range(0, len(pieces), 2):
            (c1, s1), (c2, s2) = (*pieces[start : start + 2], (0, 0))[:2]
            self._append(Instruction.make("lea", rd=register, rs=source, imm=constant, c1=c1, s1=s1, c2=c2, s2=s2))
            source, constant = register, 0

    def _affine(self, value: Affine[SSAValue]) -> int:
        """A register with a value that is affine in loop counters."""
        return self._register(value.substituted(self.counters))

    def _unit(self, op: sta.UnitOp) -> None:
        self._append(
            Instruction.make(
                op.MNEMONIC, **self._registers(op), **op.fields(), wait=_semaphores(op.wait), post=_semaphores(op.post)
            )
        )

    def _registers(self, op: sta.UnitOp) -> dict[str, int]:
        """Registers of the operation's instruction by field, loaded unless one already holds the value."""
        values = _register_values(op)
        order = (*op.LOADED_FIRST, *op.definition.index)
        return {name: self._affine(values[name]) for name in dict.fromkeys(order) if name in values}


def _register_values(op: sta.UnitOp) -> dict[str, Affine[SSAValue]]:
    """Values of the register fields of the operation's instruction."""
    values = op.scalars()
    for access, operand in op.accesses():
        values[access.address] = address_of(operand) + op.first_byte(access)
        if access.stride is not None:
            values[access.stride] = Affine(op.row_stride(access, operand))
        if access.rows_register is not None:
            values[access.rows_register] = Affine(op.rows(access, operand))
    return values


def _pieces(counter: int, step: int) -> list[tuple[int, int]]:
    """A step as a sum of steps that each fit their field."""
    count = -(-abs(step) // STEP_LIMIT)
    return [(counter, step // count + (index < step % count)) for index in range(count)]


def _semaphores(attribute: DenseArrayBase | None) -> tuple[int, ...]:
    return () if attribute is None else nm.integer_values(attribute)


def emit(
    module: ModuleOp, weights: WeightStore, target: Target, macs: int, dense_macs: int, ir: str | None = None
) -> Container:
    """
    The container of an allocated and synchronized module.

    `macs` and `dense_macs` are the model's useful multiply-accumulates, with and without its sparsity. `ir` is the
    module's text if it has been printed already.

    Raises ValueError for operations that are no instructions, and for a module that is not allocated.
    """
    function = main_function(module)
    emitter = Emitter(function)
    code = emitter.run()
    memory = function.attributes["sta.memory"]
    assert isinstance(memory, DictionaryAttr)
    constants, directory = _constants(function, weights)
    prologue = prologue_of(module, weights)
    return Container(
        code=code,
        constants=constants,
        program={
            **{space: nm.integer_value(size) for space, size in memory.data.items()},
            "macs": macs,
            "dense_macs": dense_macs,
            **_accuracy(function),
        },
        signature=_signature(function),
        debug={
            "instructions": _run_length(emitter.locations),
            "buffers": _buffers(function, emitter.spans),
            "constants": directory,
            "values": _values(function, emitter.spans),
        },
        ir=print_with_locations(module) if ir is None else ir,
        target=target.to_json(),
        prologue=None if prologue is None else prologue.to_json(),
        tables=np.zeros(0, np.uint8) if prologue is None else prologue.tables,
    )


def _accuracy(function: func.FuncOp) -> dict[str, Any]:
    """Entries of the section ``program`` about accuracy, as far as the compile knows them."""
    entries: dict[str, Any] = {}
    fidelity, pruned = fidelity_of(function), pruned_layers(function)
    if fidelity is not None:
        entries["fidelity"] = fidelity.to_json()
    if pruned:
        entries["pruned"] = {path: str(pattern) for path, pattern in pruned.items()}
    return entries


def emit_code(module: ModuleOp) -> tuple[list[Instruction], list[list[int | str]]]:
    """
    The microcode of an allocated module; and of each instruction that begins something new its number, module path and
    operation.

    Raises ValueError for operations that are no instructions, and for a module that is not allocated.
    """
    emitter = Emitter(main_function(module))
    code = emitter.run()
    return code, _run_length(emitter.locations)


def operation_of(module: ModuleOp, pc: int) -> Operation | None:
    """The operation of an allocated and synchronized module from which an instruction of its program is emitted."""
    emitter = Emitter(main_function(module))
    emitter.run()
    around = [(end - start, op) for op, (start, end) in emitter.spans.items() if start <= pc < end]
    # Loops are around the operations in them.
    return min(around, key=lambda one: one[0])[1] if around else None


def _run_length(locations: Sequence[tuple[str, str]]) -> list[list[int | str]]:
    entries: list[list[int | str]] = []
    for pc, (path, operation) in enumerate(locations):
        if not entries or entries[-1][1:] != [path, operation]:
            entries.append([pc, path, operation])
    return entries


def _constants(function: func.FuncOp, weights: WeightStore) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    operations = [op for op in function.body.block.ops if isinstance(op, sta.ConstantOp)]
    directory = [_constant(op) for op in operations]
    end = max((entry["offset"] + entry["bytes"] for entry in directory), default=0)
    constants = np.zeros(aligned(end), np.uint8)
    for op, entry in zip(operations, directory, strict=True):
        data = np.ascontiguousarray(weights.get(op.store_name)).view(np.uint8).reshape(-1)
        constants[entry["offset"] : entry["offset"] + entry["bytes"]] = data
    return constants, directory


def _constant(op: sta.ConstantOp) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": op.store_name,
        "module": module_path(op),
        "class": op.kind.data,
        "offset": offset_of(op.result),
        "bytes": sta.buffer_bytes(op.result),
    }
    packing = sta.packing_of(op)
    if packing is not None:
        entry["packing"] = {
            "columns": packing.columns,
            "depths": list(packing.depths),
            "tile_columns": packing.tile_columns,
            "n": packing.pattern.n,
            "m": packing.pattern.m,
            "encoding": packing.encoding,
        }
    return entry


def _buffers(function: func.FuncOp, spans: Mapping[Operation, tuple[int, int]]) -> list[dict[str, Any]]:
    """The memory map: names, places, and the first and last instruction that use each buffer."""
    block = function.body.block
    buffers: list[dict[str, Any]] = []
    for op in block.ops:
        if not isinstance(op, sta.AllocOp):
            continue
        used = [spans[ancestor] for ancestor in _using(op.result, block)]
        buffers.append(
            {
                "name": op.label.data,
                "space": sta.space_of(op.result),
                "offset": offset_of(op.result),
                "bytes": sta.buffer_bytes(op.result),
                "shape": list(sta.memref_of(op.result).get_shape()),
                "type": sta.element_name(sta.memref_of(op.result).element_type),
                "first": min((start for start, _ in used), default=0),
                "last": max((stop - 1 for _, stop in used), default=0),
            }
        )
    return buffers


def _values(function: func.FuncOp, spans: Mapping[Operation, tuple[int, int]]) -> list[dict[str, Any]]:
    """
    The model's values in buffers, in the order of the buffers: names, places and layouts of the elements, meaning of
    the integers, and the first and the last instruction that writes them.
    """
    values: list[dict[str, Any]] = []
    for op in function.body.block.ops:
        held = sta.held_values(op) if isinstance(op, sta.AllocOp) else ()
        writers = _writers(op.results[0]) if held else []
        values += [_value(op, entry, writers, spans) for entry in held if isinstance(op, sta.AllocOp)]
    return values


def _value(
    buffer: sta.AllocOp,
    held: sta.HeldAttr,
    writers: Sequence[Operation],
    spans: Mapping[Operation, tuple[int, int]],
) -> dict[str, Any]:
    path = held.path.data
    own = [spans[writer] for writer in writers if module_path(writer) == path]
    value: dict[str, Any] = {
        "name": path,
        "operation": held.operation.data,
        "space": sta.space_of(buffer.result),
        "offset": offset_of(buffer.result) + held.offset.value.data * sta.element_bytes(buffer.result),
        "type": sta.element_name(sta.memref_of(buffer.result).element_type),
        "axes": held.factors,
        "first": min((start for start, _ in own), default=0),
        "last": max((stop - 1 for _, stop in own), default=0),
    }
    if isinstance(held.meaning, nm.MeaningAttr):
        meaning = Meaning.of_attribute(held.meaning)
        value |= {"scale": meaning.scale, "zero_point": meaning.zero_point}
        if meaning.source:
            value["source"] = meaning.source
    return value


def _writers(value: SSAValue) -> list[Operation]:
    """The operations that write a buffer, or a view of it."""
    found: list[Operation] = []
    for use in value.uses:
        match use.operation:
            case sta.ViewOp() as view:
                found += _writers(view.result)
            case sta.UnitOp() as op if value in sta.operands_with(op, MemoryEffectKind.WRITE):
                found.append(op)
            case _:
                pass
    return found


def _using(value: SSAValue, block: Block) -> list[Operation]:
    """The operations of a block in which a buffer, or a view of it, is used."""
    found: list[Operation] = []
    for use in value.uses:
        if isinstance(use.operation, sta.ViewOp):
            found += _using(use.operation.result, block)
            continue
        ancestor = block.find_ancestor_op_in_block(use.operation)
        assert ancestor is not None
        found.append(ancestor)
    return found


def _signature(function: func.FuncOp) -> dict[str, Any]:
    ports: dict[str, list[dict[str, Any]]] = {"input": [], "output": []}
    for value, entry in zip(function.body.block.args, argument_attributes(function), strict=True):
        port = port_of(entry)
        ports["input" if port.is_input else "output"].append(
            {
                **port.signature(sta.memref_of(value).get_shape()).to_json(),
                "address": port.address,
                "bytes": sta.buffer_bytes(value),
            }
        )
    return {"inputs": ports["input"], "outputs": ports["output"]}
