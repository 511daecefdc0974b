"""Damaged containers end in ContainerError, ProgramError or a run, never in another exception."""

import zlib
from typing import Any

import numpy as np

from sta.backend.container import Container, ContainerError, container_bytes, parse_container
from sta.backend.isa import Instruction
from sta.runtime import Program, ProgramError
from sta.spec.parameters import MapParameters


def random_program(bench: Any) -> Container:
    """Returns a container with loops, a product, a map and a store, to be damaged."""
    random = np.random.default_rng(3)
    offset = bench.port("inputs", "x", (4, 8), "int8")
    bench.emit("ld", dram=bench.writable(offset), sram=bench.register(64), rows=1, row_bytes=32)
    weights = bench.place(random.integers(-9, 9, (8, 8)).astype(np.int8), "wbuf")
    scale = np.array([1 << 30], np.int32), np.array([34], np.int8)
    parameters = bench.place(MapParameters(np.zeros(1, np.int32), *scale).to_bytes(), "wbuf")
    strides = {"acc_stride": bench.register(32), "a_stride": bench.register(8)}
    narrow = bench.register(8)
    bench.emit("loop", counter=1, count=2)
    bench.emit("lea", rd=2, imm=64, c1=1, s1=16)
    bench.emit("mm", acc=0, a=2, b=weights, rows=2, columns=8, depth=8, post=[0], **strides)
    bench.emit("lea", rd=3, imm=256, c1=1, s1=16)
    fields = {"source_stride": strides["acc_stride"], "destination_stride": narrow, "source_type": "acc"}
    fields |= {"destination_type": "s8", "rows": 2, "columns": 8, "wait": [0]}
    bench.emit("map", source=0, destination=3, parameters=parameters, **fields)
    bench.emit("end")
    bench.result(256, (4, 8), "int8")
    bench.sizes = dict.fromkeys(bench.sizes, 1024)
    container = bench.container()
    # Few constants, so that damage hits the other sections.
    container.constants = container.constants[: len(bench.constants)]
    base, moved = container.writable_base, bench.base
    for entry in container.signature["inputs"] + container.signature["outputs"]:
        entry["address"] += base - moved
    for pc, instruction in enumerate(container.code):
        if instruction.name == "lea" and instruction["imm"] >= moved:
            container.code[pc] = Instruction.make("lea", rd=instruction["rd"], imm=instruction["imm"] + base - moved)
    container.program["dram"] += base - moved
    return container


def attempt(data: bytes) -> str:
    """Loads and runs a container; returns how it ended, which must be one of the documented ways."""
    try:
        program = Program(parse_container(np.frombuffer(data, np.uint8)), instruction_limit=10**4, memory_limit=1 << 22)
        inputs = {s.name: np.zeros(s.shape, s.host_dtype) for s in program.inputs}
        program.run(inputs)
    except (ContainerError, ProgramError) as error:
        return type(error).__name__
    return "run"


def test_damaged_files_never_surprise(bench: Any) -> None:
    data = container_bytes(random_program(bench))
    assert attempt(data) == "run"
    random = np.random.default_rng(0)
    for _ in range(200):
        changed = bytearray(data)
        for _ in range(random.integers(1, 4)):
            changed[random.integers(len(data))] ^= int(random.integers(1, 256))
        assert attempt(bytes(changed)) == "ContainerError"
    for size in random.integers(0, len(data), 50):
        assert attempt(data[:size]) == "ContainerError"


def test_damage_behind_right_checksums_never_surprises(bench: Any) -> None:
    # Checksums keep accidents out, not malice: here every damaged section gets the right checksum.
    container = random_program(bench)
    data = container_bytes(container)
    random = np.random.default_rng(1)
    endings = {"run": 0, "ContainerError": 0, "ProgramError": 0}
    for _ in range(3000):
        changed = bytearray(data)
        section = int(random.integers(0, 7))
        offset, size = (
            int.from_bytes(data[32 + 40 * section + at : 40 + 40 * section + at], "little") for at in (16, 24)
        )
        if not size:
            continue
        for _ in range(random.integers(1, 3)):
            position = offset + int(random.integers(size))
            digit = changed[position : position + 1].isdigit() and random.random() < 0.8
            changed[position] = (
                48 + int(random.integers(10)) if digit else changed[position] ^ 1 << int(random.integers(8))
            )
        endings[attempt(repaired(changed))] += 1
    assert all(count > 100 for count in endings.values()), endings


def repaired(data: bytearray) -> bytes:
    """Returns a file with right checksums."""
    for section in range(7):
        entry = 32 + 40 * section
        offset, size = (int.from_bytes(data[entry + at : entry + at + 8], "little") for at in (16, 24))
        data[entry + 32 : entry + 36] = zlib.crc32(data[offset : offset + size]).to_bytes(4, "little")
    data[12:16] = zlib.crc32(data[32 : 32 + 280]).to_bytes(4, "little")
    return bytes(data)
