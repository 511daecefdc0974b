"""
Everything that is checked before a program runs. A container is untrusted input: what passes here cannot read or write
outside its memories, run without end, or make the host allocate without bound.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sta.backend.container import LARGEST_INTEGER, Container, is_integer
from sta.runtime.errors import ProgramError, at, error_at
from sta.runtime.steps import Step, dynamic_instructions, resolve
from sta.spec.affine import Affine
from sta.spec.host_operations import HostType
from sta.spec.host_prologue import HostInput, HostPrologue
from sta.spec.instructions.access import Access
from sta.spec.signature import TensorSignature
from sta.spec.target import Target

INSTRUCTION_LIMIT = 10**9
"""Most instructions that a run may issue, unless the caller says otherwise."""
MEMORY_LIMIT = 1 << 30
"""Most bytes of on-chip memory and writable DRAM, unless the caller says otherwise."""

_MOST_AXES = 32
"""Of an input or output; NumPy has a limit of its own."""
_HOST_DTYPES = (
    *("bool", "float16", "float32", "float64"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
_SPACES = ("spad", "wbuf", "acc")


@dataclass(frozen=True)
class Port:
    """An input or output and where it lies in DRAM, row-major and little endian."""

    signature: TensorSignature
    address: int
    bytes: int


@dataclass(frozen=True)
class ValidProgram:
    """A container whose contents have been checked, with its code resolved."""

    container: Container
    steps: list[Step]
    target: Target
    memories: Mapping[str, int]
    """Bytes of ``spad``, ``wbuf``, ``acc`` and ``dram``; the latter counts the constants in."""
    inputs: list[Port]
    outputs: list[Port]
    instructions: int
    """Instructions that a run issues."""
    prologue: HostPrologue | None = None
    """Computations of the host before the machine starts; None where the machine takes the model's inputs."""

    def __repr__(self) -> str:
        """``<ValidProgram for sta-base: 1,234 instructions>``."""
        return f"<ValidProgram for {self.target.name}: {len(self.steps):,} instructions>"

    def at(self, pc: int) -> str:
        """Returns the instruction at ``pc`` and its module path, for messages."""
        return at(self.container, pc)


def validate(
    container: Container, *, instruction_limit: int = INSTRUCTION_LIMIT, memory_limit: int = MEMORY_LIMIT
) -> ValidProgram:
    """
    Checks a program.

    Raises:
        ProgramError: a rule of the machine is broken, or a limit exceeded; names the instruction or the section.
    """
    target = _target(container)
    memories = _memories(container, target, memory_limit)
    inputs = _ports(container, "inputs")
    outputs = _ports(container, "outputs")
    _check_no_overlap(inputs)
    prologue = container.host_prologue()
    if prologue is not None:
        _check_prologue(prologue, inputs, memory_limit)
    steps = resolve(container)
    for step in steps:
        _check_reserved(container, step)
    steps = [
        step if step.instruction.definition.is_sequencer else _Checker(container, target, memories, step).check()
        for step in steps
    ]
    instructions = dynamic_instructions(steps)
    if instructions > instruction_limit:
        raise ProgramError(f"section 'code': a run takes {instructions} instructions, the limit is {instruction_limit}")
    return ValidProgram(container, steps, target, memories, inputs, outputs, instructions, prologue)


def _check_prologue(prologue: HostPrologue, ports: Sequence[Port], memory_limit: int) -> None:
    """Raises ProgramError unless the prologue makes exactly the machine's inputs, in memory that the limit allows."""
    if prologue.nbytes > memory_limit:
        raise ProgramError(
            f"section 'prologue': its values take {prologue.nbytes} bytes of memory, the limit is {memory_limit}"
        )
    for one in prologue.inputs:
        if one.dtype not in _HOST_DTYPES:
            raise ProgramError(f"section 'prologue', input {one.name!r}: dtype {one.dtype!r} is not one of a host")
    given = {one.name: one for one in prologue.inputs}
    made = dict(prologue.results)
    for port in ports:
        name = port.signature.name
        if name not in made and name not in given:
            raise ProgramError(f"section 'prologue': it neither takes nor makes {name!r}, an input of the machine")
        source = prologue.result_type(name) if made.pop(name, None) is not None else given[name]
        if not _fits(port.signature, source):
            raise ProgramError(f"section 'prologue': {name!r} has another shape or dtype there than in the signature")
    if made:
        raise ProgramError(f"section 'prologue': it makes {next(iter(made))!r}, which is no input of the machine")


def _fits(port: TensorSignature, source: HostInput | HostType) -> bool:
    return (port.shape, port.host_dtype) == (source.shape, source.dtype)


def _target(container: Container) -> Target:
    try:
        return Target.from_json(container.target)
    except (ValueError, TypeError) as error:
        raise ProgramError(f"section 'target': {error}") from None


def _memories(container: Container, target: Target, memory_limit: int) -> dict[str, int]:
    program = container.program
    memories = {space: int(program[space]) for space in (*_SPACES, "dram")}
    on_chip = sum(memories[space] for space in _SPACES)
    if on_chip > target.sram_bytes:
        parts = ", ".join(f"{space} {memories[space]}" for space in _SPACES)
        raise ProgramError(
            f"section 'program': {parts} are {on_chip} bytes, target {target.name} has {target.sram_bytes}"
        )
    scratch = memories["dram"] - container.writable_base
    if memories["dram"] < len(container.constants):
        raise ProgramError(
            f"section 'program': DRAM is {memories['dram']} bytes, the constants are {len(container.constants)}"
        )
    if on_chip + max(scratch, 0) > memory_limit:
        raise ProgramError(
            f"section 'program': a run needs {on_chip + scratch} bytes of memory, the limit is {memory_limit}"
        )
    return memories


def _ports(container: Container, direction: str) -> list[Port]:
    ports = [_port(container, direction, entry) for entry in container.signature[direction]]
    names: set[str] = set()
    for port in ports:
        name = port.signature.name
        if name in names:
            raise ProgramError(f"section 'signature': two {direction} are named {name!r}")
        names.add(name)
    return ports


def _port(container: Container, direction: str, entry: Mapping[str, Any]) -> Port:
    where = f"section 'signature', {direction} {entry.get('name')!r}"
    if entry.get("host_dtype") not in _HOST_DTYPES:
        raise ProgramError(f"{where}: host_dtype is {entry.get('host_dtype')!r}, not one of {', '.join(_HOST_DTYPES)}")
    try:
        signature = TensorSignature.from_json(entry)
    except (ValueError, TypeError, OverflowError) as error:
        raise ProgramError(f"{where}: {error}") from None
    address, size = entry.get("address"), entry.get("bytes")
    if not is_integer(address) or not is_integer(size):
        raise ProgramError(f"{where}: 'address' or 'bytes' is missing or not an integer")
    assert isinstance(address, int)
    itemsize = np.dtype(signature.device_dtype).itemsize
    # An empty array, too, is refused by NumPy if its other sizes are too large.
    largest = math.prod(max(size, 1) for size in signature.shape[:_MOST_AXES]) * itemsize
    if len(signature.shape) > _MOST_AXES or max(largest, abs(address)) > LARGEST_INTEGER:
        raise ProgramError(f"{where}: too many axes, or a size or an address of more than 63 bits")
    expected = math.prod(signature.shape) * itemsize
    if size != expected:
        raise ProgramError(f"{where}: 'bytes' is {size}, shape and type make {expected}")
    if address % itemsize:
        raise ProgramError(f"{where}: address {address} is not a multiple of {itemsize}")
    low, high = container.writable_base, container.program["dram"]
    if not low <= address <= address + expected <= high:
        raise ProgramError(f"{where}: bytes {address}..{address + expected - 1} are outside DRAM {low}..{high - 1}")
    return Port(signature, address, expected)


def _check_no_overlap(inputs: Sequence[Port]) -> None:
    ordered = sorted((port for port in inputs if port.bytes), key=lambda port: port.address)
    for before, after in itertools.pairwise(ordered):
        if before.address + before.bytes > after.address:
            names = f"{before.signature.name!r} and {after.signature.name!r}"
            raise ProgramError(f"section 'signature': inputs {names} overlap")


def _check_reserved(container: Container, step: Step) -> None:
    for field, value in step.instruction:
        if field.supported is not None and value > field.supported:
            shown = field.choices[value] if field.choices else value
            raise error_at(container, step.pc, f"field '{field.name}' is {shown}, which is reserved")


class _Checker:
    """Checks one unit instruction: the rules of its own fields, and every address it can form."""

    def __init__(self, container: Container, target: Target, memories: Mapping[str, int], step: Step) -> None:
        self.container = container
        self.target = target
        self.memories = memories
        self.step = step
        self.instruction = step.instruction
        self.ranges = step.ranges

    def error(self, message: str) -> ProgramError:
        return error_at(self.container, self.step.pc, message)

    def check(self) -> Step:
        """Returns the step with its accesses; raises ProgramError."""
        for rule in self.instruction.definition.rules:
            if not rule(self.instruction, self.target):
                raise self.error(str(rule.__doc__))
        try:
            touched = self.instruction.accesses()
        except ValueError as error:
            raise self.error(str(error)) from None
        self.check_unused(touched)
        for access in touched:
            self.check_alignment(access)
            self.check_rows(access)
            self.check_range(access)
        return replace(self.step, accesses=touched)

    def check_unused(self, touched: Sequence[Access]) -> None:
        """Raises unless the registers of memory operands that the instruction does not have are r0."""
        used = {name for access in touched for name in (access.address, access.stride, access.rows_register)}
        used.update(self.instruction.definition.scalars)
        for field, value in self.instruction:
            if field.kind == "register" and value != 0 and field.name not in used:
                raise self.error(f"field '{field.name}' is r{value}, but the instruction does not use it; must be r0")

    def register(self, name: str) -> Affine[int]:
        return self.step.registers[name]

    def check_alignment(self, access: Access) -> None:
        alignment = access.alignment or access.dtype.itemsize
        for name in (access.address, access.stride):
            if name is not None and not self.register(name).is_multiple(alignment, self.ranges):
                raise self.error(f"'{name}' is not always a multiple of {alignment} bytes")

    def check_rows(self, access: Access) -> None:
        """Raises if the rows of a result overlap, which would leave open which of them stays."""
        if not access.writes or access.stride is None or access.rows == 1:
            return
        smallest = self.register(access.stride).bounds(self.ranges)[0]
        if smallest < access.row_bytes:
            raise self.error(f"'{access.stride}' is {smallest}, rows of {access.row_bytes} bytes would overlap")

    def check_range(self, access: Access) -> None:
        start = self.register(access.address)
        low = start.bounds(self.ranges)[0]
        end = self.end(access, start).bounds(self.ranges)[1]
        for region_start, region_end in self.regions(access):
            if region_start <= low and end <= region_end:
                return
        allowed = " or ".join(f"{region_start}..{region_end - 1}" for region_start, region_end in self.regions(access))
        verb = "writes" if access.writes else "reads"
        raise self.error(
            f"'{access.name}' {verb} {access.space} bytes {low}..{end - 1}, outside {allowed or 'an empty memory'}"
        )

    def end(self, access: Access, start: Affine[int]) -> Affine[int]:
        """Returns the address after the last byte."""
        if access.rows_register is not None:
            return start + self.register(access.rows_register) * access.row_bytes
        if access.stride is None:
            return start + access.rows * access.row_bytes
        return start + self.register(access.stride) * (access.rows - 1) + access.row_bytes

    def regions(self, access: Access) -> list[tuple[int, int]]:
        """Returns the address ranges that the access must lie in one of."""
        if access.space != "dram":
            return [(0, self.memories[access.space])] if self.memories[access.space] else []
        constants, writable = len(self.container.constants), self.container.writable_base
        regions = [(0, constants)] if constants and not access.writes else []
        return regions + ([(writable, self.memories["dram"])] if self.memories["dram"] > writable else [])
