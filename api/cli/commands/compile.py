"""``sta compile``: a model file to a program."""

from __future__ import annotations

import math
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sta.api.cli.argument_parser import UsageError
from sta.api.cli.compile_options import keywords_of, target_of
from sta.api.cli.cost_rows import cost_rows
from sta.api.cli.progress import Progress
from sta.api.cli.tables import count, duration, noun, percent, print_json, print_sentence, print_table, size
from sta.api.compiler.explanation import explanation, print_explanation
from sta.api.files.output_file import check_output
from sta.passes.options import options
from sta.runtime.losses import EXACT

if TYPE_CHECKING:
    from sta.api.compiler.compilation import Compilation
    from sta.spec.pattern import Pattern

_PRUNED_WITHOUT_TRAINING = (
    "The loss is pruning's: train the model with these zeros before it is compiled, or keep more weights, such as 3:4."
)


def execute(arguments: Namespace) -> None:
    """Runs the command; raises what ``sta.compile`` raises."""
    if arguments.only is not None and arguments.dump_ir is None:
        raise UsageError("argument --only: it limits a dump: give --dump-ir as well")
    keywords = keywords_of(arguments)
    if arguments.target is not None:
        keywords["target"] = target_of(arguments.target)
    _check_decibels(arguments.min_sqnr)
    output = _output(arguments)
    samples: list[str | None] = [getattr(arguments, name) for name, one in options().items() if one.is_samples]
    check_output(output, Path(arguments.model), *(Path(given) for given in samples if given is not None))
    if arguments.dump_ir is not None and Path(arguments.dump_ir).resolve() == output.resolve():
        raise UsageError("--output and --dump-ir name the same path")
    with Progress() as progress:
        progress.report("load PyTorch and torch-mlir", None)
        # Imported here: a misspelt target is reported at once.
        from sta.api.compiler.compilation import compile_model

        keywords["report"] = progress.report
        compilation = compile_model(arguments.model, **keywords)
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
    if arguments.quiet:
        return
    _print_summary(summary)
    if arguments.explain:
        print_explanation(summary["explanation"])
    if arguments.timing:
        _print_timing(summary["timing"])


def _output(arguments: Namespace) -> Path:
    """The program's file: as compilers do, the model's name with another ending, in the current folder."""
    if arguments.output is not None:
        return Path(arguments.output)
    if arguments.standard_input_is_read:
        raise UsageError("argument -o: it is needed where a file is standard input")
    model = Path(arguments.model)
    # A directory's name may have dots in it.
    return Path(f"{model.resolve().name}.sta" if model.is_dir() else model.with_suffix(".sta").name)


def _print_timing(timing: list[dict[str, Any]]) -> None:
    total = sum(row["seconds"] for row in timing)
    rows = [[row["step"], duration(row["seconds"]), percent(row["seconds"] / total)] for row in timing]
    print()
    print_table(["step", "time", "share"], [*rows, ["all", duration(total), percent(1)]], numbers=[1, 2])


def _check_decibels(number: float | None) -> None:
    if number is not None and not (number >= 0.0 and math.isfinite(number)):
        raise UsageError(f"argument --min-sqnr: decibels from 0 on, not {number}")


def summarize(compilation: Compilation, output: Path) -> dict[str, Any]:
    """Returns the facts of a compilation and its saved file, for JSON."""
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
        "quantization": None if program.quantization is None else program.quantization.to_json(),
        "fidelity": None if program.fidelity is None else program.fidelity.to_json(),
        "pruned": {path: str(pattern) for path, pattern in program.pruned.items()},
        "check": _check(compilation),
        "losses": [loss.to_json() for loss in compilation.losses],
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
        # The compile was resumed from a tiled module.
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


def _check(compilation: Compilation) -> list[dict[str, Any]]:
    """
    Every step with its kind, and its signal-to-noise ratio in decibels against the step before and the imported model;
    None if nothing differs. A step that occurs twice in the list changed something each time.
    """
    if compilation.check is None:
        return []
    rows = [
        {"step": one.step.name, "kind": one.step.kind, "decibels": _number(one.model), "before": _number(one.before)}
        for one in compilation.check.fidelity
    ]
    return [row for number, row in enumerate(rows) if row not in rows[:number]]


def _number(ratio: float) -> float | None:
    return None if ratio == EXACT else ratio


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
            ["step", "", "SQNR against the model", "against the step before"],
            [
                [row["step"], row["kind"], _decibels(row["decibels"]), _decibels(row["before"])]
                for row in summary["check"]
            ],
            title="check: bits are equal after every pass on integers, and floats close where a pass is not lossy",
            numbers=[2, 3],
        )
        print()
    losses = [loss for loss in summary["losses"] if loss["decibels"] is not None]
    if losses:
        print_table(
            ["lossy step", "for", "SQNR against the step before", "against the model"],
            [
                [loss["step"], loss["kept_for"], _decibels(loss["decibels"]), _decibels(loss["model_decibels"])]
                for loss in losses
            ],
            numbers=[2, 3],
        )
        print()
    if summary["quantization"] is not None:
        _print_quantization(summary)
        print()
    if summary["sparsity"]:
        _print_sparsity(summary["sparsity"])
        print()
    print_table(
        [summary["output"], f"on {summary['target']}"],
        [
            ["file size", size(summary["file_bytes"])],
            ["instructions", count(summary["instructions"])],
            *cost_rows(summary),
        ],
        numbers=[1],
    )


def _print_quantization(summary: dict[str, Any]) -> None:
    from sta.passes.quantization.choice import DEFAULT_LEAST_SQNR, LEAST_GAIN

    quantization, fidelity = summary["quantization"], summary["fidelity"]
    samples, pruned = quantization["held_out_samples"], bool(summary["pruned"])
    judged = f"{noun(samples, 'sample')} held out" if samples else "a sample that calibration has seen"
    trials = quantization["trials"]
    rows = [[one["method"], _decibels(one["decibels"]), _use(trials, number)] for number, one in enumerate(trials)]
    measured = "SQNR against the pruned model" if pruned else f"SQNR on {judged}"
    print_table(["quantization", measured, "in use"], rows, numbers=[1])
    if any(one["kept"] and one["costs_cycles"] for one in trials):
        print_sentence("SmoothQuant costs cycles: --no-smoothing leaves it out")
    if quantization["int16_inputs"]:
        print("16-bit inputs: " + ", ".join(quantization["int16_inputs"]))
    print()
    figures = [["against the model given", _decibels(fidelity["given"])]]
    if pruned:
        figures.insert(0, ["against the pruned model", _decibels(fidelity["pruned"])])
    print_table(["accuracy", f"SQNR on {judged}"], figures, numbers=[1])
    if pruned and fidelity["given"] < min(DEFAULT_LEAST_SQNR, fidelity["pruned"] - LEAST_GAIN):
        print_sentence(_PRUNED_WITHOUT_TRAINING)


def _use(trials: list[dict[str, Any]], number: int) -> str:
    """An answer to whether the program has a method that was tried, with the reason where cycles speak against it."""
    one = trials[number]
    before = max((trial["decibels"] for trial in trials[:number] if trial["kept"]), default=one["decibels"])
    if one["kept"]:
        return "yes"
    return "no, costs cycles" if one["costs_cycles"] and one["decibels"] > before else "no"


def _decibels(ratio: float | None) -> str:
    return "exact" if ratio is None else f"{ratio:.1f} dB"
