"""
A program as the record keeps it: hashes, costs and the disassembly.

Little of the toolchain is used, so that the record survives a rearrangement of it: `sta.compile`, `sta.load`, `Program`
and its disassembly, and the layout of a `.sta` file, which starts with a table of its sections.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import struct
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import sta
from sta.backend.assembler import section_lines
from tests.record.programs import PROGRAMS, Case

POISONS = (0xA5, 0x00)
"""Bytes of writable memory before a run, on which nothing may depend."""

_TEXT = ("program", "signature", "debug", "code")
"""Sections that are compared as text."""
_HEADER = struct.Struct("<4sHHIIQ8s")
_SECTION = struct.Struct("<16sQQI4s")


class RecordError(ValueError):
    """A program that gives different results on its engines or poisons."""


@dataclass(frozen=True)
class Entry:
    """One program of the record."""

    version: str
    """The version of the container's format: the hash of the code is for this encoding."""
    code: str
    constants: str
    debug: str
    outputs: str
    """Of raw and real outputs, by name; equal for all engines and poisons."""
    cycles: int
    instructions: int
    dram_bytes: int
    macs: int
    dense_macs: int
    text: list[str]
    """The disassembly in lines, without version, target, constants, IR and the numbers of instructions."""


def native_is_built() -> bool:
    """Returns whether there is the native engine, which every program runs on."""
    return importlib.util.find_spec("sta.runtime._native") is not None


def measure(name: str) -> Entry:
    """
    Compiles and runs the program of that name.

    Raises RecordError if engines or poisons differ, and whatever the toolchain raises.
    """
    threads = torch.get_num_threads()
    # One thread adds up in one order.
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            # What a model is warned about is not what is recorded.
            warnings.simplefilter("ignore")
            return _entry(PROGRAMS[name](Path(folder)), Path(folder) / "program.sta")
    finally:
        torch.set_num_threads(threads)


def _entry(case: Case, path: Path) -> Entry:
    sta.compile(case.model, case.example, **case.options).save(path)
    program = sta.load(path)
    version, sections = read_sections(path.read_bytes())
    return Entry(
        version=version,
        **{name: _hash(sections[name]) for name in ("code", "constants", "debug")},
        outputs=_outputs(program, case),
        cycles=program.cycles,
        instructions=len(program.container.code),
        dram_bytes=program.dram_bytes,
        macs=program.macs,
        dense_macs=program.dense_macs,
        text=text_of(program),
    )


def _outputs(program: sta.Program, case: Case) -> str:
    """The hash of the outputs of all runs."""
    runs: list[str] = []
    for number, inputs in enumerate(case.runs):
        found: dict[tuple[str, int], str] = {}
        for engine in case.engines:
            for poison in POISONS:
                result = program.run(inputs, engine=engine, poison=poison)
                found[engine, poison] = _hash(_array_bytes(result.raw), _array_bytes(result.outputs))
        if len(set(found.values())) > 1:
            how = ", ".join(f"{engine} {poison:#04x} {value}" for (engine, poison), value in found.items())
            raise RecordError(f"run {number}: outputs depend on engine or poison: {how}")
        runs += found.values()
    return _hash("".join(runs[:: len(case.engines) * len(POISONS)]).encode())


def _array_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    parts = [f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode() for name in sorted(arrays)]
    return b"\0".join([*parts, *(np.ascontiguousarray(arrays[name]).tobytes() for name in sorted(arrays))])


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:24]


def read_sections(data: bytes) -> tuple[str, dict[str, bytes]]:
    """The version of a container, and its sections by name."""
    _, major, minor, count, _, _, _ = _HEADER.unpack_from(data)
    sections: dict[str, bytes] = {}
    for position in range(count):
        name, offset, size, _, _ = _SECTION.unpack_from(data, _HEADER.size + position * _SECTION.size)
        sections[name.rstrip(b"\0").decode()] = data[offset : offset + size]
    return f"{major}.{minor}", sections


def text_of(program: sta.Program) -> list[str]:
    """The lines of a disassembly that are compared."""
    # Constants are compared by their hash, and the text of the IR is not the program's.
    # Versions, options and figures about accuracy are how the program was made, not what it is.
    costs = {key: value for key, value in program.container.program.items() if isinstance(value, int)}
    bare = replace(program.container, constants=np.zeros(0, np.uint8), program=costs, ir="", target={})
    kept = [line for name in _TEXT for line in (f".{name}", *section_lines(bare, name), "")]
    # An instruction more would change the number behind all that follow.
    return [line.rpartition("  # ")[0].rstrip() if "  # " in line else line for line in kept]


def fingerprint() -> str:
    """
    A hash of some float32 results, as calibration sees them.

    Processors of another kind add up in another order, and calibration may then round a scale the other way.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generator = np.random.default_rng(0)
        x, w = (generator.standard_normal(size, np.float32) for size in ((128, 384), (384, 384)))
        hidden = torch.tensor(x) @ torch.tensor(w)
        normed = torch.nn.functional.layer_norm(hidden, (384,))
        heads = normed.view(1, 128, 12, 32).transpose(1, 2)
        mixed = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
        results = [hidden, normed, mixed, torch.nn.functional.gelu(normed), normed.softmax(-1)]
        arrays = [x @ w, np.exp(x), x.astype(np.float64) @ w, *(result.numpy() for result in results)]
        return _hash(*(np.ascontiguousarray(array).tobytes() for array in arrays))
    finally:
        torch.set_num_threads(threads)


def machine() -> dict[str, str]:
    """Parts of the machine that the floats of calibration depend on."""
    return {
        "floats": fingerprint(),
        "machine": platform.machine(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
