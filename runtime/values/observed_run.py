"""A run in which every value of the model is seen when it is written, and may be replaced by another."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from sta.runtime.memory import Array
from sta.runtime.reference import ReferenceEngine
from sta.runtime.steps import Step, execution
from sta.runtime.values.stepper import read_rectangle
from sta.runtime.values.value_writes import ValueWrites
from sta.runtime.values.walk import total_positions, written_by
from sta.spec.instructions.definition import MAXIMUM_LOOP_DEPTH

_REPORT_INTERVAL = 64
"""Instructions between two reports."""


def run_values(
    engine: ReferenceEngine,
    writes: ValueWrites,
    inputs: Mapping[str, Array],
    replacements: Mapping[int, Array],
    poison: int,
    report: Callable[[float], None],
) -> dict[int, Array]:
    """
    Runs a program, and returns what its values were when they were written.

    Args:
        engine: the engine, of the program that ``writes`` is about.
        writes: when values are written.
        inputs: device integers by input name.
        replacements: integers by value, flat and of its dtype, which take the place of what is written as soon as it
            is, so that they are what later instructions read.
        poison: the byte that writable memory holds at the start.
        report: takes the fraction of the run that is done.

    Returns:
        The integers of every value that ``writes.last`` knows, flat, before they were replaced.

    Raises:
        ProgramError: as ``ReferenceEngine.run``.
    """
    seen = {index: np.zeros(writes.addresses[index].size, writes.values[index].dtype) for index in writes.last}
    total = max(total_positions(engine.program), 1)
    counters = [0] * MAXIMUM_LOOP_DEPTH
    engine.begin(inputs, poison)
    for position, (step, _) in enumerate(execution(engine.program.steps, counters)):
        engine.execute(step, counters)
        written = writes.at.get(position, [])
        for elements in written:
            seen[elements.value][elements.indices] = writes.load(engine.memories, elements)
        replaced = [elements for elements in written if elements.value in replacements]
        if replaced:
            with _row_statistics(engine, step, counters):
                for elements in replaced:
                    writes.store(engine.memories, elements, replacements[elements.value][elements.indices])
        if position % _REPORT_INTERVAL == 0:
            report(position / total)
    return seen


@contextmanager
def _row_statistics(engine: ReferenceEngine, step: Step, counters: Sequence[int]) -> Generator[None]:
    """Replaces the row statistics of an instruction's result along with the result."""
    if not step.instruction.definition.adds_statistics(step.instruction):
        yield
        return
    (written,) = written_by(step, counters)
    before = read_rectangle(engine.memories, written)
    yield
    engine.replace_statistics(before, read_rectangle(engine.memories, written))
