"""
Semaphores and fences: what makes the machine's queues keep program order where it matters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.passes import ModulePass

from sta.dialect import nm, sta

SEMAPHORES = 16
"""
Semaphores of the machine: the width of the wait and post fields.
"""

UNIT_OF: dict[type[Operation], str] = {
    sta.LoadOp: "ld",
    sta.GatherOp: "ld",
    sta.StoreOp: "st",
    sta.ProductOp: "mm",
    sta.SoftmaxOp: "sm",
    sta.MapOp: "vp",
    sta.NormOp: "vp",
}
WRITTEN: dict[type[Operation], tuple[str, ...]] = {
    sta.LoadOp: ("destination",),
    sta.GatherOp: ("destination",),
    sta.StoreOp: ("destination",),
    sta.ProductOp: ("acc",),
    sta.SoftmaxOp: ("destination", "sums"),
    sta.MapOp: ("destination",),
    sta.NormOp: ("destination", "copy"),
}
"""
The operands an operation writes; it reads all others, and an accumulating product its accumulators too.
"""


@dataclass(frozen=True)
class Range:
    """
    Bytes of a memory that an operation may touch, whatever the loop counters are.
    """

    space: str
    start: int
    stop: int

    def overlaps(self, other: Range) -> bool:
        """
        Whether the two share a byte.
        """
        return self.space == other.space and self.start < other.stop and other.start < self.stop


@dataclass
class Access:
    """
    One operation since the last fence: its unit, its place in the unit's queue, what it reads and writes.
    """

    op: sta.UnitOp
    unit: str
    order: int
    reads: list[Range]
    writes: list[Range]

    def conflicts(self, other: Access) -> bool:
        """
        Whether the order of the two matters.
        """
        return (
            _overlap(self.writes, other.writes)
            or _overlap(self.writes, other.reads)
            or _overlap(self.reads, other.writes)
        )


def _overlap(first: Iterable[Range], second: Iterable[Range]) -> bool:
    others = list(second)
    return any(a.overlaps(b) for a in first for b in others)


@dataclass
class _Straight:
    """
    A stretch of a block without loop or fence.
    """

    accesses: list[Access] = field(default_factory=list[Access])
    known: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """
    For (waiting unit, posting unit): the last operation of the posting unit known to be complete.
    """
    semaphore: int = 0


@dataclass(frozen=True)
class StaSynchronizePass(ModulePass):
    """
    Orders conflicting operations of different units by semaphores within a straight stretch of code, and by fences at
    the start of a loop's body and after a loop, so that no semaphore is in flight across an iteration.
    """

    name = "sta-synchronize"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in op.ops:
            if isinstance(function, func.FuncOp):
                _Synchronizer(function).run(function.body.block)


class _Synchronizer:
    def __init__(self, function: func.FuncOp):
        arguments = function.body.block.args
        attributes = function.arg_attrs
        assert attributes is not None
        self.arguments: dict[SSAValue, int] = {
            value: nm.integer_of(entry.data["sta.offset"]) for value, entry in zip(arguments, attributes, strict=True)
        }

    def run(self, block: Block) -> None:
        """
        Synchronizes a block and the loops in it.
        """
        straight = _Straight()
        for op in list(block.ops):
            if isinstance(op, sta.LoopOp):
                self._loop(block, op, straight)
                straight = _Straight()
            elif isinstance(op, sta.UnitOp):
                straight = self._order(block, op, straight)

    def _loop(self, block: Block, loop: sta.LoopOp, before: _Straight) -> None:
        body = loop.body.block
        first = body.first_op
        assert first is not None
        body.insert_op_before(sta.FenceOp(), first)
        self.run(body)
        block.insert_op_after(sta.FenceOp(), loop)

    def _order(self, block: Block, op: sta.UnitOp, straight: _Straight) -> _Straight:
        access = self._access(op, len(straight.accesses))
        waited = self._waits(access, straight)
        if straight.semaphore + len(waited) > SEMAPHORES:
            block.insert_op_before(sta.FenceOp(), op)
            access.order = 0
            return _Straight([access])
        for earlier in waited:
            _append(earlier.op, "post", straight.semaphore)
            _append(op, "wait", straight.semaphore)
            straight.known[access.unit, earlier.unit] = earlier.order
            straight.semaphore += 1
        straight.accesses.append(access)
        return straight

    def _waits(self, access: Access, straight: _Straight) -> list[Access]:
        """
        For each other unit the last operation that conflicts and is not known to be complete.
        """
        latest: dict[str, Access] = {}
        for earlier in straight.accesses:
            if earlier.unit != access.unit and earlier.conflicts(access):
                latest[earlier.unit] = earlier
        return [
            earlier
            for unit, earlier in sorted(latest.items())
            if straight.known.get((access.unit, unit), -1) < earlier.order
        ]

    def _access(self, op: sta.UnitOp, order: int) -> Access:
        written = {operand for name in WRITTEN[type(op)] for operand in _operands(op, name)}
        memory = [operand for operand in op.operands if isinstance(operand.type, sta.MemRefType)]
        writes = [self._range(operand) for operand in memory if operand in written]
        reads = [self._range(operand) for operand in memory if operand not in written]
        if isinstance(op, sta.ProductOp) and op.accumulate is not None:
            reads.append(self._range(op.acc))
        return Access(op, UNIT_OF[type(op)], order, reads, writes)

    def _range(self, value: SSAValue) -> Range:
        """
        The bytes a view may cover: from its lowest offset to the end of its last element at the highest.
        """
        window = sta.window_of(value)
        size = sta.element_bytes(value)
        start = self._base(window.buffer) + window.offset * size
        slack = sum(max(0, coefficient) * (sta.loop_count(counter) - 1) for counter, coefficient in window.terms)
        shape, strides = sta.memref_of(value).get_shape(), sta.strides_of(value)
        span = sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True)) + 1
        return Range(sta.space_of(value), start, start + (slack + span) * size)

    def _base(self, buffer: SSAValue) -> int:
        if buffer in self.arguments:
            return self.arguments[buffer]
        return sta.offset_of(buffer)


def _operands(op: sta.UnitOp, name: str) -> list[SSAValue]:
    value = getattr(op, name)
    return [] if value is None else [value]


def _append(op: sta.UnitOp, name: str, semaphore: int) -> None:
    present = getattr(op, name)
    values = () if present is None else nm.integers_of(present)
    setattr(op, name, nm.integers([*values, semaphore]))
