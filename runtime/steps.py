"""
From instructions to steps: loops matched, and every register operand as an affine form in the loop counters.

A register is written by ``lea`` only, from constants, other registers and counters, and may not be loop-carried. So its
value at an instruction is a fixed affine form, found here once; engines and timing never execute a ``lea``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sta.backend.container import Container
from sta.runtime.errors import ProgramError, error_at
from sta.spec.affine import Affine
from sta.spec.instructions.access import Access
from sta.spec.instructions.definition import MAXIMUM_LOOP_DEPTH, REGISTER_BITS
from sta.spec.instructions.instruction import Instruction

_NEVER_WRITTEN = "has not been written"


@dataclass(frozen=True, slots=True)
class Step:
    """A static instruction, resolved."""

    pc: int
    instruction: Instruction
    registers: dict[str, Affine[int]]
    """
    The values of the register fields of a unit's instruction, by field name: affine in the counters of the loops around
    it, by depth. The outermost loop has depth 0.
    """
    counts: tuple[int, ...]
    """Iterations of the loops around the instruction, outermost first."""
    partner: int
    """The pc of the ``end`` of a ``loop``, and of the ``loop`` of an ``end``; -1 for others."""
    accesses: tuple[Access, ...] = ()
    """Operands read and written; known once the instruction has been checked."""

    @property
    def is_executed(self) -> bool:
        """True if ``execution`` yields it: an instruction of a unit, a fence or the halt."""
        definition = self.instruction.definition
        return not definition.is_sequencer or definition.control in ("fence", "halt")

    @property
    def depth(self) -> int:
        """The number of loops around the instruction; a ``loop`` and its ``end`` do not count themselves."""
        return len(self.counts)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The least and the greatest counter of each loop around the instruction; 0 in one without iterations."""
        return tuple(_range(count) for count in self.counts)

    @property
    def executions(self) -> int:
        """Number of executions of the instruction in a run."""
        product = 1
        for count in self.counts:
            product *= count
        return product


def _range(count: int) -> tuple[int, int]:
    return 0, max(count - 1, 0)


class _Resolver:
    """Walks the code once, keeping for each register its value, or the reason why it may not be read."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.partners = _match_loops(container)
        self.values: dict[int, Affine[int] | str] = {0: Affine(0)}
        self.loops: list[Step] = []
        self.ranges: list[tuple[int, int]] = []

    def error(self, pc: int, message: str) -> ProgramError:
        return error_at(self.container, pc, message)

    @property
    def counters(self) -> list[int]:
        return [loop.instruction["counter"] for loop in self.loops]

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(loop.instruction["count"] for loop in self.loops)

    def steps(self) -> list[Step]:
        return [self.step(pc, instruction) for pc, instruction in enumerate(self.container.code)]

    def step(self, pc: int, instruction: Instruction) -> Step:
        control = instruction.definition.control
        if control == "end":
            self.leave(pc)
        registers = {} if instruction.definition.is_sequencer else self.operands(pc, instruction)
        step = Step(pc, instruction, registers, self.counts, self.partners.get(pc, -1))
        if control == "loop":
            self.enter(step)
        if control == "address":
            self.lea(pc, instruction)
        return step

    def operands(self, pc: int, instruction: Instruction) -> dict[str, Affine[int]]:
        return {field.name: self.read(pc, number) for field, number in instruction if field.kind == "register"}

    def read(self, pc: int, number: int) -> Affine[int]:
        value = self.values.get(number, _NEVER_WRITTEN)
        if isinstance(value, str):
            raise self.error(pc, f"register r{number} is read but {value}")
        return value

    def lea(self, pc: int, instruction: Instruction) -> None:
        target = instruction["rd"]
        if target == 0 or target in self.counters:
            reason = "is always 0" if target == 0 else "is the counter of a loop around it"
            raise self.error(pc, f"register r{target} cannot be written, it {reason}")
        value = self.read(pc, instruction["rs"]) + instruction["imm"]
        for counter, step in (("c1", "s1"), ("c2", "s2")):
            value = value + self.read_counter(pc, instruction[counter]) * instruction[step]
        low, high = value.bounds(self.ranges)
        if low < 0 or high >= 1 << REGISTER_BITS:
            raise self.error(pc, f"register r{target} ranges over {low}..{high}, outside 0..2^{REGISTER_BITS}-1")
        self.values[target] = value

    def read_counter(self, pc: int, number: int) -> Affine[int]:
        if number != 0 and number not in self.counters:
            raise self.error(pc, f"register r{number} is used as counter, but is not the counter of a loop around it")
        return self.read(pc, number)

    def enter(self, loop: Step) -> None:
        counter = loop.instruction["counter"]
        if counter == 0 or counter in self.counters:
            reason = "it is always 0" if counter == 0 else "a loop around this one counts with it"
            raise self.error(loop.pc, f"register r{counter} cannot be the counter, {reason}")
        for number in self.written(loop):
            self.values[number] = "is written only later in the same loop body"
        self.values[counter] = Affine(0, ((len(self.loops), 1),))
        self.loops.append(loop)
        self.ranges.append(_range(loop.instruction["count"]))

    def leave(self, pc: int) -> None:
        loop = self.loops.pop()
        self.ranges.pop()
        for number in (*self.written(loop), loop.instruction["counter"]):
            self.values[number] = f"was last written inside the loop that ends at instruction {pc}"

    def written(self, loop: Step) -> set[int]:
        """Returns the registers that the body of a loop writes, counters of loops inside it included."""
        body = self.container.code[loop.pc + 1 : loop.partner]
        targets = [(instruction, instruction.definition.sets_register) for instruction in body]
        return {instruction[target] for instruction, target in targets if target} - {0}


def _match_loops(container: Container) -> dict[int, int]:
    """Returns the pc of each loop's end and of each end's loop; checks nesting and the position of ``halt``."""
    partners: dict[int, int] = {}
    open_loops: list[int] = []
    last = len(container.code) - 1
    for pc, instruction in enumerate(container.code):
        control = instruction.definition.control
        if (control == "halt") != (pc == last):
            raise error_at(container, pc, "a program has one halt, its last instruction")
        if control == "loop":
            open_loops.append(pc)
        if len(open_loops) > MAXIMUM_LOOP_DEPTH:
            raise error_at(container, pc, f"loops are nested deeper than {MAXIMUM_LOOP_DEPTH}")
        if control != "end":
            continue
        if not open_loops:
            raise error_at(container, pc, "there is no loop to close")
        start = open_loops.pop()
        partners[start], partners[pc] = pc, start
    if open_loops:
        raise error_at(container, open_loops[-1], "the loop has no end")
    return partners


def resolve(container: Container) -> list[Step]:
    """
    Returns one step for each instruction of the code section.

    Raises:
        ProgramError: no code, wrong nesting, or a register is used against the rules; names the instruction.
    """
    if not container.code:
        raise ProgramError("section 'code': there are no instructions")
    return _Resolver(container).steps()


def dynamic_instructions(steps: Sequence[Step]) -> int:
    """Returns the number of instructions that the sequencer issues in a run; an ``end`` counts once an iteration."""
    return sum(
        step.executions * (steps[step.partner].instruction["count"] if 0 <= step.partner < step.pc else 1)
        for step in steps
    )


class _Node(NamedTuple):
    """An instruction other than ``lea``, ready for execution."""

    step: Step
    control: str
    issued: int
    """Instructions that the sequencer issues here: this one and the ``lea`` right before it."""
    depth: int
    iterations: int
    """Iterations, for a ``loop`` and its ``end``."""
    target: int
    """The node to jump to: after the ``end`` for a ``loop``, after the ``loop`` for an ``end``."""


def _nodes(steps: Sequence[Step]) -> list[_Node]:
    """Returns the program without its ``lea``, whose effects are known."""
    kept = [step for step in steps if step.instruction.definition.control != "address"]
    position = {step.pc: index for index, step in enumerate(kept)}
    nodes: list[_Node] = []
    previous = -1
    for step in kept:
        count = steps[min(step.pc, step.partner)].instruction["count"] if step.partner >= 0 else 0
        target = position[step.partner] + 1 if step.partner >= 0 else -1
        nodes.append(_Node(step, step.instruction.definition.control, step.pc - previous, step.depth, count, target))
        previous = step.pc
    return nodes


def execution(steps: Sequence[Step], counters: list[int], start: int = -1) -> Iterator[tuple[Step, int]]:
    """
    Iterates over the unit instructions and fences of a run in program order, and the final halt.

    It begins at ``start``, the pc of an instruction that this yields, if given; ``counters`` then holds the counters
    there.

    Yields each with the number of instructions that the sequencer has issued since the previous one, itself included.
    ``counters`` (MAXIMUM_LOOP_DEPTH entries) always holds the counters for the step yielded last.
    """
    nodes = _nodes(steps)
    position = next((index for index, node in enumerate(nodes) if node.step.pc == start), 0)
    issued = 0
    control = ""
    while control != "halt":
        step, control, own, depth, iterations, target = nodes[position]
        position += 1
        issued += own
        if control == "loop":
            counters[depth] = 0
            position = position if iterations else target
        elif control == "end":
            counters[depth] += 1
            position = target if counters[depth] < iterations else position
        else:
            yield step, issued
            issued = 0
