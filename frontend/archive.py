"""Allowed contents of a `.pt2` file: it is a ZIP archive of unknown origin, and PyTorch would run code out of it."""

from __future__ import annotations

import contextlib
import os
import re
import zipfile
from collections.abc import Generator
from pathlib import Path

from sta.frontend.errors import ModelError

_PROGRAM_MEMBERS = ("models/model.json", "serialized_exported_program.json")
"""Places of the graph in a .pt2 file, in the present form and in the form of PyTorch 2.7 and before."""

_SIZE = re.compile(r'"(?:Symbol\(\'\w+\'|[A-Za-z0-9_ +*/(),<>=-])*"')
"""Sums and products of sizes, and functions of them by name."""


def check_archive(path: Path) -> None:
    """
    Raises ModelError if there is no `.pt2` file at `path`, if it is damaged or holds no exported program, or if PyTorch
    would run code out of it.
    """
    if path.is_dir():
        raise ModelError(f"{path} is a directory, not a .pt2 file")
    if not path.is_file():
        raise ModelError(f"there is no model file at {path}")
    if not zipfile.is_zipfile(path):
        raise ModelError(
            f"{path} is not a .pt2 file, or only a part of one: "
            "save one with torch.export.save(torch.export.export(model, …), path), or give an ONNX model (.onnx)"
        )
    # PyTorch does not look at the checksums of weights.
    try:
        with zipfile.ZipFile(path) as archive:
            names, damaged = archive.namelist(), archive.testzip()
    except Exception as error:  # whatever a damaged archive makes the reader raise
        raise ModelError(f"{path} is damaged: {error}") from error
    if damaged is not None:
        raise ModelError(f"{path} is damaged: the checksum of {damaged} does not match")
    if not any(name.endswith(_PROGRAM_MEMBERS) for name in names):
        raise ModelError(
            f"{path} holds no exported program: save one with torch.export.save, not with torch.save or torch.jit.save"
        )
    _check_objects(path, names)
    for text in descriptions(path):
        _check_expressions(path, text)


def _check_objects(path: Path, names: list[str]) -> None:
    from torch.export.pt2_archive import constants

    for name in names:
        if any(
            prefix in name for prefix in (constants.CUSTOM_OBJ_FILENAME_PREFIX, constants.OPAQUE_OBJ_FILENAME_PREFIX)
        ):
            raise ModelError(
                f"{path} holds a Python object, {name}: export the model without it; tensors are all it needs"
            )
        if constants.AOTINDUCTOR_DIR in name:
            raise ModelError(
                f"{path} holds compiled code, {name}: save the exported program itself with torch.export.save"
            )


def _check_expressions(path: Path, text: str) -> None:
    """PyTorch evaluates expressions of sizes as Python."""
    for found in re.findall(r'"expr_str":\s*("(?:[^"\\]|\\.)*")', text):
        if not _SIZE.fullmatch(found):
            raise ModelError(f"{path} is damaged: {found} is no expression of sizes")


@contextlib.contextmanager
def tensors_only() -> Generator[None]:
    """PyTorch unpickles nothing but tensors and containers of them, whatever it asks of itself."""
    variable = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def descriptions(path: Path) -> Generator[str]:
    """The texts in which a `.pt2` file describes its program."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                yield archive.read(name).decode("utf-8", errors="replace")
