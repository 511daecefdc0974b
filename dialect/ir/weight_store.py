"""
The arrays a module names: weights, tables and other constants, kept beside the IR and never inside its text.

An operation refers to an array by name (`dense_resource<encoder.layer.0.output.dense.weight>` in the `torch` dialect,
`@"encoder…"` in `nm`). The store maps names to arrays. Arrays handed out are read-only, so a pass cannot change a
weight behind another one's back: it puts the changed array under a new name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class WeightStore:
    """Named, immutable NumPy arrays of any shape and dtype."""

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}
        self._unread: dict[str, Callable[[str], Array]] = {}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> WeightStore:
        """
        The store in `path`, a safetensors file. An array is read on first use.

        Raises FileNotFoundError, and ValueError if the file is not a safetensors file.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise FileNotFoundError(f"no weight file at {path}")
        try:
            file: Any = safe_open(path, framework="numpy")
        except SafetensorError as error:
            raise ValueError(f"{path} is not a safetensors file: {error}") from error
        return cls.lazy(file.keys(), file.get_tensor)

    @classmethod
    def lazy(cls, names: Iterable[str], read: Callable[[str], Array]) -> WeightStore:
        """The store of arrays that `read` returns for their names on first use."""
        store = cls()
        store._unread = dict.fromkeys(names, read)
        return store

    def get(self, name: str) -> Array:
        """The array called `name`, read-only. Raises KeyError if there is none."""
        # Two threads may read the same array: the first counts.
        read = self._unread.get(name)
        if read is not None:
            self._arrays.setdefault(name, _read_only(read(name)))
            self._unread.pop(name, None)
        if name not in self._arrays:
            raise KeyError(f"the weight store holds no array called {name!r}")
        return self._arrays[name]

    def put(self, name: str, array: Array) -> None:
        """
        Keeps `array` under `name`, without copying it.

        Putting the same dtype, shape and bytes again changes nothing. Raises ValueError if the name already stands for
        another array.
        """
        if name not in self:
            self._arrays[name] = _read_only(array)
            return
        if not _identical(self.get(name), array):
            raise ValueError(f"the weight store already holds another array called {name!r}")

    def put_unique(self, name: str, array: Array) -> str:
        """
        Keeps `array` under `name`, or under `name` with the lowest free number behind it.

        A name that already stands for the same bytes is used again. Returns the name used.
        """
        candidate, number = name, 1
        while candidate in self and not _identical(self.get(candidate), array):
            number += 1
            candidate = f"{name}.{number}"
        self.put(candidate, array)
        return candidate

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self._arrays, *self._unread})

    def __contains__(self, name: object) -> bool:
        return name in self._arrays or name in self._unread

    def __len__(self) -> int:
        return len(self._arrays) + len(self._unread)

    def copy(self) -> WeightStore:
        """A store with the same arrays, not copied; later additions to one are not seen by the other."""
        store = WeightStore()
        store._arrays = dict(self._arrays)
        store._unread = dict(self._unread)
        return store

    def forget(self, kept: Container[str]) -> None:
        """Drops all arrays but those whose names are in `kept`."""
        self._arrays = {name: array for name, array in self._arrays.items() if name in kept}
        self._unread = {name: read for name, read in self._unread.items() if name in kept}

    def save(self, path: str | os.PathLike[str], names: Iterable[str] | None = None) -> None:
        """
        Writes the arrays called `names` (all when None) to the safetensors file `path`.

        The file is written beside its place and then moved there, so that no half-written file is ever seen.

        Raises OSError, which names the file.
        """
        from safetensors.numpy import save  # pyright: ignore[reportUnknownVariableType] - its path type is

        chosen = self.names() if names is None else sorted(set(names))
        unfinished = Path(f"{os.fspath(path)}.part")
        try:
            # `save_file` would make a file that nobody else may read, whatever the umask.
            unfinished.write_bytes(save({name: np.asarray(self.get(name), order="C") for name in chosen}))
            unfinished.replace(path)
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        finally:
            unfinished.unlink(missing_ok=True)


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _identical(left: Array, right: Array) -> bool:
    """True if both hold the same bytes: NaN equals NaN, and 0.0 differs from -0.0."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    same_memory = left.__array_interface__["data"] == right.__array_interface__["data"]
    if same_memory and left.strides == right.strides:
        return True
    return left.tobytes() == right.tobytes()
