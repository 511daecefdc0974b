"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

_LONGEST_PART = 100
"""Letters that the unfinished form keeps of a file's name, since the file system limits its length."""


class _Written(NamedTuple):
    """A complete file that waits for its name."""

    unfinished: Path
    final: Path
    given: str


@dataclass
class _Together:
    """Files that `new_files` has opened so far."""

    files: list[_Written] = field(default_factory=list[_Written])
    folders: list[Path] = field(default_factory=list[Path])
    """Folders that did not exist before."""


_open: ContextVar[_Together | None] = ContextVar("_open", default=None)
"""Files that wait for the end of `new_files`; None outside."""


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Generator[IO[bytes]]:
    """
    Opens a file that takes its name when all is written, and is removed if anything fails.

    Raises:
        OSError: the file cannot be written, or is there and no regular file; names the path that was given.
    """
    # A symbolic link stays, and its target is replaced.
    final = Path(os.path.realpath(path))
    if final.exists() and not final.is_file():
        raise OSError(errno.EISDIR if final.is_dir() else errno.EINVAL, _kind(final), os.fspath(path))
    unfinished = final.with_name(f".{final.name[:_LONGEST_PART]}.{os.getpid()}.tmp")
    written = _Written(unfinished, final, os.fspath(path))
    with _together() as together:
        try:
            file = open(unfinished, "wb")
        except OSError as error:
            raise OSError(error.errno, error.strerror, written.given) from None
        together.files.append(written)
        try:
            with file:
                yield file
        except OSError as error:
            if error.errno is None or error.filename not in (None, os.fspath(unfinished)):
                raise
            raise OSError(error.errno, error.strerror, written.given) from None


@contextmanager
def new_files() -> Generator[None]:
    """
    Files opened inside by ``new_file`` take their names together when all are written, or none does if anything fails.

    Raises:
        OSError: a file cannot take its name; names the path that was given.
    """
    with _together():
        yield


def new_folder(path: Path) -> None:
    """Makes a folder if it is missing; it is removed again if ``new_files`` fails around it. Raises OSError."""
    if path.is_dir():
        return
    path.mkdir()
    if (together := _open.get()) is not None:
        together.folders.append(path)


@contextmanager
def _together() -> Generator[_Together]:
    outer = _open.get()
    if outer is not None:
        yield outer
        return
    together = _Together()
    token = _open.set(together)
    try:
        yield together
        for written in together.files:
            _rename(written)
    except BaseException:
        for written in together.files:
            written.unfinished.unlink(missing_ok=True)
        for folder in together.folders:
            # Unless a file in it has its name already.
            with suppress(OSError):
                folder.rmdir()
        raise
    finally:
        _open.reset(token)


def _rename(written: _Written) -> None:
    try:
        os.replace(written.unfinished, written.final)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, written.given) from None


def _kind(path: Path) -> str:
    return "Is a directory" if path.is_dir() else "Is no regular file"
