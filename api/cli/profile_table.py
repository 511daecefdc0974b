"""The profile of a run as tables."""

from __future__ import annotations

from sta.api.cli.tables import count, percent, print_table, size
from sta.runtime.analysis.profile import Profile, ProfileRow
from sta.spec.instructions.definition import UNITS
from sta.spec.instructions.table import PRODUCT_UNIT

_UNITS = (PRODUCT_UNIT, *(unit for unit in UNITS if unit != PRODUCT_UNIT))
"""Units, the array first."""
_TITLE = (
    "profile (units: per cent of the module's cycles in which they work; dense: GMAC/s as if no weight were pruned)"
)


def print_profile(profile: Profile) -> None:
    """Prints one table of modules, the sum of them last, and one of the traffic between DRAM and the chip."""
    units = " ".join(f"{unit:>3}" for unit in _UNITS)
    print()
    print_table(
        ["module", "cycles", "share", "waits for", "MAC eff.", units, "dense", "DRAM", "MAC/byte", "bound"],
        [*(_cells(row.module_path or "-", row) for row in profile.rows), _cells("all", profile.total)],
        title=_TITLE,
        numbers=[1, 2, 4, 6, 7, 8],
        drop=[5, 6, 8, 3, 7, 4, 9],
    )
    print()
    print_table(
        ["DRAM traffic", "bytes", "share"],
        [
            [kind, size(moved), percent(moved / max(profile.total.dram_bytes, 1))]
            for kind, moved in profile.total.dram.items()
        ],
        numbers=[1, 2],
    )


def _cells(name: str, row: ProfileRow) -> list[str]:
    """Returns the cells of a module; rates only for modules with products."""
    busy = " ".join(f"{100 * row.utilisation[unit]:3.0f}" for unit in _UNITS)
    return [
        name,
        count(row.cycles),
        percent(row.share),
        _waits(row),
        percent(row.mac_efficiency) if row.macs else "",
        busy if row.cycles else "",
        f"{row.dense_equivalent_rate / 1e9:,.1f}" if row.macs else "",
        size(row.dram_bytes),
        f"{row.intensity:,.1f}" if row.macs and row.intensity is not None else "",
        row.bound,
    ]


def _waits(row: ProfileRow) -> str:
    """Returns the longest wait of the product unit, with the cycles; empty if it never waits."""
    cause = max(row.idle, key=lambda cause: row.idle[cause])
    return f"{cause} {count(row.idle[cause])}" if row.idle[cause] else ""
