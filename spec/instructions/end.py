"""The end of a loop."""

from sta.spec.instructions.definition import InstructionDefinition

DEFINITION = InstructionDefinition("end", 4, "sequencer", "Closes the innermost loop.", control="end")
