"""A small bench on which the tests of the runtime assemble programs by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sta.backend.container import Container
from sta.runtime import Program, Result
from sta.spec.instructions.instruction import Instruction
from sta.spec.target import Target

TARGET = Target(
    name="bench",
    array_rows=4,
    array_columns=2,
    multipliers=2,
    window=8,
    vector_lanes=4,
    softmax_lanes=2,
    clock_mhz=100,
    sram_bytes=1 << 16,
    dma_bytes_per_cycle=16,
    dma_latency=20,
    drain_latency=7,
    tile_rows=64,
    tile_columns=32,
    queue_depth=2,
)


class Bench:
    """
    Collects instructions, constants and memory, and makes a container of them.

    ``place`` puts an array into spad or wbuf by way of DRAM constants; ``result`` stores a tile of spad as an output.
    """

    def __init__(self) -> None:
        self.code: list[Instruction] = []
        self.constants = bytearray()
        self.used = {"spad": 0, "wbuf": 0, "acc": 0}
        self.sizes = {"spad": 8192, "wbuf": 8192, "acc": 8192}
        self.inputs: list[dict[str, Any]] = []
        self.outputs: list[dict[str, Any]] = []
        self.scratch = 0
        self.target = TARGET
        self.registers: dict[int, int] = {0: 0}
        self.paths: list[list[Any]] = []

    def emit(self, name: str, **fields: Any) -> None:
        """Appends an instruction."""
        self.code.append(Instruction.make(name, **fields))

    def register(self, value: int) -> int:
        """Returns a register (from r63 down) that holds a constant."""
        if value not in self.registers:
            number = 64 - len(self.registers)
            self.registers[value] = number
            self.emit("lea", rd=number, imm=value)
        return self.registers[value]

    def allocate(self, space: str, size: int) -> int:
        """Returns the address of fresh bytes, a multiple of 8."""
        address = self.used[space]
        self.used[space] += -(-size // 8) * 8
        return address

    def constant(self, array: NDArray[Any] | bytes) -> int:
        """Adds bytes to the DRAM constants and returns their address."""
        self.constants += bytes(-len(self.constants) % 8)
        address = len(self.constants)
        self.constants += array if isinstance(array, bytes) else array.tobytes()
        return address

    def place(self, array: NDArray[Any] | bytes, space: str = "spad", stride: int = 0) -> int:
        """Loads an array (rows and columns, or flat) into on-chip memory; returns the register of its address."""
        data = np.frombuffer(array, np.uint8) if isinstance(array, bytes) else np.ascontiguousarray(array)
        data = data.reshape(-1, data.shape[-1])
        row_bytes = data.shape[1] * data.itemsize
        stride = stride or row_bytes
        address = self.allocate(space, stride * len(data))
        self.emit(
            "ld",
            dram=self.register(self.constant(data)),
            sram=self.register(address),
            dram_stride=self.register(row_bytes),
            sram_stride=self.register(stride),
            rows=len(data),
            row_bytes=row_bytes,
            space=space,
        )
        return self.register(address)

    def port(self, direction: str, name: str, shape: tuple[int, ...], dtype: str, **fields: Any) -> int:
        """Declares an input or output and returns its offset in the writable part of DRAM."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        offset = self.scratch
        self.scratch += -(-size // 8) * 8
        entry = {"name": name, "shape": list(shape), "host_dtype": "float32", "device_dtype": dtype, "bytes": size}
        entry |= {"kind": "quantized", "scale": 1.0, "zero_point": 0, "limit": 0, "address": offset, **fields}
        (self.inputs if direction == "inputs" else self.outputs).append(entry)
        return offset

    def result(self, address: int, shape: tuple[int, int], dtype: str, stride: int = 0, name: str = "y") -> None:
        """Stores the tile of spad at an address (a number, not a register) as output ``name``."""
        row_bytes = shape[1] * np.dtype(dtype).itemsize
        offset = self.port("outputs", name, shape, dtype)
        self.emit(
            "st",
            dram=self.writable(offset),
            sram=self.register(address),
            dram_stride=self.register(row_bytes),
            sram_stride=self.register(stride or row_bytes),
            rows=shape[0],
            row_bytes=row_bytes,
        )

    def writable(self, offset: int) -> int:
        """Returns a register with an address in the writable part of DRAM, which begins at 32768 on this bench."""
        return self.register(self.base + offset)

    @property
    def base(self) -> int:
        """The first writable address."""
        return 32768

    def container(self) -> Container:
        """Returns the container; the constants are filled up to the bench's writable part."""
        assert len(self.constants) <= self.base
        code = self.code if self.code and self.code[-1].name == "halt" else [*self.code, Instruction.make("halt")]
        moved = [[{**e, "address": e["address"] + self.base} for e in es] for es in (self.inputs, self.outputs)]
        return Container(
            code=code,
            constants=np.frombuffer(bytes(self.constants).ljust(self.base, b"\0"), np.uint8),
            program={**self.sizes, "dram": self.base + self.scratch, "macs": 64, "dense_macs": 128},
            signature={"inputs": moved[0], "outputs": moved[1]},
            debug={"instructions": self.paths, "buffers": [], "constants": []},
            target=self.target.to_json(),
        )

    def program(self) -> Program:
        """Returns the program."""
        return Program(self.container())

    def run(self, **inputs: NDArray[Any]) -> Result:
        """Runs the program with two poison values, which must not matter, and returns the result."""
        program = self.program()
        first, second = (program.run(inputs, poison=poison) for poison in (0xA5, 0x00))
        for name, value in first.raw.items():
            assert np.array_equal(value, second.raw[name]), f"output {name} depends on uninitialized memory"
        return first


@pytest.fixture
def bench() -> Bench:
    """Returns an empty bench."""
    return Bench()


@pytest.fixture(scope="session")
def make_bench() -> Callable[[], Bench]:
    """Returns the maker of empty benches, for tests that need many."""
    return Bench
