"""The begin of a loop."""

from sta.spec.instructions.definition import Field, InstructionDefinition, register

DEFINITION = InstructionDefinition(
    "loop",
    3,
    "sequencer",
    "Runs the instructions up to the matching `end` with counter = 0, 1, .., count-1. A count of 0 skips them.",
    (
        register("counter", "register that counts; readable inside the body only"),
        Field("count", 24, "unsigned", "number of iterations"),
    ),
    control="loop",
    sets_register="counter",
)
