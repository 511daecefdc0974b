"""The flag `statistics`, with which instructions of the vector unit use its row statistics, and the rule for it."""

from sta.spec.instructions.definition import Settings
from sta.spec.target import Target


def fits_row_statistics(settings: Settings, target: Target) -> bool:
    """Row statistics are of as many rows as the target's tiles have."""
    return not settings["statistics"] or settings["rows"] <= target.tile_rows
