"""
Error of attention against float64: ours, with 8- and 16-bit exponentials, whole rows and chunks, and ITA's.

All get the same scores and 8-bit values. The product with the values is compared before it is rounded to an output
format: after that rounding, an exact softmax and one that is off by a quarter look alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.passes.quantization.probability_bits import LEAST_FIDELITY
from sta.spec.integers import encode_scale, matrix_product
from sta.spec.softmax import RowState, normalize, shift_rows, softmax_online, softmax_row
from sta.spec.wide_product import wide_accumulators

Array = NDArray[Any]
Float64Array = NDArray[np.float64]

LENGTHS = (16, 64, 128, 512, 2048, 8192)
DEVIATIONS = (0.5, 1.0, 2.0, 4.0)
"""Standard deviations of normally distributed logits."""
PEAKS = (4.0, 6.0, 6.5, 8.0, 10.0)
"""Differences between one logit and the others, which are equal."""
BITS = (8, 16)
MODES = ("row", "online")
CHUNK = 128
"""Keys in a chunk of an online softmax."""
SCORE_SCALE = 2.0**-12
"""The logit of one unit of a score: about that of a product of 64 int8 values."""

ROWS, COLUMNS = 256, 32
_OUTPUT_BITS = 16
_ITA_UNIT = math.log(2) / 32
"""The logit of a unit of ITA's 8-bit scores: a power of two is 32 of them."""


@dataclass(frozen=True)
class Error:
    """The error of attention, in units of the values' scale."""

    mean: float
    largest: float
    square: float
    """The mean of its square."""

    @staticmethod
    def of(result: Float64Array, exact: Float64Array) -> Error:
        """Returns the error of a result."""
        error = np.abs(result - exact)
        return Error(float(error.mean()), float(error.max()), float((error * error).mean()))


@dataclass(frozen=True)
class Case:
    """Attention over rows of logits of one kind and length."""

    length: int
    logits: str
    rms: float
    """The root of the mean square of the exact result, in units of the values' scale."""
    ours: dict[tuple[int, str], Error]
    """By bits of the exponentials and mode."""
    ita: Error
    ita_weight: float
    """Mean sum of ITA's weights of a row; ours add up to one."""

    @property
    def chosen_bits(self) -> int:
        """The bits that the compiler chooses: 8 unless their noise is above its limit."""
        noise = self.ours[8, "row"].square / self.rms**2
        return 16 if noise > 10 ** (-LEAST_FIDELITY / 10) else 8

    def closer(self, bits: int, mode: str) -> float:
        """Returns the factor by which our result is closer than ITA's, in the mean."""
        return self.ita.mean / self.ours[bits, mode].mean


def kinds_of_logits() -> list[str]:
    """Returns the names of all kinds of logits."""
    return [f"σ = {deviation:g}" for deviation in DEVIATIONS] + [f"one {peak:g} above" for peak in PEAKS]


def measure(length: int, kind: str, rows: int = ROWS) -> Case:
    """Measures one case; the same numbers every time."""
    generator = np.random.default_rng([length, kinds_of_logits().index(kind)])
    logits = _logits(generator, rows, length, kind)
    scores = np.rint(logits / SCORE_SCALE).astype(np.int32)
    rounded = scores.astype(np.float64) * SCORE_SCALE
    values = np.clip(np.rint(generator.normal(scale=40, size=(length, COLUMNS))), -127, 127).astype(np.int8)
    exact = _exact(rounded, values)
    ours = {(bits, mode): Error.of(attention(scores, values, bits, mode), exact) for bits in BITS for mode in MODES}
    weights = ita_weights(rounded)
    rms = float(np.sqrt((exact * exact).mean()))
    return Case(length, kind, rms, ours, Error.of(weights @ values, exact), float(weights.sum(axis=1).mean()))


def _logits(generator: np.random.Generator, rows: int, length: int, kind: str) -> Float64Array:
    number = float(kind.split()[-1] if kind.startswith("σ") else kind.split()[1])
    if kind.startswith("σ"):
        return generator.normal(scale=number, size=(rows, length))
    logits = np.zeros((rows, length))
    logits[np.arange(rows), generator.integers(0, length, rows)] = number
    return logits


def _exact(logits: Float64Array, values: Array) -> Float64Array:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights @ values / weights.sum(axis=1, keepdims=True)


def attention(scores: Array, values: Array, bits: int, mode: str) -> Float64Array:
    """
    Returns attention over int32 `scores` [m, n] and int8 `values` [n, d] by the specification: [m, d] in units of the
    values' scale, of which the drain keeps 16 fraction bits here.
    """
    scale = tuple(int(part) for part in encode_scale(SCORE_SCALE * 1024 / math.log(2)))
    every_key = np.array(True)
    if mode == "row":
        exponentials, sums = softmax_row(scores, every_key, scale[0], scale[1], bits)
        products = _products(exponentials, values)
    else:
        state = RowState.empty((len(scores),))
        products = np.zeros((len(scores), values.shape[1] * bits // 8), np.int64)
        for start in range(0, scores.shape[1], CHUNK):
            keys = slice(start, start + CHUNK)
            exponentials, state = softmax_online(scores[:, keys], every_key, scale[0], scale[1], state, bits)
            products = shift_rows(products, state.shifts) + _products(exponentials, values[keys])
        sums = state.sums
    drained = normalize(wide_accumulators(products) if bits == 16 else products, sums, 1 << 30, 30 - _OUTPUT_BITS)
    return drained / 2.0**_OUTPUT_BITS


def _products(exponentials: Array, values: Array) -> NDArray[np.int64]:
    transposed = np.ascontiguousarray(values.T)
    if exponentials.dtype == np.uint8:
        return matrix_product(exponentials, transposed)
    planes = (exponentials >> 8).astype(np.uint8), (exponentials & 255).astype(np.uint8)
    return np.concatenate([matrix_product(plane, transposed) for plane in planes], axis=1)


def ita_weights(logits: Float64Array) -> Float64Array:
    """
    Returns the weights [m, n] of ITA's streaming softmax (arXiv 2307.03493, pulp-platform/ITA) for logits [m, n].

    Scores have 8 bits, 32 units a power of two. Here the largest of a row is at the top of their range, so that they
    saturate at the bottom only, which no fixed grid achieves for all rows. With ``sh(d) = (d >> 5) + d[4]``, in chunks
    of 16: ``m' = max(m, chunk)``, ``sum = (sum >> sh(m' - m)) + sum of 256 >> sh(m' - x)``; at the end ``(65280 // sum)
    >> sh(m - x)``, in units of 1/255.
    """
    largest = logits.max(axis=1, keepdims=True)
    scores = np.clip(np.rint((logits - largest) / _ITA_UNIT) + 127, -128, 127).astype(np.int64)
    maxima, sums = np.full(len(scores), -128, np.int64), np.zeros(len(scores), np.int64)
    for start in range(0, scores.shape[1], 16):
        chunk = scores[:, start : start + 16]
        new = np.maximum(maxima, chunk.max(axis=1))
        sums = (sums >> _ita_shift(new - maxima)) + (256 >> _ita_shift(new[:, np.newaxis] - chunk)).sum(axis=1)
        maxima = new
    inverse = 65280 // sums
    return (inverse[:, np.newaxis] >> _ita_shift(maxima[:, np.newaxis] - scores)) / 255


def _ita_shift(difference: NDArray[np.int64]) -> NDArray[np.int64]:
    return (difference >> 5) + ((difference >> 4) & 1)
