"""
Owners of the bytes between DRAM and the chip.

Constants have the classes that the container's debug map gives them. Writable DRAM has inputs, outputs and everything
else, which is activations that did not fit on the chip. Scores and exponentials of attention never cross: the check in
``sta.runtime.analysis.taint`` refuses a program that would move them.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from sta.backend.container import is_integer
from sta.runtime.steps import Step
from sta.runtime.validate import ValidProgram
from sta.spec.affine import Affine
from sta.spec.instructions.access import Access

CONSTANT_CLASSES = ("weights", "parameters", "tables", "embedding", "other")
"""Classes of constants, as in the debug map; ``weights`` have the biases and scales packed with them."""
CLASSES = (*CONSTANT_CLASSES, "inputs", "outputs", "activations", "attention")
"""All classes; ``attention`` are scores and exponentials, of which no program that passes the taint check has any."""


class DramMap:
    """The addresses of DRAM, cut into regions of one class each."""

    def __init__(self, program: ValidProgram) -> None:
        self._base = program.container.writable_base
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._classes: list[str] = []
        for start, end, kind in sorted(_regions(program)):
            # Where entries overlap, which they need not be trusted not to, the one that starts first counts.
            start = max(start, self._ends[-1]) if self._ends else start
            if start < end:
                self._starts.append(start)
                self._ends.append(end)
                self._classes.append(kind)

    def classify(self, start: int, end: int) -> Iterator[tuple[str, int]]:
        """Iterates over the classes in an address range that lies in one part of DRAM, with their bytes."""
        rest = end - start
        for region in range(max(bisect_right(self._starts, start) - 1, 0), len(self._starts)):
            shared = min(end, self._ends[region]) - max(start, self._starts[region])
            if shared > 0:
                yield self._classes[region], shared
                rest -= shared
            if self._ends[region] >= end:
                break
        if rest > 0:
            yield "other" if start < self._base else "activations", rest


def _regions(program: ValidProgram) -> Iterator[tuple[int, int, str]]:
    for entry in program.container.debug["constants"]:
        offset, size, kind = entry.get("offset"), entry.get("bytes"), entry.get("class")
        if is_integer(offset) and is_integer(size):
            end = min(offset + size, len(program.container.constants))
            yield max(offset, 0), end, kind if kind in CONSTANT_CLASSES else "other"
    for kind, ports in (("inputs", program.inputs), ("outputs", program.outputs)):
        for port in ports:
            yield port.address, port.address + port.bytes, kind


def dram_traffic(program: ValidProgram) -> dict[int, Counter[str]]:
    """
    Returns the bytes that a run moves between DRAM and the chip, by pc and class.

    The rows that a gather takes depend on data, their class does not: it is that of the first row of the table.
    """
    dram = DramMap(program)
    traffic: dict[int, Counter[str]] = {}
    for step in program.steps:
        for access in step.accesses:
            if access.space == "dram" and step.executions:
                sums = traffic.setdefault(step.pc, Counter())
                for kind, size in _traffic(dram, step, access):
                    sums[kind] += size
    return traffic


def _traffic(dram: DramMap, step: Step, access: Access) -> Iterable[tuple[str, int]]:
    """Returns the bytes that one operand moves, by class, which may come more than once."""
    rows, row_bytes, ranges = access.rows, access.row_bytes, step.ranges
    address = step.registers[access.address]
    low = address.bounds(ranges)[0]
    if access.rows_register is not None:
        ((kind, _),) = dram.classify(low, low + 1)
        return [(kind, step.executions * access.bytes_moved)]
    stride = Affine(row_bytes) if access.stride is None else step.registers[access.stride]
    classes = list(dram.classify(low, _end(address, stride, rows, row_bytes).bounds(ranges)[1]))
    if len(classes) == 1:
        return [(classes[0][0], step.executions * access.bytes_moved)]
    return (
        found
        for counters in itertools.product(*map(range, step.counts))
        for start, end in _spans(address.at(counters), stride.at(counters), rows, row_bytes)
        for found in dram.classify(start, end)
    )


def _end(address: Affine[int], stride: Affine[int], rows: int, row_bytes: int) -> Affine[int]:
    return address + stride * (rows - 1) + row_bytes


def _spans(first: int, stride: int, rows: int, row_bytes: int) -> Sequence[tuple[int, int]]:
    """Returns the ranges of addresses that a copy touches, rows next to each other as one."""
    if rows == 1 or stride == row_bytes:
        return [(first, first + rows * row_bytes)]
    return [(first + row * stride, first + row * stride + row_bytes) for row in range(rows)]
