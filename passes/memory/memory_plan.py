"""
Where the buffers of a lowered function go: lifetimes, the partition of the chip's memory, byte offsets.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from xdsl.dialects import func
from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Block, Operation, SSAValue

from sta.dialect import sta
from sta.dialect.ir.location import module_path
from sta.passes.memory.first_fit import Lifetime, first_fit
from sta.spec.alignment import aligned
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy


class CapacityError(ValueError):
    """
    Buffers that are live at once take more than the chip has. `crowded` holds those that found no place, each with the
    buffers that it competes with, largest first.
    """

    def __init__(self, message: str, crowded: dict[SSAValue, list[SSAValue]]):
        super().__init__(message)
        self.crowded = crowded


@dataclass(frozen=True)
class MemoryPlan:
    """
    Byte offset of every buffer, and the bytes of each memory.
    """

    offsets: dict[SSAValue, int]
    sizes: dict[str, int]


def plan_memory(function: func.FuncOp, target: Target, policy: TilingPolicy) -> MemoryPlan:
    """
    Places every buffer: accumulators and weight buffer take what they need, the scratchpad the rest.

    Buffers for weights are reserved as many operations ahead as there is room for, up to `policy.prefetch`: while they
    share no bytes with those of the operations before, the next weights load under products. DRAM holds constants
    first, then inputs and outputs, then scratch. Raises CapacityError, naming a layer and giving the bytes needed and
    there, if buffers that are live at once do not fit.
    """
    for ahead in range(policy.prefetch, 0, -1):
        try:
            return _plan(function, target, ahead)
        except CapacityError:
            continue
    return _plan(function, target, 0)


def _plan(function: func.FuncOp, target: Target, ahead: int) -> MemoryPlan:
    block = function.body.block
    buffers: list[SSAValue] = [op.result for op in block.ops if isinstance(op, sta.AllocOp)]
    lifetimes = _lifetimes(block, buffers, ahead)
    offsets: dict[SSAValue, int] = {}
    sizes: dict[str, int] = {}
    constants: list[SSAValue] = [op.result for op in block.ops if isinstance(op, sta.ConstantOp)]
    dram = 0
    for value in (*constants, *block.args):
        offsets[value] = dram
        dram += aligned(sta.buffer_bytes(value))
    free = target.sram_bytes
    for space in ("acc", "wbuf", "spad", "dram"):
        members = [buffer for buffer in buffers if sta.space_of(buffer) == space]
        capacity = None if space == "dram" else free
        places, extent = first_fit([lifetimes[buffer] for buffer in members], capacity)
        crowded = [buffer for buffer, place in zip(members, places, strict=True) if place is None]
        if crowded:
            raise CapacityError(
                _explain(crowded[0], members, lifetimes, space, free),
                {buffer: _rivals(buffer, members, lifetimes) for buffer in crowded},
            )
        start = dram if space == "dram" else 0
        offsets |= {buffer: start + place for buffer, place in zip(members, places, strict=True) if place is not None}
        sizes[space] = start + extent
        if space != "dram":
            free -= extent
    sizes["spad"] += free
    return MemoryPlan(offsets, sizes)


def _lifetimes(block: Block, buffers: list[SSAValue], ahead: int) -> dict[SSAValue, Lifetime]:
    """
    First and last use of each buffer, by position in the function's own block; a loop is one position. Buffers for
    weights begin `ahead` operations earlier.
    """
    position = {op: index for index, op in enumerate(block.ops)}
    starts = _starts(block)
    lifetimes: dict[SSAValue, Lifetime] = {}
    for buffer in buffers:
        places = [position[_ancestor(op, block)] for op in _users(buffer)] or [0]
        first = min(places)
        if sta.space_of(buffer) == "wbuf":
            begun = bisect_right(starts, first) - 1
            first = starts[max(0, begun - ahead)] if ahead else first
        lifetimes[buffer] = Lifetime(sta.buffer_bytes(buffer), first, max(places))
    return lifetimes


def _starts(block: Block) -> list[int]:
    """
    Positions at which the lowering of an operation begins: with the buffers it allocates.
    """
    starts = [0]
    working = False
    for index, op in enumerate(block.ops):
        if isinstance(op, sta.AllocOp | sta.ConstantOp):
            if working:
                starts.append(index)
            working = False
        else:
            working = True
    return starts


def _users(buffer: SSAValue) -> list[Operation]:
    users: list[Operation] = []
    for use in buffer.uses:
        users.append(use.operation)
        if isinstance(use.operation, sta.ViewOp):
            users += _users(use.operation.result)
    return users


def _ancestor(op: Operation, block: Block) -> Operation:
    while op.parent_block() is not block:
        parent = op.parent_op()
        assert parent is not None
        op = parent
    return op


def _label(buffer: SSAValue) -> str:
    op = buffer.owner
    assert isinstance(op, sta.AllocOp)
    label: StringAttr = op.label
    return label.data or module_path(op)


def _explain(
    buffer: SSAValue, members: list[SSAValue], lifetimes: dict[SSAValue, Lifetime], space: str, free: int
) -> str:
    live = [other for other in members if lifetimes[other].overlaps(lifetimes[buffer])]
    needed = sum(aligned(lifetimes[other].size) for other in live)
    largest = ", ".join(
        f"{_label(other)} {lifetimes[other].size:,}"
        for other in sorted(live, key=lambda other: -lifetimes[other].size)[:4]
    )
    pieces = " but in no one piece," if needed <= free else ""
    op = buffer.owner
    layer = (module_path(op) if isinstance(op, Operation) else "") or _label(buffer)
    return (
        f"{layer}: the layer needs {needed:,} bytes of {space} at once, {free:,} are there{pieces} "
        f"(largest buffers: {largest}); use a target with more memory or a shorter sequence"
    )


def _rivals(buffer: SSAValue, members: list[SSAValue], lifetimes: dict[SSAValue, Lifetime]) -> list[SSAValue]:
    live = [other for other in members if other is not buffer and lifetimes[other].overlaps(lifetimes[buffer])]
    return sorted(live, key=lambda other: -lifetimes[other].size)
