"""``sta targets``: the machines of the toolchain and of other packages."""

from __future__ import annotations

from argparse import Namespace

from sta.api.cli.tables import count, print_json, print_table, size
from sta.spec.target import Target, load_target, target_names


def execute(arguments: Namespace) -> None:
    """Runs the command."""
    if arguments.target is not None:
        _show(load_target(arguments.target), arguments.json)
        return
    targets = sorted((load_target(name) for name in target_names()), key=lambda target: target.macs_per_cycle)
    if arguments.json:
        print_json({target.name: target.to_json() for target in targets})
        return
    print_table(
        ["target", "MAC/cycle", "array", "clock", "SRAM", "vector lanes", "softmax lanes", "DMA"],
        [_row(target) for target in targets],
        numbers=[1, 2, 3, 4, 5, 6, 7],
    )


def _show(target: Target, as_json: bool) -> None:
    """Prints everything about one machine, by the keys of its YAML file."""
    values = target.to_json()
    if as_json:
        print_json(values)
        return
    rows = [[key, value if isinstance(value, str) else f"{value:,}"] for key, value in values.items() if key != "name"]
    print_table([target.name, ""], [*rows, ["MAC/cycle", count(target.macs_per_cycle)]], numbers=[1])


def _row(target: Target) -> list[str]:
    return [
        target.name,
        count(target.macs_per_cycle),
        f"{target.array_rows} x {target.array_columns} x {target.multipliers}",
        f"{target.clock_mhz:g} MHz",
        size(target.sram_bytes),
        str(target.vector_lanes),
        str(target.softmax_lanes),
        f"{target.dma_bytes_per_cycle} B/cycle",
    ]
