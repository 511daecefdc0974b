"""The end of a program."""

from sta.spec.instructions.definition import InstructionDefinition

DEFINITION = InstructionDefinition(
    "halt", 1, "sequencer", "End of the program; the last instruction and nowhere else.", control="halt"
)
