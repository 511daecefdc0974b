"""The commands, one module each: `execute(arguments)` runs one."""
