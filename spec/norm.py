"""LayerNorm and RMSNorm in integers, with an integer reciprocal square root per row."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from sta.spec.integers import Int32Array, Int64Array, rounding_shift, saturate

KINDS = ("layer", "rms")
"""The kinds of normalization, in the order of their instruction field."""
LARGEST_WIDTH = 8192
"""The longest row; keeps every intermediate value inside int64."""
EPSILON_LIMIT = 1 << 61
"""The integer epsilon is below this."""
FRACTION_BITS = 20
"""Fraction bits of the normalized values."""

_LARGEST_PARAMETER_BITS = 24
_INT32_MAX = (1 << 31) - 1


def layer_norm(
    x: npt.NDArray[np.int16],
    gamma: Int32Array,
    beta: Int32Array,
    epsilon: int,
    shift: int,
    kind: str = "layer",
    statistics: tuple[Int64Array, Int64Array] | None = None,
) -> npt.NDArray[np.int16]:
    """
    Normalizes rows ``x`` int16 ``[..., n]`` with int32 ``gamma[n]``, ``beta[n]`` of ``shift - 20`` fraction bits.

    LayerNorm (Ba et al. 2016) for the kind "layer", RMSNorm (Zhang and Sennrich 2019) for "rms", as PyTorch defines
    them. The result is int16 ``[..., n]``.

    With ``s1 = sum x``, ``s2 = sum x^2``: layer ``D = n*s2 - s1^2 + epsilon``, ``c = n*x - s1``; rms
    ``D = n*s2 + epsilon``, ``c = n*x``, so that ``c / sqrt(D)`` is the normalized value. With
    ``h = (bit_length(D) + 1) // 2`` and ``r = min(isqrt(2^(60+2h) // D), 2^31 - 1)``:
    ``z = rounding_shift(c * r, 10 + h)`` has 20 fraction bits and
    ``y = saturate(rounding_shift(z * gamma + (beta << 20), shift))``. epsilon >= 1, so that a constant row gives beta.
    `statistics` are s1 and s2, int64 ``[...]``, if they are known already (`row_statistics`).

    Ranges for n <= 8192: D < 2^57 + 2^61, |c| < 2^29, 2^30 <= r < 2^31, |z| <= 2^20 * sqrt(n) + 1 < 2^27, and
    |z * gamma| + 2^51 < 2^59: everything fits int64. While gamma is at most 2^20 in units of the output, the result is
    within 1 of the correctly rounded one: r is off by less than a part in 2^30 and z by half a unit.

    Raises `ValueError` for shapes, dtypes, epsilon (1..2^61-1), shift (0..63), a kind or statistics that do not fit.
    """
    _check_norm(x, gamma, beta, epsilon, kind)
    width = x.shape[-1]
    sums, squares = row_statistics(x) if statistics is None else statistics
    if statistics is not None and (
        np.any(np.abs(sums) > width << 15) or np.any((squares < 0) | (squares > width << 30))
    ):
        raise ValueError(f"statistics of other rows than these of {width} values")
    radicands = width * squares + epsilon
    centred = width * x.astype(np.int64)
    if kind == "layer":
        radicands -= sums * sums
        centred -= sums[..., np.newaxis]
    if np.any(radicands < 1):
        raise ValueError("statistics that no row has: the mean square is below the square of the mean")
    roots, halves = _reciprocal_roots(radicands)
    normalized = rounding_shift(centred * roots[..., np.newaxis], 30 - FRACTION_BITS + halves[..., np.newaxis])
    scaled = normalized * gamma.astype(np.int64) + (beta.astype(np.int64) << FRACTION_BITS)
    return saturate(rounding_shift(scaled, shift), np.int16)


def row_statistics(x: npt.NDArray[np.int16]) -> tuple[Int64Array, Int64Array]:
    """Returns the sum and the sum of squares, int64 ``[...]``, of each row of ``x`` int16 ``[..., n]``."""
    wide = x.astype(np.int64)
    return wide.sum(axis=-1), np.einsum("...i,...i->...", wide, wide)


def _check_norm(x: npt.NDArray[Any], gamma: Int32Array, beta: Int32Array, epsilon: int, kind: str) -> None:
    """Raises `ValueError` unless the arguments of `layer_norm` fit its ranges."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of normalization {kind!r}: it is one of {', '.join(KINDS)}")
    if x.dtype != np.int16 or x.ndim < 1 or not 1 <= x.shape[-1] <= LARGEST_WIDTH:
        raise ValueError(f"rows must be int16 of 1..{LARGEST_WIDTH} values, got {x.dtype} of shape {x.shape}")
    for name, values in (("gamma", gamma), ("beta", beta)):
        if values.dtype != np.int32 or values.shape != x.shape[-1:]:
            raise ValueError(f"{name} must be int32[{x.shape[-1]}], got {values.dtype} of shape {values.shape}")
    if not 1 <= epsilon < EPSILON_LIMIT:
        raise ValueError(f"epsilon must be in 1..2^61-1, got {epsilon}")


def _reciprocal_roots(radicands: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Returns r and h of each radicand D >= 1 (see `layer_norm`): ``r / 2^(30 + h)`` is the reciprocal of D's root."""
    flat: list[int] = radicands.reshape(-1).tolist()
    halves = [(radicand.bit_length() + 1) // 2 for radicand in flat]
    # The dividend has up to 122 bits: Python's integers, one row at a time.
    roots = [
        min(math.isqrt((1 << (60 + 2 * half)) // radicand), _INT32_MAX)
        for radicand, half in zip(flat, halves, strict=True)
    ]
    shape = radicands.shape
    return np.array(roots, dtype=np.int64).reshape(shape), np.array(halves, dtype=np.int64).reshape(shape)


def quantize_norm_parameters(
    gamma: npt.ArrayLike,
    beta: npt.ArrayLike,
    input_scale: float,
    output_scale: float,
    eps: float,
    n: int,
    kind: str = "layer",
) -> tuple[Int32Array, Int32Array, int, int]:
    """
    Returns ``(gamma, beta, epsilon, shift)`` of `layer_norm` for real parameters ``gamma[n]``, ``beta[n]``.

    gamma and beta are divided by the output scale and get t fraction bits, as many as let both fit int32, at most 24;
    ``shift = 20 + t``. ``epsilon = max(1, round(eps / input_scale^2 * n^2))``, for both kinds: D is n^2 times the
    variance (or the mean square) in units of the input.

    Raises `ValueError` if the parameters have another shape or are not finite, a scale is not positive, epsilon reaches
    2^61, or gamma or beta are beyond what an output of this scale can hold.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of normalization {kind!r}: it is one of {', '.join(KINDS)}")
    real = np.stack([np.asarray(gamma, dtype=np.float64), np.asarray(beta, dtype=np.float64)])
    if real.shape != (2, n) or not np.all(np.isfinite(real)):
        raise ValueError(f"gamma and beta must be {n} finite values each, got shape {real.shape[1:]}")
    if not all(math.isfinite(scale) and scale > 0 for scale in (input_scale, output_scale)):
        raise ValueError(f"scales must be finite and positive, got {input_scale} and {output_scale}")
    if not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps must be finite and not negative, got {eps}")
    ratio = eps / input_scale / input_scale * n * n
    if ratio >= EPSILON_LIMIT:
        raise ValueError(
            f"eps {eps} is too large for an input scale of {input_scale}: {ratio:.3g} in units of the input"
        )
    real = real / output_scale
    bits = _parameter_bits(float(np.abs(real).max(initial=0.0)))
    quantized = np.rint(np.ldexp(real, bits)).astype(np.int32)
    return quantized[0], quantized[1], max(1, round(ratio)), FRACTION_BITS + bits


def _parameter_bits(largest: float) -> int:
    """Returns the most fraction bits, at most 24, with which the largest magnitude still rounds into int32."""
    for bits in range(_LARGEST_PARAMETER_BITS, -FRACTION_BITS - 1, -1):
        if round(math.ldexp(largest, bits)) <= _INT32_MAX:
            return bits
    raise ValueError(f"gamma or beta is {largest:.3g} times the output's scale: more than int32 can hold")
