"""
Load time of a program, and memory of the process that has loaded and run it.

    python -m benchmarks.loading PROGRAM.sta

prints the figures as JSON. Measured in a process that imports nothing but the runtime.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from sta.runtime import Program


def measure(path: Path) -> dict[str, Any]:
    """Returns a program's measurements by a process of its own."""
    command = [sys.executable, "-m", "benchmarks.loading", str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def resident_bytes() -> int:
    """Returns the memory of this process, including pages of mapped files."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measures the program named on the command line."""
    path = Path(sys.argv[1])
    before = resident_bytes()
    start, start_processor = time.perf_counter(), time.process_time()
    program = Program.load(path)
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - start_processor
    loaded = resident_bytes()
    # Zeros are valid for every input; the second run finds all caches of the first.
    inputs = {signature.name: np.zeros(signature.shape, signature.host_dtype) for signature in program.inputs}
    for _ in range(2):
        program.run(inputs, engine="native")
    figures = {
        "container_bytes": path.stat().st_size,
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "resident_bytes_before": before,
        "resident_bytes_loaded": loaded,
        "resident_bytes_run": resident_bytes(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
