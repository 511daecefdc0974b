"""The instructions that wrote the elements of a value last, at a place of a run. It does not depend on data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sta.runtime.steps import execution
from sta.runtime.validate import ValidProgram
from sta.runtime.values.model_values import Value
from sta.runtime.values.walk import Written, written_by
from sta.spec.instructions.definition import MAXIMUM_LOOP_DEPTH

NEVER = -1
"""In the place of an instruction: none has written there."""


def last_writers(program: ValidProgram, value: Value, position: int) -> NDArray[np.int64]:
    """
    Returns for each element of a value, in its shape, the instruction that wrote its first byte last.

    `position` is the number of instructions executed so far, as a ``Walk`` counts them.
    """
    size = max(value.end - value.offset, 0)
    writers = np.full(size, NEVER)
    counters = [0] * MAXIMUM_LOOP_DEPTH
    for number, (step, _) in enumerate(execution(program.steps, counters)):
        if number == position:
            break
        if not any(access.writes and access.space == value.space for access in step.accesses):
            continue
        for written in written_by(step, counters):
            if written.overlaps(value.space, value.offset, value.end):
                writers[_bytes(written, value.offset, size)] = step.pc
    places = np.zeros(1, np.int64)
    for count, stride in (factor for axis in value.axes for factor in axis):
        places = (places[:, np.newaxis] + np.arange(count) * (stride * value.dtype.itemsize)).reshape(-1)
    return writers[places].reshape(value.shape)


def _bytes(written: Written, start: int, size: int) -> NDArray[np.int64]:
    """The bytes of a rectangle that lie in a part of memory, counted from its start."""
    access = written.access
    rows = np.arange(access.rows)[:, np.newaxis, np.newaxis] * written.stride
    columns = np.arange(access.columns)[:, np.newaxis] * (access.pitch or access.dtype.itemsize)
    offsets = written.address - start + rows + columns + np.arange(access.dtype.itemsize)
    return offsets[(offsets >= 0) & (offsets < size)]
