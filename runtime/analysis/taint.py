"""
The check that attention scores and un-normalized exponentials stay on the chip.

Every byte of acc and spad has a taint bit. Products marked ``scores`` and the exponentials of a softmax set it; it
passes from the sources of all other instructions to their results; a map that normalizes clears it,
and so does anything untainted that overwrites. A DMA that reads a tainted byte is an error. None of this depends on
data, so one walk through the program settles it for every run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sta.runtime.errors import error_at
from sta.runtime.memory import Tile
from sta.runtime.steps import Step, execution
from sta.runtime.validate import ValidProgram
from sta.spec.affine import Affine
from sta.spec.instructions.access import Access
from sta.spec.instructions.definition import MAXIMUM_LOOP_DEPTH

_TRACKED = ("acc", "spad")

Effect = Callable[[Sequence[int]], None]


@dataclass(frozen=True)
class TaintRule:
    """Effect of an instruction on the taint bits of acc and spad."""

    transfers: bool
    """True if it moves bytes from or to DRAM, and must not read tainted ones."""
    always: bool
    """True if its results are tainted whatever it reads."""
    never: bool
    """True if they are untainted whatever it reads."""
    sources: Sequence[Access]
    results: Sequence[tuple[Access, bool]]
    """The results, and whether they may leave the chip in any case."""


def taint_rule(step: Step) -> TaintRule:
    """Returns what a unit instruction does to the taint bits."""
    tracked = [access for access in step.accesses if access.space in _TRACKED]
    taint = step.instruction.definition.taint(step.instruction)
    return TaintRule(
        transfers=any(access.space == "dram" for access in step.accesses),
        always=taint.sets,
        never=taint.clears,
        sources=[access for access in tracked if access.updates or not access.writes],
        results=[(access, access.may_leave) for access in tracked if access.writes],
    )


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
    rule = taint_rule(step)
    sources = [_tile(step, access, taint) for access in rule.sources]
    results = [(_tile(step, access, taint), may_leave) for access, may_leave in rule.results]

    def apply(counters: Sequence[int]) -> None:
        tainted = rule.always or (not rule.never and any(tile.at(counters).any() for tile in sources))
        if rule.transfers and tainted:
            raise error_at(
                program.container,
                step.pc,
                "reads attention scores or exponentials that have not been normalized; these must stay on the chip",
            )
        for tile, may_leave in results:
            tile.at(counters)[...] = tainted and not may_leave

    return apply


def _tile(step: Step, access: Access, taint: Mapping[str, NDArray[np.uint8]]) -> Tile:
    """Returns the taint bits of an access, one byte for each of its bytes."""
    stride = Affine(access.row_bytes) if access.stride is None else step.registers[access.stride]
    memory, address = taint[access.space], step.registers[access.address]
    return Tile(memory, address, stride, Affine(access.rows), access.row_bytes, np.dtype(np.uint8))
