"""The cost of a run and its memory, as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sta.api.cli.tables import count, duration, percent, size


def cost_rows(facts: Mapping[str, Any]) -> list[list[str]]:
    """
    Returns names and figures for the `cycles`, `seconds`, `mac_efficiency`, `macs`, `dense_macs` and `dram_bytes` of
    `facts`.

    Multiplications with zeros that the machine skips are not useful: where there are some, the rows say so.
    """
    useful = "useful MACs, without zeros" if facts["macs"] < facts["dense_macs"] else "useful MACs"
    return [
        ["cycles", count(facts["cycles"])],
        ["time", duration(facts["seconds"])],
        ["MAC efficiency", percent(facts["mac_efficiency"])],
        [useful, count(facts["macs"])],
        ["dense-equivalent MACs", count(facts["dense_macs"])],
        ["DRAM traffic", size(facts["dram_bytes"])],
    ]


def memory_rows(taken: Mapping[str, int], sram_bytes: int) -> list[list[str]]:
    """Returns the bytes of every memory; the three on the chip share one."""
    on_chip = {space: taken[space] for space in taken if space != "dram"}
    return [
        ["memory on chip", f"{size(sum(on_chip.values()))} of {size(sram_bytes)}"],
        *([f"  {space}", size(bytes_)] for space, bytes_ in on_chip.items()),
        ["memory dram", size(taken["dram"])],
    ]
