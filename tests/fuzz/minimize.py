"""
Keeps of many containers as few and as short ones as show the same: ``python -m tests.fuzz.minimize FOLDER OTHERS..``.

What a container shows are the lines of decoder and validator that it reaches, the kind of error that it ends in, and
the instructions that it runs. libFuzzer's own merge starts the fuzzer anew, as a program, which it is not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Hashable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from sta.backend.container import parse_container
from tests.fuzz.containers import Ending, attempt
from tests.fuzz.corpus import write
from tests.fuzz.coverage import DECODER_AND_VALIDATOR

ROOT = Path(__file__).parents[2]
VALUES = re.compile(r"'[^']*'|-?\d+(\.\d+)?(e[+-]?\d+)?")


def traced(function: Callable[[], Ending]) -> tuple[Ending, set[Hashable]]:
    """Returns what a function returns, and the lines of decoder and validator that it reaches."""
    wanted = {str((ROOT / name).resolve()): name for name in DECODER_AND_VALIDATOR}
    lines: set[Hashable] = set()

    def line(frame: FrameType, event: str, _: object) -> Any:
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return line

    def call(frame: FrameType, event: str, _: object) -> Any:
        return line if frame.f_code.co_filename in wanted else None

    sys.settrace(call)
    try:
        return function(), lines
    finally:
        sys.settrace(None)


def shows(data: bytes) -> set[Hashable]:
    """Returns what a container shows."""
    ending, shown = traced(lambda: attempt(data))
    shown.add((ending.stage, VALUES.sub("_", ending.message)))
    if ending.stage in ("halted", "failed"):
        shown |= {
            (ending.stage, instruction.name) for instruction in parse_container(np.frombuffer(data, np.uint8)).code
        }
    return shown


def minimize(inputs: list[bytes]) -> list[bytes]:
    """Returns those inputs, shortest first, that show what none before has shown."""
    known: set[Hashable] = set()
    kept: list[bytes] = []
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        shown = shows(data)
        if shown - known:
            kept.append(data)
        known |= shown
    return kept


def main(corpus: Path, folders: list[Path]) -> None:
    """Rewrites a folder with what is kept of it and of others."""
    paths = [path for folder in (corpus, *folders) for path in folder.iterdir()]
    kept = minimize([path.read_bytes() for path in paths])
    write(corpus, kept)
    print(f"{len(kept)} of {len(paths)} containers, {sum(map(len, kept))} bytes")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m tests.fuzz.minimize FOLDER OTHERS...")
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
