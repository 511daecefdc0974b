"""Explanation of tilings and memory maps, as `sta compile --explain` shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sta.api.cli.tables import count, print_table, size

if TYPE_CHECKING:
    from sta.api.compiler.compilation import Compilation


_TITLE = (
    "tiling (rows × columns × depth and the order of the loops; rows × keys, × heads that take turns at keys they "
    "share, and the mode of a softmax; "
    "cycles: what a run charges to the module, once for all its layers; where buffers lie: --json)"
)


def explanation(compilation: Compilation) -> dict[str, Any]:
    """
    Returns, for JSON, the tiling of every layer and the map of every memory.

    ``layers`` has an entry for each layer with products: its tile; the bottleneck; the estimate of its cycles by which
    tilings were compared; ``run_cycles``, which the run charges to its module; ``module_layers``, the number of layers
    that share the module; and the next best tiling. ``memory`` has the partition of the chip in bytes and every buffer,
    with its name, place, and its first and last instruction.
    """
    from sta.passes.tiling.tile_choice import recorded

    program = compilation.program
    assert program is not None
    cycles = {row.module_path: row.cycles for row in program.profile().rows}
    sizes = program.container.program
    layers = recorded(compilation.module)
    sharing = Counter(layer["path"] for layer in layers)
    return {
        "layers": [
            {**layer, "run_cycles": cycles.get(layer["path"], 0), "module_layers": sharing[layer["path"]]}
            for layer in layers
        ],
        "memory": {
            "bytes": {space: sizes[space] for space in ("spad", "wbuf", "acc", "dram")},
            "buffers": program.container.debug["buffers"],
        },
    }


def print_explanation(explained: Mapping[str, Any]) -> None:
    """Prints the layers; the map of the memory is for programs."""
    layers: list[Mapping[str, Any]] = explained["layers"]
    folded = [(layer, len(list(alike))) for layer, alike in groupby(layers)]
    earlier: list[Mapping[str, Any]] = [{}, *(layer for layer, _ in folded)]
    print()
    print_table(
        ["layer", "tile", "bytes", "bound", "estimate", "cycles", "runner-up", "its estimate"],
        [_cells(layer, number, before) for (layer, number), before in zip(folded, earlier, strict=False)],
        title=_TITLE,
        numbers=[2, 4, 5, 7],
        drop=[7, 6, 2, 4, 3],
    )


def _cells(layer: Mapping[str, Any], number: int, earlier: Mapping[str, Any]) -> list[str]:
    """Returns the row of `number` equal layers; the first layer of a module shows the run's cycles of the module."""
    other = dict(layer["runner_up"])
    cycles = other.pop("cycles", None)
    return [
        layer["path"] if number == 1 else f"{layer['path']} ({number} layers alike)",
        _tile(layer["tile"]),
        size(layer["chip_bytes"]),
        layer["bound"],
        count(layer["cycles"]),
        "″" if layer["path"] == earlier.get("path") else count(layer["run_cycles"]),
        _tile(other) if other else "-",
        "-" if cycles is None else count(cycles),
    ]


def _tile(tile: Mapping[str, Any]) -> str:
    """Returns ``128×64×768 columns``."""
    sizes = "×".join(str(value) for value in tile.values() if isinstance(value, int))
    return " ".join([sizes, *(value for value in tile.values() if isinstance(value, str))])
