"""Semaphores that make the machine's queues keep program order where it matters."""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.traits import MemoryEffectKind

from sta.dialect import nm, sta
from sta.dialect.ir.addresses import address_of, expect_addresses
from sta.dialect.ir.main_function import machine_functions
from sta.passes.scheduling.synchronization import synchronize
from sta.passes.scheduling.work import Channel, Loop, Node, Range, Work
from sta.spec.affine import Affine
from sta.spec.instructions.definition import SEMAPHORE_COUNT


@dataclass(eq=False)
class Item(Work):
    """The work of one operation."""

    op: sta.UnitOp | None = None


@dataclass(frozen=True)
class StaSynchronizePass(ModulePass):
    """
    Gives operations the semaphores they wait for and post to (by `sta.passes.scheduling.synchronization`), one
    semaphore for each ordered pair of units, and inserts `sta.sync` where no operation can do so itself.
    """

    name = "sta-synchronize"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in machine_functions(op):
            _Synchronizer(function).run()


@dataclass
class _Synchronizer:
    function: func.FuncOp
    semaphores: dict[Channel, int] = field(default_factory=dict[Channel, int])
    counters: dict[SSAValue, Affine[Loop]] = field(default_factory=dict[SSAValue, Affine[Loop]])
    """The iteration of its loop, for each counter."""

    def run(self) -> None:
        """Synchronizes the function."""
        expect_addresses(self.function)
        block = self.function.body.block
        self._write(block, synchronize(self._read(block)))

    def _read(self, block: Block) -> list[Node]:
        nodes: list[Node] = []
        for op in block.ops:
            if isinstance(op, sta.LoopOp):
                # Code that never runs orders nothing.
                nodes += [self._loop(op)] if op.count.value.data else []
            elif isinstance(op, sta.UnitOp):
                nodes.append(self._item(op))
        return nodes

    def _loop(self, op: sta.LoopOp) -> Loop:
        loop = Loop([], op.count.value.data, op)
        self.counters[op.counter] = Affine(0, ((loop, 1),))
        loop.body = self._read(op.body.block)
        return loop

    def _item(self, op: sta.UnitOp) -> Item:
        reads, writes = (
            tuple(self._range(value) for value in sta.operands_with(op, kind))
            for kind in (MemoryEffectKind.READ, MemoryEffectKind.WRITE)
        )
        return Item(op.definition.unit, reads, writes, op=op)

    def _range(self, value: SSAValue) -> Range:
        """The bytes from a view's first element to the end of its last, and their shift from iteration to iteration."""
        size = sta.element_bytes(value)
        shape, strides = sta.memref_of(value).get_shape(), sta.strides_of(value)
        elements = sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True)) + 1
        return Range(sta.space_of(value), address_of(value).substituted(self.counters), elements * size)

    def _write(self, block: Block, nodes: list[Node]) -> None:
        """Writes waits and posts back; new items become operations in front of the next one."""
        pending: list[sta.SyncOp] = []
        for node in nodes:
            op = node.op if isinstance(node, Item) else node.source if isinstance(node, Loop) else None
            if isinstance(node, Loop):
                assert isinstance(op, sta.LoopOp)
                self._write(op.body.block, node.body)
            else:
                target = op if isinstance(op, sta.UnitOp) else sta.SyncOp(node.unit)
                self._assign(target, node)
                if not isinstance(op, sta.UnitOp):
                    assert isinstance(target, sta.SyncOp)
                    pending.append(target)
                    continue
            assert isinstance(op, Operation)
            for sync in pending:
                sync.location = op.location
                block.insert_op_before(sync, op)
            pending = []
        self._append(block, pending)

    def _append(self, block: Block, pending: list[sta.SyncOp]) -> None:
        last = block.last_op
        for sync in pending:
            if isinstance(last, func.ReturnOp):
                block.insert_op_before(sync, last)
            else:
                block.add_op(sync)
            if last is not None:
                sync.location = last.location

    def _assign(self, op: sta.UnitOp, work: Work) -> None:
        if work.waits:
            op.wait = nm.integers(sorted(self._semaphore(channel) for channel in work.waits))
        if work.posts:
            op.post = nm.integers(sorted(self._semaphore(channel) for channel in work.posts))

    def _semaphore(self, channel: Channel) -> int:
        if channel not in self.semaphores:
            self.semaphores[channel] = len(self.semaphores)
            if len(self.semaphores) > SEMAPHORE_COUNT:
                raise ValueError(f"more than {SEMAPHORE_COUNT} pairs of units wait for each other")
        return self.semaphores[channel]
