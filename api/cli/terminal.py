"""The terminal: how wide it is, which characters it has, and how much is to be said."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from enum import IntEnum
from typing import Any, cast

WIDTH = 80
"""Columns of what does not go to a terminal."""

_PLAIN = {"µ": "u", "×": "x", "″": '"', "─": "-", "–": "-", "—": "-", "…": "...", "→": "->"}
"""Characters in place of ours that an encoding does not have."""
_HANDLER = "sta-plain"


class Verbosity(IntEnum):
    """Amount of what a command says, besides its result and errors."""

    QUIET = -1
    NORMAL = 0
    VERBOSE = 1


_verbosity: ContextVar[Verbosity] = ContextVar("_verbosity", default=Verbosity.NORMAL)


def verbosity() -> Verbosity:
    """The verbosity of the command that runs now."""
    return _verbosity.get()


@contextmanager
def saying(much: Verbosity) -> Generator[None]:
    """Sets how much is said inside."""
    token = _verbosity.set(much)
    try:
        yield
    finally:
        _verbosity.reset(token)


def columns() -> int | None:
    """Columns that a table may take: ``COLUMNS``, or those of the terminal, or `WIDTH`; None for any number."""
    if verbosity() == Verbosity.VERBOSE:
        return None
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or WIDTH
    except (OSError, ValueError):
        return WIDTH


@contextmanager
def any_character() -> Generator[None]:
    """Has standard output and standard error take characters that their encodings do not have, in another form."""
    with ExitStack() as after:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream = cast("io.TextIOWrapper[Any]", stream)
                after.callback(_set_errors, stream, stream.errors or "strict")
                stream.reconfigure(errors=_HANDLER)
        yield


def _set_errors(stream: io.TextIOWrapper[Any], errors: str) -> None:
    # Writes what is left; that it cannot be written has been reported.
    with suppress(OSError, ValueError):
        stream.reconfigure(errors=errors)


def has_characters(text: str) -> bool:
    """True if the encoding of standard output has all characters of a text."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """The first character that cannot be encoded, in a form that can, and where the next one is."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, after = error.object[error.start], error.start + 1
    if "\udc80" <= character <= "\udcff":
        # A byte of a file's name that was no text.
        return bytes([ord(character) - 0xDC00]), after
    return _PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode("ascii"), after


codecs.register_error(_HANDLER, _plain)
