"""
True if a synchronized `sta` function keeps program order where it matters: an independent check.

Loops are unrolled, and every operation gets the exact bytes it reads and writes. What a unit knows of the others when
it starts an operation follows from the machine's rules alone: a unit starts and completes its operations in order; a
semaphore that one unit posts and one unit waits for is first in, first out, so that the k-th wait means that the
operation with the k-th post, all before it in its unit, and all that it had waited for, are complete; a fence lets
everything complete. Two operations of different units that touch the same bytes must know of each other. Shares nothing
with the passes but the dialect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.ir import Block, Operation, SSAValue

from sta.dialect import nm, sta
from sta.dialect.ir.addresses import first_element_of, offset_of

Counters = Mapping[SSAValue, int]
Addresses = NDArray[np.int64]
Clock = dict[str, int]
"""For each unit the number of its operations that are known to be complete."""

UNITS = {
    "sta.load": "ld",
    "sta.gather": "ld",
    "sta.store": "st",
    "sta.mm": "mm",
    "sta.softmax": "sm",
    "sta.map": "vp",
    "sta.norm": "vp",
    "sta.rotate": "vp",
}
RESULTS = {
    "sta.load": ("destination",),
    "sta.gather": ("destination",),
    "sta.store": ("destination",),
    "sta.mm": ("acc",),
    "sta.softmax": ("destination", "sums"),
    "sta.map": ("destination",),
    "sta.norm": ("destination", "copy"),
    "sta.rotate": ("destination",),
    "sta.sync": (),
}


def unrolled(block: Block, counters: Counters | None = None) -> Iterator[tuple[Operation, dict[SSAValue, int]]]:
    """Iterates over the operations of a run, each with the counters of the loops around it."""
    now = dict(counters or {})
    for op in block.ops:
        if not isinstance(op, sta.LoopOp):
            yield op, now
            continue
        for iteration in range(op.count.value.data):
            yield from unrolled(op.body.block, {**now, op.counter: iteration})


def touched_bytes(value: SSAValue, counters: Counters, bases: Mapping[SSAValue, int]) -> Addresses:
    """Returns the addresses of every byte of a memref, ascending."""
    first = first_element_of(value)
    size = sta.element_bytes(value)
    elements = np.array([first.position.at(counters)], np.int64)
    for extent, stride in zip(sta.memref_of(value).get_shape(), sta.strides_of(value), strict=True):
        elements = np.add.outer(elements, np.arange(extent) * stride).reshape(-1)
    return np.unique(np.add.outer(bases[first.buffer] + elements * size, np.arange(size)))


@dataclass
class Event:
    """One execution of one operation of a unit."""

    op: sta.UnitOp
    counters: Counters
    bases: Mapping[SSAValue, int]
    place: int = 0
    """Number of operations of its unit that come before it."""
    clock: Clock = field(default_factory=Clock)
    """Operations known to be complete when it starts."""

    @property
    def unit(self) -> str:
        """The unit that executes it."""
        return self.op.unit.data if isinstance(self.op, sta.SyncOp) else UNITS[self.op.name]

    def semaphores(self, name: str) -> tuple[int, ...]:
        """The semaphores of `wait` or `post`."""
        attribute = getattr(self.op, name)
        return () if attribute is None else nm.integer_values(attribute)

    @cached_property
    def writes(self) -> list[tuple[str, Addresses]]:
        """Memory and addresses of what is written."""
        values = [getattr(self.op, name) for name in RESULTS[self.op.name]]
        return self._touched([value for value in values if value is not None])

    @cached_property
    def reads(self) -> list[tuple[str, Addresses]]:
        """Memory and addresses of what is read."""
        results = [getattr(self.op, name) for name in RESULTS[self.op.name]]
        if isinstance(self.op, sta.ProductOp) and self.op.accumulate is not None:
            results = []
        memory = [value for value in self.op.operands if isinstance(value.type, sta.MemRefType)]
        return self._touched([value for value in memory if value not in results])

    def _touched(self, values: Sequence[SSAValue]) -> list[tuple[str, Addresses]]:
        return [(sta.space_of(value), touched_bytes(value, self.counters, self.bases)) for value in values]

    def conflicts(self, later: Event) -> bool:
        """True if the result depends on the order of the two."""
        return _share(self.writes, later.writes) or _share(self.writes, later.reads) or _share(self.reads, later.writes)


def _share(first: list[tuple[str, Addresses]], second: list[tuple[str, Addresses]]) -> bool:
    return any(
        space == other and low[0] <= high[-1] and high[0] <= low[-1] and bool(np.isin(low, high).any())
        for space, low in first
        for other, high in second
    )


def base_addresses(function: func.FuncOp) -> dict[SSAValue, int]:
    """Returns the byte offset of every buffer, constant and argument of an allocated function."""
    block = function.body.block
    buffers = [op.result for op in block.ops if isinstance(op, sta.AllocOp | sta.ConstantOp)]
    return {value: offset_of(value) for value in (*block.args, *buffers)}


@dataclass
class Trace:
    """A run of a function: the operations of its units in program order, and what is wrong with their order."""

    problems: list[str] = field(default_factory=list[str])
    _queues: dict[str, list[Event]] = field(default_factory=dict[str, list[Event]])
    _posts: dict[int, list[Event]] = field(default_factory=dict[int, list[Event]])
    _waits: dict[int, list[Event]] = field(default_factory=dict[int, list[Event]])
    _fence: Clock = field(default_factory=Clock)

    def fence(self) -> None:
        """The sequencer lets everything complete."""
        self._fence = {unit: len(queue) for unit, queue in self._queues.items()}

    def add(self, event: Event) -> None:
        """Appends an operation."""
        queue = self._queues.setdefault(event.unit, [])
        event.place = len(queue)
        event.clock = dict(self._fence)
        if queue:
            _learn(event.clock, queue[-1].clock)
        for semaphore in event.semaphores("wait"):
            self._wait(event, semaphore)
        for semaphore in event.semaphores("post"):
            self._one_unit(event, semaphore, self._posts)
        self._race(event)
        queue.append(event)

    def _wait(self, event: Event, semaphore: int) -> None:
        self._one_unit(event, semaphore, self._waits)
        posts, number = self._posts.get(semaphore, []), len(self._waits[semaphore])
        if number > len(posts):
            self.problems.append(f"{_name(event)} waits for a post of semaphore {semaphore} that comes later or never")
            return
        source = posts[number - 1]
        _learn(event.clock, source.clock)
        _learn(event.clock, {source.unit: source.place + 1})

    def _one_unit(self, event: Event, semaphore: int, users: dict[int, list[Event]]) -> None:
        known = users.setdefault(semaphore, [])
        if known and known[-1].unit != event.unit:
            self.problems.append(f"semaphore {semaphore} is not one between two units: {_name(event)}")
        known.append(event)

    def _race(self, later: Event) -> None:
        """Notes the operations of other units that touch the same bytes and may still be running."""
        for unit, queue in self._queues.items():
            for earlier in queue[later.clock.get(unit, 0) :] if unit != later.unit else ():
                if earlier.conflicts(later):
                    self.problems.append(f"{_name(later)} may start before {_name(earlier)} is complete")


def _learn(clock: Clock, other: Mapping[str, int]) -> None:
    for unit, count in other.items():
        clock[unit] = max(clock.get(unit, 0), count)


def _name(event: Event) -> str:
    return f"{event.op.name} ({event.unit} {event.place})"


def trace(function: func.FuncOp) -> Trace:
    """Returns the run of an allocated and synchronized function."""
    bases = base_addresses(function)
    result = Trace()
    for op, counters in unrolled(function.body.block):
        if isinstance(op, sta.FenceOp):
            result.fence()
        elif isinstance(op, sta.UnitOp):
            result.add(Event(op, counters, bases))
    return result


def violations(function: func.FuncOp) -> list[str]:
    """Returns what is wrong with the order of a synchronized function: nothing, if program order is kept."""
    return trace(function).problems
