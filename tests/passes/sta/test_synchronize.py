"""
Semaphores: programs made by hand and at random keep their order, as an independent checker sees it.

The checker (`tests.support.ordering`) unrolls loops and works on exact bytes; that it notices a missing wait is tested
here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.ir import SSAValue

from sta.backend.emit import emit
from sta.dialect import nm, sta
from sta.runtime import Program
from tests.support.nm_builder import Case
from tests.support.ordering import violations
from tests.support.pipeline_check import POISONS, apply, assert_same_integers, function_of, integers, operations
from tests.support.sta_builder import DENSE_OPERAND, StaBuilder

SHAPE = (4, 16)
TILE = SHAPE[0] * SHAPE[1]
PASS = "sta-synchronize"
Build = Callable[[StaBuilder], None]


def synchronized(build: Build) -> Case:
    """Returns a program after the pass."""
    builder = StaBuilder()
    build(builder)
    case = builder.case()
    apply(case.module, case.context, PASS)
    return case


def check(case: Case) -> None:
    """The order is kept, the machine's queues do not hang, and the bits are those of program order."""
    assert violations(function_of(case)) == []
    program = Program(emit(case.module, case.context.weights, case.context.target, 1, 1))
    for poison in POISONS:
        assert_same_integers(integers(case, poison), program.run(case.inputs, poison=poison).raw, "the emulator")


@dataclass
class Parts:
    """Common parts of the programs below."""

    builder: StaBuilder
    identity: SSAValue
    source: SSAValue
    target: SSAValue
    buffers: list[SSAValue]

    def load(self, buffer: SSAValue) -> None:
        """Input to scratchpad."""
        self.builder.add(sta.LoadOp(self.source, buffer))

    def map(self, source: SSAValue, destination: SSAValue) -> None:
        """Scratchpad or accumulators to scratchpad."""
        self.builder.add(sta.MapOp((source, destination, self.identity)))

    def store(self, buffer: SSAValue) -> None:
        """Scratchpad to output."""
        self.builder.add(sta.StoreOp(buffer, self.target))


def parts(builder: StaBuilder, buffers: int = 2) -> Parts:
    """An input, an output, scratchpad buffers, and the identity's parameters on the chip."""
    constant = builder.identity()
    source, target = (builder.argument(name, name, SHAPE, nm.si8) for name in ("input", "output"))
    identity = builder.buffer("wbuf", sta.memref_of(constant).get_shape(), nm.ui8)
    builder.add(sta.LoadOp(constant, identity))
    return Parts(builder, identity, source, target, [builder.buffer("spad", SHAPE, nm.si8) for _ in range(buffers)])


def copies(builder: StaBuilder) -> None:
    """Loads, map, store: each needs the one before."""
    p = parts(builder)
    p.load(p.buffers[0])
    p.map(*p.buffers)
    p.store(p.buffers[1])


def buffer_used_again(builder: StaBuilder) -> None:
    """The second load overwrites what the map still reads, the second map what the store still reads."""
    p = parts(builder)
    for _ in range(2):
        p.load(p.buffers[0])
        p.map(*p.buffers)
        p.store(p.buffers[1])


def looped(builder: StaBuilder) -> None:
    """The same in a loop: every wait for the iteration before is needed."""
    p = parts(builder)
    with builder.loop(3):
        p.load(p.buffers[0])
        p.map(*p.buffers)
        p.store(p.buffers[1])


def product(builder: StaBuilder) -> None:
    """Two loads, a product that accumulates, and its drain, on all units but one."""
    p = parts(builder, 3)
    acc = builder.buffer("acc", (4, 4), nm.si32)
    out = builder.view(p.buffers[2], (4, 4))
    with builder.loop(2):
        for buffer in p.buffers[:2]:
            p.load(buffer)
        builder.add(sta.ProductOp(acc, p.buffers[0], p.buffers[1], DENSE_OPERAND))
        builder.add(sta.ProductOp(acc, p.buffers[1], p.buffers[0], DENSE_OPERAND, accumulate=True))
        p.map(acc, out)
    p.store(p.buffers[0])
    builder.add(sta.StoreOp(out, builder.view(p.target, (4, 4))))


def nested(builder: StaBuilder) -> None:
    """A loop in a loop, with work before, between and after that touches the same buffers."""
    p = parts(builder)
    p.load(p.buffers[0])
    with builder.loop(2):
        p.map(p.buffers[0], p.buffers[1])
        with builder.loop(3):
            p.load(p.buffers[0])
            p.map(p.buffers[0], p.buffers[1])
        p.store(p.buffers[1])
        p.load(p.buffers[1])
    p.map(p.buffers[1], p.buffers[0])
    p.store(p.buffers[0])


def not_run(builder: StaBuilder) -> None:
    """A loop without iterations, in which the map would learn that the store is complete."""
    p = parts(builder)
    p.load(p.buffers[0])
    p.load(p.buffers[1])
    p.store(p.buffers[0])
    with builder.loop(0):
        p.store(p.buffers[0])
        p.map(p.buffers[1], p.buffers[0])
    p.map(p.buffers[1], p.buffers[0])
    p.store(p.buffers[0])


def run_once(builder: StaBuilder) -> None:
    """A loop of one iteration: only a second one would let the store learn, from the map, that the load is complete."""
    p = parts(builder, 3)
    p.load(p.buffers[2])
    p.store(p.buffers[2])
    p.load(p.buffers[0])
    with builder.loop(1):
        p.map(p.buffers[0], p.buffers[1])
        p.store(p.buffers[2])
        p.map(p.buffers[1], p.buffers[2])
    p.store(p.buffers[0])


def halves(builder: StaBuilder) -> None:
    """Tiles whose place depends on a counter, double-buffered by hand."""
    p = parts(builder)
    with builder.loop(4) as i:
        row = [builder.view(value, (1, 16), 0, [(i, 16)]) for value in (p.source, p.buffers[0], p.buffers[1], p.target)]
        builder.add(sta.LoadOp(row[0], row[1]))
        p.map(row[1], row[2])
        builder.add(sta.StoreOp(row[2], row[3]))


def backwards(builder: StaBuilder) -> None:
    """Tiles that are loaded last row first: the loop's first address is not its lowest."""
    p = parts(builder)
    with builder.loop(4) as i:
        source = builder.view(p.source, (1, 16), 48, [(i, -16)])
        builder.add(sta.LoadOp(source, builder.view(p.buffers[0], (1, 16), 48, [(i, -16)])))
    p.map(builder.view(p.buffers[0], (1, 16)), builder.view(p.buffers[1], (1, 16)))
    for row in range(4):
        builder.add(sta.StoreOp(builder.view(p.buffers[1], (1, 16)), builder.view(p.target, (1, 16), 16 * row)))


def empty_loop(builder: StaBuilder) -> None:
    """A loop with nothing in it."""
    p = parts(builder)
    p.load(p.buffers[0])
    with builder.loop(2):
        pass
    p.store(p.buffers[0])


PROGRAMS = [copies, buffer_used_again, looped, product, nested, not_run, run_once, halves, backwards, empty_loop]


@pytest.mark.parametrize("build", PROGRAMS)
def test_program_order_is_kept(build: Build) -> None:
    check(synchronized(build))


def unit_operations(case: Case) -> list[sta.UnitOp]:
    """Returns the operations of units in a program."""
    return operations(case, sta.UnitOp)


def without_one_wait(build: Build) -> Iterator[Case]:
    """Iterates over a program's versions that lack one wait each."""
    count = sum(len(nm.integer_values(op.wait)) for op in unit_operations(synchronized(build)) if op.wait)
    for index in range(count):
        case = synchronized(build)
        waits = [(op, semaphore) for op in unit_operations(case) if op.wait for semaphore in nm.integer_values(op.wait)]
        op, semaphore = waits[index]
        assert op.wait is not None
        op.wait = nm.integers([other for other in nm.integer_values(op.wait) if other != semaphore])
        yield case


@pytest.mark.parametrize("build", [copies, buffer_used_again, looped])
def test_every_wait_is_needed_and_missed(build: Build) -> None:
    broken = list(without_one_wait(build))
    assert len(broken) >= 2
    for case in broken:
        assert any("may start before" in problem for problem in violations(function_of(case)))


def test_a_missing_post_is_noticed() -> None:
    case = synchronized(copies)
    op = next(op for op in unit_operations(case) if op.post)
    op.post = None
    assert any("comes later or never" in problem for problem in violations(function_of(case)))


def test_a_fence_orders_everything() -> None:
    builder = StaBuilder()
    p = parts(builder)
    for step in (lambda: p.load(p.buffers[0]), lambda: p.map(*p.buffers), lambda: p.store(p.buffers[1])):
        builder.add(sta.FenceOp())
        step()
    assert violations(function_of(builder.case())) == []


def test_without_the_pass_there_are_races() -> None:
    builder = StaBuilder()
    copies(builder)
    found = violations(function_of(builder.case()))
    assert len(found) == 3
    assert "sta.map (vp 0) may start before sta.load (ld 0) is complete" in found


def test_work_that_does_not_touch_is_not_ordered() -> None:
    def apart(builder: StaBuilder) -> None:
        p = parts(builder)
        p.load(p.buffers[0])
        builder.add(sta.MapOp((p.buffers[1], builder.buffer("spad", SHAPE, nm.si8), p.identity)))

    waits = [op.wait for op in unit_operations(synchronized(apart))]
    # The map waits for its parameters and for nothing else.
    assert [nm.integer_values(wait) for wait in waits if wait is not None] == [(0,)]


def test_new_operations_have_a_place_in_the_model() -> None:
    for build in PROGRAMS:
        for op in operations(synchronized(build), sta.SyncOp):
            assert "model" in str(op.location)


@dataclass
class RandomProgram:
    """Draws a program over a few small buffers, in which almost everything conflicts with something."""

    draw: st.DrawFn

    def __post_init__(self) -> None:
        self.builder = StaBuilder()
        constant = self.builder.identity()
        self.inputs = [self.builder.argument(f"in{i}", "input", (8, 16), nm.si8) for i in range(2)]
        self.outputs = [self.builder.argument(f"out{i}", "output", (8, 16), nm.si8) for i in range(2)]
        self.spad = [self.builder.buffer("spad", (8, 16), nm.si8) for _ in range(self.draw(st.integers(1, 4)))]
        self.accs = [self.builder.buffer("acc", (8, 4), nm.si32) for _ in range(self.draw(st.integers(1, 2)))]
        self.parameters = self.builder.buffer("wbuf", sta.memref_of(constant).get_shape(), nm.ui8)
        self.builder.add(sta.LoadOp(constant, self.parameters))
        # Everything is written once, so that no result depends on what memory held before.
        for buffer in (*self.spad, *self.outputs):
            self.builder.add(
                sta.LoadOp(self.inputs[0], buffer) if buffer in self.spad else sta.StoreOp(self.spad[0], buffer)
            )
        for acc in self.accs:
            rows = self.builder.view(self.spad[0], (8, 16))
            columns = self.builder.view(self.spad[0], (4, 16))
            self.builder.add(sta.ProductOp(acc, rows, columns, DENSE_OPERAND))
        self.counters: list[tuple[SSAValue, int]] = []

    def tile(self, buffers: list[SSAValue], rows: int = 4) -> SSAValue:
        """Draws a tile of a buffer: some fixed rows, or rows that move with a loop of two iterations."""
        buffer = self.draw(st.sampled_from(buffers))
        full, width = sta.memref_of(buffer).get_shape()
        pairs = [counter for counter, count in self.counters if count <= 2]
        if pairs and full == 2 * rows and self.draw(st.booleans()):
            return self.builder.view(buffer, (rows, width), 0, [(self.draw(st.sampled_from(pairs)), rows * width)])
        return self.builder.view(buffer, (rows, width), width * self.draw(st.integers(0, full - rows)))

    def operation(self) -> None:
        """Draws an operation."""
        kind = self.draw(st.sampled_from(["load", "store", "map", "product", "drain"]))
        match kind:
            case "load":
                self.builder.add(sta.LoadOp(self.tile(self.inputs), self.tile(self.spad)))
            case "store":
                self.builder.add(sta.StoreOp(self.tile(self.spad), self.tile(self.outputs)))
            case "map":
                self.builder.add(sta.MapOp((self.tile(self.spad), self.tile(self.spad), self.parameters)))
            case "product":
                add = self.draw(st.booleans())
                a, b, acc = self.tile(self.spad), self.tile(self.spad), self.tile(self.accs)
                self.builder.add(sta.ProductOp(acc, a, b, DENSE_OPERAND, accumulate=add))
            case _:
                part = self.draw(st.sampled_from(self.spad))
                destination = self.builder.view(part, (4, 4), self.draw(st.integers(0, 60)), strides=(16, 1))
                self.builder.add(sta.MapOp((self.tile(self.accs), destination, self.parameters)))

    def block(self, depth: int) -> None:
        """Draws operations and loops."""
        for _ in range(self.draw(st.integers(1, 5))):
            if depth < 3 and self.draw(st.integers(0, 3)) == 0:
                count = self.draw(st.sampled_from([0, 1, 2, 2, 3, 4]))
                with self.builder.loop(count) as counter:
                    self.counters.append((counter, count))
                    self.block(depth + 1)
                    self.counters.pop()
            else:
                self.operation()


@st.composite
def random_programs(draw: st.DrawFn) -> Case:
    """Draws a program."""
    program = RandomProgram(draw)
    program.block(0)
    return program.builder.case()


@settings(deadline=None, max_examples=60)
@given(random_programs())
def test_random_programs_keep_their_order(case: Case) -> None:
    expected = integers(case)
    apply(case.module, case.context, PASS)
    assert_same_integers(expected, integers(case), PASS)
    check(case)


@pytest.mark.slow
@settings(deadline=None, max_examples=2000)
@given(random_programs())
def test_many_random_programs_keep_their_order(case: Case) -> None:
    apply(case.module, case.context, PASS)
    check(case)
