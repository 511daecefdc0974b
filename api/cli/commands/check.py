"""``sta check``: whether a model compiles, and what is missing."""

from __future__ import annotations

from argparse import Namespace

from sta.api.cli.compile_options import keywords_of, target_of
from sta.api.cli.cost_rows import cost_rows, memory_rows
from sta.api.cli.progress import Progress
from sta.api.cli.tables import count, noun, print_json, print_sentence, print_table


def execute(arguments: Namespace) -> int:
    """Runs the command; returns 1 if the model does not compile. Raises what ``sta.check`` raises."""
    keywords = keywords_of(arguments)
    if arguments.target is not None:
        keywords["target"] = target_of(arguments.target)
    with Progress() as progress:
        progress.report("load PyTorch and torch-mlir", None)
        # Imported here: a misspelt target is reported at once.
        from sta.api.compiler.verdict import check

        keywords["report"] = progress.report
        verdict = check(arguments.model, **keywords)
    if arguments.json:
        print_json({"model": arguments.model, **verdict.to_json()})
        return 0 if verdict else 1
    for note in verdict.notes:
        print_sentence(f"note: {note}")
    if verdict.missing:
        rows = [[one.name, one.module_path, one.note or "-"] for one in verdict.missing]
        title = f"{arguments.model} does not compile: {noun(len(rows), 'operation')} cannot be compiled"
        print_table(["operation", "in", "remedy"], rows, title=title, drop=[])
    elif verdict.program is None:
        print_sentence(f"{arguments.model} does not compile: {verdict.reason}")
    else:
        facts = verdict.to_json()["cost"]
        print_table(
            [arguments.model, f"compiles for {facts['target']}"],
            [
                ["instructions", count(facts["instructions"])],
                *cost_rows(facts),
                *memory_rows(facts["memory"], verdict.program.target.sram_bytes),
            ],
            numbers=[1],
        )
    return 0 if verdict else 1
