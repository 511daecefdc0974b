"""
Writes the arrays that a test's module names: `make_weights.py FILE.safetensors NAME:DTYPE:SHAPE[:N:M] ...`.

Values count 2, 3, ... up to 61 and again, so that they can be shifts; with a pattern only the first N of every M on the
last axis stay.
"""

import sys

import numpy as np

from sta.dialect.ir.weight_store import WeightStore


def make(shape: tuple[int, ...], dtype: str, pattern: list[int]) -> np.ndarray:
    """Returns the array."""
    values = np.arange(int(np.prod(shape))) % 60 + 2
    array = values.reshape(shape).astype(dtype)
    if pattern:
        kept, group = pattern
        array[..., np.arange(shape[-1]) % group >= kept] = 0
    return array


def main() -> None:
    """Writes the file."""
    store = WeightStore()
    for entry in sys.argv[2:]:
        name, dtype, shape, *pattern = entry.split(":")
        sizes = tuple(int(size) for size in shape.split("x"))
        store.put(name, make(sizes, dtype, [int(number) for number in pattern]))
    store.save(sys.argv[1])


if __name__ == "__main__":
    main()
