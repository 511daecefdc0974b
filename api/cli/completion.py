"""Completion of command lines in shells, by argcomplete."""

from __future__ import annotations

from sta.api.cli.argument_parser import Parser
from sta.api.cli.command_table import COMMANDS, add_command_arguments

SHELLS = ("bash", "zsh", "fish", "powershell")
"""Shells that argcomplete has scripts for."""


def complete() -> None:
    """
    Writes the completions of the command line that the shell gives in the environment, and ends the process.

    Returns without argcomplete: a shell must not get an error message in place of completions.
    """
    try:
        import argcomplete
    except ModuleNotFoundError:
        return
    parser = Parser(prog="sta")
    commands = parser.add_subparsers(parser_class=Parser)
    for name, command in COMMANDS.items():
        add_command_arguments(commands.add_parser(name, help=command.summary), command)
    argcomplete.autocomplete(parser)


def script(shell: str) -> str:
    """The script with which a shell completes `sta`. Raises ModuleNotFoundError without argcomplete."""
    from argcomplete.shell_integration import shellcode

    lines = shellcode(["sta"], shell=shell)
    # The script of zsh, where this line says for which command it is, does for bash as well.
    return lines.removeprefix("#compdef sta\n") if shell == "bash" else lines
