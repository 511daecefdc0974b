"""Rotary position embeddings: pairs of columns of a row, rotated by angles (Su et al. 2021)."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sta.spec.integers import STREAM_LIMIT, Int64Array, IntegerArray, apply_scale_32, as_int64, saturate

HALF = "half"
PAIRINGS: tuple[str, ...] = (HALF, "interleaved")
"""Pairs of the first columns: each with the one half of them further, or each with its neighbour."""


def partners(columns: int, width: int, pairing: str) -> Int64Array:
    """
    Returns the column that each of `columns` is paired with: int64 ``[columns]``.

    Of the first `width` columns c is paired with ``c + width/2`` and back (`half`, as in GPT-NeoX and Llama), or with
    ``c ^ 1`` (`interleaved`, as in RoFormer and GPT-J). The other columns have themselves.

    Raises `ValueError` for a width that is odd, below 2 or above the number of columns, and for another pairing.
    """
    if pairing not in PAIRINGS:
        raise ValueError(f"pairing '{pairing}' is none of {', '.join(PAIRINGS)}")
    if width % 2 or not 2 <= width <= columns:
        raise ValueError(f"an even number of columns is rotated, from 2 to all {columns}, not {width}")
    paired = np.arange(columns, dtype=np.int64)
    rotated = paired[:width]
    paired[:width] = (rotated + width // 2) % width if pairing == HALF else rotated ^ 1
    return paired


def rotate_rows(
    x: IntegerArray,
    cosines: npt.NDArray[np.int16],
    sines: npt.NDArray[np.int16],
    pairing: str,
    width: int,
    scale: tuple[int, int],
    dtype: npt.DTypeLike,
) -> npt.NDArray[Any]:
    """
    Returns ``saturate(apply_scale_32(saturate32(x[c] * cosine[c] + x[p(c)] * sine[c]), *scale))`` with the `partners` p
    of the columns c: rows of the dtype, int8 or int16, and of the shape of `x`.

    `x` is int8 or int16 ``[..., columns]``, `cosines` and `sines` broadcast to it; the sign of a rotation is in the
    sines (`rotation_tables`). The sum of two products fits int32 but for one case, in which all four are -32768. The
    result is exact but for one rounding, half a unit, and the encoding of the scale (a part in 2^31).

    Raises `ValueError` for a multiplier or a shift out of range and like `partners`.
    """
    values = as_int64(x)
    paired = partners(x.shape[-1], width, pairing)
    sums = values * cosines + values[..., paired] * sines
    return saturate(apply_scale_32(saturate(sums, np.int32), *scale), dtype)


def rotation_tables(
    cosines: npt.NDArray[np.float64], sines: npt.NDArray[np.float64], pairing: str, columns: int
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16], float]:
    """
    Returns the tables of `rotate_rows` for a rotation of the first columns, int16 ``[..., columns]`` each, and the real
    number that one unit of both stands for.

    `cosines` and `sines` are float64 ``[..., width]`` as models hold them: ``y = x * cosine + turned(x) * sine`` with
    the second column of a pair, negated, and then the first one in `turned`. They may be scaled, as those of YaRN are.
    Each entry is off by at most half a unit, and so a result by half a unit times the sum of its pair's magnitudes.

    Raises `ValueError` like `partners`.
    """
    width = int(cosines.shape[-1])
    own = np.arange(width, dtype=np.int64)
    signs = np.sign(own - partners(columns, width, pairing)[:width])
    largest = max(1.0, *(float(np.abs(table).max()) for table in (cosines, sines)))
    unit = largest / STREAM_LIMIT
    padding = [(0, 0)] * (cosines.ndim - 1) + [(0, columns - width)]
    tables = (np.pad(cosines, padding, constant_values=1.0), np.pad(sines * signs, padding))
    whole, turned = (np.rint(table / unit).astype(np.int16) for table in tables)
    return whole, turned, unit
