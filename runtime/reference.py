"""
The reference engine: the readable definition of what each instruction does.

It executes in program order, one instruction after the other. All arithmetic is that of ``sta.spec``. Each static
instruction is turned once into a function of the loop counters; a run calls these functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sta.backend.isa import MAXIMUM_LOOP_DEPTH
from sta.runtime.accesses import DTYPES, accesses
from sta.runtime.errors import ProgramError
from sta.runtime.memory import Array, Memories, Tile
from sta.runtime.steps import Step, execution
from sta.runtime.validate import ValidProgram
from sta.spec.integers import Int64Array, check_int32, matrix_product
from sta.spec.nm_format import Pattern, unpack
from sta.spec.parameters import MapParameters, NormParameters, SoftmaxParameters
from sta.spec.softmax import RowState, shift_rows, softmax_online, softmax_row
from sta.spec.vector import RowStatistics, map_tile, norm_tile

_INSTRUCTIONS_BETWEEN_REPORTS = 64

Report = Callable[[float | None], None]
"""Takes the fraction 0..1 of a run that is done, or None where that is not known."""
Counters = Sequence[int]
Operation = Callable[[Counters], None]
Tiles = Mapping[str, Tile]


@dataclass(frozen=True)
class State:
    """All that the instructions of a program can change."""

    spad: Array
    wbuf: Array
    acc: Array
    writable: Array
    """The writable part of DRAM."""
    statistics: tuple[Int64Array, Int64Array]

    @property
    def bytes(self) -> int:
        """Bytes of the memories."""
        return sum(memory.nbytes for memory in (self.spad, self.wbuf, self.acc, self.writable))


class ReferenceEngine:
    """Runs one program, any number of times. Not for use by several threads at once."""

    def __init__(self, program: ValidProgram) -> None:
        self._program = program
        self._memories = Memories.allocate(program)
        self._statistics = RowStatistics(program.target.tile_rows)
        self._operations = {
            step.pc: operation(step, self._memories, self._statistics)
            for step in program.steps
            if not step.instruction.definition.is_sequencer
        }

    @property
    def program(self) -> ValidProgram:
        """The program that it runs."""
        return self._program

    @property
    def memories(self) -> Memories:
        """The machine's memories as they are now."""
        return self._memories

    @property
    def statistics(self) -> tuple[Int64Array, Int64Array]:
        """The vector unit's row statistics as they are now: sums and sums of squares."""
        return self._statistics.values

    def replace_gathered(self, before: Array, after: Array) -> None:
        """Corrects the row statistics after a tile that was gathered, ``before``, has been replaced by another."""
        self._statistics.replace(before, after)

    def run(self, inputs: Mapping[str, Array], poison: int, report: Report | None = None) -> dict[str, Array]:
        """
        Runs the program.

        Args:
            inputs: device integers by input name, in the device dtype and shape of the signature.
            poison: the byte, 0..255, that all writable memory holds at the start.
            report: is called now and then.

        Returns:
            Device integers by output name.

        Raises:
            ProgramError: an index outside its table, a sum outside int32, or malformed weights or parameters.
        """
        self.begin(inputs, poison)
        counters = [0] * MAXIMUM_LOOP_DEPTH
        done = 0
        for number, (step, issued) in enumerate(execution(self._program.steps, counters)):
            self.execute(step, counters)
            done += issued
            if report is not None and number % _INSTRUCTIONS_BETWEEN_REPORTS == 0:
                report(done / self._program.instructions)
        return {port.signature.name: self._memories.port(port).copy() for port in self._program.outputs}

    def begin(self, inputs: Mapping[str, Array], poison: int) -> None:
        """Brings the machine into the state in which ``run``, which takes the same, starts."""
        self._memories.poison(poison)
        self._statistics.clear()
        for port in self._program.inputs:
            self._memories.port(port)[...] = inputs[port.signature.name]

    def execute(self, step: Step, counters: Counters) -> None:
        """Executes an instruction; one of the sequencer changes nothing. Raises ProgramError as ``run`` does."""
        operation = self._operations.get(step.pc)
        if operation is None:
            return
        try:
            operation(counters)
        except (ValueError, OverflowError) as error:
            raise ProgramError(f"{self._program.at(step.pc)}: {error}") from None

    def save(self) -> State:
        """Returns a copy of all state."""
        memories = self._memories
        return State(
            memories.spad.copy(),
            memories.wbuf.copy(),
            memories.acc.copy(),
            memories.writable.copy(),
            self._statistics.values,
        )

    def restore(self, state: State) -> None:
        """Brings back the state that ``save`` returned."""
        for name in ("spad", "wbuf", "acc", "writable"):
            getattr(self._memories, name)[:] = getattr(state, name)
        self._statistics.restore(*state.statistics)


def operation(step: Step, memories: Memories, statistics: RowStatistics) -> Operation:
    """Returns what a unit instruction does to memories and row statistics, as a function of the loop counters."""
    tiles = {access.name: memories.tile(step, access) for access in accesses(step.instruction)}
    return _OPERATIONS[step.instruction.name](step, tiles, statistics)


def _sync(step: Step, tiles: Tiles, _statistics: RowStatistics) -> Operation:
    """Program order is order enough."""

    def execute(counters: Counters) -> None:
        pass

    return execute


def _ld(step: Step, tiles: Tiles, _statistics: RowStatistics) -> Operation:
    dram, sram = tiles["dram"], tiles["sram"]

    def execute(counters: Counters) -> None:
        sram.at(counters)[...] = dram.at(counters)

    return execute


def _st(step: Step, tiles: Tiles, _statistics: RowStatistics) -> Operation:
    dram, sram = tiles["dram"], tiles["sram"]

    def execute(counters: Counters) -> None:
        dram.at(counters)[...] = sram.at(counters)

    return execute


def _gather(step: Step, tiles: Tiles, _statistics: RowStatistics) -> Operation:
    row_bytes = step.instruction["row_bytes"]
    limit = step.registers["limit"]
    indices, destination, first_row = tiles["indices"], tiles["destination"], tiles["table"]

    def execute(counters: Counters) -> None:
        rows, wanted = limit.at(counters), indices.at(counters)[0]
        outside = np.flatnonzero((wanted < 0) | (wanted >= rows))
        if outside.size:
            raise ValueError(f"index {wanted[outside[0]]} at position {outside[0]} is outside 0..{rows - 1}")
        table = np.lib.stride_tricks.as_strided(first_row.at(counters), (rows, row_bytes), (row_bytes, 1))
        destination.at(counters)[...] = table[wanted]

    return execute


def _mm(step: Step, tiles: Tiles, _statistics: RowStatistics) -> Operation:
    instruction = step.instruction
    activations, weights, accumulators = tiles["a"], _weights(step, tiles["b"]), tiles["acc"]
    accumulate = bool(instruction["accumulate"])

    def execute(counters: Counters) -> None:
        result = matrix_product(activations.at(counters), weights(counters), check=not accumulate)
        target = accumulators.at(counters)
        if accumulate:
            result += target
            check_int32(result, "an accumulated sum of products is out of range:")
        target[...] = result

    return execute


def _weights(step: Step, b: Tile) -> Callable[[Counters], Array]:
    """Returns the function that gives a product's second operand as int8 ``[columns, depth]``."""
    instruction = step.instruction
    if instruction.choice("b_space") == "spad":
        return (lambda counters: b.at(counters).T) if instruction["b_transposed"] else b.at
    rows, depth, encoding = instruction["columns"], instruction["depth"], instruction.choice("encoding")
    pattern = Pattern(instruction["n"], instruction["m"])
    if encoding == "dense":
        return lambda counters: b.at(counters).view(np.int8).reshape(rows, depth)
    return lambda counters: _unpacked(b.at(counters).tobytes(), rows, depth, pattern, encoding)


@lru_cache(maxsize=32)
def _unpacked(block: bytes, rows: int, depth: int, pattern: Pattern, encoding: str) -> NDArray[np.int8]:
    """Returns unpacked weights; a block is used by several row tiles in succession."""
    return unpack(np.frombuffer(block, np.uint8), rows, depth, pattern, encoding)


@lru_cache(maxsize=256)
def _map_parameters(block: bytes, columns: int) -> MapParameters:
    return MapParameters.from_bytes(block, columns)


@lru_cache(maxsize=64)
def _norm_parameters(block: bytes, columns: int) -> NormParameters:
    return NormParameters.from_bytes(block, columns)


def _softmax(step: Step, tiles: Tiles, _statistics: RowStatistics) -> Operation:
    instruction = step.instruction
    if instruction.choice("mode") != "row":
        return _softmax_online(step, tiles)
    scores, destination, sums, parameters = (tiles[name] for name in ("scores", "destination", "sums", "parameters"))
    admissible = _admissible(step, tiles)
    bits = int(instruction.choice("p_bits"))

    def execute(counters: Counters) -> None:
        scale = SoftmaxParameters.from_bytes(parameters.at(counters)[0])
        exponentials, totals = softmax_row(
            scores.at(counters), admissible(counters), scale.multiplier, scale.shift, bits
        )
        destination.at(counters)[...] = exponentials
        sums.at(counters)[0] = totals

    return execute


def _softmax_online(step: Step, tiles: Tiles) -> Operation:
    instruction = step.instruction
    scores, destination, written, parameters = (tiles[name] for name in ("scores", "destination", "sums", "parameters"))
    admissible, known = _admissible(step, tiles), tiles.get("state")
    rows, bits = instruction["rows"], int(instruction.choice("p_bits"))

    def execute(counters: Counters) -> None:
        scale = SoftmaxParameters.from_bytes(parameters.at(counters)[0])
        state = RowState.empty((rows,))
        if known is not None:
            sums, maxima = known.at(counters).astype(np.int64)
            state = RowState(sums, maxima, state.shifts)
        exponentials, state = softmax_online(
            scores.at(counters), admissible(counters), scale.multiplier, scale.shift, state, bits
        )
        destination.at(counters)[...] = exponentials
        written.at(counters)[...] = state

    return execute


def _admissible(step: Step, tiles: Tiles) -> Callable[[Counters], NDArray[np.bool_]]:
    """Returns the function that gives the admissible keys, broadcastable to ``[rows, keys]``."""
    instruction = step.instruction
    queries = np.arange(instruction["rows"])[:, np.newaxis]
    keys = np.arange(instruction["keys"])
    row_offset, key_offset = step.registers["row_offset"], step.registers["key_offset"]
    mask = tiles.get("mask")
    causal = bool(instruction["causal"])

    def admissible(counters: Counters) -> NDArray[np.bool_]:
        allowed = np.ones((1, 1), np.bool_) if mask is None else mask.at(counters) != 0
        if not causal:
            return allowed
        return allowed & (keys + key_offset.at(counters) <= queries + row_offset.at(counters))

    return admissible


def _map(step: Step, tiles: Tiles, statistics: RowStatistics) -> Operation:
    instruction = step.instruction
    source, destination, parameters = tiles["source"], tiles["destination"], tiles["parameters"]
    table, residual, sums = tiles.get("table"), tiles.get("residual"), tiles.get("sums")
    columns = instruction["columns"] if instruction["per_channel"] else 1
    dtype = DTYPES[instruction.choice("destination_type")]
    gather, multiply = bool(instruction["gather"]), bool(instruction["multiply"])
    wide = instruction.choice("source_type") == "acc_wide"

    def execute(counters: Counters) -> None:
        result = map_tile(
            source.at(counters),
            _map_parameters(parameters.at(counters).tobytes(), columns),
            dtype,
            table=None if table is None else table.at(counters)[0],
            residual=None if residual is None else residual.at(counters),
            sums=None if sums is None else sums.at(counters)[0],
            wide=wide,
            multiply=multiply,
        )
        destination.at(counters)[...] = result
        if gather:
            statistics.gather(result)

    return execute


def _norm(step: Step, tiles: Tiles, statistics: RowStatistics) -> Operation:
    instruction = step.instruction
    source, parameters = tiles["source"], tiles["parameters"]
    destination, copy = tiles.get("destination"), tiles.get("copy")
    kind, columns = instruction.choice("kind"), instruction["columns"]
    gathered, rows = bool(instruction["gathered"]), instruction["rows"]

    def execute(counters: Counters) -> None:
        block = _norm_parameters(parameters.at(counters).tobytes(), columns)
        known = statistics.take(rows) if gathered else None
        stream, narrow = norm_tile(source.at(counters), block, kind, known)
        if destination is not None:
            destination.at(counters)[...] = stream
        if copy is not None:
            copy.at(counters)[...] = narrow

    return execute


def _rescale(step: Step, tiles: Tiles, _statistics: RowStatistics) -> Operation:
    acc, shifts = tiles["acc"], tiles["shifts"]

    def execute(counters: Counters) -> None:
        rows = acc.at(counters)
        rows[...] = shift_rows(rows, shifts.at(counters)[0])

    return execute


_OPERATIONS: dict[str, Callable[[Step, Tiles, RowStatistics], Operation]] = {
    "sync": _sync,
    "ld": _ld,
    "st": _st,
    "gather": _gather,
    "mm": _mm,
    "softmax": _softmax,
    "map": _map,
    "norm": _norm,
    "rescale": _rescale,
}
