"""
The ``sta`` command.

Results go to standard output, progress, warnings and errors to standard error. The exit code is 0, or 1 with one ``sta:
error:`` message for unusable input, or 2 for a wrong call of a command. It is 130 after an interrupt, and 141 where the
reader of a pipe has gone: what shells show for programs that these signals end.

Only the modules that the command needs are imported: running a program needs NumPy, compiling one torch and xDSL as
well.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import traceback
import warnings
from argparse import Action, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from importlib import import_module
from typing import Any, NoReturn

from sta.api.cli.argument_parser import Parser, UsageError, check_options, print_help
from sta.api.cli.command_table import COMMANDS, add_global_arguments, parser_of
from sta.api.cli.standard_streams import StandardStreams
from sta.api.cli.terminal import Verbosity, any_character, saying
from sta.spec.suggestion import suggestion

_DESCRIPTION = "Compile Transformers to STA microcode, and run it bit-exactly."


_EXTRAS = {
    "argcomplete": "cli",
    "prompt_toolkit": "cli",
    "pyclip": "gui",
    "rich": "cli",
    "textual": "gui",
    "vl_convert": "report",
}
"""Extras by the packages that they bring, for packages outside of `compile`."""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a full disk or quota, and of a file that is too large; a file is named."""

_PIPE = 13
"""Number of the signal for a pipe without a reader; not every system has its name."""
_BY_SIGNAL = 128
"""Exit code of a shell for a program that a signal ended, besides the signal's number."""


class _ShowVersion(Action):
    """Prints the version; a class of its own because looking the version up takes a moment."""

    def __call__(self, parser: ArgumentParser, *arguments: Any) -> None:
        from importlib.metadata import version

        print(f"sta {version('sta-toolchain')}")
        parser.exit()


def _overview() -> Parser:
    """The parser of the command line up to the command."""
    lines = [f"  {name:<10} {command.summary}" for name, command in COMMANDS.items()]
    parser = Parser(
        prog="sta",
        usage="sta COMMAND ...",
        description=_DESCRIPTION + "\n\ncommands:\n" + "\n".join(lines),
        epilog="`sta COMMAND --help` says more about a command.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    add_global_arguments(parser)
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    return parser


def _split(arguments: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Arguments before the command, the command or "", and arguments after it."""
    for position, argument in enumerate(arguments):
        if not argument.startswith("-"):
            return list(arguments[:position]), argument, list(arguments[position + 1 :])
    return list(arguments), "", []


def _execute(arguments: Sequence[str], streams: StandardStreams) -> int:
    before, name, after = _split(arguments)
    overview = _overview()
    check_options(before, overview.options)
    spoken = overview.parse_args(before)
    if not name:
        raise UsageError(f"a command is missing: one of {', '.join(COMMANDS)}")
    _check_command(name)
    parser = parser_of(name)
    execute = import_module(f"sta.api.cli.commands.{name}").execute
    if name == "opt":
        # xDSL's driver has a parser of its own.
        ours = Parser(add_help=False)
        add_global_arguments(ours)
        spoken, others = ours.parse_known_args(after, spoken)
        with streams.files(others, parser) as given, saying(_verbosity(spoken)):
            return execute(given)
    check_options(after, parser.options)
    # What is wrong with the arguments is said before a stream is read.
    _verbosity(parser.parse_args(after, copy(spoken)))
    with streams.files(after, parser) as given:
        chosen = parser.parse_args(given, spoken)
        chosen.standard_input_is_read = streams.is_read
        with saying(_verbosity(chosen)):
            # A command has a status of its own where its answer is no.
            return execute(chosen) or 0


def show_help(name: str | None) -> None:
    """Prints what `--help` does, for one command or for all; raises UsageError if there is no such command."""
    if name is None:
        print_help(_overview())
        return
    _check_command(name)
    if name == "opt":
        import_module("sta.api.cli.commands.opt").execute(["--help"])
    print_help(parser_of(name))


def _check_command(name: str) -> None:
    if name not in COMMANDS:
        raise UsageError(f"unknown command {name!r}{suggestion(name, COMMANDS)}")


def _verbosity(chosen: Namespace) -> Verbosity:
    if chosen.quiet and chosen.verbose:
        raise UsageError("--quiet and --verbose exclude each other")
    return Verbosity.QUIET if chosen.quiet else Verbosity.VERBOSE if chosen.verbose else Verbosity.NORMAL


def _status(arguments: Sequence[str], streams: StandardStreams) -> int:
    """The exit code of a command, even if it shows its help, with which argparse would end the process."""
    try:
        return _execute(arguments, streams)
    except SystemExit as ended:
        return int(ended.code or 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Runs the command line and returns its exit code.

    Args:
        arguments: what follows ``sta``; those of the process if None.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    streams = StandardStreams()

    def show_warning(message: Warning | str, *others: Any, **more: Any) -> None:
        print(f"sta: warning: {streams.named(str(message))}", file=sys.stderr)

    with any_character(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show_warning
        try:
            status = _status(given, streams)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            # The reader has closed the pipe; Python must not try to write the rest when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _BY_SIGNAL + _PIPE
        except KeyboardInterrupt:
            return _fail("interrupted", _BY_SIGNAL + signal.SIGINT)
        except UsageError as error:
            command = " ".join(["sta", *(name for name in [_split(given)[1]] if name in COMMANDS)])
            return _fail(f"{streams.named(str(error))} (see `{command} --help`)", 2)
        except Exception as error:
            if "--debug" in given:
                traceback.print_exc()
            return _fail(streams.named(_describe(error)), 1)


def command() -> NoReturn:
    """
    The installed `sta`: runs the command line and ends the process.

    Tearing down PyTorch and the compiler takes seconds and serves nobody; like mypy and others, the process ends
    without it. It does not collect garbage either: a command needs what it allocates.
    """
    gc.disable()
    # Python has None for a stream that was closed before it began.
    sys.stdin = sys.stdin or open(os.devnull)
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")
    status = main()
    # A failed write has been reported.
    with suppress(OSError):
        sys.stdout.flush()
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(status)


def _fail(message: str, status: int) -> int:
    print(f"sta: error: {message}", file=sys.stderr)
    return status


def _describe(error: Exception) -> str:
    """Text of the message for an error."""
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("sta"):
        extra = _EXTRAS.get((error.name or "").partition(".")[0], "compile")
        return f"this needs the package {error.name}: install sta-toolchain[{extra}]"
    if isinstance(error, OSError) and error.strerror:
        place = error.filename or ("standard output" if error.errno in _FULL else None)
        return f"{place}: {error.strerror}" if place else error.strerror
    if isinstance(error, ValueError | OSError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory for this"
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return f"internal error, please report it with what --debug shows: {reason}"
