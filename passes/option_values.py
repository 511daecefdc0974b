"""Values of compile options: accepted forms, and the compiler's form."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from sta.spec.pattern import Pattern
from sta.spec.suggestion import suggestion
from sta.spec.tables import EXPONENTIAL_BITS
from sta.spec.target import Target, load_target

METHODS = ("smoothing", "ranges", "weights")
"""Calibration methods beyond the extremes of each value, in the order of their trial."""
SOFTMAX_MODES = ("auto", "row", "online")
"""Softmax over whole rows, or chunk by chunk."""
PROBABILITY_BITS = ("auto", *map(str, EXPONENTIAL_BITS))
"""Widths of exponentials."""

Data = Mapping[str, Any] | Iterable[Any] | Path | None
"""
Arrays by input name, first axis the samples; or an iterable of samples or of batches; or the path of an `.npz` file or
of a folder.
"""


class Sparsity(NamedTuple):
    """The patterns that linear layers are pruned to."""

    pattern: str | None = None
    """For every layer that no glob names."""
    patterns: tuple[str, ...] = ()
    """`glob=N:M` over module paths; the first that matches counts."""


def as_target(target: object) -> Target | None:
    """The target for a name, the path of a YAML file or a `Target`. Raises TypeError, ValueError."""
    if target is None or isinstance(target, Target):
        return target
    if not isinstance(target, str | os.PathLike):
        raise TypeError(f"target is the name of a preset, the path of a YAML file or a Target, not {_kind(target)}")
    return load_target(os.fspath(cast("os.PathLike[str]", target)))


def as_sparsity(sparsity: object) -> Sparsity | None:
    """Patterns to prune to; None for no pruning. Raises TypeError, ValueError."""
    if sparsity is None:
        return None
    if isinstance(sparsity, str):
        return _sparsity_of_texts([sparsity])
    if isinstance(sparsity, Mapping):
        patterns = cast("Mapping[object, object]", sparsity)
        return Sparsity(patterns=tuple(_assignment(glob, pattern) for glob, pattern in patterns.items()))
    if not isinstance(sparsity, Sequence):
        raise TypeError(
            f"sparsity is a pattern such as '2:4', a list of 'GLOB=N:M', or a mapping from module-path glob to "
            f"pattern, not {_kind(sparsity)}"
        )
    texts = cast("Sequence[object]", sparsity)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"sparsity is a list of patterns, 'N:M' or 'GLOB=N:M', and not of {_kind(text)}")
    return _sparsity_of_texts(cast("Sequence[str]", texts))


def _sparsity_of_texts(texts: Sequence[str]) -> Sparsity:
    parts = [sparsity_part(text) for text in texts]
    globs = [part.rpartition("=")[0] for part in parts]
    for glob in globs:
        if globs.count(glob) > 1:
            raise ValueError(f"sparsity has two patterns for {glob or 'all other layers'}")
    pattern = next((part for part in parts if "=" not in part), None)
    return Sparsity(pattern, tuple(part for part in parts if "=" in part))


def sparsity_part(text: str) -> str:
    """`N:M` or `GLOB=N:M`, in its usual spelling. Raises ValueError."""
    glob, equals, pattern = text.rpartition("=")
    return _assignment(glob, pattern) if equals else str(Pattern.parse(pattern))


def _assignment(glob: object, pattern: object) -> str:
    if not isinstance(glob, str):
        raise TypeError(f"sparsity maps module-path globs, which are texts, not {_kind(glob)}")
    if not isinstance(pattern, str):
        raise TypeError(f"sparsity of {glob!r} is a pattern such as '2:4', not {_kind(pattern)}")
    try:
        return f"{glob}={Pattern.parse(pattern)}"
    except ValueError as error:
        raise ValueError(f"sparsity of {glob!r}: {error}") from error


def as_globs(int16_inputs: object) -> tuple[str, ...]:
    """The module-path globs in `int16_inputs`. Raises TypeError."""
    if isinstance(int16_inputs, str) or not isinstance(int16_inputs, Sequence):
        raise TypeError(f"int16_inputs is a list of module-path globs, not {_kind(int16_inputs)}")
    globs = cast("Sequence[object]", int16_inputs)
    for glob in globs:
        if not isinstance(glob, str):
            raise TypeError(f"int16_inputs holds module-path globs, which are texts, not {_kind(glob)}")
    return tuple(cast("Sequence[str]", globs))


def as_decibels(min_sqnr: object) -> float | None:
    """The decibels that the output must reach; None for the default. Raises TypeError, ValueError."""
    if min_sqnr is None:
        return None
    if isinstance(min_sqnr, bool) or not isinstance(min_sqnr, int | float):
        raise TypeError(f"min_sqnr is a number of decibels, not {_kind(min_sqnr)}")
    if not (min_sqnr >= 0.0 and math.isfinite(min_sqnr)):
        raise ValueError(f"min_sqnr is a number of decibels from 0 on, not {min_sqnr}")
    return float(min_sqnr)


def as_text(name: str, value: object) -> str | None:
    """A text; None if none is given. Raises TypeError, which begins with the option's name."""
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{name} is a text, not {_kind(value)}")


def as_count(name: str, value: object) -> int | None:
    """A number from 1 on; None if none is given. Raises TypeError, ValueError, which begin with the option's name."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, not {_kind(value)}")
    if value < 1:
        raise ValueError(f"{name} is a number from 1 on, not {value}")
    return value


def as_methods(methods: object) -> tuple[str, ...]:
    """The calibration methods in `methods`. Raises TypeError, ValueError."""
    if isinstance(methods, str) or not isinstance(methods, Sequence):
        raise TypeError(f"methods is a list of names, not {_kind(methods)}")
    return tuple(one_of("calibration method", METHODS, method) for method in cast("Sequence[object]", methods))


def as_softmax(softmax: object) -> str:
    """The mode of softmax. Raises ValueError."""
    return one_of("softmax", SOFTMAX_MODES, softmax)


def as_probability_bits(bits: object) -> str:
    """The width of exponentials, given as a number or a text. Raises ValueError."""
    return one_of("width of probabilities", PROBABILITY_BITS, str(bits))


def one_of(what: str, known: Sequence[str], given: object) -> str:
    """`given` if it is one of `known`. Raises ValueError, with a suggestion."""
    if given in known:
        return cast("str", given)
    raise ValueError(f"unknown {what} {given!r}, it is one of {', '.join(known)}{suggestion(str(given), known)}")


def as_names(passes: object) -> tuple[str, ...]:
    """The names of passes. Raises TypeError."""
    if isinstance(passes, str) or not isinstance(passes, Sequence):
        raise TypeError(f"passes is a list of names, not {_kind(passes)}")
    for name in cast("Sequence[object]", passes):
        if not isinstance(name, str):
            raise TypeError(f"passes holds names, not {_kind(name)}")
    return tuple(cast("Sequence[str]", passes))


def as_samples(option: str, data: object) -> Data:
    """
    Sample inputs as given for an option, their path as a `Path`; nothing is read yet.

    Raises:
        TypeError: it is neither a mapping nor an iterable nor a path.
        OSError: there is no such file or folder.
    """
    if data is None or isinstance(data, Mapping):
        return cast("Mapping[str, Any] | None", data)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | os.PathLike):
        return cast("Iterable[Any]", data)
    if not isinstance(data, str | os.PathLike):
        raise TypeError(
            f"{option} is a mapping from input name to array, whose first axis counts the samples, an iterable of "
            "samples or batches, such as a DataLoader, or the path of an .npz file or of a folder of .npz or .npy "
            f"files, not {_kind(data)}"
        )
    path = Path(cast("os.PathLike[str]", data))
    if path.is_dir():
        return path
    # For its error: the file is read when the model is known to be supported.
    with open(path, "rb"):
        return path


def as_path(path: object) -> Path | None:
    """A path. Raises TypeError."""
    return None if path is None else Path(cast("os.PathLike[str]", path))


def as_given(value: Any) -> Any:
    """The value itself."""
    return value


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__
