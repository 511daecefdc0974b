"""Places of a program's buffers: the partition of the chip's memory, and byte offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from xdsl.dialects import func
from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Block, Operation, SSAValue

from sta.dialect import sta
from sta.dialect.ir.location import module_path
from sta.passes.memory.first_fit import Lifetime, first_fit
from sta.passes.memory.timeline import Key, Resident, Timeline, starts_of
from sta.passes.tiling.capacity import CapacityError
from sta.spec.alignment import aligned
from sta.spec.target import Target
from sta.spec.tiling_policy import TilingPolicy


@dataclass(frozen=True)
class MemoryPlan(Generic[Key]):
    """Byte offset of every buffer, and the bytes of each memory."""

    offsets: Mapping[Key, int]
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class Crowding(Generic[Key]):
    """Buffers without a place, each with its competitors, largest first."""

    message: str
    """A layer, the bytes it needs and the bytes available."""
    rivals: Mapping[Key, Sequence[Key]]


def place(timeline: Timeline[Key], target: Target, policy: TilingPolicy) -> MemoryPlan[Key] | Crowding[Key]:
    """
    Places every buffer: accumulators and weight buffer get what they need, the scratchpad the rest.

    Buffers for weights are reserved as many operations ahead as there is room for, up to `policy.prefetch`. While they
    share no bytes with buffers of earlier operations, the next weights load under products. DRAM holds constants first,
    then inputs and outputs, then scratch.
    """
    for ahead in range(policy.prefetch, 0, -1):
        plan = _place(timeline, target, ahead)
        if isinstance(plan, MemoryPlan):
            return plan
    return _place(timeline, target, 0)


def plan_memory(function: func.FuncOp, target: Target, policy: TilingPolicy) -> MemoryPlan[SSAValue]:
    """
    Places every buffer of a lowered function, as `place` does.

    Raises CapacityError, naming a layer and giving the bytes needed and available, if live buffers do not fit.
    """
    plan = place(timeline_of(function), target, policy)
    if isinstance(plan, Crowding):
        raise CapacityError(plan.message)
    return plan


def _place(timeline: Timeline[Key], target: Target, ahead: int) -> MemoryPlan[Key] | Crowding[Key]:
    offsets: dict[Key, int] = {}
    sizes: dict[str, int] = {}
    dram = 0
    for key, size in timeline.fixed:
        offsets[key] = dram
        dram += aligned(size)
    free = target.sram_bytes
    for space in ("acc", "wbuf", "spad", "dram"):
        members = [resident for resident in timeline.residents if resident.space == space]
        lifetimes = [timeline.lifetime(resident, ahead) for resident in members]
        places, extent = first_fit(lifetimes, None if space == "dram" else free)
        crowded = [index for index, place in enumerate(places) if place is None]
        if crowded:
            return Crowding(
                _explain(crowded[0], members, lifetimes, free),
                {members[index].key: _rivals(index, members, lifetimes) for index in crowded},
            )
        start = dram if space == "dram" else 0
        offsets |= {
            resident.key: start + place for resident, place in zip(members, places, strict=True) if place is not None
        }
        sizes[space] = start + extent
        if space != "dram":
            free -= extent
    sizes["spad"] += free
    return MemoryPlan(offsets, sizes)


def timeline_of(function: func.FuncOp) -> Timeline[SSAValue]:
    """Buffers of a lowered function."""
    block = function.body.block
    position = {op: index for index, op in enumerate(block.ops)}
    constants: list[SSAValue] = [op.result for op in block.ops if isinstance(op, sta.ConstantOp)]
    residents: list[Resident[SSAValue]] = []
    for op in block.ops:
        if isinstance(op, sta.AllocOp):
            places = [position[_ancestor(user, block)] for user in _users(op.result)] or [0]
            space, size = sta.space_of(op.result), sta.buffer_bytes(op.result)
            label: StringAttr = op.label
            residents.append(Resident(op.result, space, size, min(places), max(places), label.data, module_path(op)))
    fixed = [(value, sta.buffer_bytes(value)) for value in (*constants, *block.args)]
    return Timeline(fixed, residents, starts_of(isinstance(op, sta.AllocOp | sta.ConstantOp) for op in block.ops))


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


def _explain(index: int, members: Sequence[Resident[Key]], lifetimes: Sequence[Lifetime], free: int) -> str:
    buffer = members[index]
    live = [one for one, lifetime in zip(members, lifetimes, strict=True) if lifetime.overlaps(lifetimes[index])]
    needed = sum(aligned(one.size) for one in live)
    largest = ", ".join(f"{one.label or one.path} {one.size:,}" for one in sorted(live, key=lambda one: -one.size)[:4])
    pieces = " but in no one piece," if needed <= free else ""
    layer = buffer.path or buffer.label
    return (
        f"{layer}: the layer needs {needed:,} bytes of {buffer.space} at once, {free:,} are there{pieces} "
        f"(largest buffers: {largest}); use a target with more memory or a shorter sequence"
    )


def _rivals(index: int, members: Sequence[Resident[Key]], lifetimes: Sequence[Lifetime]) -> list[Key]:
    live = [
        one
        for other, (one, lifetime) in enumerate(zip(members, lifetimes, strict=True))
        if other != index and lifetime.overlaps(lifetimes[index])
    ]
    return [one.key for one in sorted(live, key=lambda one: -one.size)]
