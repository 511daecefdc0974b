"""``sta help``: what `--help` prints."""

from __future__ import annotations

from argparse import Namespace


def execute(arguments: Namespace) -> None:
    """Runs the command; raises UsageError if there is no such command."""
    from sta.api.cli.command_line import show_help

    show_help(arguments.topic)
