"""
Products with zero points and quantization against onnxruntime: not a bit may differ.

Its QLinearMatMul rounds through float and is no oracle for fixed point.
"""

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sta.passes.quantization.integer_weights import quantize_symmetric
from sta.spec.integers import matrix_product
from sta.spec.signature import TensorSignature

Array = npt.NDArray[Any]
onnx: Any = import_module("onnx")
runtime: Any = import_module("onnxruntime")


def run(operator: str, inputs: dict[str, Array], dtype: Any) -> Array:
    """The result of one ONNX operator, of the given dtype."""
    helper = onnx.helper
    declared = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    result = helper.make_tensor_value_info("result", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None)
    node = helper.make_node(operator, list(inputs), ["result"])
    opset = [helper.make_opsetid("", 21)]
    model = helper.make_model(helper.make_graph([node], operator, declared, [result]), opset_imports=opset)
    model.ir_version = 10
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


@pytest.mark.parametrize(("left", "points"), [(np.int8, (-128, 127)), (np.int8, (3, 0)), (np.uint8, (255, -128))])
def test_matmul_integer(left: Any, points: tuple[int, int]) -> None:
    generator = np.random.default_rng(1)
    limits = np.iinfo(left)
    a = generator.integers(limits.min, limits.max + 1, (1031, 61)).astype(left)
    b = generator.integers(-128, 128, (1009, 61)).astype(np.int8)
    a[0], a[1], b[0], b[1] = limits.min, limits.max, -128, 127
    zero_points = np.array(points[0], left), np.array(points[1], np.int8)
    inputs = {"a": a, "b": np.ascontiguousarray(b.T), "a_zero": zero_points[0], "b_zero": zero_points[1]}
    expected = run("MatMulInteger", inputs, np.int32)
    assert expected.size > 1_000_000
    left_values, right_values = (array.astype(np.int16) - point for array, point in zip((a, b), points, strict=True))
    np.testing.assert_array_equal(matrix_product(left_values, right_values), expected)
    # As the machine does it: the stored integers are multiplied, and the zero points folded into sums.
    stored = matrix_product(a, b) - points[0] * b.sum(axis=1, dtype=np.int64)
    folded = stored - points[1] * (a.sum(axis=1, dtype=np.int64) - 61 * points[0])[:, np.newaxis]
    np.testing.assert_array_equal(folded, expected)


@pytest.mark.parametrize(("dtype", "zero_point"), [(np.int8, 0), (np.int8, -77), (np.int16, 0)])
def test_quantize_linear(dtype: Any, zero_point: int) -> None:
    generator = np.random.default_rng(2)
    # A power of two: a quotient is exact then, so that half of these are ties, which go to the even neighbour.
    scale = np.float32(2.0**-5)
    limits = np.iinfo(dtype)
    # Inputs are refused beyond the range, and saturated; ONNX saturates too.
    integers = generator.integers(2 * (limits.min - zero_point), 2 * (limits.max - zero_point) + 1, 1_100_000)
    values = (integers * (scale / 2)).astype(np.float32)
    random = generator.normal(size=values.size // 2).astype(np.float32)
    values[: random.size] = np.clip(random, values.min(), values.max())
    inputs = {"x": values, "scale": np.array(scale), "zero_point": np.array(zero_point, dtype)}
    expected = run("QuantizeLinear", inputs, dtype)
    signature = TensorSignature(
        "x", values.shape, "float32", np.dtype(dtype).name, "quantized", float(scale), zero_point
    )
    np.testing.assert_array_equal(signature.encode(values), expected)
    if dtype is np.int16:
        np.testing.assert_array_equal(quantize_symmetric(values, float(scale)), expected)
