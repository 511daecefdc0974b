"""The barrier of all units."""

from sta.spec.instructions.definition import InstructionDefinition

DEFINITION = InstructionDefinition(
    "fence",
    5,
    "sequencer",
    "The sequencer waits until all queues are empty and every result is complete.",
    control="fence",
)
