"""``sta run``: run a program on inputs from a file. Needs NumPy only."""

from __future__ import annotations

import time
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

from sta.api.cli.argument_parser import UsageError, about
from sta.api.cli.cost_rows import cost_rows
from sta.api.cli.profile_table import print_profile
from sta.api.cli.progress import Progress
from sta.api.cli.tables import count, duration, noun, print_json, print_table
from sta.api.files.output_file import check_output
from sta.api.files.run_files import Runs, check_files, read_runs
from sta.backend.new_file import new_files
from sta.runtime import Program, Result, load
from sta.runtime.analysis.profile import Profile
from sta.runtime.engines import ENGINES
from sta.runtime.program import MOST_THREADS
from sta.spec.suggestion import suggestion


def execute(arguments: Namespace) -> None:
    """Runs the command; raises the errors of ``read_arrays``, ``Program.load``, ``run``, ``check_races`` and so on."""
    engines = (*ENGINES, "both")
    if arguments.engine not in engines:
        known = f"known: {', '.join(engines)}"
        raise UsageError(f"unknown engine {arguments.engine!r}{suggestion(arguments.engine, engines)}; {known}")
    if not 1 <= arguments.threads <= MOST_THREADS:
        raise UsageError(f"argument --threads: {arguments.threads} is outside 1..{MOST_THREADS}")
    if (arguments.profile_depth or 0) < 0:
        raise UsageError(f"argument --profile-depth: {arguments.profile_depth} is negative")
    program_path, inputs_path = Path(arguments.program), Path(arguments.inputs)
    output = None if arguments.output is None else Path(arguments.output)
    check_files(program_path, inputs_path, output)
    if arguments.trace is not None:
        check_output(Path(arguments.trace), program_path, inputs_path)
        if output is not None and Path(arguments.trace).resolve() == output.resolve():
            raise UsageError("--output and --trace name the same file")
    with about(arguments.program):
        program = load(arguments.program)
    runs = read_runs(program, inputs_path, output)
    races = program.check_races() if arguments.check_races else None
    start = time.perf_counter()
    results = _run(program, runs, arguments)
    elapsed = time.perf_counter() - start
    with new_files():
        traced = None if arguments.trace is None else program.write_trace(arguments.trace)
        runs.write(results)
    profile = _profile(program, arguments)
    if arguments.json:
        parts = {"races": races and races.to_json(), "profile": profile and profile.to_json()}
        counts = {"runs": None if runs.is_single else len(results)}
        trace = None if traced is None else {"instructions": traced}
        extra = {**counts, **parts, "trace": trace}
        print_json(results[0].to_json() | {name: part for name, part in extra.items() if part})
        return
    if arguments.quiet:
        return
    if not runs.is_single:
        print(f"{noun(len(results), 'run')}; the first, and the cost of each:")
    _print_result(results[0], program.target.name, program.dense_macs, elapsed)
    if profile is not None:
        print_profile(profile)
    if races is not None:
        print(f"\nno races: {count(races.instructions)} instructions, {count(races.accesses)} tiles compared")
    if arguments.engine == "both":
        print("\nboth engines leave the same outputs, SRAM and DRAM")
    if traced is not None:
        print(f"\ntrace: {arguments.trace}, {count(traced)} instructions; open it in ui.perfetto.dev")


def _run(program: Program, runs: Runs, arguments: Namespace) -> list[Result]:
    """Returns the result of every run, with progress."""
    with Progress() as progress:

        def report(done: int) -> None:
            progress.report("run", done / len(runs.inputs))

        def report_part(done: float | None) -> None:
            progress.report("run", None if done is None else (len(results) + done) / len(runs.inputs))

        results: list[Result] = []
        if arguments.engine == "both":
            for index, inputs in enumerate(runs.inputs):
                with nullcontext() if runs.is_single else about(runs.name(index)):
                    results.append(program.run_both(inputs, threads=arguments.threads, report=report_part))
            return results
        if runs.is_single:
            options = {"engine": arguments.engine, "threads": arguments.threads}
            return [program.run(runs.inputs[0], **options, report=report_part)]
        return program.run_batch(runs.inputs, engine=arguments.engine, threads=arguments.threads, report=report)


def _profile(program: Program, arguments: Namespace) -> Profile | None:
    """Returns the profile that the options request."""
    if arguments.profile_depth is not None:
        return program.profile().grouped(arguments.profile_depth)
    return program.profile() if arguments.profile else None


def _print_result(result: Result, target: str, dense_macs: int, elapsed: float) -> None:
    """Prints outputs and cost of a run, and the seconds that the emulator has taken for all runs."""
    print_table(
        ["output", "shape", "smallest", "largest"],
        [
            [name, " x ".join(map(str, values.shape)), f"{values.min():.6g}", f"{values.max():.6g}"]
            for name, values in result.outputs.items()
            if values.size
        ],
        numbers=[2, 3],
    )
    print()
    print_table(
        ["cost", f"on {target}"],
        [
            *cost_rows({**result.to_json(), "dense_macs": dense_macs}),
            ["emulated in", duration(elapsed)],
        ],
        numbers=[1],
    )
