"""Writes small random programs for the fuzzers to start from: ``python -m tests.fuzz.seeds FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from sta.backend.container import container_bytes
from sta.runtime.native_engine import families
from sta.runtime.validate import validate
from tests.fuzz.native_inputs import native_input
from tests.support.random_programs import SMALL, RandomProgram
from tests.support.random_prologues import with_prologue

COUNT = 400


def write_seeds(folder: Path) -> None:
    """Writes ``containers/`` and ``native/``, the same programs for either fuzzer."""
    for name in ("containers", "native"):
        (folder / name).mkdir(parents=True)
    for seed in range(COUNT):
        random = RandomProgram(seed, 1 + seed % 4, SMALL)
        container, inputs = random.container(), random.inputs()["x"].tobytes()
        family = families()[seed % len(families())]
        # One in four has a prologue, which the native engine does not see.
        whole = with_prologue(container, seed) if seed % 4 == 0 else container
        (folder / "containers" / f"{seed:04}").write_bytes(container_bytes(whole))
        described = native_input(validate(container), family, seed % 256, inputs)
        (folder / "native" / f"{seed:04}").write_bytes(described)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.fuzz.seeds FOLDER")
    write_seeds(Path(sys.argv[1]))
