"""`python -m sta` is the `sta` command."""

from sta.api.cli.command_line import command

command()
