"""Loops and registers: rules, and affine forms against a sequencer that executes every instruction."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sta.runtime import Program, ProgramError
from sta.runtime.steps import dynamic_instructions, execution, resolve
from sta.spec.affine import Affine
from sta.spec.instructions.definition import MAXIMUM_LOOP_DEPTH
from sta.spec.instructions.instruction import Instruction

Emit = tuple[str, dict[str, Any]]


def code(bench: Any, *instructions: Emit) -> None:
    """Appends instructions given as mnemonic and fields."""
    for name, fields in instructions:
        bench.emit(name, **fields)


def lea(rd: int, **fields: int) -> Emit:
    """Returns a lea."""
    return "lea", {"rd": rd, **fields}


def loop(counter: int, count: int) -> Emit:
    """Returns a loop."""
    return "loop", {"counter": counter, "count": count}


def use(number: int) -> Emit:
    """Returns an instruction that reads a register."""
    return "ld", {"dram": number, "sram": number, "rows": 1, "row_bytes": 1}


END: Emit = ("end", {})
HALT: Emit = ("halt", {})


RULES: list[tuple[list[Emit], str]] = [
    ([use(5)], "instruction 0 (ld): register r5 is read but has not been written"),
    ([lea(5, rs=6)], "instruction 0 (lea): register r6 is read but has not been written"),
    ([lea(0, imm=1)], "instruction 0 (lea): register r0 cannot be written, it is always 0"),
    ([lea(5, imm=-1)], "instruction 0 (lea): register r5 ranges over -1..-1, outside 0..2^48-1"),
    ([loop(1, 3), lea(5, imm=4, c1=1, s1=-3), END], "register r5 ranges over -2..4, outside"),
    ([lea(5, imm=1 << 38), *[lea(5, rs=5, imm=1 << 38)] * 1023], "ranges over 281474976710656..281474976710656"),
    ([loop(1, 3), lea(1, imm=3), END], "register r1 cannot be written, it is the counter of a loop around it"),
    ([loop(0, 3), END], "register r0 cannot be the counter, it is always 0"),
    (
        [loop(1, 3), loop(1, 3), END, END],
        "register r1 cannot be the counter, a loop around this one counts with it",
    ),
    (
        [loop(1, 3), END, use(1)],
        "register r1 is read but was last written inside the loop that ends at instruction 1",
    ),
    (
        [lea(5), loop(1, 3), use(5), lea(5), END],
        "register r5 is read but is written only later in the same loop body",
    ),
    ([lea(5), loop(1, 3), lea(5, rs=5, imm=1), END], "r5 is read but is written only later in the same loop body"),
    (
        [loop(1, 3), lea(5), END, use(5)],
        "r5 is read but was last written inside the loop that ends at instruction 2",
    ),
    ([loop(1, 2), loop(2, 2), lea(5), END, use(5), END], "r5 is read but was last written inside the loop"),
    ([loop(1, 2), use(2), loop(2, 2), END, END], "register r2 is read but is written only later in the same loop"),
    (
        [lea(2, imm=3), lea(5, c1=2, s1=1)],
        "register r2 is used as counter, but is not the counter of a loop around",
    ),
    ([loop(1, 3)], "instruction 0 (loop): the loop has no end"),
    ([loop(1, 3), END, END], "instruction 2 (end): there is no loop to close"),
    ([*[loop(n + 1, 1) for n in range(9)], *[END] * 9], "instruction 8 (loop): loops are nested deeper than 8"),
    ([HALT, use(0)], "instruction 0 (halt): a program has one halt, its last instruction"),
]


@pytest.mark.parametrize(("instructions", "message"), RULES)
def test_rules(bench: Any, instructions: list[Emit], message: str) -> None:
    code(bench, *instructions)
    with pytest.raises(ProgramError) as error:
        bench.program()
    assert message in str(error.value)
    assert str(error.value).startswith(f"instruction {error.value.pc} (")


def test_the_last_instruction_is_halt(bench: Any) -> None:
    container = bench.container()
    container.code = []
    with pytest.raises(ProgramError, match="section 'code': there are no instructions"):
        Program(container)
    container.code = [Instruction.make("fence")]
    with pytest.raises(ProgramError, match=r"instruction 0 \(fence\): a program has one halt"):
        Program(container)


def test_what_the_rules_allow(bench: Any) -> None:
    # A register from outside, one written before use, a counter of successive loops, one rewritten after the loop.
    code(bench, lea(5, imm=3), loop(1, 2), lea(6, rs=5, c1=1, s1=1, c2=1, s2=2), use(6), use(5), use(1), END)
    code(bench, loop(1, 2), lea(1 + 1, rs=1), use(2), END, lea(6), use(6), lea(1), use(1))
    assert bench.run().raw == {}


class Sequencer:
    """Executes every instruction with concrete register values; the plain reading of the manual."""

    def __init__(self, program: list[Instruction]) -> None:
        self.program = program
        self.registers = [0] * 64
        self.seen: list[tuple[int, int]] = []
        self.issued = 0

    def run(self) -> None:
        """Runs the program, and notes pc and value of ``dram`` for every ld."""
        pc, loops = 0, list[tuple[int, int, int]]()
        while True:
            instruction = self.program[pc]
            self.issued += 1
            pc += 1
            if instruction.name == "halt":
                return
            if instruction.name == "lea":
                self.lea(instruction)
            elif instruction.name == "loop" and instruction["count"] == 0:
                pc = self.after(pc)
            elif instruction.name == "loop":
                loops.append((pc, instruction["counter"], instruction["count"]))
                self.registers[instruction["counter"]] = 0
            elif instruction.name == "end":
                start, counter, count = loops[-1]
                self.registers[counter] += 1
                if self.registers[counter] < count:
                    pc = start
                else:
                    loops.pop()
            else:
                self.seen.append((pc - 1, self.registers[instruction["dram"]]))

    def after(self, pc: int) -> int:
        """Returns the instruction after the end of the loop whose body begins at pc."""
        depth = 1
        while depth:
            depth += {"loop": 1, "end": -1}.get(self.program[pc].name, 0)
            pc += 1
        return pc

    def lea(self, instruction: Instruction) -> None:
        """Executes address arithmetic."""
        value = self.registers[instruction["rs"]] + instruction["imm"]
        for counter, step in (("c1", "s1"), ("c2", "s2")):
            value += self.registers[instruction[counter]] * instruction[step]
        self.registers[instruction["rd"]] = value


@st.composite
def programs(draw: st.DrawFn) -> list[Emit]:
    """Draws loop nests with address arithmetic that follows the rules."""
    instructions: list[Emit] = []

    def body(counters: list[int], readable: set[int], budget: int) -> set[int]:
        """Emits a body; returns the registers it writes. A body only writes registers of its own."""
        own = {10 + 8 * len(counters) + n for n in range(4)}
        written: set[int] = set()
        for _ in range(draw(st.integers(1, 4))):
            kind = draw(st.sampled_from(["lea", "lea", "use", "loop"]))
            if kind == "use":
                instructions.append(use(draw(st.sampled_from(sorted(readable | written | {0, *counters})))))
            elif kind == "lea":
                target = draw(st.sampled_from(sorted(own)))
                sources = st.sampled_from(sorted((readable - own) | written | {0, *counters}))
                steps = [draw(st.integers(0, 9)) for _ in range(2)]
                chosen = [draw(st.sampled_from([0, *counters])) for _ in range(2)]
                fields = {"rs": draw(sources), "imm": draw(st.integers(0, 5))}
                fields |= {"c1": chosen[0], "s1": steps[0], "c2": chosen[1], "s2": steps[1]}
                instructions.append(lea(target, **fields))
                written.add(target)
            elif budget and len(counters) < 3:
                counter = len(counters) + 1
                instructions.append(loop(counter, draw(st.integers(0, 3))))
                body([*counters, counter], readable | written, budget - 1)
                instructions.append(END)
        return written

    body([], set(), 3)
    return instructions


@settings(max_examples=200, deadline=None)
@given(programs())
def test_affine_forms_against_execution(make_bench: Callable[[], Any], instructions: list[Emit]) -> None:
    bench = make_bench()
    code(bench, *instructions)
    container = bench.container()
    steps = resolve(container)
    counters = [0] * MAXIMUM_LOOP_DEPTH
    walked = [
        (step, issued, step.registers.get("dram", Affine(0)).at(counters))
        for step, issued in execution(steps, counters)
    ]
    sequencer = Sequencer(container.code)
    sequencer.run()
    assert [(step.pc, value) for step, _, value in walked[:-1]] == sequencer.seen
    assert walked[-1][0].instruction.name == "halt"
    assert sum(issued for _, issued, _ in walked) == dynamic_instructions(steps) == sequencer.issued
    for step, _, value in walked[:-1]:
        low, high = step.registers["dram"].bounds(step.ranges)
        assert low <= value <= high


def test_a_loop_without_iterations_counts_as_one_for_ranges(make_bench: Callable[[], Any]) -> None:
    bench = make_bench()
    code(bench, loop(1, 0), lea(5, imm=3, c1=1, s1=5), use(5), END, HALT)
    (step,) = [step for step in resolve(bench.container()) if step.instruction.name == "ld"]
    assert step.ranges == ((0, 0),)
    assert step.registers["dram"].bounds(step.ranges) == (3, 3)
