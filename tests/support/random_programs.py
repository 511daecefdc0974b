"""
Random programs of the machine: valid containers, made instruction by instruction, not by the compiler.

Addresses run affinely through random loops, sizes divide nothing, tiles overlap, operands are whatever the memories
hold, and sequences that make no sense in a model are as likely as any. Most programs end; some stop at an index, a sum
or a parameter that is out of range.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.backend.container import Container
from sta.spec.alignment import ALIGNMENT
from sta.spec.instructions.instruction import Instruction
from sta.spec.nm_format import Pattern, pack, packed_size, prune_by_magnitude
from sta.spec.parameters import MapParameters, NormParameters, RotateParameters, SoftmaxParameters
from sta.spec.rotation import PAIRINGS
from sta.spec.target import Target
from sta.spec.vector import COMBINATIONS

TARGET = Target(
    name="random",
    array_rows=4,
    array_columns=4,
    multipliers=2,
    window=8,
    vector_lanes=4,
    softmax_lanes=4,
    clock_mhz=100,
    sram_bytes=1 << 16,
    dma_bytes_per_cycle=16,
    dma_latency=20,
    drain_latency=7,
    tile_rows=40,
    tile_columns=70,
)
"""Of the writable part of DRAM."""
LONGEST_LOOP = 3
DEEPEST_LOOPS = 3
COUNTERS = 55
"""The register of the outermost loop's counter; others follow."""
WORD = 4
DTYPES = {"s8": 1, "u8": 1, "s16": 2, "s32": 4, "acc": 4, "acc_wide": 4}


@dataclass(frozen=True)
class Sizes:
    """Sizes of a random program, in bytes except for the target and where elements are named."""

    target: Target
    memories: dict[str, int]
    """Of spad, wbuf and acc."""
    weights: int
    """At the start of wbuf for weights; behind them lie parameters and tables, which stay."""
    writable: int
    input: int
    indices: int
    """At the end of the constants for indices, shifts and sums that are made up on the way."""
    width: int
    """Most elements of a row."""
    depth: int
    """Most elements of a sum of products."""
    rows: int
    """Most rows of a copy."""
    row_bytes: int
    """Most bytes of a row of a copy."""
    block: int
    """Most bytes that are loaded into wbuf at once."""
    choices: int
    """Number of parameter blocks, tables and packed weights of a kind to choose from."""


LARGE = Sizes(
    target=TARGET,
    memories={"spad": 14000, "wbuf": 20000, "acc": 12000},
    weights=9000,
    writable=6000,
    input=3000,
    indices=2048,
    width=70,
    depth=90,
    rows=20,
    row_bytes=150,
    block=3000,
    choices=2,
)
SMALL = Sizes(
    target=dataclasses.replace(TARGET, tile_rows=9, tile_columns=18),
    memories={"spad": 1800, "wbuf": 2600, "acc": 1600},
    weights=700,
    writable=500,
    input=200,
    indices=128,
    width=18,
    depth=20,
    rows=8,
    row_bytes=20,
    block=300,
    choices=1,
)
"""For a fuzzer, whose inputs should be short."""


TALL = dataclasses.replace(
    LARGE,
    target=dataclasses.replace(TARGET, tile_rows=200, sram_bytes=1 << 18),
    memories={"spad": 62000, "wbuf": 20000, "acc": 120000},
)
"""For threads, which share eight rows or more each."""


@dataclass(frozen=True)
class Block:
    """Packed weights among the constants."""

    address: int
    columns: int
    depth: int
    pattern: Pattern
    encoding: str

    @property
    def size(self) -> int:
        """Bytes of the block."""
        return packed_size(self.columns, self.depth, self.pattern, self.encoding)


class RandomProgram:
    """One random program; the same seed gives the same one."""

    def __init__(self, seed: int, instructions: int = 12, sizes: Sizes = LARGE) -> None:
        """Makes it, of about as many unit instructions as given."""
        self.sizes, self.target, self.memories = sizes, sizes.target, sizes.memories
        self.random = np.random.default_rng(seed)
        self.code: list[Instruction] = []
        self.constants = bytearray()
        self.loops: list[int] = []
        self.register = 0
        self.parameters: dict[tuple[str, int], list[int]] = {}
        self.tables: list[int] = []
        self.used = self.sizes.weights
        self._place_parameters()
        self.blocks = [self._weights() for _ in range(2 * sizes.choices)]
        self.constant(self.random.integers(0, 256, self.sizes.indices, np.uint8).tobytes())
        self.constants += bytes(-len(self.constants) % ALIGNMENT)
        self.base = len(self.constants)
        for _ in range(instructions):
            self._loops()
            self._instruction()
        while self.loops:
            self._leave()
        self.emit("halt")

    def container(self) -> Container:
        """Returns the program."""
        shared = {"host_dtype": "float32", "kind": "quantized", "scale": 1.0, "zero_point": 0, "limit": 0}
        port = {
            **shared,
            "name": "x",
            "shape": [self.sizes.input],
            "device_dtype": "uint8",
            "address": self.base,
            "bytes": self.sizes.input,
        }
        return Container(
            code=self.code,
            constants=np.frombuffer(bytes(self.constants), np.uint8),
            program={**self.memories, "dram": self.base + self.sizes.writable, "macs": 1, "dense_macs": 1},
            signature={"inputs": [port], "outputs": [{**port, "name": "y"}]},
            debug={"instructions": [], "buffers": [], "constants": []},
            target=self.target.to_json(),
        )

    def inputs(self) -> dict[str, NDArray[Any]]:
        """Returns the device's integers of the input."""
        return {"x": self.random.integers(0, 256, self.sizes.input, np.uint8)}

    # ----------------------------------------------------------------------------------------------- choices

    def below(self, limit: int) -> int:
        """Returns an integer in 0..limit-1."""
        return int(self.random.integers(limit))

    def up_to(self, limit: int) -> int:
        """Returns an integer in 1..limit, small ones as likely as large ones."""
        return 1 + self.below(1 + self.below(limit))

    def chance(self, probability: float) -> bool:
        """Returns true as often as the probability says."""
        return bool(self.random.random() < probability)

    def one_of(self, values: Sequence[Any]) -> Any:
        """Returns one of the values."""
        return values[self.below(len(values))]

    # ----------------------------------------------------------------------------------------------- data

    def constant(self, data: bytes) -> int:
        """Adds bytes to the constants and returns their address."""
        address = len(self.constants)
        self.constants += data
        return address

    def _parameter(self, kind: str, columns: int, block: bytes) -> None:
        """Loads a parameter block for good."""
        if self.chance(0.004):
            # Some block is damaged in a way that may or may not matter.
            damaged = bytearray(block)
            damaged[self.below(len(block))] ^= 1 << self.below(8)
            block = bytes(damaged)
        address = self._load_for_good(block)
        self.parameters.setdefault((kind, columns), []).append(address)

    def _load_for_good(self, block: bytes) -> int:
        address, self.used = self.used, self.used + -(-len(block) // 8) * 8
        source = self.constant(block)
        self.emit("ld", dram=self.fixed(source), sram=self.fixed(address), rows=1, row_bytes=len(block), space="wbuf")
        return address

    def _scale(self) -> tuple[int, int]:
        shift = int(self.random.integers(2, 63)) if self.chance(0.3) else int(self.random.integers(28, 48))
        return int(self.random.integers(0 if self.chance(0.1) else 1 << 30, 1 << 31)), shift

    def _scales(self, columns: int) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        pairs = [self._scale() for _ in range(columns)]
        return np.array([pair[0] for pair in pairs], np.int32), np.array([pair[1] for pair in pairs], np.int8)

    def _integer(self, bits: int) -> int:
        """Returns a signed integer of at most as many bits, of any size."""
        bits = 1 + self.below(bits)
        return int(self.random.integers(-(1 << (bits - 1)), 1 << (bits - 1)))

    def _place_parameters(self) -> None:
        self.widths = [self.up_to(self.sizes.width) for _ in range(2 * self.sizes.choices - 1)]
        for columns in [*[1] * self.sizes.choices, *self.widths]:
            multiplier, shift = self._scales(columns)
            bits = self.one_of([8, 16, 24, 31, 32])
            bias = np.array([self._integer(bits) for _ in range(columns)], np.int32)
            table, residual = self._scale(), self._scale()
            block = MapParameters(bias, multiplier, shift, *table, self._integer(bits), *residual, self._integer(32))
            self._parameter("map", columns, block.to_bytes())
        for columns in self.widths:
            gamma, beta = (np.array([self._integer(32) for _ in range(columns)], np.int32) for _ in range(2))
            epsilon = 1 + abs(self._integer(self.one_of([8, 40, 61])))
            norm = NormParameters(gamma, beta, epsilon, self.below(64), *self._scale(), self._integer(32))
            self._parameter("norm", columns, norm.to_bytes())
        for _ in range(self.sizes.choices):
            self._parameter("softmax", 1, SoftmaxParameters(*self._scale(), self._scale()).to_bytes())
            self._parameter("rotate", 1, RotateParameters(*self._scale()).to_bytes())
        for _ in range(self.sizes.choices):
            table = self.random.integers(-32768, 32768, 513).astype(np.int16)
            self.tables.append(self._load_for_good(table.tobytes()))

    def _weights(self) -> Block:
        columns, depth = self.up_to(self.target.tile_columns), self.up_to(self.sizes.depth)
        m = self.up_to(32)
        pattern = Pattern(self.up_to(m), m)
        encoding = "dense" if pattern.is_dense else self.one_of(["bitmap", "index"])
        weights = self.random.integers(-128, 128, (columns, depth)).astype(np.float32)
        block = pack(prune_by_magnitude(weights, pattern).astype(np.int8), pattern, encoding)
        return Block(self.constant(block.tobytes()), columns, depth, pattern, encoding)

    # ----------------------------------------------------------------------------------------------- registers

    def emit(self, name: str, **fields: Any) -> None:
        """Appends an instruction."""
        self.code.append(Instruction.make(name, **fields))

    def _next_register(self) -> int:
        self.register = self.register % (COUNTERS - 1) + 1
        return self.register

    def fixed(self, value: int) -> int:
        """Returns a register that holds a value."""
        if value == 0:
            return 0
        number = self._next_register()
        self.emit("lea", rd=number, imm=value)
        return number

    def address(self, start: int, end: int, extent: int, alignment: int = 1) -> int:
        """Returns a register that, while loops run, holds addresses of `extent` bytes in start..end-1."""
        room = (end - start - extent) // alignment
        assert room >= 0
        fields: dict[str, int] = {}
        low = high = 0
        moving = [depth for depth, count in enumerate(self.loops) if count > 1]
        chosen: list[int] = self.random.permutation(moving)[:2].tolist()
        for position, depth in enumerate(chosen, 1):
            reach = (room - (high - low)) // (2 * (self.loops[depth] - 1))
            step = int(self.random.integers(-reach, reach + 1)) if self.chance(0.7) else 0
            fields |= {f"c{position}": COUNTERS + depth, f"s{position}": step * alignment}
            span = step * (self.loops[depth] - 1)
            low, high = low + min(span, 0), high + max(span, 0)
        place = -low + self.below(room - (high - low) + 1)
        number = self._next_register()
        self.emit("lea", rd=number, imm=start + place * alignment, **fields)
        return number

    def tile(
        self, name: str, rows: int, row_bytes: int, end: int, alignment: int = 1, start: int = 0, writes: bool = False
    ) -> dict[str, int]:
        """Returns address and stride of an operand with a random stride."""
        most = (end - start - row_bytes) // max(rows - 1, 1)
        least = -(-row_bytes // alignment) * alignment if writes and rows > 1 else 0
        assert most >= least or rows == 1
        common = -(-row_bytes // alignment) * alignment
        stride = min(common + alignment * self.below(9), most // alignment * alignment)
        if not writes and self.chance(0.1):
            stride = alignment * self.below(1 + min(most, 200) // alignment)
        stride = max(stride, least)
        extent = (rows - 1) * stride + row_bytes
        return {name: self.address(start, end, extent, alignment), f"{name}_stride": self.fixed(stride)}

    # ----------------------------------------------------------------------------------------------- control

    def _loops(self) -> None:
        if self.loops and self.chance(0.25):
            self._leave()
        if len(self.loops) < DEEPEST_LOOPS and self.chance(0.2):
            count = 0 if self.chance(0.08) else self.up_to(LONGEST_LOOP)
            self.emit("loop", counter=COUNTERS + len(self.loops), count=count)
            self.loops.append(count)

    def _leave(self) -> None:
        self.emit("end")
        self.loops.pop()

    def _instruction(self) -> None:
        kinds = {"ld": 2, "ld_weights": 2, "st": 1, "gather": 1, "mm": 3, "mm_weights": 4, "softmax": 3, "map": 5}
        kinds |= {"norm": 2, "rotate": 2, "statistics": 1, "shift": 1, "sync": 0.3, "fence": 0.2}
        weights = np.array(list(kinds.values()))
        name = str(self.random.choice(list(kinds), p=weights / weights.sum()))
        getattr(self, f"_{name}")()

    def _sync(self) -> None:
        self.emit("sync", unit=self.one_of(["ld", "st", "mm", "sm", "vp"]))

    def _fence(self) -> None:
        self.emit("fence")

    # ----------------------------------------------------------------------------------------------- copies

    def _dram(self, rows: int, row_bytes: int, writes: bool = False) -> dict[str, int]:
        if writes or self.chance(0.4):
            return self.tile("dram", rows, row_bytes, self.base + self.sizes.writable, start=self.base, writes=writes)
        return self.tile("dram", rows, row_bytes, len(self.constants))

    def _ld(self) -> None:
        rows, row_bytes = self.up_to(self.sizes.rows), self.up_to(self.sizes.row_bytes)
        sram = self.tile("sram", rows, row_bytes, self.memories["spad"], writes=True)
        self.emit("ld", **self._dram(rows, row_bytes), **sram, rows=rows, row_bytes=row_bytes)

    def _ld_weights(self) -> None:
        rows, row_bytes = (
            (1, self.up_to(self.sizes.block)) if self.chance(0.6) else (self.up_to(6), self.up_to(self.sizes.row_bytes))
        )
        sram = self.tile("sram", rows, row_bytes, self.sizes.weights, writes=True)
        self.emit("ld", **self._dram(rows, row_bytes), **sram, rows=rows, row_bytes=row_bytes, space="wbuf")

    def _st(self) -> None:
        rows, row_bytes = self.up_to(self.sizes.rows), self.up_to(self.sizes.row_bytes)
        sram = self.tile("sram", rows, row_bytes, self.memories["spad"])
        self.emit("st", **self._dram(rows, row_bytes, writes=True), **sram, rows=rows, row_bytes=row_bytes)

    def _gather(self) -> None:
        rows, row_bytes = self.up_to(self.sizes.rows), self.up_to(self.sizes.row_bytes)
        # Indices are any bytes, so that most of them stop the run: load small ones in front.
        indices = self.random.integers(0, 12, rows).astype("<i4").tobytes()
        limit = 12 if self.chance(0.98) else 11
        place = self.fixed(WORD * self.below(self.memories["spad"] // WORD - rows))
        # Constants are complete when the first instruction is made, apart from these.
        source = self._indices(indices)
        self.emit("ld", dram=self.fixed(source), sram=place, rows=1, row_bytes=len(indices))
        self.emit(
            "gather",
            table=self.address(0, len(self.constants), 12 * row_bytes),
            indices=place,
            **self.tile("destination", rows, row_bytes, self.memories["spad"], writes=True),
            limit=self.fixed(limit),
            rows=rows,
            row_bytes=row_bytes,
        )

    def _indices(self, indices: bytes) -> int:
        """Writes integers over some of the last constants, and returns their address."""
        start = self.base - self.sizes.indices + WORD * self.below(self.sizes.indices // WORD - len(indices) // WORD)
        self.constants[start : start + len(indices)] = indices
        return start

    # ----------------------------------------------------------------------------------------------- products

    def _mm(self) -> None:
        rows, columns, depth = (
            self.up_to(self.target.tile_rows),
            self.up_to(self.target.tile_columns),
            self.up_to(self.sizes.depth),
        )
        transposed = self.chance(0.5)
        shape = (depth, columns) if transposed else (columns, depth)
        b = self.tile("b", *shape, self.memories["spad"])
        self._product(rows, columns, depth, **b, b_space="spad", b_transposed=transposed)

    def _mm_weights(self) -> None:
        block = self.one_of(self.blocks)
        place = self.below(self.sizes.weights - block.size)
        if self.chance(0.7):
            fields = {"dram": self.fixed(block.address), "sram": self.fixed(place)}
            self.emit("ld", **fields, rows=1, row_bytes=block.size, space="wbuf")
        elif block.encoding != "dense" and self.chance(0.95):
            # Whatever lies there is hardly ever well-formed.
            return
        self._product(
            self.up_to(self.target.tile_rows),
            block.columns,
            block.depth,
            b=self.fixed(place),
            n=block.pattern.n,
            m=block.pattern.m,
            encoding=block.encoding,
        )

    def _product(self, rows: int, columns: int, depth: int, **fields: Any) -> None:
        wide = self.chance(0.2)
        row_bytes = 2 * depth - 1 if wide else depth
        self.emit(
            "mm",
            **self.tile("a", rows, row_bytes, self.memories["spad"]),
            **self.tile("acc", rows, WORD * columns, self.memories["acc"], WORD, writes=True),
            rows=rows,
            columns=columns,
            depth=depth,
            a_type=self.one_of(["s8", "u8"]),
            a_wide=wide,
            accumulate=self.chance(0.2),
            scores=self.chance(0.2),
            **fields,
        )

    def _shift(self) -> None:
        rows, columns = self.up_to(self.target.tile_rows), self.up_to(self.sizes.width)
        shifts = self.random.integers(0, 33 if self.chance(0.03) else 32, rows).astype("<i4").tobytes()
        place = self.fixed(WORD * self.below(self.memories["spad"] // WORD - rows))
        self.emit("ld", dram=self.fixed(self._indices(shifts)), sram=place, rows=1, row_bytes=len(shifts))
        acc = self.tile("acc", rows, WORD * columns, self.memories["acc"], WORD, writes=True)
        self.emit("shift", **acc, shifts=place, rows=rows, columns=columns)

    # ----------------------------------------------------------------------------------------------- vectors

    def _softmax(self) -> None:
        rows, keys = self.up_to(self.target.tile_rows), self.up_to(self.sizes.width)
        bits, mode = self.one_of(["8", "16"]), self.one_of(["row", "online_first", "online"])
        bytes_each = int(bits) // 8
        has_mask = self.chance(0.5)
        fields: dict[str, Any] = {"mask": 0, "has_mask": has_mask}
        if has_mask:
            fields |= self.tile("mask", rows, keys, self.memories["spad"])
        if self.chance(0.4):
            fields |= {**self.tile("bias", rows, 2 * keys, self.memories["spad"], 2), "has_bias": 1}
        if self.chance(0.5):
            fields |= {"row_offset": self.fixed(self.below(60)), "key_offset": self.fixed(self.below(60))}
        state = rows * WORD * (1 if mode == "row" else 3)
        sums = self.address(0, self.memories["spad"], state, WORD)
        common = {
            **self.tile("scores", rows, WORD * keys, self.memories["acc"], WORD),
            "sums": sums,
            "parameters": self.fixed(self.one_of(self.parameters["softmax", 1])),
            **fields,
            "rows": rows,
            "keys": keys,
            "causal": self.chance(0.4),
            "probability_bits": bits,
        }
        size = (rows, bytes_each * keys, self.memories["spad"], bytes_each)
        if mode == "online":
            # So that there is a state, most of the time; the exponentials may lie over it.
            first = self.tile("destination", *size, writes=True)
            self.emit("softmax", **common, **first, mode="online_first")
        self.emit("softmax", **common, **self.tile("destination", *size, writes=True), mode=mode)

    def _map(self) -> None:
        per_channel, normalize = self.chance(0.5), self.chance(0.2)
        columns = self.one_of(self.widths) if per_channel and not normalize else self.up_to(self.sizes.width)
        source_type = self.one_of(["acc", "acc", "acc", "s32", "s16", "s8", "u8", "acc_wide"])
        rows = self.up_to(self.target.tile_rows // (2 if source_type == "acc_wide" else 1))
        fields: dict[str, Any] = {}
        if normalize:
            fields["residual"] = self._sums(rows)
        elif self.chance(0.4):
            kind, residual_column = self.one_of(["s8", "s16", "s32"]), self.chance(0.3)
            width = 1 if residual_column else columns
            size = (rows, DTYPES[kind] * width, self.memories["spad"], DTYPES[kind])
            fields |= {
                **self.tile("residual", *size),
                "residual_type": kind,
                "combine": self.one_of(COMBINATIONS),
                "residual_column": residual_column,
            }
        if self.chance(0.3):
            fields |= {"has_table": 1, "table": self.fixed(self.one_of(self.tables))}
        self._map_of(source_type, rows, columns, per_channel and not normalize, normalize, fields)

    def _sums(self, rows: int) -> int:
        """Returns a register with the address of sums, hardly any of which is negative."""
        sums = self.random.integers(0, 1 << self.one_of([8, 20, 31]), rows)
        if self.chance(0.03):
            sums[self.below(rows)] = -1
        place = self.fixed(WORD * self.below(self.memories["spad"] // WORD - rows))
        source = self._indices(sums.astype("<i4").tobytes())
        self.emit("ld", dram=self.fixed(source), sram=place, rows=1, row_bytes=WORD * rows)
        return place

    def _map_of(
        self,
        source_type: str,
        rows: int,
        columns: int,
        per_channel: bool,
        normalize: bool,
        fields: dict[str, Any],
    ) -> None:
        destination_type = self.one_of(["s8", "u8", "s16", "s32"])
        memory = self.memories["acc" if source_type.startswith("acc") else "spad"]
        source_columns = columns * (2 if source_type == "acc_wide" else 1)
        alignment = DTYPES[source_type]
        source = self.tile("source", rows, alignment * source_columns, memory, alignment)
        alignment = DTYPES[destination_type]
        destination = self.tile("destination", rows, alignment * columns, self.memories["spad"], alignment, writes=True)
        in_place = DTYPES.get(source_type) == DTYPES[destination_type] and not source_type.startswith("acc")
        if in_place and self.chance(0.4):
            # In place: the source lies where the result goes.
            source = {"source": destination["destination"], "source_stride": destination["destination_stride"]}
        self.emit(
            "map",
            **source,
            **destination,
            parameters=self.fixed(self.one_of(self.parameters["map", columns if per_channel else 1])),
            rows=rows,
            columns=columns,
            source_type=source_type,
            destination_type=destination_type,
            per_channel=per_channel,
            normalize=normalize,
            statistics=destination_type == "s16" and self.chance(0.1),
            **fields,
        )

    def _norm(self) -> None:
        self._norm_of(self.up_to(self.target.tile_rows), statistics=self.chance(0.02))

    def _norm_of(self, rows: int, statistics: bool, source: dict[str, int] | None = None, columns: int = 0) -> None:
        columns = columns or self.one_of(self.widths)
        source = source or self.tile("source", rows, 2 * columns, self.memories["spad"], 2)
        outputs = self.one_of(["destination", "copy", "both"])
        fields: dict[str, Any] = {}
        if outputs != "copy":
            fields |= self.tile("destination", rows, 2 * columns, self.memories["spad"], 2, writes=True)
            if self.chance(0.4):
                # In place: the source lies where the result goes.
                source = {"source": fields["destination"], "source_stride": fields["destination_stride"]}
        if outputs != "destination":
            fields |= self.tile("copy", rows, columns, self.memories["spad"], writes=True)
        self.emit(
            "norm",
            **source,
            **fields,
            parameters=self.fixed(self.one_of(self.parameters["norm", columns])),
            rows=rows,
            columns=columns,
            kind=self.one_of(["layer", "rms"]),
            outputs=outputs,
            statistics=statistics,
        )

    def _rotate(self) -> None:
        rows, columns = self.up_to(self.target.tile_rows), 1 + self.up_to(max(1, self.sizes.width - 1))
        spad, types = self.memories["spad"], [self.one_of(["s8", "s16"]) for _ in range(2)]
        source, destination = (DTYPES[name] for name in types)
        fields = self.tile("destination", rows, destination * columns, spad, destination, writes=True)
        if types[0] == types[1] and self.chance(0.3):
            # In place: a pair is read before either of it is written.
            fields |= {"source": fields["destination"], "source_stride": fields["destination_stride"]}
        else:
            fields |= self.tile("source", rows, source * columns, spad, source)
        for table in ("cosines", "sines"):
            fields |= self.tile(table, rows, 2 * columns, spad, 2)
        self.emit(
            "rotate",
            **fields,
            parameters=self.fixed(self.one_of(self.parameters["rotate", 1])),
            rows=rows,
            columns=columns,
            width=2 * self.up_to(columns // 2),
            source_type=types[0],
            destination_type=types[1],
            pairing=self.one_of(PAIRINGS),
        )

    def _statistics(self) -> None:
        """Rows whose statistics are added up in two parts, and the norm of these rows."""
        columns = self.one_of(self.widths)
        rows = self.up_to(self.target.tile_rows)
        stride = 2 * columns
        start = 2 * self.below((self.memories["spad"] - rows * stride) // 2)
        cut = self.below(columns)
        for first, last in ((0, cut), (cut, columns)):
            if first == last:
                continue
            self.emit(
                "map",
                **self.tile("source", rows, WORD * (last - first), self.memories["acc"], WORD),
                destination=self.fixed(start + 2 * first),
                destination_stride=self.fixed(stride),
                parameters=self.fixed(self.one_of(self.parameters["map", 1])),
                rows=rows,
                columns=last - first,
                source_type="acc",
                destination_type="s16",
                statistics=1,
            )
        source = {"source": self.fixed(start), "source_stride": self.fixed(stride)}
        self._norm_of(rows, statistics=True, source=source, columns=columns)
