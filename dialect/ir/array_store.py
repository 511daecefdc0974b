"""
A folder of arrays by their contents: `<digest>.safetensors` holds one array, whose digest is its name.

A stored array is never written again or changed: several runs may share a folder.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_KEY = "array"


class ArrayFolder:
    """The folder at a path, which is made when the first array is added."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add(self, array: Array) -> str:
        """Writes an array unless it is stored already, completely or not at all; returns its digest. Raises OSError."""
        array = np.asarray(array, order="C")
        digest = digest_of(array)
        path = self.path(digest)
        if path.exists():
            return digest
        self._directory.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{digest}.{os.getpid()}.tmp")
        try:
            _write(unfinished, array)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return digest

    def read(self, digest: str) -> Array:
        """
        The array of a digest.

        Raises FileNotFoundError if it is missing, ValueError if the contents of the file do not match its name.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType] - its path type is

        path = self.path(digest)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: make the dump again")
        try:
            array: Array = load_file(path)[_KEY]
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"{path} is not a safetensors file of one array: {error}") from error
        if digest_of(array) != digest:
            raise ValueError(f"{path} does not hold the array of its name: make the dump again")
        return array

    def path(self, digest: str) -> Path:
        """The file of an array. Raises ValueError if `digest` is malformed."""
        if re.fullmatch(r"[0-9a-f]{64}", digest) is None:
            raise ValueError(f"{digest!r} is no digest of an array")
        return self._directory / f"{digest}.safetensors"


def _write(path: Path, array: Array) -> None:
    """Writes a file of one array without copying it; raises OSError."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType] - its path type is

    path.touch()
    mode = path.stat().st_mode
    try:
        save_file({_KEY: array}, path)
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        number = errno.EIO if found is None else int(found[1])
        raise OSError(number, os.strerror(number), os.fspath(path)) from error
    # The file is readable by nobody else, whatever the umask.
    path.chmod(mode)


def digest_of(array: Array) -> str:
    """A digest of dtype, shape and bytes, as 64 hexadecimal digits."""
    contents = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{array.dtype.str}{list(array.shape)}".encode())
    digest.update(contents.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
