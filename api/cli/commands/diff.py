"""``sta diff``: a run of a program against the float model, operation by operation."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sta.api.cli.argument_parser import UsageError, about
from sta.api.cli.progress import Progress
from sta.api.cli.tables import count, noun, print_json, print_sentence, print_table
from sta.api.files.run_files import Arrays, read_inputs
from sta.api.inspect.signal_to_noise import Agreement
from sta.runtime import Program, load
from sta.runtime.values.value_writes import OUTPUT

if TYPE_CHECKING:
    from sta.api.inspect.float_comparison import Compared, Comparison
    from sta.runtime.values.model_values import Value


def execute(arguments: Namespace) -> None:
    """
    Runs the command.

    Raises:
        OSError: a file cannot be read.
        ValueError: model, program and inputs cannot be used together.
        ProgramError: a run failed.
    """
    bound = arguments.bisect
    if bound is not None and not isfinite(bound):
        raise UsageError(f"argument --bisect: {bound} is no number of decibels")
    with about(arguments.program):
        program = load(arguments.program)
    samples = read_inputs(program, Path(arguments.inputs))
    encoded = [_encoded(program, sample, number, len(samples)) for number, sample in enumerate(samples, 1)]
    with Progress() as progress:
        progress.report("load PyTorch and torch-mlir", None)
        # Imported here: files that cannot be read are reported at once.
        from sta.api.inspect.float_comparison import compare, model_of

        names = (arguments.program, arguments.model)
        model = model_of(program, Path(arguments.model), names, progress.report, arguments.pruned)
        comparison = compare(program, model, list(zip(samples, encoded, strict=True)), names, progress.report)
    found = None if bound is None else comparison.first_below(bound)
    if arguments.json:
        print_json(_json(comparison, bound, found))
        return
    if bound is not None:
        _print_bisection(comparison, bound, found)
        return
    _print(comparison, len(program.pruned))


def _encoded(program: Program, sample: Arrays, number: int, of: int) -> Arrays:
    """The device's integers for the inputs of a run; errors name the unusable run."""
    if of == 1:
        return program.encode_inputs(sample)
    with about(f"run {number}"):
        return program.encode_inputs(sample)


def _json(comparison: Comparison, bound: float | None, found: Compared | None) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "samples": comparison.samples,
        "after_pruning": comparison.is_pruned,
        "operations": [one.to_json() for one in comparison.worst_first()],
        "not_compared": [
            {"module": value.name or value.source, "operation": value.operation, "reason": reason}
            for value, reason in comparison.unseen
        ],
        "original": {
            "by": comparison.runner,
            "outputs": [one.to_json() for one in comparison.originals],
            **({"not_run": comparison.not_run} if comparison.not_run else {}),
        },
    }
    if bound is None:
        return parts
    first = None
    if found is not None:
        worst = comparison.worst_until(found)
        first = {
            **found.to_json(),
            "wrong_by_itself": found.is_wrong(bound),
            "worst_by_itself_until_here": worst.to_json(),
        }
    departed, wrong = comparison.departed(bound), comparison.first_wrong(bound)
    parts["bisect"] = {
        "bound_db": bound,
        "first": first,
        "first_wrong_by_itself": None if wrong is None else wrong.to_json(),
        "float_model_departs": None if departed is None else departed.to_json(),
    }
    return parts


def _print(comparison: Comparison, pruned_layers: int) -> None:
    titles = ["SQNR dB", "LSB", "error", "cosine"]
    rows = [
        [
            one.path,
            one.value.operation if one.pruned is None else f"{one.value.operation}, pruned {one.pruned}",
            one.float_operation,
            "" if one.value.operation == OUTPUT else f"@{one.value.first}",
            *_cells(one.isolated),
            *_cells(one.accumulated),
        ]
        for one in comparison.worst_first()
    ]
    model = "float model after pruning" if comparison.is_pruned else "float model"
    print_table(
        ["module", "operation", "float", "from", *titles, *(f"acc. {title}" for title in ["dB", *titles[1:]])],
        rows,
        title=f"{noun(comparison.samples, 'run')} against the {model}, the worst first: by itself, and accumulated "
        "(acc.); largest errors",
        numbers=range(3, 12),
        drop=[11, 10, 9, 7, 6, 5, 2, 1],
    )
    _print_unseen(comparison.unseen)
    _print_originals(comparison)
    if pruned_layers and not comparison.is_pruned:
        print()
        layers = noun(pruned_layers, "layer")
        print_sentence(f"the compile pruned {layers}: --pruned compares with the model after that")


def _print_unseen(unseen: Sequence[tuple[Value, str]]) -> None:
    """Prints what is not compared, and why; those on purpose, which are many, in one line."""
    from sta.api.inspect.float_comparison import NO_TENSOR

    divided = [value for value, reason in unseen if reason == NO_TENSOR]
    others = [f"{value.name or value.source} {value.operation}: {reason}" for value, reason in unseen]
    others = [line for line, (_, reason) in zip(others, unseen, strict=True) if reason != NO_TENSOR]
    if divided:
        print()
        print_sentence(
            f"not compared: {noun(len(divided), 'value')} that the float model does not have, as norms with columns "
            "that SmoothQuant divided (--json names them)"
        )
    if others:
        print("\nnot compared:")
    for line in others:
        print(f"  {line}")


def _print_originals(comparison: Comparison) -> None:
    if comparison.not_run:
        print(f"\nnot compared with the model as it was given: {comparison.not_run}")
        return
    rows = [
        [one.name, _decibels(one.program), _decibels(one.float_model), f"{one.program.cosine:.6f}"]
        for one in comparison.originals
    ]
    # As a title it would be broken where the columns end.
    print(f"\nagainst the model as it was given, run by {comparison.runner}:")
    model = "pruned model" if comparison.is_pruned else "float model"
    print_table(["output", "program dB", f"{model} dB", "program cosine"], rows, numbers=range(1, 4))


def _cells(agreement: Agreement) -> list[str]:
    lsb, error = f"{agreement.largest_lsb:.2f}", f"{agreement.largest:.3g}"
    return [_decibels(agreement), lsb, error, f"{agreement.cosine:.6f}"]


def _decibels(agreement: Agreement) -> str:
    return "exact" if agreement.noise == 0 else f"{agreement.decibels:.1f}"


def _print_bisection(comparison: Comparison, bound: float, found: Compared | None) -> None:
    departed = comparison.departed(bound)
    if departed is not None:
        print(
            f"output {departed.name}: already the float model is {_decibels(departed.float_model)} dB from the model "
            f"as it was given, run by {comparison.runner}: what follows is no measure of the program"
        )
    if comparison.not_run:
        print(f"not compared with the model as it was given: {comparison.not_run}")
    if found is None:
        print(f"none of {count(len(comparison.compared))} operations falls below {bound:g} dB")
        return
    print(f"the first operation below {bound:g} dB: {_described(found)}")
    print(f"accumulated {_decibels(found.accumulated)} dB, by itself {_decibels(found.isolated)} dB")
    if found.is_wrong(bound):
        print("it is wrong by itself: on the float model's own inputs it falls below the bound too")
        return
    if found.isolated.decibels < bound:
        _print_after_pruned(comparison, bound, found)
        return
    worst = comparison.worst_until(found)
    print("it inherits its error: on the float model's own inputs it stays above the bound")
    print(f"the worst by itself up to there: {_described(worst)}, {_decibels(worst.isolated)} dB")


def _print_after_pruned(comparison: Comparison, bound: float, found: Compared) -> None:
    print(f"its weights were pruned to {found.pruned}, and are not the float model's: that is a part of the difference")
    wrong = comparison.first_wrong(bound)
    if wrong is None:
        print("no operation whose weights were not pruned falls below the bound by itself")
        return
    print(f"the first wrong by itself, with weights that were not pruned: {_described(wrong)}")
    print(f"accumulated {_decibels(wrong.accumulated)} dB, by itself {_decibels(wrong.isolated)} dB")


def _described(one: Compared) -> str:
    where = f"instructions {one.value.first} to {one.value.last}"
    return f"{one.path} ({one.value.operation}, float {one.float_operation}, {where})"
