"""Rotary position embeddings of rows."""

from collections.abc import Iterable

from sta.spec.instructions.access import DTYPES, Access, parameter_block, read, write
from sta.spec.instructions.cycles import one_pass_cycles
from sta.spec.instructions.definition import (
    Execute,
    Field,
    InstructionDefinition,
    Operands,
    Scalars,
    Settings,
    register,
    size,
    tile_size,
)
from sta.spec.parameters import RotateParameters
from sta.spec.rotation import PAIRINGS, rotate_rows
from sta.spec.target import Target
from sta.spec.vector import RowStatistics


def _accesses(settings: Settings) -> Iterable[Access]:
    rows, columns = settings["rows"], settings["columns"]
    yield read("source", "spad", DTYPES[settings.choice("source_type")], rows, columns, "source_stride")
    yield read("cosines", "spad", DTYPES["s16"], rows, columns, "cosines_stride")
    yield read("sines", "spad", DTYPES["s16"], rows, columns, "sines_stride")
    yield parameter_block(RotateParameters.size())
    yield write("destination", "spad", DTYPES[settings.choice("destination_type")], rows, columns, "destination_stride")


def _rotates_pairs(settings: Settings, _: Target) -> bool:
    """'width' must be even and must not exceed 'columns'."""
    return settings["width"] % 2 == 0 and settings["width"] <= settings["columns"]


def _semantics(settings: Settings) -> Execute:
    pairing, width = settings.choice("pairing"), settings["width"]

    def execute(operands: Operands, scalars: Scalars, statistics: RowStatistics) -> None:
        block, destination = RotateParameters.from_bytes(operands["parameters"]), operands["destination"]
        tables = operands["cosines"], operands["sines"]
        scale = block.multiplier, block.shift
        destination[...] = rotate_rows(operands["source"], *tables, pairing, width, scale, destination.dtype)

    return execute


DEFINITION = InstructionDefinition(
    "rotate",
    43,
    "vp",
    "Rotary position embeddings: pairs of columns of each row, rotated by angles.",
    (
        register("source", "address of the source in spad"),
        register("destination", "address of the result in spad"),
        register("cosines", "address of the int16 cosines in spad"),
        register("sines", "address of the int16 sines in spad, those of the first columns of pairs negated"),
        register("parameters", "address of the rotate parameter block in wbuf"),
        register("source_stride", "bytes from one row of the source to the next", optional=True),
        register("destination_stride", "bytes from one row of the result to the next", optional=True),
        register("cosines_stride", "bytes from one row of cosines to the next; 0: all rows share one", optional=True),
        register("sines_stride", "bytes from one row of sines to the next; 0: all rows share one", optional=True),
        tile_size("rows", "number of rows"),
        size("columns", 13, "number of columns"),
        Field("width", 13, "unsigned", "number of columns that are rotated, from the first on", lowest=2),
        Field("source_type", 1, "choice", "element type of the source", choices=("s8", "s16")),
        Field("destination_type", 1, "choice", "element type of the result", choices=("s8", "s16")),
        Field(
            "pairing",
            1,
            "choice",
            "`half`: columns c and c + width/2 are a pair; `interleaved`: 2 * c and 2 * c + 1",
            choices=PAIRINGS,
            default=0,
        ),
    ),
    details=(
        "Defined by `sta.spec.rotation.rotate_rows`. Parameter block: `sta.spec.parameters.RotateParameters`. An "
        "element is multiplied by its cosine, its partner by its sine. Columns that are not rotated are their own "
        "partners, with a sine of 0. Each lane has two multipliers of 16 bits. Cycles: ceil(rows * columns / "
        "`vector_lanes`)."
    ),
    accesses=_accesses,
    rules=(_rotates_pairs,),
    semantics=_semantics,
    cycles=one_pass_cycles,
)
