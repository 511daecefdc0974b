"""
Times at which the elements of the model's values are written. A value may be overwritten in part while other elements
of it are still to come; whoever wants to see it whole needs them.

It does not depend on data, so that it is found once, without executing anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.runtime.memory import Memories
from sta.runtime.steps import execution
from sta.runtime.validate import Port, ValidProgram
from sta.runtime.values.model_values import Value
from sta.runtime.values.walk import Written, written_by
from sta.spec.instructions.definition import MAXIMUM_LOOP_DEPTH, RESOURCES, InstructionDefinition
from sta.spec.instructions.table import DEFINITIONS

Indices = NDArray[np.int64]

OUTPUT = "output"
"""The operation of a value that is a program's output."""
_DMA = RESOURCES[DEFINITIONS["ld"].unit]
_DRAIN = "map"
"""The instruction that writes the result of an operation which has none of its own name."""


@dataclass(frozen=True)
class WrittenElements:
    """Elements of a value that an instruction writes."""

    value: int
    """The value's position in the list of values."""
    indices: Indices
    """Positions in the flattened tensor."""


@dataclass(frozen=True)
class ValueWrites:
    """Writes of values in a run."""

    values: Sequence[Value]
    addresses: Sequence[Indices]
    """For each value the byte address of every element of the flattened tensor, in its memory."""
    at: dict[int, list[WrittenElements]]
    """By position in the run: what its instruction writes that stays until it is used."""
    last: dict[int, int]
    """By value: the position at which its last element is written. Values that cannot be told apart are missing."""

    def load(self, memories: Memories, elements: WrittenElements) -> NDArray[Any]:
        """Returns elements as they are in memory now, flat."""
        value, memory = self.values[elements.value], _memory(memories, self.values[elements.value])
        return memory[self._bytes(elements)].view(value.dtype)[:, 0]

    def store(self, memories: Memories, elements: WrittenElements, integers: NDArray[Any]) -> None:
        """Puts integers, flat, in the place of elements."""
        value, memory = self.values[elements.value], _memory(memories, self.values[elements.value])
        memory[self._bytes(elements)] = (
            np.ascontiguousarray(integers, value.dtype).view(np.uint8).reshape(-1, value.dtype.itemsize)
        )

    def _bytes(self, elements: WrittenElements) -> Indices:
        value = self.values[elements.value]
        return self.addresses[elements.value][elements.indices, np.newaxis] + np.arange(value.dtype.itemsize)


def output_values(program: ValidProgram) -> list[Value]:
    """Returns the program's quantized outputs as values; ``source`` is the output's name."""
    last = len(program.container.code) - 1
    return [_output(port, last) for port in program.outputs if port.signature.kind == "quantized"]


def value_writes(program: ValidProgram, values: Sequence[Value]) -> ValueWrites:
    """
    Finds out when values are written.

    Where an element is written several times, the last one counts; where several values of one module take turns in the
    same buffer, each has its own turn.
    """
    addresses = [_addresses(value, program.container.writable_base) for value in values]
    turns = _turns(values)
    events: list[list[tuple[int, Indices]]] = [[] for _ in values]
    places = [_Place(value, flat) for value, flat in zip(values, addresses, strict=True)]
    written_at = _written_at(program, values)
    for position, pc, written in _writes(program):
        for index in written_at[pc]:
            indices = places[index].elements(written, program.container.writable_base)
            if indices.size:
                events[index].append((position, indices))
    at: dict[int, list[WrittenElements]] = defaultdict(list)
    last: dict[int, int] = {}
    for index, (turn, of) in enumerate(turns):
        kept = _turn(events[index], addresses[index].size, turn, of)
        for position, indices in kept:
            at[position].append(WrittenElements(index, indices))
        if kept:
            last[index] = kept[-1][0]
    return ValueWrites(values, addresses, dict(at), last)


def _memory(memories: Memories, value: Value) -> NDArray[np.uint8]:
    return memories.spad if value.space == "spad" else memories.writable


def _output(port: Port, last: int) -> Value:
    signature = port.signature
    strides = [int(np.prod(signature.shape[axis + 1 :], dtype=np.int64)) for axis in range(len(signature.shape))]
    axes = tuple(((size, stride),) for size, stride in zip(signature.shape, strides, strict=True))
    dtype = np.dtype(signature.device_dtype)
    return Value(
        "", OUTPUT, "dram", port.address, dtype, axes, 0, last, signature.scale, signature.zero_point, signature.name
    )


def _addresses(value: Value, writable_base: int) -> Indices:
    """Returns the byte address of every element of the flattened tensor, in the memory that it is in."""
    flat = np.array([value.offset - (writable_base if value.space == "dram" else 0)])
    for size, stride in (factor for axis in value.axes for factor in axis):
        flat = (flat[:, np.newaxis] + np.arange(size) * (stride * value.dtype.itemsize)).reshape(-1)
    return flat


class _Place:
    """Places of a value's elements, for finding the ones that an instruction writes."""

    def __init__(self, value: Value, addresses: Indices) -> None:
        self._space = value.space
        self._low = int(addresses.min()) if addresses.size else 0
        self._inverse = np.full(int(addresses.max(initial=self._low)) - self._low + 1, -1, np.int64)
        self._inverse[addresses - self._low] = np.arange(addresses.size)
        self._bytes = value.dtype.itemsize

    def elements(self, written: Written, writable_base: int) -> Indices:
        """Returns the positions in the flattened tensor of the elements in a rectangle."""
        base = writable_base if self._space == "dram" else 0
        low = self._low + base
        if not written.overlaps(self._space, low, low + self._inverse.size + self._bytes - 1):
            return np.zeros(0, np.int64)
        access = written.access
        columns = np.arange(access.columns) * (access.pitch or access.dtype.itemsize)
        offsets = (np.arange(access.rows) * written.stride)[:, np.newaxis] + (columns + written.address - low)
        inside = offsets[(offsets >= 0) & (offsets < self._inverse.size)]
        found = self._inverse[inside]
        return found[found >= 0]


def _writes(program: ValidProgram) -> Iterator[tuple[int, int, Written]]:
    """Iterates over what a run writes: position, pc and rectangle."""
    counters = [0] * MAXIMUM_LOOP_DEPTH
    for position, (step, _) in enumerate(execution(program.steps, counters)):
        for written in written_by(step, counters):
            if written.access.space in ("spad", "dram"):
                yield position, step.pc, written


def _written_at(program: ValidProgram, values: Sequence[Value]) -> list[list[int]]:
    """Returns for each static instruction the values that it may write."""
    container = program.container
    return [
        [
            index
            for index, value in enumerate(values)
            if value.first <= pc <= value.last
            and _may_write(instruction.definition, value)
            and (value.operation == OUTPUT or container.module_path(pc) == value.name)
        ]
        for pc, instruction in enumerate(container.code)
    ]


def _writer(value: Value) -> InstructionDefinition:
    """Returns the instruction that makes a value on the chip."""
    return DEFINITIONS.get(value.operation.removeprefix("nm."), DEFINITIONS[_DRAIN])


def _may_write(instruction: InstructionDefinition, value: Value) -> bool:
    """True if an instruction may write a value: it makes the value, or it is of DMA, as is the one that makes it."""
    if value.space == "dram":
        return True
    writer = _writer(value)
    return instruction == writer or RESOURCES.get(instruction.unit) == RESOURCES[writer.unit] == _DMA


def _turns(values: Sequence[Value]) -> list[tuple[int, int]]:
    """Returns for each value its number among values of one module in the same place, and how many these are."""
    groups: defaultdict[object, list[int]] = defaultdict(list)
    keys = [(value.name, _writer(value).name, value.space, value.offset, value.first, value.last) for value in values]
    for index, key in enumerate(keys):
        groups[key].append(index)
    return [(groups[key].index(index), len(groups[key])) for index, key in enumerate(keys)]


def _turn(events: list[tuple[int, Indices]], size: int, turn: int, of: int) -> list[tuple[int, Indices]]:
    """The writes of a value's own turn; none if it is not written as a whole, or turns cannot be told apart."""
    total = np.zeros(size, np.int64)
    for _, indices in events:
        total[indices] += 1
    if not total.all() or (of > 1 and (total != of).any()):
        return []
    wanted = total - 1 if of == 1 else np.full(size, turn)
    seen = np.zeros(size, np.int64)
    kept: list[tuple[int, Indices]] = []
    for position, indices in events:
        own = indices[seen[indices] == wanted[indices]]
        seen[indices] += 1
        if own.size:
            kept.append((position, own))
    return kept
