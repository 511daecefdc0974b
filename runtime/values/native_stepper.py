"""A run on the native engine that stops between any two instructions."""

from __future__ import annotations

from collections.abc import Mapping

from sta.runtime.memory import Array, Memories
from sta.runtime.native_engine import NativeEngine, NativeProgram
from sta.runtime.values.stepper import Stepper, Visit
from sta.runtime.values.walk import Walk


class NativeStepper(Stepper):
    """A run on the native engine. Going back starts again: a whole run takes less than a second."""

    def __init__(self, native: NativeProgram, inputs: Mapping[str, Array], poison: int) -> None:
        """Starts a run; takes what ``NativeEngine.run`` takes."""
        self._program = native.program
        self._engine = NativeEngine(native)
        self._start = (inputs, poison)
        self._engine.begin(inputs, poison)
        self.walk = Walk(native.program)

    @property
    def memories(self) -> Memories:
        """The machine's memories as they are now."""
        return self._engine.memories

    def go_to(self, position: int, visit: Visit = lambda _: None) -> None:
        """Executes up to a position, or goes back to it; see ``Stepper``."""
        position = max(position, 0)
        if position < self.walk.position:
            self._engine.begin(*self._start)
            self.walk = Walk(self._program)
        try:
            self._engine.run_to(position)
        finally:
            while self.walk.position < self._engine.executed:
                self.walk.go_on()
        visit(self.walk.position)
