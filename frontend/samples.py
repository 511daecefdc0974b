"""Sample inputs: the arrays that calibration runs a model on, from a file or from memory."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sta.frontend.errors import ModelError
from sta.frontend.program import suggestion

Array = NDArray[Any]


class InputType(NamedTuple):
    """What one input of a model is."""

    sizes: tuple[int, ...]
    dtype: np.dtype[Any]


def read_samples(
    source: str | os.PathLike[str] | Mapping[str, Array], inputs: Mapping[str, InputType]
) -> list[dict[str, Array]]:
    """
    The samples in `source`, a `.npz` file or arrays by input name, one dictionary of inputs for each.

    The first axis of every array counts the samples. A sample has its input's shape, or that shape without a leading
    batch of 1, which is then added. Integers of another width are converted where their values allow it.

    Raises ModelError for a file that cannot be read, and for names, shapes, dtypes and values that do not fit.
    """
    arrays = _read(Path(source)) if isinstance(source, str | os.PathLike) else dict(source)
    _check_names(arrays, inputs)
    batches = {name: _samples(name, np.asarray(arrays[name]), kind) for name, kind in inputs.items()}
    counts = {name: len(batch) for name, batch in batches.items()}
    if len(set(counts.values())) > 1:
        raise ModelError(f"the inputs have different numbers of samples: {counts}")
    count = next(iter(counts.values()), 0)
    if count == 0:
        raise ModelError("there is not a single sample")
    return [{name: batch[index] for name, batch in batches.items()} for index in range(count)]


def _read(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise ModelError(f"there is no sample file at {path}")
    if not zipfile.is_zipfile(path):
        raise ModelError(f"{path} is not a .npz file: save one with numpy.savez(path, name=array, …)")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # whatever a damaged archive makes NumPy and the decompressor raise
        raise ModelError(f"cannot read {path}: {error}") from error


def _check_names(arrays: Mapping[str, Array], inputs: Mapping[str, InputType]) -> None:
    for name in arrays:
        if name not in inputs:
            raise ModelError(f"the model has no input {name!r}{suggestion(name, list(inputs))}")
    missing = [name for name in inputs if name not in arrays]
    if missing:
        raise ModelError(f"the samples lack {', '.join(repr(name) for name in missing)}")


def _samples(name: str, array: Array, kind: InputType) -> Array:
    """`array` as samples of the input's shape and dtype: [samples, *sizes]."""
    _check_kind(name, array, kind.dtype)
    _check_finite(name, array)
    sizes = kind.sizes
    if array.ndim and array.shape[1:] != sizes and sizes[:1] == (1,) and array.shape[1:] == sizes[1:]:
        array = array[:, np.newaxis]
    if array.ndim == 0 or array.shape[1:] != sizes:
        expected = f"[samples, {', '.join(str(size) for size in sizes)}]"
        raise ModelError(f"samples of {name!r} must have the shape {expected}, not {list(array.shape)}")
    converted = array.astype(kind.dtype)
    if kind.dtype.kind != "f" and not np.array_equal(converted, array):
        raise ModelError(f"samples of {name!r} do not fit into {kind.dtype}")
    return converted


def _check_kind(name: str, array: Array, dtype: np.dtype[Any]) -> None:
    allowed = "f" if dtype.kind == "f" else "iub"
    if array.dtype.kind not in allowed:
        raise ModelError(f"samples of {name!r} must be {dtype}, not {array.dtype}")


def _check_finite(name: str, array: Array) -> None:
    if array.dtype.kind != "f" or np.all(np.isfinite(array)):
        return
    position = tuple(int(axis) for axis in np.argwhere(~np.isfinite(array))[0])
    raise ModelError(f"samples of {name!r} hold {array[position]} at {list(position)}")
