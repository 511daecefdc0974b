"""
The native engine: the reference engine's work, compiled.

It executes the same instructions in the same order with the same bits. It gets the program in the terms of the
instruction table and of the table of accesses, and knows nothing of encodings. If an instruction fails, the reference
engine executes it once more on the same memories, and words the error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sta.runtime._native import Builder
from sta.runtime._native import Program as NativeCode
from sta.runtime._native import families as families
from sta.runtime.analysis.taint import check_taint, taint_rule
from sta.runtime.errors import ProgramError, error_at
from sta.runtime.memory import Array, Memories, place, port_view
from sta.runtime.reference import RunProgress, step_function
from sta.runtime.steps import Step
from sta.runtime.timing import job_of
from sta.runtime.validate import ValidProgram
from sta.spec.affine import Affine
from sta.spec.instructions.definition import UNITS
from sta.spec.integers import Int64Array
from sta.spec.tables import EXPONENTIAL_BITS, exp2_results
from sta.spec.vector import RowStatistics

_SLICE = 0.1
"""Seconds between two checks for an interrupt."""
_TO_THE_END = (1 << 63) - 1
LARGEST_TIME = 1 << 62
"""Cycles that are counted natively; longer runs are timed in Python's integers."""


class NativeProgram:
    """A program decoded for the native engine; engines of several threads may share it."""

    def __init__(self, program: ValidProgram, family: str = "") -> None:
        """
        Decodes a program.

        Args:
            program: a checked program.
            family: the kernels, one of ``families()``; the fastest if empty.

        Raises:
            ValueError: the kernels do not run on this processor.
        """
        self.program = program
        builder, self.longest_job = _builder(program, family)
        """An upper bound of the cycles of an instruction."""
        self.code = NativeCode(builder)

    def check_taint(self) -> None:
        """Checks like ``sta.runtime.analysis.taint.check_taint``, and raises the same."""
        if not self.code.scores_stay_on_chip():
            check_taint(self.program)

    @property
    def family(self) -> str:
        """The kernels in use."""
        return self.code.family


class NativeEngine:
    """Runs one program, any number of times. Not for use by several threads at once."""

    def __init__(self, native: NativeProgram, threads: int = 1) -> None:
        """Creates a machine; ``threads`` of the processor share its instructions."""
        self._program = native.program
        self._machine = native.code.machine(threads)

    @property
    def memories(self) -> Memories:
        """The machine's memories as they are now; what is written there is written to the machine."""
        memory = self._machine.memory
        constants = self._program.container.constants
        return Memories(self._program, memory("spad"), memory("wbuf"), memory("acc"), constants, memory("writable"))

    @property
    def statistics(self) -> tuple[Int64Array, Int64Array]:
        """The vector unit's row statistics as they are now: sums and sums of squares."""
        return self._machine.statistics()

    def run(self, inputs: Mapping[str, Array], poison: int, report: RunProgress | None = None) -> dict[str, Array]:
        """Runs the program, with the parameters, results and errors of ``ReferenceEngine.run``."""
        halted = self._execute(inputs, poison, report, goes_ahead=True)
        if self._machine.has_gone_wrong:
            # Threads were ahead of the failed instruction: once more, to stop there.
            halted = self._execute(inputs, poison, report, goes_ahead=False)
        if not halted:
            raise self._failure()
        program, writable = self._program, self._machine.memory("writable")
        return {port.signature.name: port_view(program, writable, port).copy() for port in program.outputs}

    @property
    def executed(self) -> int:
        """Instructions of units and fences that have been executed since ``begin``."""
        return self._machine.executed

    def begin(self, inputs: Mapping[str, Array], poison: int, goes_ahead: bool = False) -> None:
        """Brings the machine into the initial state of ``run``; its threads may go ahead of each other, or not."""
        self._machine.reset(poison, goes_ahead)
        for port in self._program.inputs:
            port_view(self._program, self._machine.memory("writable"), port)[...] = inputs[port.signature.name]

    def run_to(self, executed: int) -> None:
        """
        Goes on until so many instructions of units and fences have been executed, or the program has ended.

        Raises:
            ProgramError: an instruction failed; the machine stays before it.
        """
        halted = None
        while halted is None and self._machine.executed < executed:
            halted = self._machine.advance(_SLICE, executed)
        if halted is False:
            raise self._failure()

    def _execute(self, inputs: Mapping[str, Array], poison: int, report: RunProgress | None, goes_ahead: bool) -> bool:
        """Runs the program; returns whether it has come to its end."""
        self.begin(inputs, poison, goes_ahead)
        halted = None
        while halted is None:
            # Between slices Python handles an interrupt.
            halted = self._machine.advance(_SLICE, _TO_THE_END)
            if report is not None:
                report(None)
        return halted

    def _failure(self) -> ProgramError:
        """Returns the error of the instruction at which the machine stopped, in the words of the reference engine."""
        step = self._program.steps[self._machine.pc]
        execute = step_function(step, self.memories, RowStatistics.of(*self.statistics))
        try:
            execute(self._machine.counters)
        except (ValueError, OverflowError) as error:
            return error_at(self._program.container, step.pc, str(error))
        raise AssertionError(
            f"{self._program.at(step.pc)}: fails on the native engine, but not on the reference engine"
        )


def _builder(program: ValidProgram, family: str) -> tuple[Builder, int]:
    """Returns the description of a program, and an upper bound of the cycles of an instruction."""
    sizes = program.memories
    spaces = {space: sizes[space] for space in ("spad", "wbuf", "acc")}
    spaces["writable"] = max(sizes["dram"] - program.container.writable_base, 0)
    target = program.target
    depth = min(target.queue_depth, program.instructions)
    builder = Builder(spaces, program.container.constants, target.tile_rows, len(UNITS), depth, family)
    for bits in EXPONENTIAL_BITS:
        builder.exponentials(bits, exp2_results(bits).astype(f"<u{bits // 8}").tobytes())
    longest_job = 1
    kept = [step for step in program.steps if step.instruction.definition.control != "address"]
    position = {step.pc: index for index, step in enumerate(kept)}
    for step in kept:
        builder.instruction(step.pc, step.instruction.name, step.counts, position.get(step.partner, -1))
        if step.partner >= 0:
            loop = program.steps[min(step.pc, step.partner)]
            builder.number("count", loop.instruction["count"])
        if not step.instruction.definition.is_sequencer:
            _describe(builder, program, step)
            longest_job = max(longest_job, _describe_job(builder, program, step))
    return builder, longest_job


def _describe(builder: Builder, program: ValidProgram, step: Step) -> None:
    """Adds the fields and operands of a unit instruction to a description."""
    instruction = step.instruction
    for field, value in instruction:
        if field.kind == "choice":
            builder.choice(field.name, field.choices[value])
        elif field.kind == "register":
            builder.register(field.name, _pair(step.registers[field.name]))
        elif field.kind != "mask":
            builder.number(field.name, value)
    for access in step.accesses:
        memory, address, stride = place(program, step, access)
        builder.operand(
            access.name, memory, _pair(address), _pair(stride), access.rows, access.row_bytes, access.writes
        )
    rule = taint_rule(step)
    builder.taint(rule.transfers, rule.always, rule.never)
    for access in rule.sources:
        builder.taint_source(access.name)
    for access, may_leave in rule.results:
        builder.taint_result(access.name, may_leave)


def _describe_job(builder: Builder, program: ValidProgram, step: Step) -> int:
    """Adds timing data of a unit instruction to a description; returns an upper bound of its cycles, plus 1."""
    instruction, target = step.instruction, program.target
    job = job_of(step, target)
    waits, posts = instruction["wait"], instruction["post"]
    # Times that are too long to count natively are not counted natively.
    busy, latency = min(job.busy, LARGEST_TIME), min(job.latency, LARGEST_TIME)
    if job.timed is None:
        builder.job(job.unit, busy, latency, waits, posts)
        return job.busy + job.latency + 1
    row_bytes = instruction["row_bytes"]
    cycles = instruction.definition.cycles
    apart, one_piece = (min(cycles(instruction, target, stride), LARGEST_TIME) for stride in (-1, row_bytes))
    builder.job(job.unit, apart, latency, waits, posts)
    builder.one_piece(_pair(job.timed), row_bytes, one_piece)
    return max(apart, one_piece) + latency + 1


def _pair(affine: Affine[int]) -> tuple[int, Sequence[tuple[int, int]]]:
    return affine.base, affine.terms
