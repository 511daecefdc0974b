"""Float parameters of a layer as the integers of its product: plain NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sta.spec.integers import encode_scale
from sta.spec.wide_product import PLANE_MAGNITUDES

ACTIVATION_MAGNITUDE = 128
"""Largest magnitude of an int8 activation."""
WEIGHT_MAGNITUDE = 127
BIAS_LIMIT = 1 << 30
"""Largest magnitude of a bias: half of int32, so that the product has the other half."""
BIAS_REACH = 1 << 60
"""Limit at which biases are clamped before they are proved to fit."""

EMPTY_CHANNEL_SCALE = 2.0**-20
"""Scale of the weights of a channel without any: its accumulators are always zero."""

PART = 1 << 16
"""Number of values that are rounded at a time."""

Array = NDArray[Any]


@dataclass(frozen=True)
class LinearIntegers:
    """
    A linear layer in integers: `acc = x_q @ weights.T + bias`, with a unit of `scales[n]` for `acc[n]`. With a 16-bit
    input `acc` combines the accumulators of both passes.
    """

    weights: NDArray[np.int8]
    """[N, K], symmetric per output channel."""
    bias: NDArray[np.int32]
    """[N], the input's zero point folded in."""
    scales: NDArray[np.float64]
    """[N]."""

    def vanishes(self, output_scale: float) -> bool:
        """
        True if no input and no bias gives anything but zero in units of `output_scale`, though some weights are not
        zero. Unlike a result that is too large, this is well defined; but nobody intends it.
        """
        reach = np.abs(self.weights.astype(np.int64)).sum(axis=1) * (1 << 15) + np.abs(self.bias.astype(np.int64))
        return bool(self.weights.any() and (reach * (self.scales / output_scale) < 0.5).all())


def quantize_linear(
    weights: Array,
    bias: Array | None,
    input_scale: float,
    input_zero_point: int,
    *,
    wide: bool = False,
    given_scales: Array | None = None,
) -> LinearIntegers:
    """
    Quantizes float weights [N, K] and bias [N] for an input of the given scale and zero point, of 16 bits if `wide`.

    Weights are int8 in [-127, 127], one scale an output channel (docs/numerics.md), or with their own scales [N]
    (`given_scales`) in [-128, 127]; the scale of a channel of zeros does not matter. Raises OverflowError, with the
    numbers, if an accumulator could leave int32, ValueError if a weight or bias is infinite or not a number.
    """
    values = np.asarray(weights, np.float64)
    offsets = np.zeros(values.shape[0]) if bias is None else np.asarray(bias, np.float64)
    magnitudes = row_magnitudes(values)
    _check_finite(magnitudes, offsets)
    # A channel whose weights are next to nothing beside its bias: the bias must still fit.
    least = np.abs(offsets) / (input_scale * BIAS_LIMIT)
    if given_scales is None:
        weight_scales = _scales(magnitudes, least)
    else:
        weight_scales = np.asarray(given_scales, np.float64)
        weight_scales = np.where(magnitudes > 0, weight_scales, np.maximum(weight_scales, least))
    # In place: a new array costs as much as a step.
    rounded = values / weight_scales[:, None]
    np.rint(rounded, out=rounded)
    integers = np.clip(rounded, -128, WEIGHT_MAGNITUDE, out=rounded).astype(np.int8)
    scales = weight_scales * input_scale
    row_sums = integers.sum(axis=1, dtype=np.int64)
    # A bias beyond int64 is beyond int32, which is found out below.
    units = np.clip(np.rint(offsets / scales), -BIAS_REACH, BIAS_REACH).astype(np.int64)
    folded = units - input_zero_point * row_sums
    try:
        _prove_no_overflow(integers, folded, wide)
    except OverflowError as error:
        blamed = _blame_bias(units, offsets, input_scale, weight_scales)
        raise OverflowError(f"{error}{blamed}") from error
    return LinearIntegers(integers, folded.astype(np.int32), scales)


def row_magnitudes(weights: Array) -> Array:
    """The largest magnitude [N] in each row of weights [N, K]."""
    # Without an array of magnitudes, which costs more than both extremes.
    return np.maximum(weights.max(axis=1, initial=0.0), -weights.min(axis=1, initial=0.0))


def row_scales(weights: Array, dtype: DTypeLike | None = None) -> Array:
    """
    The scale [N] of each row of float weights [N, K], in their dtype or another: its largest magnitude by 127. A row of
    zeros may have any scale: it gets one so small that every output's scale can be reached from it.
    """
    return _scales(row_magnitudes(weights).astype(dtype or weights.dtype), 0.0)


def _scales(magnitudes: Array, least: Array | float) -> Array:
    scales = np.maximum(magnitudes / WEIGHT_MAGNITUDE, least)
    return np.where(scales > 0, scales, EMPTY_CHANNEL_SCALE)


def _check_finite(magnitudes: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
    """Raises ValueError if a row's largest magnitude is infinite or not a number."""
    broken = ~(np.isfinite(magnitudes) & np.isfinite(bias))
    if broken.any():
        raise ValueError(f"a weight or the bias of output channel {int(broken.argmax())} is infinite or not a number")


def _prove_no_overflow(weights: NDArray[np.int8], bias: NDArray[np.int64], wide: bool) -> None:
    """
    Checks that accumulators fit int32. With 8-bit activations one holds its sum and then the bias. With 16-bit
    activations there are two, one for each byte, and the bias, an int32 itself, is added to their combination.
    """
    magnitude = np.abs(weights.astype(np.int16)).sum(axis=1, dtype=np.int64)
    bound, what = magnitude * ACTIVATION_MAGNITUDE + np.abs(bias), "an accumulator"
    if wide:
        bound, what = np.maximum(magnitude * max(PLANE_MAGNITUDES), np.abs(bias)), "an accumulator or the bias"
    worst = int(bound.argmax())
    if bound[worst] >= 1 << 31:
        raise OverflowError(
            f"{what} could reach {int(bound[worst]):,} in output channel {worst} "
            f"(K = {weights.shape[1]}), more than int32 holds"
        )


def _blame_bias(units: NDArray[np.int64], bias: NDArray[np.float64], input_scale: float, weight_scales: Array) -> str:
    """Message, with remedy, for a bias [N] of `units` [N] that does not fit its layer's accumulators; else empty."""
    worst = int(np.abs(units).argmax())
    if abs(units[worst]) <= BIAS_LIMIT:
        return ""
    return (
        f": the bias of channel {worst}, {bias[worst]:g}, counts in steps of the input's scale times the weight's, "
        f"{input_scale:g} * {weight_scales[worst]:g}. If that of the input is so small since it was all but zero on "
        "the calibration samples, calibrate with some on which it is not; else quantize the layer with larger scales"
    )


def requantization(scales: NDArray[np.float64], output_scale: float) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Multiplier int32[N] and shift int8[N] that take accumulators of the given scales to `output_scale`."""
    multiplier, shift = encode_scale(scales / output_scale)
    return multiplier.astype(np.int32), shift.astype(np.int8)


def quantize_symmetric(values: Array, scale: float, bits: int = 16) -> NDArray[np.int16 | np.int8]:
    """`round(values / scale)`, ties to even, saturated to int16, or int8."""
    half = 1 << (bits - 1)
    integers = np.empty(np.shape(values), np.int8 if bits == 8 else np.int16)
    flat, target = np.reshape(values, -1), integers.reshape(-1)
    # A table of embeddings in float64 would be the largest array of a compile.
    for start in range(0, flat.size, PART):
        part = slice(start, start + PART)
        rounded = flat[part].astype(np.float64) / scale
        np.rint(rounded, out=rounded)
        target[part] = np.clip(rounded, -half, half - 1, out=rounded)
    return integers
