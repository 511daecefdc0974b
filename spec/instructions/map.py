"""Arithmetic element by element."""

from collections.abc import Iterable
from functools import lru_cache

from sta.spec.instructions.access import DTYPES, WORD, Access, parameter_block, read, write
from sta.spec.instructions.cycles import one_pass_cycles
from sta.spec.instructions.definition import (
    Execute,
    Field,
    InstructionDefinition,
    Operands,
    Scalars,
    Settings,
    Taint,
    flag,
    register,
    size,
    tile_size,
)
from sta.spec.instructions.row_statistics import fits_row_statistics
from sta.spec.parameters import MapParameters
from sta.spec.tables import TABLE_ENTRIES
from sta.spec.target import Target
from sta.spec.vector import COMBINATIONS, RowStatistics, map_tile


def _channels(settings: Settings) -> int:
    """Returns the number of biases, multipliers and shifts."""
    return settings["columns"] if settings["per_channel"] else 1


def _accesses(settings: Settings) -> Iterable[Access]:
    rows, columns = settings["rows"], settings["columns"]
    source_type, residual_type = settings.choice("source_type"), settings.choice("residual_type")
    source_space = "acc" if source_type.startswith("acc") else "spad"
    source_columns = 2 * columns if source_type == "acc_wide" else columns
    yield read("source", source_space, DTYPES[source_type], rows, source_columns, "source_stride")
    yield parameter_block(MapParameters.size(_channels(settings)))
    if settings["has_table"]:
        yield read("table", "wbuf", DTYPES["s16"], 1, TABLE_ENTRIES)
    if residual_type != "none":
        residual_columns = 1 if settings["residual_column"] else columns
        yield read("residual", "spad", DTYPES[residual_type], rows, residual_columns, "residual_stride")
    if settings["normalize"]:
        yield Access("sums", "spad", False, "residual", WORD, 1, rows)
    yield write("destination", "spad", DTYPES[settings.choice("destination_type")], rows, columns, "destination_stride")


def _normalizes_without_residual(settings: Settings, _: Target) -> bool:
    """A map that normalizes must not have a residual."""
    return not (settings["normalize"] and settings["residual_type"])


def _normalizes_by_scalars(settings: Settings, _: Target) -> bool:
    """A map that normalizes must have scalar parameters."""
    return not (settings["normalize"] and settings["per_channel"])


def _combines_with_a_residual(settings: Settings, _: Target) -> bool:
    """A map that does not add, or has a residual of one column, must have a residual."""
    return not (settings["combine"] or settings["residual_column"]) or settings.choice("residual_type") != "none"


def _adds_rows_of_s16(settings: Settings, _: Target) -> bool:
    """A map that adds to row statistics must write s16."""
    return not settings["statistics"] or settings.choice("destination_type") == "s16"


def _semantics(settings: Settings) -> Execute:
    channels = _channels(settings)
    wide, combine = settings.choice("source_type") == "acc_wide", settings.choice("combine")
    adds_statistics = _adds_statistics(settings)

    def execute(operands: Operands, scalars: Scalars, statistics: RowStatistics) -> None:
        destination, table, sums = operands["destination"], operands.get("table"), operands.get("sums")
        result = map_tile(
            operands["source"],
            _parameters(operands["parameters"].tobytes(), channels),
            destination.dtype,
            table=None if table is None else table.reshape(-1),
            residual=operands.get("residual"),
            sums=None if sums is None else sums.reshape(-1),
            wide=wide,
            combine=combine,
        )
        destination[...] = result
        if adds_statistics:
            statistics.add(result)

    return execute


@lru_cache(maxsize=256)
def _parameters(block: bytes, channels: int) -> MapParameters:
    return MapParameters.from_bytes(block, channels)


def _adds_statistics(settings: Settings) -> bool:
    return bool(settings["statistics"])


def _taint(settings: Settings) -> Taint:
    return Taint(clears=bool(settings["normalize"]))


DEFINITION = InstructionDefinition(
    "map",
    40,
    "vp",
    "Element by element: bias, requantization or normalization by the sums of a softmax, table, combination with a "
    "residual, zero point, saturation.",
    (
        register("source", "address of the source, in acc for `acc` and `acc_wide`, in spad otherwise"),
        register("destination", "address of the result in spad"),
        register("parameters", "address of the map parameter block in wbuf"),
        register("residual", "address in spad of the residual, or with `normalize` of int32 sums[rows]", optional=True),
        register("table", "address of the int16[513] table in wbuf", optional=True),
        register("source_stride", "bytes from one row of the source to the next", optional=True),
        register("destination_stride", "bytes from one row of the result to the next", optional=True),
        register("residual_stride", "bytes from one row of the residual to the next", optional=True),
        tile_size("rows", "number of rows"),
        size("columns", 13, "number of columns"),
        Field(
            "source_type",
            3,
            "choice",
            "element type of the source; `acc_wide`: a row has `columns` high accumulators and then `columns` low ones",
            choices=("acc", "s32", "s16", "s8", "u8", "acc_wide"),
        ),
        Field("destination_type", 2, "choice", "element type of the result", choices=("s8", "u8", "s16", "s32")),
        Field(
            "residual_type",
            2,
            "choice",
            "element type of the residual",
            choices=("none", "s8", "s16", "s32"),
            default=0,
        ),
        flag("has_table", "apply the table"),
        flag("per_channel", "bias, multiplier and shift come one a column, not one for all"),
        flag("normalize", "divide each row by its sum, as the drain of the product after a softmax does"),
        flag("statistics", "add each row of an s16 result to the unit's row statistics, from which a `norm` may start"),
        Field(
            "combine",
            3,
            "choice",
            "what to do with the residual; `subtract` takes it from the value, `subtract_from` the value from it",
            choices=COMBINATIONS,
            default=0,
        ),
        flag("residual_column", "the residual has one element a row, for all columns"),
    ),
    details=(
        "Defined by `sta.spec.vector.map_tile`. Parameter block: `sta.spec.parameters.MapParameters`, with one entry "
        "or, with `per_channel`, one for each column. With `normalize` there is no residual, the register `residual` "
        "addresses the sums, and the parameters are scalar. To combine otherwise than by `add` there is a residual. A "
        "source plus bias outside int32 stops the run; that of `acc_wide`, 256 * high + low, cannot be too large. "
        "Cycles: ceil(rows * columns / `vector_lanes`)."
    ),
    accesses=_accesses,
    rules=(
        _normalizes_without_residual,
        _normalizes_by_scalars,
        _combines_with_a_residual,
        _adds_rows_of_s16,
        fits_row_statistics,
    ),
    semantics=_semantics,
    cycles=one_pass_cycles,
    taint=_taint,
    adds_statistics=_adds_statistics,
)
