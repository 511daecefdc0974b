"""The vector unit's two operations on a tile: the map pipeline and the normalization."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sta.spec.integers import Int64Array, IntegerArray, apply_scale_32, as_int64, check_int32, saturate
from sta.spec.norm import layer_norm, row_statistics
from sta.spec.parameters import MapParameters, NormParameters
from sta.spec.softmax import normalize
from sta.spec.tables import table_16
from sta.spec.wide_product import wide_accumulators

ADD, MULTIPLY = "add", "multiply"
COMBINATIONS: tuple[str, ...] = (ADD, MULTIPLY, "subtract", "subtract_from", "maximum", "minimum")
"""Combinations of a value with its residual in `map_tile`; `subtract_from` takes the value from the residual."""


def map_tile(
    source: IntegerArray,
    parameters: MapParameters,
    destination_dtype: npt.DTypeLike,
    *,
    table: npt.NDArray[np.int16] | None = None,
    residual: IntegerArray | None = None,
    sums: IntegerArray | None = None,
    wide: bool = False,
    combine: str = ADD,
) -> npt.NDArray[Any]:
    """
    Takes a tile ``[m, n]`` of integers through the vector unit's pipeline to the destination dtype.

    In order: add the bias; rescale, or with `sums` ``[m]`` normalize (see `sta.spec.softmax.normalize`); with a
    `table` (int16[513]) saturate to int16, look up and rescale; with a `residual`, ``[m, n]`` or ``[m, 1]`` for
    all columns of a row, `combine` the value with it: after its own bias and scale (`combined`), or as factors of
    16 bits (`multiply`, `gated_product`); add the output zero point; saturate to int8, uint8, int16 or int32. Each
    step is on int64; the source plus bias fits int32, each rescaled term is then below 2^32, so that their sum is
    far inside int64. A `wide` source ``[m, 2n]`` is that of a product with 16-bit activations: each row has n sums
    over the high bytes and then n over the low ones, and stands for ``256 * high + low``, which is rescaled once;
    below 2^40, so that it is exact too.

    Every step but rescaling and the table is exact, so that the result of a combination with a residual is within
    1 of the exact one: half a unit for each of the two rescaled terms. Rescaling is TOSA's, SINGLE_ROUND; for the
    table see `sta.spec.tables.table_16`.

    Raises `OverflowError` if the source plus bias leaves int32 (unless it is wide), `ValueError` for parameters that
    are neither scalar nor one for each column, sums with parameters that are not scalar, a combination that is not in
    `COMBINATIONS` or has no residual, or shapes that do not match.
    """
    if combine not in COMBINATIONS:
        raise ValueError(f"combination '{combine}' is none of {', '.join(COMBINATIONS)}")
    if combine != ADD and residual is None:
        raise ValueError(f"a map that combines by '{combine}' has a residual")
    values = wide_accumulators(source) if wide else as_int64(source)
    _check_map(values, parameters, residual, sums)
    values = values + parameters.bias
    if not wide:
        check_int32(values, "the source of a map plus its bias is out of range:")
    if sums is None:
        result = apply_scale_32(values, parameters.multiplier, parameters.shift)
    else:
        result = normalize(values, sums, int(parameters.multiplier[0]), int(parameters.shift[0]))
    if table is not None:
        looked_up = table_16(saturate(result, np.int16), table)
        result = apply_scale_32(looked_up, parameters.table_multiplier, parameters.table_shift)
    if residual is not None:
        result = _with_residual(result, residual, parameters, combine)
    return saturate(result + parameters.output_zero_point, destination_dtype)


def _with_residual(values: Int64Array, residual: IntegerArray, parameters: MapParameters, combine: str) -> Int64Array:
    """Returns the combination of values and residual in units of the output."""
    scale = parameters.residual_multiplier, parameters.residual_shift
    if combine == MULTIPLY:
        return gated_product(values, residual, parameters.residual_bias, *scale)
    return combined(values, apply_scale_32(as_int64(residual) + parameters.residual_bias, *scale), combine)


def _reversed_difference(a: Int64Array, b: Int64Array) -> Int64Array:
    return b - a


_OF_TWO_VALUES: Mapping[str, Callable[[Int64Array, Int64Array], Int64Array]] = {
    ADD: np.add,
    "subtract": np.subtract,
    "subtract_from": _reversed_difference,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def combined(a: IntegerArray, b: IntegerArray, combine: str) -> Int64Array:
    """
    Returns `a` and `b`, integers in one unit and of shapes that broadcast, combined by any of `COMBINATIONS` but
    ``multiply``: int64, exact for int32.

    Raises `KeyError` for another combination.
    """
    return _OF_TWO_VALUES[combine](as_int64(a), as_int64(b))


def gated_product(a: IntegerArray, b: IntegerArray, bias: int, multiplier: int, shift: int) -> Int64Array:
    """
    Returns ``apply_scale_32(saturate16(a) * saturate16(b + bias), multiplier, shift)``, int64: the gating product of a
    GLU, ``activation(gate(x)) * up(x)`` (Dauphin et al. 2016; Shazeer 2020).

    `a` and `b` are integers of shapes that broadcast; saturated to 16 bits, so that their product fits int32. The
    result is exact but for one rounding, half a unit of the output, and the encoding of the scale (a part in 2^31).

    Raises `ValueError` for a multiplier or shift out of range.
    """
    other = saturate(as_int64(b) + bias, np.int16).astype(np.int64)
    return apply_scale_32(saturate(a, np.int16) * other, multiplier, shift)


def _check_map(
    source: IntegerArray, parameters: MapParameters, residual: IntegerArray | None, sums: IntegerArray | None
) -> None:
    """Raises `ValueError` unless the arguments of `map_tile` match."""
    if source.ndim != 2:
        raise ValueError(f"a tile has two dimensions, got shape {source.shape}")
    if parameters.columns not in (1, source.shape[1]):
        raise ValueError(f"{parameters.columns} parameters for {source.shape[1]} columns")
    if residual is not None and residual.shape not in (source.shape, (len(source), 1)):
        raise ValueError(f"a residual of shape {residual.shape} for a tile of shape {source.shape}")
    if sums is None:
        return
    if sums.shape != source.shape[:1]:
        raise ValueError(f"sums of shape {sums.shape} for a tile of shape {source.shape}")
    if parameters.columns != 1:
        raise ValueError("a map that normalizes has scalar parameters")


def norm_tile(
    source: npt.NDArray[np.int16],
    parameters: NormParameters,
    kind: str,
    statistics: tuple[Int64Array, Int64Array] | None = None,
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int8]]:
    """
    Normalizes a tile of int16 rows ``[m, n]``: the int16 result and its rescaled int8 copy, both ``[m, n]``.

    The copy is ``saturate(apply_scale_32(result, copy_multiplier, copy_shift) + copy_zero_point)``. `statistics` are
    the sums and sums of squares of the rows, int64 ``[m]``, where the unit has added them up. Raises `ValueError` like
    `sta.spec.norm.layer_norm`.
    """
    result = layer_norm(
        source, parameters.gamma, parameters.beta, parameters.epsilon, parameters.shift, kind, statistics
    )
    rescaled = apply_scale_32(result, parameters.copy_multiplier, parameters.copy_shift)
    return result, saturate(rescaled + parameters.copy_zero_point, np.int8)


class RowStatistics:
    """
    The vector unit's registers for the sum and the sum of squares of each row of a tile; zero when a program starts.

    Maps add the rows they write, tile of columns by tile of columns; the norm of these rows takes the sums, which
    leaves zero. Both do so with the flag `statistics`.
    """

    def __init__(self, rows: int) -> None:
        self._sums = np.zeros(rows, np.int64)
        self._squares = np.zeros(rows, np.int64)

    @staticmethod
    def of(sums: Int64Array, squares: Int64Array) -> "RowStatistics":
        """Returns registers that hold these sums and sums of squares, int64 ``[rows]`` each."""
        statistics = RowStatistics(len(sums))
        statistics.restore(sums, squares)
        return statistics

    def restore(self, sums: Int64Array, squares: Int64Array) -> None:
        """Holds these sums and sums of squares, int64 ``[rows]`` each, as `values` gave them before."""
        self._sums[:] = sums
        self._squares[:] = squares

    @property
    def values(self) -> tuple[Int64Array, Int64Array]:
        """Copies of the sums and the sums of squares, int64 ``[rows]`` each."""
        return self._sums.copy(), self._squares.copy()

    def clear(self) -> None:
        """Sets all registers to zero."""
        self._sums[:] = 0
        self._squares[:] = 0

    def add(self, tile: npt.NDArray[np.int16]) -> None:
        """Adds the rows of an int16 tile ``[m, n]`` to the first m registers."""
        sums, squares = row_statistics(tile)
        self._sums[: len(tile)] += sums
        self._squares[: len(tile)] += squares

    def replace(self, before: npt.NDArray[np.int16], after: npt.NDArray[np.int16]) -> None:
        """Holds what would have been added of the tile `after` instead of the tile `before`, int16 ``[m, n]``."""
        for registers, old, new in zip(
            (self._sums, self._squares), row_statistics(before), row_statistics(after), strict=True
        ):
            registers[: len(before)] += new - old

    def take(self, rows: int) -> tuple[Int64Array, Int64Array]:
        """Returns the sums and sums of squares of the first `rows` rows, int64 ``[rows]``, and clears them."""
        taken = self._sums[:rows].copy(), self._squares[:rows].copy()
        self._sums[:rows] = 0
        self._squares[:rows] = 0
        return taken
