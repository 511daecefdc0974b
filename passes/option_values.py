"""The values of compile options: what is accepted, in the form in which the compiler uses it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from sta.spec.pattern import Pattern
from sta.spec.suggestion import suggestion
from sta.spec.target import Target, load_target

METHODS = ("smoothing", "ranges", "weights")
"""Calibration methods beyond the extremes of each value, in the order in which they are tried."""
SOFTMAX_MODES = ("auto", "row", "online")
"""Softmax over whole rows, or chunk by chunk."""
PROBABILITY_BITS = ("auto", "8", "16")
"""Widths of exponentials."""

Data = Mapping[str, Any] | Path | None
"""Arrays by input name, first axis the samples, or the path of an `.npz` file of such."""


class Sparsity(NamedTuple):
    """The patterns that linear layers are pruned to."""

    pattern: str | None = None
    """For every layer that no glob names."""
    patterns: tuple[str, ...] = ()
    """`glob=N:M` over module paths; the first that matches counts."""


def target_of(target: object) -> Target | None:
    """The target that a name, the path of a YAML file or a `Target` stands for. Raises TypeError, ValueError."""
    if target is None or isinstance(target, Target):
        return target
    if not isinstance(target, str | os.PathLike):
        raise TypeError(f"target is the name of a preset, the path of a YAML file or a Target, not {_kind(target)}")
    return load_target(os.fspath(cast("os.PathLike[str]", target)))


def sparsity_of(sparsity: object) -> Sparsity | None:
    """What is pruned; None if nothing is. Raises TypeError, ValueError."""
    if sparsity is None:
        return None
    if isinstance(sparsity, str):
        return Sparsity(str(Pattern.parse(sparsity)))
    if not isinstance(sparsity, Mapping):
        raise TypeError(
            f"sparsity is a pattern such as '2:4', or a mapping from module-path glob to pattern, not {_kind(sparsity)}"
        )
    patterns = cast("Mapping[object, object]", sparsity)
    return Sparsity(patterns=tuple(_assignment(glob, pattern) for glob, pattern in patterns.items()))


def _assignment(glob: object, pattern: object) -> str:
    if not isinstance(glob, str):
        raise TypeError(f"sparsity maps module-path globs, which are texts, not {_kind(glob)}")
    if not isinstance(pattern, str):
        raise TypeError(f"sparsity of {glob!r} is a pattern such as '2:4', not {_kind(pattern)}")
    try:
        return f"{glob}={Pattern.parse(pattern)}"
    except ValueError as error:
        raise ValueError(f"sparsity of {glob!r}: {error}") from error


def globs_of(int16_inputs: object) -> tuple[str, ...]:
    """The module-path globs that `int16_inputs` holds. Raises TypeError."""
    if isinstance(int16_inputs, str) or not isinstance(int16_inputs, Sequence):
        raise TypeError(f"int16_inputs is a list of module-path globs, not {_kind(int16_inputs)}")
    globs = cast("Sequence[object]", int16_inputs)
    for glob in globs:
        if not isinstance(glob, str):
            raise TypeError(f"int16_inputs holds module-path globs, which are texts, not {_kind(glob)}")
    return tuple(cast("Sequence[str]", globs))


def decibels_of(min_sqnr: object) -> float | None:
    """The decibels that the output must reach; None for the default. Raises TypeError, ValueError."""
    if min_sqnr is None:
        return None
    if isinstance(min_sqnr, bool) or not isinstance(min_sqnr, int | float):
        raise TypeError(f"min_sqnr is a number of decibels, not {_kind(min_sqnr)}")
    if not (min_sqnr >= 0.0 and math.isfinite(min_sqnr)):
        raise ValueError(f"min_sqnr is a number of decibels from 0 on, not {min_sqnr}")
    return float(min_sqnr)


def methods_of(methods: object) -> tuple[str, ...]:
    """The calibration methods that `methods` holds. Raises TypeError, ValueError."""
    if isinstance(methods, str) or not isinstance(methods, Sequence):
        raise TypeError(f"methods is a list of names, not {_kind(methods)}")
    return tuple(one_of("calibration method", METHODS, method) for method in cast("Sequence[object]", methods))


def softmax_of(softmax: object) -> str:
    """The mode of softmax. Raises ValueError."""
    return one_of("softmax", SOFTMAX_MODES, softmax)


def probability_bits_of(bits: object) -> str:
    """The width of exponentials, given as a number or a text. Raises ValueError."""
    return one_of("width of probabilities", PROBABILITY_BITS, str(bits))


def one_of(what: str, known: Sequence[str], given: object) -> str:
    """`given` if it is one of `known`. Raises ValueError, with a suggestion."""
    if given in known:
        return cast("str", given)
    raise ValueError(f"unknown {what} {given!r}, it is one of {', '.join(known)}{suggestion(str(given), known)}")


def names_of(passes: object) -> tuple[str, ...]:
    """The names of passes. Raises TypeError."""
    if isinstance(passes, str) or not isinstance(passes, Sequence):
        raise TypeError(f"passes is a list of names, not {_kind(passes)}")
    for name in cast("Sequence[object]", passes):
        if not isinstance(name, str):
            raise TypeError(f"passes holds names, not {_kind(name)}")
    return tuple(cast("Sequence[str]", passes))


def samples_of(option: str, data: object) -> Data:
    """
    Sample inputs as given for an option, their path as a `Path`.

    Raises:
        TypeError: it is neither a mapping nor a path.
        OSError: there is no such file.
    """
    if data is None or isinstance(data, Mapping):
        return cast("Mapping[str, Any] | None", data)
    if not isinstance(data, str | os.PathLike):
        raise TypeError(
            f"{option} is a mapping from input name to array, whose first axis counts the samples, or the path of an "
            f".npz file, not {_kind(data)}"
        )
    path = Path(cast("os.PathLike[str]", data))
    # For its error: what is in the file is read when the model is known to be supported.
    with open(path, "rb"):
        return path


def path_of(path: object) -> Path | None:
    """A path. Raises TypeError."""
    return None if path is None else Path(cast("os.PathLike[str]", path))


def as_given(value: Any) -> Any:
    """The value itself."""
    return value


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__
