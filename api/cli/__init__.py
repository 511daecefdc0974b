"""The `sta` command: its parser, its tables, its progress; one module a command in `commands/`."""
