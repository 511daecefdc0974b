"""Faults of calibration data that let a compile succeed and its program fail: they show too little of real inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Sample = Mapping[str, Array]


def faults_of(samples: Sequence[Sample], mask: str | None) -> list[str]:
    """
    Faults of calibration data, for warnings: inputs of one number only, repeated samples, a single sample.

    `mask` is the name of the input that is a padding mask, which may be constant, as masks and kinds of tokens may in
    samples that differ otherwise.
    """
    count, distinct = len(samples), len({_digest(sample) for sample in samples})
    repeated = count > 1 and distinct == 1
    found = [
        f"calibration data: input {name!r} is {number:g} in all places of all samples, and ranges are those of "
        f"{number:g}; give some real inputs"
        for name, number in _constants(samples, mask, repeated)
    ]
    if repeated and not found:
        found.append(
            f"calibration data: all {count} samples are the same, and ranges are those of one input; give some other "
            "real inputs"
        )
    elif 1 < distinct < count:
        found.append(
            f"calibration data: of {count} samples {count - distinct} repeat others, and formats may be judged by what "
            "ranges have seen; leave them out"
        )
    if count == 1:
        found.append(
            "a single calibration sample: ranges are those of one input, and nothing shows how near the program is to "
            "the model on others; give some more real inputs"
        )
    return found


def _constants(samples: Sequence[Sample], mask: str | None, repeated: bool) -> Iterator[tuple[str, float]]:
    """Inputs that hold one number everywhere. Whole numbers are suspicious only if no other input varies."""
    for name, first in samples[0].items():
        if name == mask or first.size < 2 or not (first.dtype.kind == "f" or repeated):
            continue
        number = first.reshape(-1)[0]
        if all(bool(np.all(sample[name] == number)) for sample in samples):
            yield name, float(number)


def _digest(sample: Sample) -> bytes:
    digest = sha256()
    for name in sorted(sample):
        digest.update(np.ascontiguousarray(sample[name]).tobytes())
    return digest.digest()
