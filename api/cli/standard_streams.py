"""`-` as a file: standard input or output, wherever a command takes a file's name."""

from __future__ import annotations

import io
import os
import shutil
import stat
import sys
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from sta.api.cli.argument_parser import Parser, UsageError

STANDARD = "-"
_INPUT, _OUTPUT = "standard input", "standard output"
_KINDS = {b"PK\x03\x04": ".pt2", b"STA\x00": ".sta"}
"""Endings of files, by which a model's format is told, by what they begin with."""
_MOST_LOOKED_AT = 4096


@dataclass
class StandardStreams:
    """
    Files in the place of `-`, for one command.

    Files are mapped, searched and read twice, which a pipe cannot be: what is read lies in a temporary file first, and
    what is written is sent on when the command has done its work.
    """

    is_read: bool = False
    """True if standard input is one of the files."""
    _names: dict[str, str] = field(default_factory=dict[str, str])
    """Names of temporary files in messages."""

    @contextmanager
    def files(self, arguments: Sequence[str], parser: Parser) -> Generator[Sequence[str]]:
        """
        Yields the arguments of a command with names of files in the place of `-`, and of pipes that are read.

        While a file is written to standard output, what else is printed goes to standard error.

        Args:
            arguments: those of the command.
            parser: knows which of them are files.

        Raises:
            UsageError: two files are standard input, or two are standard output.
            OSError: a stream cannot be read or written.
        """
        places = list(_values(arguments, parser.flags))
        sources = [place for place in places if place.option in parser.reads and _is_stream(place.value)]
        results = [place for place in places if place.option in parser.writes and place.value == STANDARD]
        if sum(place.value == STANDARD for place in sources) > 1:
            raise UsageError("two files cannot both be standard input")
        if len(results) > 1:
            raise UsageError("two files cannot both be standard output")
        if results and "--json" in arguments:
            raise UsageError("--json prints on standard output, which is a file here")
        if not sources and not results:
            yield arguments
            return
        with TemporaryDirectory(prefix="sta-") as folder:
            given = list(arguments)
            for number, place in enumerate(sources):
                given[place.position] = place.given_as(self._spooled(place.value, Path(folder, str(number))))
            if not results:
                yield given
                return
            written = Path(folder) / _OUTPUT
            self._names = {str(written): _OUTPUT, **self._names}
            given[results[0].position] = results[0].given_as(written)
            with redirect_stdout(_Named(self)):
                yield given
            write_data(written)

    def named(self, text: str) -> str:
        """The text with the names of streams in the place of those of temporary files."""
        for path, name in self._names.items():
            text = text.replace(path, name)
        return text

    def _spooled(self, source: str, folder: Path) -> Path:
        """A file with what a stream holds."""
        folder.mkdir()
        path = folder / (_INPUT if source == STANDARD else Path(source).name)
        with open(path, "wb") as file:
            if source == STANDARD:
                self.is_read = True
                shutil.copyfileobj(sys.stdin.buffer, file)
            else:
                with open(source, "rb") as pipe:
                    shutil.copyfileobj(pipe, file)
        with open(path, "rb") as file:
            kind = _kind(file.read(_MOST_LOOKED_AT))
        named = path.rename(path.with_name(path.name + kind)) if source == STANDARD else path
        name = _INPUT if source == STANDARD else source
        self._names |= {str(named): name, str(folder): name}
        return named


@dataclass(frozen=True)
class _Value:
    """An argument that may be a file's name."""

    position: int
    option: str
    """The option that it belongs to; "" without one."""
    value: str
    joined: bool
    """True for ``--option=value``."""

    def given_as(self, path: Path) -> str:
        """The argument with another value."""
        return f"{self.option}={path}" if self.joined else str(path)


def _values(arguments: Sequence[str], flags: Collection[str]) -> Generator[_Value]:
    """Iterates over the arguments that are no options."""
    before = ""
    for position, argument in enumerate(arguments):
        if argument.startswith("--") and "=" in argument:
            option, _, value = argument.partition("=")
            yield _Value(position, option, value, True)
        elif argument == STANDARD or not argument.startswith("-"):
            yield _Value(position, before, argument, False)
        before = argument if argument.startswith("-") and argument not in (STANDARD, "--", *flags) else ""


def _is_stream(value: str) -> bool:
    """True if a file to be read is standard input, or a pipe."""
    if value == STANDARD:
        return True
    try:
        return stat.S_ISFIFO(os.stat(value).st_mode)
    except (OSError, ValueError):
        return False


def _kind(data: bytes) -> str:
    """The ending of a file's name for what the file begins with."""
    for begins, ending in _KINDS.items():
        if data.startswith(begins):
            return ending
    # The binary formats left are those of ONNX, whose first bytes are numbers below 32.
    return ".onnx" if data[:1] and data[0] < 0x20 and data[:1] not in b"\t\n\r" else ".mlir"


class _Named(io.TextIOBase):
    """Standard error, with the names of streams in the place of those of temporary files."""

    def __init__(self, streams: StandardStreams) -> None:
        self._streams = streams

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The same as of standard error."""
        return sys.stderr.encoding

    def fileno(self) -> int:
        """The same as of standard error."""
        return sys.stderr.fileno()

    def write(self, text: str, /) -> int:
        """Writes to standard error."""
        sys.stderr.write(self._streams.named(text))
        return len(text)


def write_data(data: str | Path) -> None:
    """
    Writes a text or the contents of a file to standard output, as bytes: text is UTF-8, whatever the terminal has.

    Raises OSError if that fails, or the stream is closed.
    """
    sys.stdout.flush()
    stream = getattr(sys.stdout, "buffer", None)
    if isinstance(data, Path):
        if getattr(sys.stdout, "name", "") == os.devnull:
            raise OSError(f"{_OUTPUT} is closed")
        with open(data, "rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    elif stream is None:
        sys.stdout.write(data)
    else:
        stream.write(data.encode("utf-8", "surrogateescape"))
    sys.stdout.flush()
