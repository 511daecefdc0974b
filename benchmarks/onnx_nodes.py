"""
ONNX's own tests of its operators, imported and run as float modules: how many are right, refused or wrong.

    python -m benchmarks.onnx_nodes [OPERATOR ...] [--list] [--docs]

Each test of at most `MOST_ELEMENTS` elements an operand runs three times: with all inputs as constants, with all but
the first as constants, and with all at run time. Right is a result within the test's own tolerance behind all passes on
the float module. Exits with 1 if one is wrong. `--docs` writes the counts into docs/onnx.md.
"""
# pyright: basic
# onnx has no types that pyright could check.

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.page import table, write_section
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.frontend.errors import ModelError
from sta.frontend.model import import_model
from sta.passes.options import Options
from sta.passes.pipeline import FLOAT_PIPELINE, SUPPORTED, pass_of, pipeline

Array = NDArray[Any]

PAGE = Path(__file__).parent.parent / "docs" / "onnx.md"
MOST_ELEMENTS = 1 << 20
OLDEST = 13
"""The oldest version of the operators that is imported; what is as it was before is tested in this one."""
WAYS = ("constant", "first at run time", "all at run time")
OUTCOMES = ("right", "refused", "wrong")


def cases(operators: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The tests of the operators, of all if none is named, with the operator of each."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        # ONNX computes what its tests expect, and overflows on purpose.
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    for case in collected:
        model: Any = case.model
        nodes = model.graph.node
        # What ONNX expands into other operators is the same test once more.
        if len(nodes) != 1 or "_expanded" in case.name or any(one for one in nodes[0].attribute if one.HasField("g")):
            continue
        operator = nodes[0].op_type if not nodes[0].domain else f"{nodes[0].domain}.{nodes[0].op_type}"
        if nodes[0].domain or (operators and operator not in operators) or not _has_floats(case):
            continue
        yield operator, case


def _has_floats(case: Any) -> bool:
    """True for a test of tensors that gives floats."""
    arrays = [array for given in case.data_sets[0] for array in given]
    tensors = all(isinstance(array, np.ndarray | np.generic) and array.size <= MOST_ELEMENTS for array in arrays)
    return tensors and all(array.dtype == np.float32 for array in case.data_sets[0][1])


def outcome(case: Any, way: str, directory: Path) -> tuple[str, str]:
    """The end of a test, and the message of an error."""
    inputs, expected = case.data_sets[0]
    names = [value.name for value in case.model.graph.input]
    given = {name: np.asarray(array) for name, array in zip(names, inputs, strict=True)}
    count = {"constant": 0, "first at run time": 1}.get(way, len(names))
    path = directory / "model.onnx"
    _save(case.model, given, names[:count], path)
    try:
        results = _results(path, {name: given[name] for name in names[:count]})
    except ModelError as error:
        return "refused", str(error)
    except Exception as error:  # a fault of ours
        return "wrong", f"{type(error).__name__}: {error}"
    for result, wanted in zip(results, expected, strict=True):
        if result.shape != wanted.shape or not np.allclose(result, wanted, case.rtol, case.atol, equal_nan=True):
            return "wrong", f"{result.shape} {wanted.shape}\n{result.reshape(-1)[:8]}\n{wanted.reshape(-1)[:8]}"
    return "right", ""


def _save(model: Any, given: dict[str, Array], kept: Sequence[str], path: Path) -> None:
    """The file of `model` with the inputs that are not `kept` as constants."""
    import onnx
    from onnx import defs, numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    values = [value for value in copy.graph.input if value.name in kept]
    del copy.graph.input[:]
    copy.graph.input.extend(values)
    copy.graph.initializer.extend(numpy_helper.from_array(given[name], name) for name in given if name not in kept)
    entry = next(entry for entry in copy.opset_import if not entry.domain)
    name = copy.graph.node[0].op_type
    if entry.version < OLDEST and defs.get_schema(name, OLDEST).since_version <= entry.version:
        entry.version = OLDEST
    onnx.save(copy, path)


def _results(path: Path, inputs: dict[str, Array]) -> list[Array]:
    model = import_model(path)
    context = CompileContext(model.weights)
    for step in pipeline(Options()):
        if step.name in (*FLOAT_PIPELINE, SUPPORTED):
            pass_of(step).apply(context, model.module)
    return [np.asarray(result) for result in run_torch(model.module, context, inputs).values()]


def _page(counts: Counter[tuple[str, str, str]]) -> str:
    """The counts as a table: a row for each operator of which a test compiles, one for the others, and one for all."""
    names = sorted({name for name, _, _ in counts})
    compiled = [name for name in names if any(counts[name, way, "right"] for way in WAYS[1:])]
    groups = [*((name, [name]) for name in compiled), ("others", sorted({*names} - {*compiled})), ("all", names)]
    rows = [
        [title, *("/".join(str(sum(counts[name, way, end] for name in group)) for end in OUTCOMES) for way in WAYS)]
        for title, group in groups
    ]
    return table(["operator", *WAYS], rows)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("operators", nargs="*")
    parser.add_argument("--list", action="store_true", help="print each test that is not right")
    parser.add_argument("--docs", action="store_true", help="write the counts into docs/onnx.md")
    arguments = parser.parse_args(argv)
    counts: Counter[tuple[str, str, str]] = Counter()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as directory:
        for operator, case in cases(arguments.operators):
            for way in WAYS:
                ends, message = outcome(case, way, Path(directory))
                counts[operator, way, ends] += 1
                if arguments.list and ends != "right":
                    print(f"{ends}: {case.name}, {way}: {message}", flush=True)
    text = _page(counts)
    print(text)
    if arguments.docs:
        write_section("node tests", text, PAGE)
    return int(any(ends == "wrong" for _, _, ends in counts))


if __name__ == "__main__":
    sys.exit(main())
