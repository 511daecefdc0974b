"""``sta compile``: a model file to a program."""

from __future__ import annotations

import math
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sta.api.cli.argument_parser import UsageError
from sta.api.cli.progress import Progress
from sta.api.cli.tables import count, duration, percent, print_json, print_table, size
from sta.api.compiler.explanation import explanation, print_explanation
from sta.api.files.output_file import check_output
from sta.spec.pattern import Pattern
from sta.spec.target import Target, load_target

if TYPE_CHECKING:
    from sta.api.compiler.compilation import Compilation


def execute(arguments: Namespace) -> None:
    """Runs the command; raises what ``sta.compile`` raises."""
    if arguments.only is not None and arguments.dump_ir is None:
        raise UsageError("argument --only: it limits a dump: give --dump-ir as well")
    target = None if arguments.target is None else _target(arguments.target)
    sparsity = _pattern(arguments.sparsity)
    output = Path(arguments.output)
    inputs = [Path(arguments.model), *([Path(arguments.calibration)] if arguments.calibration else [])]
    check_output(output, *inputs)
    if arguments.dump_ir is not None and Path(arguments.dump_ir).resolve() == output.resolve():
        raise UsageError("--output and --dump-ir name the same path")
    methods = (
        ("smoothing", arguments.no_smoothing),
        ("ranges", arguments.no_range_search),
        ("weights", arguments.no_weight_search),
    )
    with Progress() as progress:
        progress.report("load PyTorch and torch-mlir", None)
        # Imported here: a misspelt target is reported at once.
        from sta.api.compiler.compilation import compile_model

        compilation = compile_model(
            arguments.model,
            target=target,
            sparsity=sparsity,
            calibration=arguments.calibration,
            softmax=arguments.softmax,
            probability_bits=arguments.probability_bits,
            int16_inputs=arguments.int16_inputs,
            min_sqnr=_decibels_asked(arguments.min_sqnr),
            methods=[name for name, left_out in methods if not left_out],
            check=arguments.check,
            dump_ir=arguments.dump_ir,
            only=arguments.only,
            report=progress.report,
        )
        assert compilation.program is not None
        compilation.program.save(output)
    summary = summarize(compilation, output)
    if arguments.explain:
        summary["explanation"] = explanation(compilation)
    if arguments.timing:
        summary["timing"] = [{"step": step, "seconds": seconds} for step, seconds in compilation.seconds]
    if arguments.json:
        print_json(summary)
        return
    _print_summary(summary)
    if arguments.explain:
        print_explanation(summary["explanation"])
    if arguments.timing:
        _print_timing(summary["timing"])


def _print_timing(timing: list[dict[str, Any]]) -> None:
    total = sum(row["seconds"] for row in timing)
    rows = [[row["step"], duration(row["seconds"]), percent(row["seconds"] / total)] for row in timing]
    print()
    print_table(["step", "time", "share"], [*rows, ["all", duration(total), percent(1)]], numbers=[1, 2])


def _target(name: str) -> Target:
    try:
        return load_target(name)
    except ValueError as error:
        if Path(name).is_file():
            raise
        raise UsageError(str(error)) from error


def _decibels_asked(number: float | None) -> float | None:
    if number is not None and not (number >= 0.0 and math.isfinite(number)):
        raise UsageError(f"argument --min-sqnr: decibels from 0 on, not {number}")
    return number


def _pattern(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return str(Pattern.parse(text))
    except ValueError as error:
        raise UsageError(f"argument --sparsity: {error}") from error


def summarize(compilation: Compilation, output: Path) -> dict[str, Any]:
    """Returns what there is to say about a compilation and the file it was saved to, for JSON to hold."""
    program = compilation.program
    assert program is not None
    return {
        "output": str(output),
        "target": program.target.name,
        "file_bytes": output.stat().st_size,
        "instructions": len(program.container.code),
        "cycles": program.cycles,
        "seconds": program.seconds,
        "mac_efficiency": program.mac_efficiency,
        "dram_bytes": program.dram_bytes,
        "macs": program.macs,
        "dense_macs": program.dense_macs,
        "memory": {space: program.container.program[space] for space in ("spad", "wbuf", "acc", "dram")},
        "operations": {
            "after_tiling": compilation.operations_after_tiling,
            "final": sum(1 for _ in compilation.module.walk()),
        },
        "sparsity": _sparsity(compilation),
        "quantization": _quantization(compilation),
        "check": _fidelity(compilation),
    }


def _sparsity(compilation: Compilation) -> list[dict[str, Any]]:
    """
    Layers, weights and packed bytes of every pattern and encoding that occurs, the most weights first; padding is the
    zeros that fill up groups of M.
    """
    from sta.dialect import nm
    from sta.spec.nm_format import packed_size

    layers: Counter[tuple[Pattern, str]] = Counter()
    weights: Counter[tuple[Pattern, str]] = Counter()
    packed: Counter[tuple[Pattern, str]] = Counter()
    padding: Counter[tuple[Pattern, str]] = Counter()
    if compilation.integer_module is None:
        # The compile was taken up from what is tiled already.
        return []
    for op in compilation.integer_module.walk():
        if not isinstance(op, nm.LinearOp | nm.ProductOp):
            continue
        rows, depth = nm.tensor_of(op.weight).get_shape()
        pattern, encoding = nm.pattern_of(op.weight)
        layers[pattern, encoding] += 1
        weights[pattern, encoding] += rows * depth
        packed[pattern, encoding] += packed_size(rows, depth, pattern, encoding)
        padding[pattern, encoding] += 0 if pattern.is_dense else rows * (-depth % pattern.m)
    return [
        {
            "pattern": "dense" if pattern.is_dense else str(pattern),
            "encoding": encoding,
            "layers": layers[pattern, encoding],
            "weights": weights[pattern, encoding],
            "padding": padding[pattern, encoding],
            "bytes": packed[pattern, encoding],
        }
        for pattern, encoding in sorted(layers, key=lambda key: (-weights[key], str(key)))
    ]


def _quantization(compilation: Compilation) -> dict[str, Any] | None:
    """What was tried when number formats were chosen, and what was taken; None if the model came with its formats."""
    choice = compilation.quantization
    if choice is None:
        return None
    return {
        "decibels": choice.decibels,
        "held_out_samples": choice.held_out,
        "trials": [{"method": one.method, "decibels": one.decibels, "kept": one.kept} for one in choice.trials],
        "int16_inputs": list(choice.plan.int16_inputs),
    }


def _fidelity(compilation: Compilation) -> list[dict[str, Any]]:
    """Every step with its signal-to-noise ratio against the imported model in decibels; None where nothing differs."""
    if compilation.check is None:
        return []
    exact = float("inf")
    return [{"step": step, "decibels": None if ratio == exact else ratio} for step, ratio in compilation.check.fidelity]


def _print_sparsity(sparsity: list[dict[str, Any]]) -> None:
    """A table of the patterns; with a column for zeros that fill up groups of M where K is no multiple of M."""
    header = ["pattern", "encoding", "layers", "weights", "packed"]
    rows = [
        [row["pattern"], row["encoding"], count(row["layers"]), count(row["weights"]), size(row["bytes"])]
        for row in sparsity
    ]
    if any(row["padding"] for row in sparsity):
        header.append("padding")
        rows = [[*cells, count(row["padding"])] for cells, row in zip(rows, sparsity, strict=True)]
    print_table(header, rows, numbers=list(range(2, len(header))))


def _print_summary(summary: dict[str, Any]) -> None:
    if summary["check"]:
        print_table(
            ["step", "SQNR against the model"],
            [[row["step"], _decibels(row["decibels"])] for row in summary["check"]],
            title="check: bits are equal after every pass",
            numbers=[1],
        )
        print()
    if summary["quantization"] is not None:
        _print_quantization(summary["quantization"])
        print()
    if summary["sparsity"]:
        _print_sparsity(summary["sparsity"])
        print()
    print_table(
        [summary["output"], f"on {summary['target']}"],
        [
            ["file size", size(summary["file_bytes"])],
            ["instructions", count(summary["instructions"])],
            ["cycles", count(summary["cycles"])],
            ["time", duration(summary["seconds"])],
            ["MAC efficiency", percent(summary["mac_efficiency"])],
            ["useful MACs", count(summary["macs"])],
            ["dense-equivalent MACs", count(summary["dense_macs"])],
            ["DRAM traffic", size(summary["dram_bytes"])],
        ],
        numbers=[1],
    )


def _print_quantization(quantization: dict[str, Any]) -> None:
    samples = quantization["held_out_samples"]
    judged = f"{samples} sample{'s' * (samples > 1)} held out" if samples else "a sample that calibration has seen"
    trials = quantization["trials"]
    rows = [[one["method"], _decibels(one["decibels"]), "kept" if one["kept"] else ""] for one in trials]
    print_table(["quantization", f"SQNR on {judged}", ""], rows, numbers=[1])
    if quantization["int16_inputs"]:
        print("16-bit inputs: " + ", ".join(quantization["int16_inputs"]))


def _decibels(ratio: float | None) -> str:
    return "exact" if ratio is None else f"{ratio:.1f} dB"
