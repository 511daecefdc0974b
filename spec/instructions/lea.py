"""Address arithmetic."""

from sta.spec.instructions.definition import Field, InstructionDefinition, register

DEFINITION = InstructionDefinition(
    "lea",
    2,
    "sequencer",
    "Address arithmetic: rd = rs + imm + c1*s1 + c2*s2.",
    (
        register("rd", "register that is written; not r0 and not the counter of a loop around the instruction"),
        register("rs", "register to start from", optional=True),
        Field("imm", 40, "signed", "constant to add", default=0),
        register("c1", "counter of a loop around the instruction, or r0", optional=True),
        Field("s1", 24, "signed", "step of the first counter", default=0),
        register("c2", "counter of a loop around the instruction, or r0", optional=True),
        Field("s2", 24, "signed", "step of the second counter", default=0),
    ),
    control="address",
    sets_register="rd",
)
