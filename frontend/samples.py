"""Sample inputs: the arrays that calibration runs a model on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from sta.frontend.errors import ModelError
from sta.frontend.program import closest_or_all

Array = NDArray[Any]


class InputType(NamedTuple):
    """Shape and dtype of one input of a model."""

    sizes: tuple[int, ...]
    dtype: np.dtype[Any]


def random_sample(inputs: Mapping[str, InputType]) -> dict[str, Array]:
    """One sample for a model of which none is known: random numbers, and 1 as every integer: an id, or a mask's."""
    generator = np.random.default_rng(0)
    return {
        name: generator.standard_normal(kind.sizes).astype(kind.dtype)
        if kind.dtype.kind == "f"
        else np.ones(kind.sizes, kind.dtype)
        for name, kind in inputs.items()
    }


def split_samples(arrays: Mapping[str, Any], inputs: Mapping[str, InputType]) -> list[dict[str, Array]]:
    """
    The samples in `arrays` (arrays or tensors by input name), one dictionary of inputs for each.

    The first axis of every array counts the samples. A sample has its input's shape, or that shape without a leading
    batch of 1, which is then added. Integers of another width, and floats of another precision, are converted where
    their values allow it.

    Raises ModelError for names, shapes, dtypes and values that do not fit.
    """
    _check_names(arrays, inputs)
    batches = {
        name: _samples(name, as_array(f"samples of {name!r}", arrays[name]), kind) for name, kind in inputs.items()
    }
    counts = {name: len(batch) for name, batch in batches.items()}
    if len(set(counts.values())) > 1:
        raise ModelError(f"the inputs have different numbers of samples: {counts}")
    count = next(iter(counts.values()), 0)
    if count == 0:
        raise ModelError("there is not a single sample")
    return [{name: batch[index] for name, batch in batches.items()} for index in range(count)]


def samples_of_element(element: Any, inputs: Mapping[str, InputType]) -> list[dict[str, Array]]:
    """
    The samples in one element of an iterable, such as a `DataLoader`: one sample, or a batch of them as `split_samples`
    takes it.

    An element is a mapping from input name to array, a tuple or list of arrays in the order of the inputs, or the array
    of the only input. Raises ModelError for elements that do not fit.
    """
    arrays = {name: as_array(f"samples of {name!r}", value) for name, value in _named(element, inputs).items()}
    if arrays.keys() == inputs.keys() and all(_is_single(array, inputs[name]) for name, array in arrays.items()):
        arrays = {name: array[np.newaxis] for name, array in arrays.items()}
    return split_samples(arrays, inputs)


def _named(element: Any, inputs: Mapping[str, InputType]) -> Mapping[str, Any]:
    if isinstance(element, Mapping):
        return cast("Mapping[str, Any]", element)
    values: list[Any] = list(cast("Any", element)) if isinstance(element, tuple | list) else [element]
    if len(values) != len(inputs):
        raise ModelError(
            f"the model has {len(inputs)} inputs, {', '.join(inputs)}, and there are {len(values)} arrays: give a "
            "mapping from input name to array"
        )
    return dict(zip(inputs, values, strict=True))


def _is_single(array: Array, kind: InputType) -> bool:
    """True if `array` has the shape of one sample, with or without a leading batch of 1."""
    return array.shape == kind.sizes or (kind.sizes[:1] == (1,) and array.shape == kind.sizes[1:])


def as_array(what: str, value: Any) -> Array:
    """An array for an array, a tensor or nested lists. Raises ModelError, beginning with `what`, for anything else."""
    try:
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{what} cannot be read as an array of numbers: {error}") from error


def check_finite(what: str, array: Array) -> None:
    """Raises ModelError, beginning with `what`, for the first number of `array` that is infinite or NaN."""
    if array.dtype.kind != "f" or np.all(np.isfinite(array)):
        return
    position = tuple(int(axis) for axis in np.argwhere(~np.isfinite(array))[0])
    raise ModelError(f"{what} hold {array[position]} at {list(position)}")


def _check_names(arrays: Mapping[str, Array], inputs: Mapping[str, InputType]) -> None:
    for name in arrays:
        if name not in inputs:
            raise ModelError(f"the model has no input {name!r}{closest_or_all(name, list(inputs))}")
    missing = [name for name in inputs if name not in arrays]
    if missing:
        raise ModelError(f"the samples lack {', '.join(repr(name) for name in missing)}")


def _samples(name: str, array: Array, kind: InputType) -> Array:
    """`array` as samples of the input's shape and dtype: [samples, *sizes]."""
    _check_kind(name, array, kind.dtype)
    check_finite(f"samples of {name!r}", array)
    sizes = kind.sizes
    if array.ndim and array.shape[1:] != sizes and sizes[:1] == (1,) and array.shape[1:] == sizes[1:]:
        array = array[:, np.newaxis]
    if array.ndim == 0 or array.shape[1:] != sizes:
        expected = f"[samples, {', '.join(str(size) for size in sizes)}]"
        raise ModelError(f"samples of {name!r} must have the shape {expected}, not {list(array.shape)}")
    # Numbers too large for float32 become infinite.
    with np.errstate(over="ignore"):
        converted = array.astype(kind.dtype)
    wrong = ~np.isfinite(converted) if kind.dtype.kind == "f" else converted != array
    if wrong.any():
        position = tuple(int(axis) for axis in np.argwhere(wrong)[0])
        raise ModelError(f"samples of {name!r} hold {array[position]} at {list(position)}, which is no {kind.dtype}")
    return converted


def _check_kind(name: str, array: Array, dtype: np.dtype[Any]) -> None:
    allowed = "f" if dtype.kind == "f" else "iub"
    if array.dtype.kind not in allowed:
        raise ModelError(f"samples of {name!r} must be {dtype}, not {array.dtype}")
