"""
Coverage of Hugging Face's model types and of real ONNX files: which compile, how well, and why not the others.

    python -m benchmarks.coverage measure [TYPE|FILE.onnx ...] [--jobs 2] [--seconds 240] [--again]
    python -m benchmarks.coverage page

`measure` builds each of `AutoModel`'s types (default: all) in a tiny configuration, exports it, compiles it with eight
calibration samples and `check=True`, runs it, and compares the output with PyTorch's: each in a process of its own, as
one may die or take all memory. What is in docs/models.jsonl already is not measured again without `--again`, so that a
run can be stopped and resumed, and done in parts. `page` prints docs/models.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.page import PAGE, table

RESULTS = PAGE.with_name("models.jsonl")
"""A line of JSON for each type and file."""
MODELS_PAGE = PAGE.with_name("models.md")
BOUND = 30.0
"""Decibels that the output has to keep with the default options."""
WIDE_BOUND = 45.0
"""Decibels with 16 bits everywhere, of types that do not keep the others: noise, and no fault."""
WIDE: dict[str, Any] = {"int16_inputs": ["*"], "probability_bits": 16}
LONGEST_REASON = 400

Result = dict[str, Any]
"""
`type`, `status`, `seconds` and, of what compiles, `bound`, `sqnr`, `cycles` and `mac_efficiency`, or else `reason`.
"""

_STATUS = {
    "good": "compiles, and keeps the bound",
    "noisy": "compiles, and does not keep the bound",
    "refused": "refused, with the reason",
    "fault": "a fault of the compiler",
    "not exported": "no tiny model of this type can be made, or `torch.export` does not take it",
}
"""The meaning of each status, in the order of the page."""

_HEAD = """# Models: what compiles, and how well

`python -m benchmarks.coverage measure` measures, `python -m benchmarks.coverage page` writes this page from its results
(models.jsonl). Each type that `AutoModel` of transformers knows has a tiny configuration (2 layers, width 64, 4 heads,
16 tokens or 32x32 pixels) and random weights, is compiled with 8 calibration samples and `check=True`, and its output
is compared with PyTorch's. The bound is {bound:g} dB, or {wide:g} dB with 16 bits everywhere (`int16_inputs=["*"],
probability_bits=16`, marked ¹) for types whose random weights make more noise than that. Cycles and MAC efficiency are
those of the tiny model, whose layers fill a small part of the array: docs/benchmarks.md has real sizes."""


def measure(name: str) -> Result:
    """Returns the result of a type or a file; every failure is one."""
    begin = time.perf_counter()
    try:
        result = _measure_file(Path(name)) if name.endswith(".onnx") else _measure_type(name)
    except Exception as error:  # what is wrong with one model is its result
        result = {"status": _status_of(error), "reason": _reason(error)}
    named = Path(name).name if name.endswith(".onnx") else name
    return {"type": named, **result, "seconds": round(time.perf_counter() - begin, 1)}


def _measure_type(kind: str) -> Result:
    from benchmarks.tiny_models import build

    try:
        model = build(kind)
    except Exception as error:  # whatever a type's own code raises for a tiny configuration
        return {"status": "not exported", "reason": _reason(error)}
    return _measured(model.exported, model.example, model.calibration, model.expected)


def _measure_file(path: Path) -> Result:
    from sta.frontend.model import import_model

    imported = import_model(path)
    assert imported.original is not None
    generator = np.random.default_rng(0)
    samples = [
        {
            name: generator.standard_normal(kind.sizes).astype(kind.dtype)
            if kind.dtype.kind == "f"
            else np.ones(kind.sizes, kind.dtype)
            if "mask" in name
            else generator.integers(0, 2 if "type" in name else 100, kind.sizes).astype(kind.dtype)
            for name, kind in imported.input_types.items()
        }
        for _ in range(9)
    ]
    expected = next(iter(imported.original.run(samples[0]).values()))
    calibration = {name: np.stack([sample[name] for sample in samples[1:]]) for name in samples[0]}
    return _measured(path, samples[0], calibration, expected)


def _measured(
    model: Any, example: Mapping[str, NDArray[Any]], calibration: Mapping[str, NDArray[Any]], expected: NDArray[Any]
) -> Result:
    """The result of a model; where it does not keep the bound, that with 16 bits."""
    result: Result = {}
    for bound, options in ((BOUND, {}), (WIDE_BOUND, WIDE)):
        result = _compiled(model, example, calibration, expected, options)
        good = result["sqnr"] >= bound
        result |= {"bound": bound, "status": "good" if good else "noisy"}
        if good:
            break
    return result


def _compiled(
    model: Any,
    example: Mapping[str, NDArray[Any]],
    calibration: Mapping[str, NDArray[Any]],
    expected: NDArray[Any],
    options: Mapping[str, Any],
) -> Result:
    import sta
    from sta.api.compiler.bit_check import signal_to_noise

    given = None if isinstance(model, Path) else example
    program = sta.compile(model, given, calibration=calibration, check=True, **cast("Any", options))
    result = program.run({one.name: example[one.name] for one in program.inputs})
    output = next(iter(result.outputs.values())).reshape(expected.shape)
    decibels = min(signal_to_noise(expected, output), 200.0)
    return {"sqnr": round(decibels, 1), "cycles": result.cycles, "mac_efficiency": round(program.mac_efficiency, 4)}


def _status_of(error: Exception) -> str:
    """`refused` for a designed error about the model; anything else is the compiler's fault."""
    from sta.frontend.errors import ModelError
    from sta.passes.errors import CompileError

    return "refused" if isinstance(error, ModelError | CompileError) else "fault"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    named = text if type(error).__module__.startswith("sta.") else f"{type(error).__name__}: {text}"
    return named if len(named) <= LONGEST_REASON else named[:LONGEST_REASON] + "…"


def measure_apart(name: str, seconds: int) -> Result:
    """Returns the result of a process of its own, which may die or take too long."""
    command = [sys.executable, "-m", "benchmarks.coverage", "one", name]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, env=environment, check=False, cwd=PAGE.parents[1]
        )
    except subprocess.TimeoutExpired:
        return {"type": Path(name).name, "status": "fault", "reason": f"takes more than {seconds} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if lines:
        return json.loads(lines[-1])
    reason = f"the process died ({done.returncode}): {done.stderr.strip()[-LONGEST_REASON:]}"
    return {"type": Path(name).name, "status": "fault", "reason": " ".join(reason.split())}


def read_results(path: Path = RESULTS) -> dict[str, Result]:
    """Returns the results by type or file's name; of several of one, the last."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    results = (json.loads(line) for line in lines)
    return {result["type"]: result for result in results}


def write_results(results: Mapping[str, Result], path: Path = RESULTS) -> None:
    """Writes the results, sorted."""
    lines = [json.dumps(results[name], ensure_ascii=False) for name in sorted(results)]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def measure_all(names: Sequence[str], jobs: int, seconds: int, path: Path = RESULTS) -> None:
    """Measures models, and adds every result to those at `path` as soon as it is there."""
    good = 0
    with ThreadPoolExecutor(jobs) as pool, path.open("a", encoding="utf-8") as out:
        for number, result in enumerate(pool.map(partial(measure_apart, seconds=seconds), names), 1):
            good += result["status"] == "good"
            about = result.get("sqnr", result.get("reason", ""))
            print(
                f"{number} of {len(names)}, {good} good: {result['type']} {result['status']} {about}", file=sys.stderr
            )
            out.write(json.dumps(result, ensure_ascii=False) + "\n")
            out.flush()
    write_results(read_results(path), path)


def page(results: Mapping[str, Result], known: Sequence[str]) -> str:
    """Returns the page about `results`; of the `known` types it names those that have none."""
    sections = [_HEAD.format(bound=BOUND, wide=WIDE_BOUND), _summary(results, known)]
    for status, meaning in _STATUS.items():
        rows = [result for _, result in sorted(results.items()) if result["status"] == status]
        if rows:
            title = f"## {status.capitalize()}: {meaning} ({len(rows)})"
            sections.append(f"{title}\n\n{_measured_table(rows) if 'sqnr' in rows[0] else _refused_table(rows)}")
    missing = [name for name in known if name not in results]
    if missing:
        sections.append(f"## Not measured ({len(missing)})\n\n{', '.join(missing)}")
    return "\n\n".join(sections)


def _summary(results: Mapping[str, Result], known: Sequence[str]) -> str:
    tried = [result for result in results.values() if result["status"] != "not exported"]
    good = [result for result in tried if result["status"] == "good"]
    wide = sum(result["bound"] == WIDE_BOUND for result in good)
    return (
        f"**{len(good)} of {len(tried)}** models that can be exported are good, {wide} of them with 16 bits. "
        f"transformers has {len(known)} types."
    )


def _measured_table(rows: Sequence[Result]) -> str:
    header = ["model", "bound", "SQNR, dB", "cycles", "MAC efficiency"]
    cells = [
        [
            row["type"] + (" ¹" if row["bound"] == WIDE_BOUND else ""),
            f"{row['bound']:g}",
            f"{row['sqnr']:.1f}",
            f"{row['cycles']:,}",
            f"{100 * row['mac_efficiency']:.1f} %",
        ]
        for row in rows
    ]
    return table(header, cells)


def _refused_table(rows: Sequence[Result]) -> str:
    lines = ["| model | reason |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {row['type']} | {_cell(row['reason'])} |" for row in rows)])


def _cell(text: str) -> str:
    """A text in a cell of Markdown."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Measures, or prints the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", help="measure types or files, and keep their results")
    measuring.add_argument("names", nargs="*", metavar="TYPE|FILE.onnx")
    measuring.add_argument("--jobs", type=int, default=2)
    measuring.add_argument("--seconds", type=int, default=240, help="the longest time of one")
    measuring.add_argument("--again", action="store_true", help="measure also what has a result")
    commands.add_parser("page", help="print the page")
    commands.add_parser("one", help="measure one in this process").add_argument("name")
    options = parser.parse_args()
    if options.command == "one":
        import torch

        torch.set_num_threads(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            print(json.dumps(measure(options.name), ensure_ascii=False))
        return
    from benchmarks.tiny_models import model_types

    if options.command == "page":
        print(page(read_results(), model_types()))
        return
    done: set[str] = set() if options.again else set(read_results())
    names = [name for name in options.names or model_types() if Path(name).name not in done]
    measure_all(names, options.jobs, options.seconds)


if __name__ == "__main__":
    main()
