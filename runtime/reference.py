"""
The reference engine: executes a program by the definitions in ``sta.spec.instructions``.

It executes in program order, one instruction after the other. Each static instruction is turned once into a function of
the loop counters; a run calls these functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sta.runtime.errors import error_at
from sta.runtime.memory import Array, Memories
from sta.runtime.steps import Step, execution
from sta.runtime.validate import ValidProgram
from sta.spec.instructions.definition import MAXIMUM_LOOP_DEPTH
from sta.spec.integers import Int64Array
from sta.spec.vector import RowStatistics

_INSTRUCTIONS_BETWEEN_REPORTS = 64

RunProgress = Callable[[float | None], None]
"""Progress callback: the completed fraction 0..1 of a run, or None if unknown."""
Counters = Sequence[int]
StepFunction = Callable[[Counters], None]


@dataclass(frozen=True)
class State:
    """All state that the instructions of a program can change."""

    spad: Array
    wbuf: Array
    acc: Array
    writable: Array
    """The writable part of DRAM."""
    statistics: tuple[Int64Array, Int64Array]

    @property
    def bytes(self) -> int:
        """Bytes of the memories."""
        return sum(memory.nbytes for memory in (self.spad, self.wbuf, self.acc, self.writable))


class ReferenceEngine:
    """Runs one program, any number of times. Not for use by several threads at once."""

    def __init__(self, program: ValidProgram) -> None:
        self._program = program
        self._memories = Memories.allocate(program)
        self._statistics = RowStatistics(program.target.tile_rows)
        self._functions = {
            step.pc: step_function(step, self._memories, self._statistics)
            for step in program.steps
            if not step.instruction.definition.is_sequencer
        }

    @property
    def program(self) -> ValidProgram:
        """The program of the engine."""
        return self._program

    @property
    def memories(self) -> Memories:
        """The machine's memories as they are now."""
        return self._memories

    @property
    def statistics(self) -> tuple[Int64Array, Int64Array]:
        """The vector unit's row statistics as they are now: sums and sums of squares."""
        return self._statistics.values

    def replace_statistics(self, before: Array, after: Array) -> None:
        """Corrects the row statistics after a tile that was added to them, ``before``, has been replaced by another."""
        self._statistics.replace(before, after)

    def run(self, inputs: Mapping[str, Array], poison: int, report: RunProgress | None = None) -> dict[str, Array]:
        """
        Runs the program.

        Args:
            inputs: device integers by input name, in the device dtype and shape of the signature.
            poison: the byte, 0..255, that all writable memory holds at the start.
            report: is called now and then.

        Returns:
            Device integers by output name.

        Raises:
            ProgramError: an index outside its table, a sum outside int32, or malformed weights or parameters.
        """
        self.begin(inputs, poison)
        counters = [0] * MAXIMUM_LOOP_DEPTH
        done = 0
        for number, (step, issued) in enumerate(execution(self._program.steps, counters)):
            self.execute(step, counters)
            done += issued
            if report is not None and number % _INSTRUCTIONS_BETWEEN_REPORTS == 0:
                report(done / self._program.instructions)
        return {port.signature.name: self._memories.port(port).copy() for port in self._program.outputs}

    def begin(self, inputs: Mapping[str, Array], poison: int) -> None:
        """Brings the machine into the initial state of ``run``, which has the same parameters."""
        self._memories.poison(poison)
        self._statistics.clear()
        for port in self._program.inputs:
            self._memories.port(port)[...] = inputs[port.signature.name]

    def execute(self, step: Step, counters: Counters) -> None:
        """Executes an instruction; those of the sequencer change nothing. Raises ProgramError as ``run`` does."""
        function = self._functions.get(step.pc)
        if function is None:
            return
        try:
            function(counters)
        except (ValueError, OverflowError) as error:
            raise error_at(self._program.container, step.pc, str(error)) from None

    def save(self) -> State:
        """Returns a copy of all state."""
        memories = self._memories
        return State(
            memories.spad.copy(),
            memories.wbuf.copy(),
            memories.acc.copy(),
            memories.writable.copy(),
            self._statistics.values,
        )

    def restore(self, state: State) -> None:
        """Restores the state that ``save`` returned."""
        for name in ("spad", "wbuf", "acc", "writable"):
            getattr(self._memories, name)[:] = getattr(state, name)
        self._statistics.restore(*state.statistics)


def step_function(step: Step, memories: Memories, statistics: RowStatistics) -> StepFunction:
    """Returns the effect of a unit instruction on memories and row statistics, as a function of the loop counters."""
    definition = step.instruction.definition
    execute = definition.semantics(step.instruction)
    tiles = [(access.name, memories.tile(step, access)) for access in step.accesses]
    registers = [(name, step.registers[name]) for name in definition.scalars]

    def run(counters: Counters) -> None:
        operands = {name: tile.at(counters) for name, tile in tiles}
        scalars = {name: value.at(counters) for name, value in registers}
        execute(operands, scalars, statistics)

    return run
