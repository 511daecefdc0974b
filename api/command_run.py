"""``sta run``: run a program on inputs from a file. Needs NumPy only."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from sta.npz import read_arrays
from sta.output_file import check_output, write_arrays
from sta.profile_table import print_profile
from sta.runtime import Program, Result, load
from sta.runtime.profile import Profile
from sta.runtime.program import ENGINES
from sta.tables import count, duration, percent, print_json, print_table, size
from sta.usage import UsageError, about, suggestion


def execute(arguments: Namespace) -> None:
    """Runs the command; raises what ``read_arrays``, ``Program.load``, ``run``, ``check_races`` and so on raise."""
    if arguments.engine not in ENGINES:
        known = f"known: {', '.join(ENGINES)}"
        raise UsageError(f"unknown engine {arguments.engine!r}{suggestion(arguments.engine, ENGINES)}; {known}")
    if (arguments.profile_depth or 0) < 0:
        raise UsageError(f"argument --profile-depth: {arguments.profile_depth} is negative")
    output = Path(arguments.output)
    check_output(output, Path(arguments.program), Path(arguments.inputs))
    if arguments.trace is not None:
        check_output(Path(arguments.trace), Path(arguments.program), Path(arguments.inputs))
        if Path(arguments.trace).resolve() == output.resolve():
            raise UsageError("--output and --trace name the same file")
    with about(arguments.program):
        program = load(arguments.program)
    inputs = read_arrays(Path(arguments.inputs))
    races = program.check_races() if arguments.check_races else None
    result = program.run(inputs, engine=arguments.engine)
    write_arrays(output, result.outputs)
    traced = None if arguments.trace is None else program.write_trace(arguments.trace)
    profile = _profile(program, arguments)
    if arguments.json:
        parts = {"races": races and races.to_json(), "profile": profile and profile.to_json()}
        trace = None if traced is None else {"instructions": traced}
        print_json(result.to_json() | {name: part for name, part in {**parts, "trace": trace}.items() if part})
        return
    _print_result(result, program.target.name)
    if profile is not None:
        print_profile(profile)
    if races is not None:
        print(f"\nno races: {count(races.instructions)} instructions, {count(races.accesses)} tiles compared")
    if traced is not None:
        print(f"\ntrace: {arguments.trace}, {count(traced)} instructions; open it in ui.perfetto.dev")


def _profile(program: Program, arguments: Namespace) -> Profile | None:
    """Returns the profile that the options ask for."""
    if arguments.profile_depth is not None:
        return program.profile().grouped(arguments.profile_depth)
    return program.profile() if arguments.profile else None


def _print_result(result: Result, target: str) -> None:
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
            ["cycles", count(result.cycles)],
            ["time", duration(result.seconds)],
            ["MAC efficiency", percent(result.mac_efficiency)],
            ["useful MACs", count(result.macs)],
            ["DRAM traffic", size(result.dram_bytes)],
        ],
        numbers=[1],
    )
