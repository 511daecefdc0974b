"""Matrix products of a tile."""

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sta.spec.cost import product_cycles
from sta.spec.instructions.access import BYTE, DTYPES, WORD, Access, read
from sta.spec.instructions.definition import (
    Array,
    Execute,
    Field,
    InstructionDefinition,
    Operands,
    Products,
    Scalars,
    Settings,
    Taint,
    flag,
    register,
    size,
    tile_size,
)
from sta.spec.integers import check_int32, matrix_product
from sta.spec.nm_format import ENCODINGS, packed_size, unpack
from sta.spec.pattern import Pattern
from sta.spec.target import Target
from sta.spec.vector import RowStatistics


def _pattern(settings: Settings) -> Pattern:
    return Pattern(settings["n"], settings["m"])


def _accesses(settings: Settings) -> Iterable[Access]:
    rows, columns, depth = settings["rows"], settings["columns"], settings["depth"]
    pitch = 2 if settings["a_wide"] else 0
    yield Access("a", "spad", False, "a", DTYPES[settings.choice("a_type")], rows, depth, "a_stride", pitch=pitch)
    if settings.choice("b_space") == "wbuf":
        size = packed_size(columns, depth, _pattern(settings), settings.choice("encoding"))
        yield read("b", "wbuf", BYTE, 1, size)
    elif settings["b_transposed"]:
        yield read("b", "spad", DTYPES["s8"], depth, columns, "b_stride")
    else:
        yield read("b", "spad", DTYPES["s8"], columns, depth, "b_stride")
    yield Access("acc", "acc", True, "acc", WORD, rows, columns, "acc_stride", updates=bool(settings["accumulate"]))


def _fits_tile_rows(settings: Settings, target: Target) -> bool:
    """'rows' must not exceed the target's tile_rows."""
    return settings["rows"] <= target.tile_rows


def _fits_tile_columns(settings: Settings, target: Target) -> bool:
    """'columns' must not exceed the target's tile_columns."""
    return settings["columns"] <= target.tile_columns


def _matrix_is_dense(settings: Settings, _: Target) -> bool:
    """A b in spad is a dense matrix: n and m must be 1, the encoding dense."""
    pattern = (settings["n"], settings["m"], settings["encoding"])
    return settings.choice("b_space") != "spad" or pattern == (1, 1, 0)


def _packed_is_not_transposed(settings: Settings, _: Target) -> bool:
    """A packed b in wbuf must not be transposed."""
    return settings.choice("b_space") == "spad" or not settings["b_transposed"]


def _semantics(settings: Settings) -> Execute:
    weights, accumulate = _weights(settings), bool(settings["accumulate"])

    def execute(operands: Operands, scalars: Scalars, statistics: RowStatistics) -> None:
        acc, activations = operands["acc"], operands["a"]
        result = matrix_product(activations, weights(operands["b"]), check=not accumulate)
        if accumulate:
            result += acc
            check_int32(result, "an accumulated sum of products is out of range:")
        acc[...] = result

    return execute


def _weights(settings: Settings) -> Callable[[Array], Array]:
    """Returns the function that converts the second operand to an int8 array ``[columns, depth]``."""
    if settings.choice("b_space") == "spad":
        return np.transpose if settings["b_transposed"] else np.asarray
    rows, depth = settings["columns"], settings["depth"]
    encoding, pattern = settings.choice("encoding"), _pattern(settings)
    if pattern.is_dense:
        return lambda block: block.view(np.int8).reshape(rows, depth)
    return lambda block: _unpacked(block.tobytes(), rows, depth, pattern, encoding)


@lru_cache(maxsize=32)
def _unpacked(block: bytes, rows: int, depth: int, pattern: Pattern, encoding: str) -> npt.NDArray[np.int8]:
    """Returns unpacked weights; a block is used by several row tiles in succession."""
    return unpack(np.frombuffer(block, np.uint8), rows, depth, pattern, encoding)


def _cycles(settings: Settings, target: Target, _timed: int) -> int:
    return product_cycles(target, settings["rows"], settings["columns"], settings["depth"], _pattern(settings))


def _latency(target: Target) -> int:
    return target.drain_latency


def _taint(settings: Settings) -> Taint:
    return Taint(sets=bool(settings["scores"]))


def _products(settings: Settings) -> Products:
    return Products(settings["rows"] * settings["columns"] * settings["depth"], _pattern(settings))


DEFINITION = InstructionDefinition(
    "mm",
    24,
    "mm",
    "Matrix product of a tile: acc[i, j] (int32) = sum over k of a[i, k] * b[j, k], or += with `accumulate`. A result "
    "outside int32 stops the run.",
    (
        register("acc", "address of the int32 result in acc"),
        register("a", "address of the activations in spad, one byte an element, a row's elements next to each other"),
        register("b", "address of the second operand in the space that `b_space` names"),
        register("acc_stride", "bytes from one row of the result to the next", optional=True),
        register("a_stride", "bytes from one row of the activations to the next", optional=True),
        register("b_stride", "bytes from one row of b to the next; r0 where b is a packed block", optional=True),
        tile_size("rows", "rows of the result"),
        tile_size("columns", "columns of the result"),
        size("depth", 14, "length of the sum (k)"),
        Field("n", 5, "unsigned", "N of the N:M pattern of b", bias=1, default=1),
        Field("m", 5, "unsigned", "M of the N:M pattern of b; M = N is dense", bias=1, default=1),
        Field("encoding", 2, "choice", "how a packed b is stored", choices=ENCODINGS, default=0),
        Field(
            "b_space",
            1,
            "choice",
            "wbuf: b is a packed block of int8 weights; spad: b is a dense int8 matrix",
            choices=("wbuf", "spad"),
            default=0,
        ),
        flag("b_transposed", "b in spad only: element (j, k) lies at b + k*b_stride + j, not at b + j*b_stride + k"),
        flag("accumulate", "add to the accumulators instead of overwriting them"),
        Field("a_type", 2, "choice", "element type of the activations", choices=("s8", "u8"), default=0),
        flag("scores", "the result is attention scores: it must not leave the chip"),
        flag("a_wide", "the activations are one byte plane of 16-bit data: their elements lie two bytes apart"),
    ),
    details=(
        "Cycles: ceil(rows / R) * ceil(columns / C) * steps. A dense step takes L values of k: steps = ceil(depth / "
        "L). A sparse step takes L kept weights, and at most `window` activations: steps = max(ceil(kept / L), "
        "ceil(depth / `window`)). rows and columns are at most the target's `tile_rows` and `tile_columns`. A packed "
        "block is `columns` rows of `depth` weights as `sta.spec.nm_format.pack` writes it, its encoding `dense` "
        "exactly when M = N; malformed metadata stops the run. With `a_wide` element k lies at a + i*a_stride + 2*k: "
        "the low byte plane of 16-bit activations (`u8`), or one byte later the high one (`s8` or `u8`). The product "
        "with 16-bit activations (`sta.spec.wide_product.wide_product`) is two such passes, each into accumulators of "
        "its own, which `map` combines."
    ),
    accesses=_accesses,
    rules=(_fits_tile_rows, _fits_tile_columns, _matrix_is_dense, _packed_is_not_transposed),
    semantics=_semantics,
    cycles=_cycles,
    latency=_latency,
    taint=_taint,
    products=_products,
)
