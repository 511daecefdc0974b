"""``sta info``: what a program is. Needs NumPy only."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from sta.api.cli.argument_parser import about
from sta.api.cli.cost_rows import cost_rows, memory_rows
from sta.api.cli.tables import count, json_text, print_json, print_table, size
from sta.runtime import Program, load


def execute(arguments: Namespace) -> None:
    """Runs the command; raises what ``sta.load`` raises."""
    path = Path(arguments.program)
    with about(arguments.program):
        program = load(path)
        facts = summarize(program, path)
    if arguments.json:
        print_json(facts)
        return
    ports = [
        [direction, port["name"], " x ".join(map(str, port["shape"])), port["host_dtype"], port["device_dtype"]]
        for direction in ("inputs", "outputs")
        for port in facts[direction]
    ]
    print_table(["", "name", "shape", "host", "machine"], [[row[0].removesuffix("s"), *row[1:]] for row in ports])
    print()
    print_table(
        [arguments.program, f"on {facts['target']['name']}"],
        [
            ["file size", size(facts["file_bytes"])],
            ["instructions", count(facts["instructions"])],
            *cost_rows(facts),
            *_accuracy(program),
            *_prologue(program),
            *memory_rows(facts["memory"], program.target.sram_bytes),
        ],
        numbers=[1],
    )
    for title, key in (("option", "options"), ("made by", "versions")):
        rows = [[name, _text(value)] for name, value in facts[key].items()]
        if rows:
            print()
            print_table([title, ""], rows)
    if not facts["versions"]:
        print("\nhow it was made is not in the file")


def _prologue(program: Program) -> list[list[str]]:
    """The row about the host prologue; none for a program without."""
    return [] if program.prologue is None else [["steps on the host before", count(len(program.prologue.steps))]]


def _accuracy(program: Program) -> list[list[str]]:
    """The rows about accuracy; none if the compile did not measure it."""
    if program.fidelity is None:
        return []
    given = ["SQNR against the model given", f"{program.fidelity.given:.1f} dB"]
    pruned = ["SQNR against the pruned model", f"{program.fidelity.pruned:.1f} dB"]
    return [pruned, given] if program.pruned else [given]


def _text(value: object) -> str:
    """A value of JSON, without characters that a terminal would obey."""
    return value if isinstance(value, str) and value.isprintable() else json_text(value)


def summarize(program: Program, path: Path) -> dict[str, Any]:
    """Returns what there is to say about a program and its file, for JSON to hold."""
    container = program.container
    return {
        "file_bytes": path.stat().st_size,
        "inputs": [port.to_json() for port in program.inputs],
        "outputs": [port.to_json() for port in program.outputs],
        "target": program.target.to_json(),
        "prologue": None if program.prologue is None else program.prologue.to_json(),
        "instructions": len(container.code),
        "cycles": program.cycles,
        "seconds": program.seconds,
        "mac_efficiency": program.mac_efficiency,
        "macs": program.macs,
        "dense_macs": program.dense_macs,
        "dram_bytes": program.dram_bytes,
        "memory": {space: container.program[space] for space in ("spad", "wbuf", "acc", "dram")},
        "fidelity": None if program.fidelity is None else program.fidelity.to_json(),
        "options": container.options,
        "versions": container.versions,
    }
