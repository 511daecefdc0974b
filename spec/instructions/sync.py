"""Semaphores without work."""

from sta.spec.instructions.definition import UNITS, Field, InstructionDefinition

DEFINITION = InstructionDefinition(
    "sync",
    8,
    "any",
    "No work and no cycles: waits, then posts once the earlier instructions of its unit are complete.",
    (Field("unit", 3, "choice", "the unit whose queue it passes through", choices=UNITS),),
    details="Cycles: 0.",
)
