"""Output files of commands: they appear complete or not at all."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.backend.new_file import new_file


def check_output(path: Path, *inputs: Path) -> None:
    """
    Checks that a file can be written at a path, before the work that leads up to it.

    Raises:
        ValueError: the directory does not exist, the path is a directory or a device, or it is one of the inputs.
    """
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a directory")
    if path.exists() and not path.is_file():
        raise ValueError(f"cannot write {path}: it is no regular file; leave out the option to write nothing")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: there is no directory {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: no permission to write in {path.parent}")
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise ValueError(f"cannot write {path}: it is an input of the same command")


def write_text(path: Path, text: str) -> int:
    """Writes UTF-8 text, bytes of files' names in it as they are; returns its bytes, or raises OSError."""
    with new_file(path) as file:
        return file.write(text.encode("utf-8", "surrogateescape"))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """
    Writes arrays by name as ``.npz``: equal arrays are equal bytes.

    ``numpy.savez`` is not used because it takes the names as keywords, of which some are its own.

    Raises:
        OSError: the file cannot be written.
    """
    with new_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
