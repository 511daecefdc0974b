"""What the arguments of `sta.compile` may be: looked at before any work."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from sta.passes.quantization.choice import METHODS
from sta.passes.torch.prune import TorchPrunePass
from sta.spec.pattern import Pattern
from sta.spec.suggestion import suggestion
from sta.spec.target import Target, load_target


def target_of(target: object) -> Target:
    """The target that a name, the path of a YAML file or a `Target` stands for. Raises TypeError, ValueError."""
    if isinstance(target, Target):
        return target
    if not isinstance(target, str | os.PathLike):
        raise TypeError(f"target is the name of a preset, the path of a YAML file or a Target, not {_kind(target)}")
    return load_target(os.fspath(cast("os.PathLike[str]", target)))


def pruning_of(sparsity: object) -> TorchPrunePass | None:
    """The pass that prunes as `sparsity` says; None if nothing is pruned. Raises TypeError, ValueError."""
    if sparsity is None:
        return None
    if isinstance(sparsity, str):
        return TorchPrunePass(str(Pattern.parse(sparsity)))
    if not isinstance(sparsity, Mapping):
        raise TypeError(
            f"sparsity is a pattern such as '2:4', or a mapping from module-path glob to pattern, not {_kind(sparsity)}"
        )
    patterns = cast("Mapping[object, object]", sparsity)
    return TorchPrunePass(patterns=tuple(_assignment(glob, pattern) for glob, pattern in patterns.items()))


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


def least_sqnr_of(min_sqnr: object) -> float | None:
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
    for method in cast("Sequence[object]", methods):
        if method not in METHODS:
            hint = suggestion(str(method), METHODS)
            raise ValueError(f"unknown calibration method {method!r}, it is one of {', '.join(METHODS)}{hint}")
    return tuple(cast("Sequence[str]", methods))


def calibration_of(calibration: object) -> Mapping[str, Any] | Path | None:
    """
    Calibration data as given, its path as a `Path`.

    Raises:
        TypeError: it is neither a mapping nor a path.
        OSError: there is no such file.
    """
    if calibration is None or isinstance(calibration, Mapping):
        return cast("Mapping[str, Any] | None", calibration)
    if not isinstance(calibration, str | os.PathLike):
        raise TypeError(
            "calibration is a mapping from input name to array, whose first axis counts the samples, or the path of an "
            f".npz file, not {_kind(calibration)}"
        )
    path = Path(cast("os.PathLike[str]", calibration))
    # For its error: what is in the file is read when the model is known to be supported.
    with open(path, "rb"):
        return path


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__
