"""Reading of arrays by name from an untrusted ``.npz`` file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """
    Returns the arrays of an ``.npz`` file by name. Arrays of Python objects are refused: reading them runs code.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file is no ``.npz`` file, is damaged, or holds something that is no array of numbers.
    """
    # Opened for its error: a missing file has a better reason than a wrong format.
    with open(path, "rb"):
        pass
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an .npz file: write one with numpy.savez(path, name=array, ...)")
    try:
        with np.load(path, allow_pickle=False) as archive:
            names: list[str] = archive.files
            values = {name: _read(path, archive, name) for name in names}
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return values


def _read(path: Path, archive: Any, name: str) -> NDArray[Any]:
    try:
        value: object = archive[name]
    except Exception as error:  # whatever damaged contents make the reader raise
        if "allow_pickle" in str(error):
            reason = "holds Python objects, which are not read because that can run code"
            raise ValueError(f"{path}: array {name!r} {reason}") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: array {name!r} is damaged: {reason}") from error
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{path}: {name!r} is not an array")
    return cast("NDArray[Any]", value)
