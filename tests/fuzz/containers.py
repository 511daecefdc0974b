"""
Permitted endings of a container with arbitrary bytes, as fuzzer, kept corpus and tests of damage check them.

A container is refused by the loader or by the validator with an error that names a section or an instruction, or it is
run on both engines, which end in the same bits or in the same error. Anything else is a bug.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sta.backend.container import PROLOGUE_SECTIONS, SECTIONS, ContainerError, container_bytes, parse_container
from sta.runtime import ProgramError
from sta.runtime.analysis.native_reports import NativeReports
from sta.runtime.analysis.taint import check_taint
from sta.runtime.engines import check_same
from sta.runtime.native_engine import NativeEngine, NativeProgram, families
from sta.runtime.reference import ReferenceEngine
from sta.runtime.timing import simulate
from sta.runtime.validate import ValidProgram, validate
from sta.spec.host_prologue import HostPrologue

HEADER_BYTES, ENTRY_BYTES = 32, 40
INSTRUCTION_LIMIT = 400
MOST_MEMORY = 1 << 20
SIZES = ("rows", "columns", "depth", "keys", "row_bytes")
LARGEST_WORK = 1 << 18
"""Bytes accessed and products formed in a run: longer ones take the fuzzer's time."""

NAMES_A_PLACE = re.compile(r"section '\w+'|section 'signature, |instruction \d+ \(")


@dataclass(frozen=True)
class Ending:
    """Ending of a container."""

    stage: str
    """``loader``, ``validator``, ``too long``, ``idle`` (no unit has anything to do), ``failed`` (on both engines) or
    ``halted``."""
    message: str = ""


def section_count(data: bytes | bytearray) -> int:
    """Returns the number of sections that a file says it has; that of files without prologue where there is none."""
    given = int.from_bytes(data[8:12], "little")
    return given if given == len(SECTIONS) else len(SECTIONS) - len(PROLOGUE_SECTIONS)


def repaired(data: bytes | bytearray) -> bytes:
    """Returns a file with right checksums, as far as it has a header and a table."""
    changed = bytearray(data)
    table_end = HEADER_BYTES + section_count(changed) * ENTRY_BYTES
    if len(changed) < table_end:
        return bytes(changed)
    for entry in range(HEADER_BYTES, table_end, ENTRY_BYTES):
        offset, size = (int.from_bytes(changed[entry + at : entry + at + 8], "little") for at in (16, 24))
        changed[entry + 32 : entry + 36] = zlib.crc32(changed[offset : offset + size]).to_bytes(4, "little")
    changed[12:16] = zlib.crc32(changed[HEADER_BYTES:table_end]).to_bytes(4, "little")
    return bytes(changed)


def _refused(stage: str, error: ValueError) -> Ending:
    message = str(error)
    assert NAMES_A_PLACE.search(message), f"an error names neither a section nor an instruction: {message!r}"
    return Ending(stage, message)


def _work(program: ValidProgram) -> int:
    """Returns about how much a run does."""
    total = 0
    for step in program.steps:
        instruction = step.instruction
        if instruction.definition.is_sequencer:
            continue
        sizes = [value for field, value in instruction if field.name in SIZES]
        total += step.executions * math.prod(sizes)
    return total


def _outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns what a function does, or the message of the error that it ends in."""
    try:
        return function(*arguments)
    except ProgramError as error:
        return _refused("engine", error).message


def attempt(data: bytes) -> Ending:
    """
    Loads a container and runs it on both engines.

    Raises:
        AssertionError: something happened that must not.
    """
    try:
        container = parse_container(np.frombuffer(data, np.uint8))
    except ContainerError as error:
        return _refused("loader", error)
    assert container_bytes(container) == data, "a container that is read is written with other bytes"
    try:
        program = validate(container, instruction_limit=INSTRUCTION_LIMIT, memory_limit=MOST_MEMORY)
    except ProgramError as error:
        return _refused("validator", error)
    work = _work(program)
    if work > LARGEST_WORK:
        return Ending("too long")
    if work == 0:
        return Ending("idle")
    return run(program, zlib.crc32(data))


def run(program: ValidProgram, choice: int) -> Ending:
    """Runs a program on both engines; ``choice`` picks kernels, poison and inputs."""
    native = NativeProgram(program, families()[choice % len(families())])
    _check_walks(program, native)
    random = np.random.default_rng(choice)
    if program.prologue is not None:
        _run_prologue(program.prologue, random)
    inputs: dict[str, Any] = {}
    for port in program.inputs:
        dtype = np.dtype(port.signature.device_dtype)
        values = np.frombuffer(random.bytes(port.bytes), dtype)
        inputs[port.signature.name] = values.reshape(port.signature.shape)
    engines = ReferenceEngine(program), NativeEngine(native)
    outcomes = [_outcome(engine.run, inputs, choice % 256) for engine in engines]
    errors = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(errors) in (0, 2), f"only one engine ends in an error: {errors}"
    assert len(set(errors)) <= 1, f"the engines end in different errors: {errors}"
    if errors:
        return Ending("failed", errors[0])
    check_same(*engines, ("the reference engine", "the native one"))
    return Ending("halted")


def _run_prologue(prologue: HostPrologue, random: np.random.Generator) -> None:
    """Runs a prologue on small numbers: it has results of the types that it says, or names the inputs."""
    inputs = {
        one.name: random.integers(0, 2, one.shape).astype(one.dtype) for one in prologue.inputs if one.kind is not None
    }
    try:
        results = prologue.run(inputs)
    except ValueError as error:
        message = str(error)
    else:
        _check_results(prologue, results)
        return
    assert re.match(r"inputs? '|a constant: ", message), f"an error names no input: {message}"


def _check_results(prologue: HostPrologue, results: Mapping[str, Any]) -> None:
    for name, array in results.items():
        kind = prologue.result_type(name)
        assert (array.shape, array.dtype.name) == (kind.shape, kind.dtype), f"{name} is {array.dtype}{array.shape}"


def _check_walks(program: ValidProgram, native: NativeProgram) -> None:
    """Compares the walks that do not depend on data: cycles, and where attention scores go."""
    expected, found = _outcome(simulate, program), _outcome(NativeReports(native).timing)
    assert expected == found, f"the cycles differ: {expected} and {found}"
    expected, found = _outcome(check_taint, program), _outcome(native.check_taint)
    assert expected == found, f"where scores go differs: {expected} and {found}"
