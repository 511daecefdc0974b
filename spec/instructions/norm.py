"""LayerNorm and RMSNorm of rows."""

from collections.abc import Iterable
from functools import lru_cache

from sta.spec.cost import vector_cycles
from sta.spec.instructions.access import DTYPES, Access, parameter_block, read, write
from sta.spec.instructions.definition import (
    Execute,
    Field,
    InstructionDefinition,
    Operands,
    Scalars,
    Settings,
    flag,
    register,
    size,
    tile_size,
)
from sta.spec.instructions.row_statistics import fits_row_statistics
from sta.spec.norm import KINDS, LARGEST_WIDTH
from sta.spec.parameters import NormParameters
from sta.spec.target import Target
from sta.spec.vector import RowStatistics, norm_tile

_PASSES = 2
"""Passes over the rows: statistics, then the result."""


def _accesses(settings: Settings) -> Iterable[Access]:
    rows, columns = settings["rows"], settings["columns"]
    yield read("source", "spad", DTYPES["s16"], rows, columns, "source_stride")
    yield parameter_block(NormParameters.size(columns))
    if settings["outputs"] & 1:
        yield write("destination", "spad", DTYPES["s16"], rows, columns, "destination_stride")
    if settings["outputs"] & 2:
        yield write("copy", "spad", DTYPES["s8"], rows, columns, "copy_stride")


def _fits_norm(settings: Settings, _: Target) -> bool:
    return settings["columns"] <= LARGEST_WIDTH


_fits_norm.__doc__ = f"'columns' must not exceed {LARGEST_WIDTH}, the longest row that can be normalized."


def _semantics(settings: Settings) -> Execute:
    kind, rows, columns = settings.choice("kind"), settings["rows"], settings["columns"]
    takes_statistics = bool(settings["statistics"])

    def execute(operands: Operands, scalars: Scalars, statistics: RowStatistics) -> None:
        block = _parameters(operands["parameters"].tobytes(), columns)
        known = statistics.take(rows) if takes_statistics else None
        stream, narrow = norm_tile(operands["source"], block, kind, known)
        destination, copy = operands.get("destination"), operands.get("copy")
        if destination is not None:
            destination[...] = stream
        if copy is not None:
            copy[...] = narrow

    return execute


@lru_cache(maxsize=64)
def _parameters(block: bytes, columns: int) -> NormParameters:
    return NormParameters.from_bytes(block, columns)


def _cycles(settings: Settings, target: Target, _timed: int) -> int:
    return vector_cycles(target, settings["rows"], settings["columns"], _PASSES - settings["statistics"])


DEFINITION = InstructionDefinition(
    "norm",
    41,
    "vp",
    "LayerNorm or RMSNorm of int16 rows, to an int16 stream and an int8 copy of it.",
    (
        register("source", "address of the int16 source in spad"),
        register("destination", "address of the int16 result in spad", optional=True),
        register("copy", "address of the int8 copy in spad", optional=True),
        register("parameters", "address of the norm parameter block in wbuf"),
        register("source_stride", "bytes from one row of the source to the next", optional=True),
        register("destination_stride", "bytes from one row of the result to the next", optional=True),
        register("copy_stride", "bytes from one row of the copy to the next", optional=True),
        tile_size("rows", "number of rows"),
        size("columns", 14, "number of columns"),
        Field("kind", 1, "choice", "which normalization", choices=KINDS, default=0),
        Field(
            "outputs",
            2,
            "choice",
            "what is written: bit 0 the int16 result, bit 1 the int8 copy",
            choices=("none", "destination", "copy", "both"),
            lowest=1,
        ),
        flag("statistics", "take the rows' sums from the unit's row statistics, which saves a pass and clears them"),
    ),
    details=(
        "Defined by `sta.spec.vector.norm_tile`. Two passes, or one with `statistics`: the maps that wrote the rows "
        "have then added their sums and sums of squares to the unit's row statistics "
        "(`sta.spec.vector.RowStatistics`), which the norm takes and clears. "
        f"Parameter block: `sta.spec.parameters.NormParameters`. At most {LARGEST_WIDTH} columns. "
        "The int16 result is written before the copy. Cycles: 2 * ceil(rows * columns / `vector_lanes`)."
    ),
    accesses=_accesses,
    rules=(_fits_norm, fits_row_statistics),
    semantics=_semantics,
    cycles=_cycles,
)
