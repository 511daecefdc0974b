"""
The check that attention scores and un-normalized exponentials stay on the chip.

Every byte of acc and spad has a taint bit. Products marked ``scores`` and the exponentials of a softmax set it; it
passes through products, maps, norms and rescales from their sources to their results; a map that normalizes clears it,
and so does anything untainted that overwrites. A DMA that reads a tainted byte is an error. None of this depends on
data, so one walk through the program settles it for every run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sta.backend.isa import MAXIMUM_LOOP_DEPTH
from sta.runtime.accesses import Access, accesses
from sta.runtime.affine import Affine
from sta.runtime.errors import ProgramError
from sta.runtime.memory import Tile
from sta.runtime.stream import Step, execution
from sta.runtime.validate import ValidProgram

_TRACKED = ("acc", "spad")

Effect = Callable[[Sequence[int]], None]


def check_taint(program: ValidProgram) -> None:
    """
    Walks through a run of the program.

    Raises:
        ProgramError: a DMA instruction reads tainted bytes.
    """
    taint = {space: np.zeros(program.memories[space], np.uint8) for space in _TRACKED}
    effects = {
        step.pc: _effect(program, step, taint) for step in program.steps if not step.instruction.definition.is_sequencer
    }
    counters = [0] * MAXIMUM_LOOP_DEPTH
    for step, _ in execution(program.steps, counters):
        effect = effects.get(step.pc)
        if effect is not None:
            effect(counters)


def _effect(program: ValidProgram, step: Step, taint: Mapping[str, NDArray[np.uint8]]) -> Effect:
    """Returns what an instruction does to the taint bits, as a function of the loop counters."""
    instruction = step.instruction
    name = instruction.name
    tracked = [access for access in accesses(instruction) if access.space in taint]
    sources = [_tile(step, access, taint) for access in tracked if not access.writes]
    results = [(access.name, _tile(step, access, taint)) for access in tracked if access.writes]
    if name == "rescale" or (name == "mm" and instruction["accumulate"]):
        sources += [tile for _, tile in results]
    if name in ("ld", "st", "gather"):
        return _transfer(program, step, sources, [tile for _, tile in results])
    always = name == "softmax" or (name == "mm" and instruction["scores"] == 1)
    never = name == "map" and instruction["normalize"] == 1

    def compute(counters: Sequence[int]) -> None:
        tainted = always or (not never and any(tile.at(counters).any() for tile in sources))
        for result, tile in results:
            # The sums of a softmax may leave the chip, and the rest of a row's state: a few numbers a row.
            tile.at(counters)[...] = tainted and result != "sums"

    return compute


def _transfer(program: ValidProgram, step: Step, sources: Sequence[Tile], results: Sequence[Tile]) -> Effect:
    def transfer(counters: Sequence[int]) -> None:
        if any(tile.at(counters).any() for tile in sources):
            raise ProgramError(
                f"{program.at(step.pc)}: reads attention scores or exponentials that have not been normalized; "
                f"these must stay on the chip"
            )
        for tile in results:
            tile.at(counters)[...] = 0

    return transfer


def _tile(step: Step, access: Access, taint: Mapping[str, NDArray[np.uint8]]) -> Tile:
    """Returns the taint bits of an access, one byte for each of its bytes."""
    stride = Affine(access.row_bytes) if access.stride is None else step.registers[access.stride]
    shape = (access.rows, access.row_bytes)
    return Tile(taint[access.space], step.registers[access.address], stride, shape, np.dtype(np.uint8))
