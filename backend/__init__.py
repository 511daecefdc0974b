"""Programs: the encoding of instructions, assembler and disassembler, the `.sta` container."""
