"""
Products, rescaling and tables against TOSA's reference model: not a bit may differ.

Inputs are all extremes, and at least 10^6 random elements an operator, inside the ranges in which TOSA defines it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sta.passes.quantization.integer_weights import quantize_linear
from sta.spec.integers import SHIFT_RANGE, matrix_product
from sta.spec.parameters import MapParameters
from sta.spec.tables import table_8, table_16
from sta.spec.vector import map_tile
from tests.support.tosa_model import TosaGraph, tensor_type

Array = npt.NDArray[Any]
SHIFTS = np.arange(SHIFT_RANGE[0], SHIFT_RANGE[1] + 1)
ATTRIBUTES = "scale32 = true, rounding_mode = SINGLE_ROUND, input_unsigned = false, output_unsigned = false"


def rescaled(
    graph: TosaGraph, values: Array, scales: tuple[Array, Array], dtype: Any, zero_points: tuple[int, int]
) -> None:
    """Adds a RESCALE of `values`, with a multiplier and a shift a column or one of each for all."""
    multiplier, shift = scales
    constants = [
        graph.constant(array)
        for array in (
            multiplier.astype(np.int32),
            shift.astype(np.int8),
            np.array([zero_points[0]], values.dtype),
            np.array([zero_points[1]], dtype),
        )
    ]
    kinds = [
        tensor_type(values.dtype, values.shape),
        tensor_type(np.int32, multiplier.shape),
        tensor_type(np.int8, shift.shape),
        tensor_type(values.dtype, (1,)),
        tensor_type(dtype, (1,)),
        tensor_type(dtype, values.shape),
    ]
    per_channel = "true" if multiplier.size > 1 else "false"
    operands = [graph.argument(values), *constants]
    graph.apply("rescale", operands, kinds, f"{{{ATTRIBUTES}, per_channel = {per_channel}}}")


def ours(values: Array, scales: tuple[Array, Array], dtype: Any, zero_points: tuple[int, int]) -> Array:
    """The same by the vector unit's pipeline."""
    bias = np.full(scales[0].shape, -zero_points[0], np.int32)
    parameters = MapParameters(bias, *scales, output_zero_point=zero_points[1])  # pyright: ignore[reportArgumentType]
    return map_tile(values, parameters, dtype)


def every_shift(generator: np.random.Generator, rows: int) -> tuple[Array, tuple[Array, Array]]:
    """Columns of int32 for every shift, with random multipliers and with all that are extreme."""
    shifts = np.repeat(SHIFTS, 7)
    multipliers = generator.integers(0, 1 << 31, shifts.size)
    multipliers.reshape(-1, 7)[:, :4] = (0, 1, 1 << 30, (1 << 31) - 1)
    limits = np.minimum(1 << (shifts - 1), 1 << 31)
    values = generator.integers(-limits, limits, (rows, shifts.size))
    # Values about as large as what they are divided by: those round.
    small = np.minimum(limits, 1 + ((np.int64(1) << np.minimum(shifts + 9, 62)) // (multipliers + 1)))
    values[::2] = generator.integers(-small, small, values[::2].shape)
    values[:6] = np.stack(
        [-limits, limits - 1, np.zeros_like(limits), -limits // 2, limits // 2, -np.ones_like(limits)]
    )
    return values.astype(np.int32), (multipliers, shifts)


@pytest.mark.parametrize(("dtype", "zero_point"), [(np.int8, -7), (np.int16, 0), (np.int32, 0)])
def test_rescale_per_channel(dtype: Any, zero_point: int, tmp_path: Path) -> None:
    values, scales = every_shift(np.random.default_rng(1), 2400)
    assert values.size > 1_000_000
    graph = TosaGraph()
    rescaled(graph, values, scales, dtype, (0, zero_point))
    np.testing.assert_array_equal(graph.run(tmp_path)[0], ours(values, scales, dtype, (0, zero_point)))


@pytest.mark.parametrize(("dtype", "zero_point"), [(np.int8, 9), (np.int16, 0), (np.int32, 0)])
def test_rescale_per_tensor(dtype: Any, zero_point: int, tmp_path: Path) -> None:
    values, (multipliers, shifts) = every_shift(np.random.default_rng(7), 2400)
    assert values.size > 1_000_000
    graph, expected = TosaGraph(), list[Array]()
    for column, multiplier, shift in zip(values.T, multipliers, shifts, strict=True):
        scales = np.array([multiplier]), np.array([shift])
        rescaled(graph, np.ascontiguousarray(column), scales, dtype, (0, zero_point))
        expected.append(ours(column[:, np.newaxis], scales, dtype, (0, zero_point))[:, 0])
    for theirs, own in zip(graph.run(tmp_path), expected, strict=True):
        np.testing.assert_array_equal(theirs, own)


@pytest.mark.parametrize(("source", "dtype"), [(np.int8, np.int8), (np.int8, np.int32), (np.int16, np.int8)])
def test_rescale_of_stored_values(source: Any, dtype: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    limits = np.iinfo(source)
    # A shift of 18 lets every value minus its zero point be inside the range that TOSA defines.
    cases = [(1 << 30, 30), (1 << 30, 31), ((1 << 31) - 1, 32), (1, 18), (1_234_567_891, 37), (0, 62)]
    zero_points = {np.dtype(np.int8): (-128, 127, 3)}
    graph, expected = TosaGraph(), list[Array]()
    for number, (multiplier, shift) in enumerate(cases):
        values = generator.integers(limits.min, limits.max + 1, (300, 600)).astype(source)
        values.flat[:2] = limits.min, limits.max
        points = [zero_points.get(np.dtype(kind), (0,)) for kind in (source, dtype)]
        pair = points[0][number % len(points[0])], points[1][(number + 1) % len(points[1])]
        scales = np.array([multiplier]), np.array([shift])
        rescaled(graph, values, scales, dtype, pair)
        expected.append(ours(values, scales, dtype, pair))
    assert sum(array.size for array in expected) > 1_000_000
    for theirs, own in zip(graph.run(tmp_path), expected, strict=True):
        np.testing.assert_array_equal(theirs, own)


def multiplied(a: Array, b: Array, zero_points: tuple[int, int], folder: Path) -> Array:
    """MATMUL of int8 [m, k] and [n, k] with zero points: int32 [m, n]."""
    graph = TosaGraph()
    transposed = np.ascontiguousarray(b.T)[np.newaxis]
    operands = [graph.argument(a[np.newaxis]), graph.argument(transposed)]
    points = [np.array([point], np.int8) for point in zero_points]
    kinds = [tensor_type(np.int8, shape) for shape in ((1, *a.shape), transposed.shape, (1,), (1,))]
    kinds.append(tensor_type(np.int32, (1, len(a), len(b))))
    graph.apply("matmul", [*operands, *map(graph.constant, points)], kinds)
    return graph.run(folder)[0][0]


@pytest.mark.parametrize("zero_points", [(0, 0), (-128, 127), (5, -77)])
def test_product_with_zero_points(zero_points: tuple[int, int], tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    a, b = (generator.integers(-128, 128, (rows, 61)).astype(np.int8) for rows in (1031, 1009))
    a[0], a[1], b[0], b[1] = -128, 127, -128, 127
    expected = multiplied(a, b, zero_points, tmp_path)
    assert expected.size > 1_000_000
    left_values, right_values = (
        array.astype(np.int16) - point for array, point in zip((a, b), zero_points, strict=True)
    )
    np.testing.assert_array_equal(matrix_product(left_values, right_values), expected)


def test_a_zero_point_folded_into_the_bias(tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    # Weights of scale 1: the largest magnitude of each channel is 127.
    weights = generator.integers(-127, 128, (257, 96)).astype(np.int8)
    weights[:, 0] = 127
    x = generator.integers(-128, 128, (64, 96)).astype(np.int8)
    x[0], x[1] = -128, 127
    for zero_point in (-128, 0, 127):
        integers = quantize_linear(weights.astype(np.float64), None, 0.5, zero_point)
        np.testing.assert_array_equal(integers.weights, weights)
        result = matrix_product(x, integers.weights) + integers.bias
        np.testing.assert_array_equal(result, multiplied(x, weights, (zero_point, 0), tmp_path))


def test_table_of_8_bits(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    graph, expected = TosaGraph(), list[Array]()
    for _ in range(4):
        table = generator.integers(-128, 128, 256).astype(np.int8)
        x = np.concatenate([np.arange(-128, 128), generator.integers(-128, 128, 262144)]).astype(np.int8)
        kinds = [tensor_type(np.int8, shape) for shape in (x.shape, table.shape, x.shape)]
        graph.apply("table", [graph.argument(x), graph.constant(table)], kinds)
        expected.append(table_8(x, table))
    assert sum(array.size for array in expected) > 1_000_000
    for theirs, own in zip(graph.run(tmp_path), expected, strict=True):
        np.testing.assert_array_equal(theirs, own)


def test_table_of_16_bits(tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    every_value = np.arange(-32768, 32768).astype(np.int16)
    # TOSA asks for neighbours whose difference fits 16 bits.
    tables = [np.clip(generator.integers(-16383, 16384, 513), -width, width) for width in (1, 100, 5000, 16383)] * 4
    tables += [np.linspace(-32768, 32767, 513).round(), np.where(np.arange(513) % 2, 16383, -16384)]
    graph, expected = TosaGraph(), list[Array]()
    for entries in tables:
        table = entries.astype(np.int16)
        kinds = [tensor_type(dtype, shape) for dtype, shape in ((np.int16, (65536,)), (np.int16, (513,)))]
        kinds.append(tensor_type(np.int32, (65536,)))
        graph.apply("table", [graph.argument(every_value), graph.constant(table)], kinds)
        expected.append(table_16(every_value, table))
    assert sum(array.size for array in expected) > 1_000_000
    for theirs, own in zip(graph.run(tmp_path), expected, strict=True):
        np.testing.assert_array_equal(theirs, own)
