"""
The loader, the validator and both engines under Atheris, on containers with right checksums.

``python -m tests.fuzz.fuzz_containers CORPUS [libFuzzer's options]``. An execution is a container that was accepted by
the validator and run on both engines, to its halt or to the error of an instruction; how often that was is printed at
the end.
"""

from __future__ import annotations

import atexit
import importlib
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

# Not installed with the project: there are no wheels of it for every system.
atheris: Any = importlib.import_module("atheris")

ROOT = Path(__file__).parents[2]
DECODER = {
    *("container", "isa", "accesses", "affine", "steps", "validate"),
    *("pattern", "parameters", "signature", "target"),
}
"""The modules that decode and validate; arithmetic has no branches that a fuzzer could look for."""


def others() -> list[str]:
    """Returns the other modules of the rooms."""
    paths = [path for room in ("spec", "backend", "runtime") for path in (ROOT / room).rglob("*.py")]
    names = [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in paths]
    return [f"sta.{name}" for name in names if name.split(".")[-1] not in DECODER]


with atheris.instrument_imports(include=["sta"], exclude=others()):
    from tests.fuzz.containers import attempt
    from tests.fuzz.mutations import mutate

POOL = 1000
"""Containers that run, kept to start from: of what libFuzzer keeps, most are refused, and so are their children."""

endings: Counter[str] = Counter()
runnable: list[bytes] = []


def one_input(data: bytes) -> None:
    """Checks one input; whatever is raised is a finding."""
    stage = attempt(data).stage
    endings[stage] += 1
    if stage in ("halted", "failed"):
        keep(data)
    if sum(endings.values()) % 2000 == 0:
        report()


def keep(data: bytes) -> None:
    """Puts a container into the pool while there is room, and later one in twenty in place of another."""
    if len(runnable) < POOL:
        runnable.append(data)
    elif random.random() < 0.05:
        runnable[random.randrange(POOL)] = data


def custom_mutator(data: bytes, most: int, seed: int) -> bytes:
    """Returns another input: in four of five cases a child of one that runs."""
    chooser = random.Random(seed)
    parent = chooser.choice(runnable) if runnable and chooser.random() < 0.8 else bytes(data)
    return mutate(parent, seed, lambda part: bytes(atheris.Mutate(part, len(part) + 64)))[:most]


def report() -> None:
    """Prints how many containers ended how."""
    executions = endings["halted"] + endings["failed"]
    inputs = sum(endings.values())
    print(f"executions on both engines: {executions} of {inputs} inputs: {dict(endings)}", file=sys.stderr)


if __name__ == "__main__":
    atexit.register(report)
    atheris.Setup(sys.argv, one_input, custom_mutator=custom_mutator)
    atheris.Fuzz()
