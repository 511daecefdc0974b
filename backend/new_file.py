"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_LONGEST_PART = 100
"""Letters of a file's name in that of its unfinished form, which must not get too long for the file system."""


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Generator[IO[bytes]]:
    """
    Opens a file that takes its name when all is written, and is removed if anything fails.

    Raises:
        OSError: the file cannot be written, or is there and no regular file; names the path that was given.
    """
    # A symbolic link stays, and what it points to is replaced.
    final = Path(os.path.realpath(path))
    if final.exists() and not final.is_file():
        raise OSError(errno.EISDIR if final.is_dir() else errno.EINVAL, _kind(final), os.fspath(path))
    unfinished = final.with_name(f".{final.name[:_LONGEST_PART]}.{os.getpid()}.tmp")
    try:
        file = open(unfinished, "wb")
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    try:
        with file:
            yield file
        os.replace(unfinished, final)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        if error.errno is None or error.filename not in (None, os.fspath(unfinished)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _kind(path: Path) -> str:
    return "Is a directory" if path.is_dir() else "Is no regular file"
