"""Prints arrays of a safetensors file, one a line: `show_weights.py FILE.safetensors NAME ...`."""

import sys

from sta.dialect.ir.weight_store import WeightStore


def main() -> None:
    """Prints the arrays."""
    store = WeightStore.open(sys.argv[1])
    for name in sys.argv[2:]:
        array = store.get(name)
        print(name, array.dtype, array.tolist())


if __name__ == "__main__":
    main()
