"""
A folder of arrays by their contents: `<digest>.safetensors` holds one array, whose digest is its name.

An array that is there is never written again, and none is ever changed: folders of several runs may be one.
"""

from __future__ import annotations

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
        """Writes an array that is not there yet, completely or not at all; returns its digest. Raises OSError."""
        from safetensors.numpy import save  # pyright: ignore[reportUnknownVariableType] - its path type is

        array = np.asarray(array, order="C")
        digest = digest_of(array)
        path = self.path(digest)
        if path.exists():
            return digest
        self._directory.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{digest}.{os.getpid()}.tmp")
        try:
            # `save_file` would make a file that nobody else may read, whatever the umask.
            unfinished.write_bytes(save({_KEY: array}))
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return digest

    def read(self, digest: str) -> Array:
        """
        The array of a digest.

        Raises FileNotFoundError if it is not there, ValueError if the file does not hold what its name says.
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
        """The file of an array. Raises ValueError if `digest` is none."""
        if re.fullmatch(r"[0-9a-f]{64}", digest) is None:
            raise ValueError(f"{digest!r} is no digest of an array")
        return self._directory / f"{digest}.safetensors"


def digest_of(array: Array) -> str:
    """A digest of dtype, shape and bytes, as 64 hexadecimal digits."""
    contents = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{array.dtype.str}{list(array.shape)}".encode())
    digest.update(contents.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
