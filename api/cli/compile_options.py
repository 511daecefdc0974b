"""The options of `sta compile`, from their one definition: `sta.passes.options`."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, cast

from sta.api.cli.argument_parser import Parser, UsageError
from sta.passes.options import Keywords, Option, options
from sta.spec.target import Target, load_target


def add_options(parser: Parser, names: Collection[str] | None = None) -> None:
    """Adds the options of these names to the command line; without names all."""
    for option in options().values():
        if names is not None and option.name not in names:
            continue
        for flag, (value, help) in option.without.items():
            parser.add_argument(flag, dest=option.name, action="append_const", const=value, help=help)
        if option.command_line is not None:
            arguments = dict(option.command_line)
            if "type" in arguments:
                arguments["type"] = _with_reason(arguments["type"])
            parser.add_argument(option.flag, help=_help(option), **arguments)


def _help(option: Option) -> str:
    # argparse formats what begins with a percent sign.
    return option.help.replace("%", "%%")


def _with_reason(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Parser of an argument's text whose errors argparse shows with their reason."""

    def read_or_say(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from error

    return read_or_say


def keywords_of(arguments: Namespace) -> Keywords:
    """Returns the keywords of `sta.compile` for a command line."""
    found: dict[str, Any] = {}
    for name, option in options().items():
        given = getattr(arguments, name, None)
        if given is not None:
            found[name] = [one for one in option.default if one not in given] if option.without else given
    return cast("Keywords", found)


def target_of(name: str) -> Target:
    """Returns the target of a name or file. Raises UsageError for a name that no target has."""
    try:
        return load_target(name)
    except ValueError as error:
        if Path(name).is_file():
            raise
        raise UsageError(str(error)) from error
