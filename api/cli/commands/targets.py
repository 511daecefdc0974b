"""``sta targets``: the machines of the toolchain and of other packages."""

from __future__ import annotations

from argparse import Namespace

from sta.api.cli.tables import count, print_json, print_table, size
from sta.spec.target import Target, load_target, target_names


def execute(arguments: Namespace) -> None:
    """Runs the command."""
    targets = sorted((load_target(name) for name in target_names()), key=lambda target: target.macs_per_cycle)
    if arguments.json:
        print_json({target.name: target.to_json() for target in targets})
        return
    print_table(
        ["target", "MAC/cycle", "array", "clock", "SRAM", "vector lanes", "softmax lanes", "DMA"],
        [_row(target) for target in targets],
        numbers=[1, 2, 3, 4, 5, 6, 7],
    )


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
