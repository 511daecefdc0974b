"""Command lines: a parser whose errors come with a suggestion, and that never guesses."""

from __future__ import annotations

import argparse
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from sta.spec.suggestion import suggestion

OUTPUTS = ("output", "output_file", "save_weights", "trace")
"""Names of the arguments that are files to be written."""


class UsageError(Exception):
    """The command was called wrongly; the message is one line."""


@contextmanager
def about(file: str) -> Generator[None]:
    """Prefixes a ValueError raised inside with its file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


class Parser(argparse.ArgumentParser):
    """
    An argument parser that raises UsageError, and does not accept abbreviated options.

    ``options`` are the spellings of all options, for suggestions, and ``flags`` of those without a value. An argument
    whose metavar has the word FILE or MODEL is a file, to be read unless it is one of `OUTPUTS`: ``reads`` and
    ``writes`` are the spellings of those options, and ``reads`` has "" if a file stands without an option.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        """Accepts the arguments of ``argparse.ArgumentParser``."""
        self.options: list[str] = []
        self.reads: set[str] = set()
        self.writes: set[str] = set()
        self.flags: set[str] = set()
        super().__init__(*arguments, allow_abbrev=False, **keywords)

    def add_argument(self, *names: Any, **keywords: Any) -> argparse.Action:
        """Adds an argument, and remembers its spellings if it is an option."""
        action = super().add_argument(*names, **keywords)
        self.options += action.option_strings
        if action.nargs == 0:
            self.flags.update(action.option_strings)
        if action.dest in OUTPUTS:
            self.writes.update(action.option_strings)
        elif re.search("FILE|MODEL", str(action.metavar)):
            self.reads.update(action.option_strings or [""])
        return action

    def print_help(self, file: Any = None) -> None:
        """Prints the help; raises OSError if that fails, which argparse would hide."""
        print_help(self)

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise_usage_error(message)


def print_help(parser: argparse.ArgumentParser) -> None:
    """Prints a parser's help on standard output; raises OSError if that fails."""
    print(parser.format_help(), end="")


def raise_usage_error(message: str) -> NoReturn:
    """Raises UsageError for a message of argparse, with a suggestion for a value outside of a list."""
    wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
    if wrong is None:
        raise UsageError(message)
    raise UsageError(message + suggestion(wrong[1], [word.strip("'") for word in wrong[2].split(", ")]))


def check_options(arguments: Sequence[str], options: Sequence[str]) -> None:
    """
    Finds unknown options before an error that only follows from one is reported.

    Raises:
        UsageError: names the first unknown option, with a suggestion.
    """
    for argument in arguments:
        if argument == "--":
            return
        name = argument.split("=", 1)[0]
        # A word that begins like a negative number is a value, if a wrong one.
        is_option = re.match("-[^0-9.]", name) is not None
        is_short_with_value = not name.startswith("--") and name[:2] in options
        if is_option and name not in options and not is_short_with_value:
            raise UsageError(f"unknown option {name!r}{suggestion(name, options)}")
