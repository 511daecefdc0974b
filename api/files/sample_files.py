"""Samples of a model, in any of the forms in which options and commands accept them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from sta.api.files.npz import read_arrays
from sta.dialect.ir.samples import Sample
from sta.frontend.errors import ModelError
from sta.frontend.samples import InputType, samples_of_element, split_samples
from sta.passes.option_values import Data


def read_samples(option: str, data: Data, types: Mapping[str, InputType]) -> list[Sample]:
    """
    The samples in the value of an option, in order: arrays by input name, whose first axis counts the samples; or
    elements of which each is a sample or a batch of them; or the path of either.

    A folder holds `.npz` files, each an element, or `.npy` files: one for each input, named after it, or elements for
    the only input. They are read in the order of their names.

    Raises ModelError for data that do not fit the model, ValueError and OSError for files that cannot be read.
    """
    try:
        found: Any = _read(data, types) if isinstance(data, Path) else data
        if isinstance(found, Mapping):
            return split_samples(cast("Mapping[str, Any]", found), types)
        return _of_elements(found, types)
    except ModelError as error:
        raise ModelError(f"{option}: {error}") from error


def _of_elements(elements: Iterable[Any], types: Mapping[str, InputType]) -> list[Sample]:
    samples: list[Sample] = []
    for index, element in enumerate(elements):
        try:
            samples += samples_of_element(element, types)
        except ModelError as error:
            raise ModelError(f"element {index}: {error}") from error
    if not samples:
        raise ModelError("there is not a single sample")
    return samples


def _read(path: Path, types: Mapping[str, InputType]) -> Mapping[str, Any] | Iterable[Any]:
    if not path.is_dir():
        return read_arrays(path)
    files = sorted(file for file in path.iterdir() if file.suffix in (".npz", ".npy"))
    if len({file.suffix for file in files}) != 1:
        raise ModelError(f"{path} must hold .npz files or .npy files, and holds {'both' if files else 'neither'}")
    if files[0].suffix == ".npz":
        return _archives(files)
    if {file.stem for file in files} == set(types):
        return {file.stem: _read_array(file) for file in files}
    if len(types) > 1:
        raise ModelError(f"{path} must hold one .npy file for each input: {', '.join(f'{name}.npy' for name in types)}")
    return map(_read_array, files)


def _archives(files: Iterable[Path]) -> Iterator[Mapping[str, Any]]:
    return map(read_arrays, files)


def _read_array(path: Path) -> np.ndarray[Any, Any]:
    with open(path, "rb") as file:
        try:
            return np.load(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is no .npy file of numbers: {error}") from error
