"""Folding of quantize-dequantize pairs: the same numbers, and errors that name the layer."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sta.dialect import torch as dialect
from sta.dialect.interpreters.torch import run_torch
from sta.dialect.ir.context import CompileContext
from sta.dialect.ir.weight_store import WeightStore
from sta.frontend.errors import ModelError
from sta.passes.torch.fold_quantization import QuantizationError, fold_quantization
from tests.support.torch_modules import parse

INT, FLOAT = "!torch.int", "!torch.float"


def pair(scale: float, zero_point: int, low: int, high: int, changed: dict[str, Any] | None = None) -> str:
    """A module with a value that is quantized and dequantized, the latter with other numbers where asked to."""
    after = {"scale": scale, "zero_point": zero_point, "low": low, "high": high} | (changed or {})
    kinds = f"{FLOAT}, {INT}, {INT}, {INT}, {INT}"
    prefix = "torch.quantized_decomposed"
    return f"""
    builtin.module {{
      func.func @main(%x: !torch.vtensor<[2,3],f32>) -> !torch.vtensor<[2,3],f32> {{
        %s = torch.constant.float {scale:.17e}
        %z = torch.constant.int {zero_point}
        %l = torch.constant.int {low}
        %h = torch.constant.int {high}
        %t = torch.constant.float {after["scale"]:.17e}
        %y = torch.constant.int {after["zero_point"]}
        %k = torch.constant.int {after["low"]}
        %g = torch.constant.int {after["high"]}
        %d = torch.constant.int 1
        %n = torch.constant.none
        %q = "{prefix}.quantize_per_tensor"(%x, %s, %z, %l, %h, %d)
          : (!torch.vtensor<[2,3],f32>, {kinds}) -> !torch.vtensor<[2,3],si8>
        %r = "{prefix}.dequantize_per_tensor"(%q, %t, %y, %k, %g, %d, %n)
          : (!torch.vtensor<[2,3],si8>, {kinds}, !torch.none) -> !torch.vtensor<[2,3],f32>
        func.return %r : !torch.vtensor<[2,3],f32>
      }}
    }}"""


def fold(text: str, store: WeightStore | None = None) -> tuple[Any, WeightStore]:
    store = WeightStore() if store is None else store
    context = CompileContext(store)
    context.allow_unregistered = True
    module = parse(text, context)
    fold_quantization(module, store)
    module.verify()
    return module, store


@given(
    st.floats(1e-6, 1e3).map(lambda number: float(np.float32(number))),
    st.integers(0, 255),
    st.booleans(),
    st.lists(st.floats(-200, 200, width=32), min_size=6, max_size=6),
)
def test_signed_and_unsigned_pairs_give_the_numbers_of_their_definition(
    scale: float, offset: int, unsigned: bool, numbers: list[float]
) -> None:
    low, high = (0, 255) if unsigned else (-128, 127)
    module, store = fold(pair(scale, low + offset, low, high))
    x = (np.array(numbers, np.float32) * np.float32(scale)).reshape(2, 3)
    (found,) = run_torch(module, CompileContext(store), {"input_0": x}).values()
    reciprocal = np.float32(1.0) / np.float32(scale)
    integers = np.clip(np.rint(x * reciprocal) + (low + offset), low, high)
    np.testing.assert_array_equal(found, (integers - (low + offset)).astype(np.float32) * np.float32(scale))


@pytest.mark.parametrize(
    ("grid", "changed", "message"),
    [
        ((0.0, 0, -128, 127), {}, "its scale 0.0 is not a positive number"),
        ((-0.5, 0, -128, 127), {}, "its scale -0.5 is not a positive number"),
        ((1e-42, 0, -128, 127), {}, "not a positive number"),
        ((0.5, 0, -8, 7), {}, "values of -8..7 are not supported"),
        ((0.5, 200, -128, 127), {}, "zero point 200 is outside of -128 to 127"),
        ((0.5, 3, -32768, 32767), {}, "16-bit values have no zero point"),
        ((0.5, 3, 0, 255), {"low": -128, "high": 127}, "is quantized as 0..255 .* and dequantized as -128..127"),
        ((0.5, 3, -128, 127), {"scale": 0.25}, "both must be the same"),
    ],
)
def test_what_the_machine_does_not_have_is_refused(grid: Any, changed: Any, message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        fold(pair(grid[0], grid[1], grid[2], grid[3], changed))


def weight(scales: Any, zero_points: Any, integers: Any, axis: int = 0) -> tuple[str, WeightStore]:
    store = WeightStore()
    store.put("w", integers)
    store.put("s", np.asarray(scales, np.float32))
    store.put("z", np.asarray(zero_points, np.int64))
    kind = "si8" if integers.dtype == np.int8 else "ui8"
    count = len(scales)
    text = f"""
    builtin.module {{
      func.func @main(%x: !torch.vtensor<[2,3],f32>) -> !torch.vtensor<[2,2],f32> {{
        %w = torch.vtensor.literal(dense_resource<w> : tensor<2x3x{kind}>) : !torch.vtensor<[2,3],{kind}>
        %s = torch.vtensor.literal(dense_resource<s> : tensor<{count}xf32>) : !torch.vtensor<[{count}],f32>
        %z = torch.vtensor.literal(dense_resource<z> : tensor<{count}xsi64>) : !torch.vtensor<[{count}],si64>
        %a = torch.constant.int {axis}
        %l = torch.constant.int -127
        %h = torch.constant.int 127
        %d = torch.constant.int 1
        %n = torch.constant.none
        %f = "torch.quantized_decomposed.dequantize_per_channel"(%w, %s, %z, %a, %l, %h, %d, %n)
          : (!torch.vtensor<[2,3],{kind}>, !torch.vtensor<[{count}],f32>, !torch.vtensor<[{count}],si64>,
             {INT}, {INT}, {INT}, {INT}, !torch.none) -> !torch.vtensor<[2,3],f32>
        %y = torch.aten.linear %x, %f, %n
          : !torch.vtensor<[2,3],f32>, !torch.vtensor<[2,3],f32>, !torch.none -> !torch.vtensor<[2,2],f32>
        func.return %y : !torch.vtensor<[2,2],f32>
      }}
    }}"""
    return text, store


@pytest.mark.parametrize("unsigned", [False, True])
def test_weights_keep_their_integers_and_scales(unsigned: bool) -> None:
    integers = np.array([[-128, 5, 127], [1, 0, -3]], np.int16)
    stored = (integers + 128).astype(np.uint8) if unsigned else integers.astype(np.int8)
    module, store = fold(*weight([0.3, 1e-4], [128 * unsigned] * 2, stored))
    (rounded,) = [op for op in module.walk() if isinstance(op, dialect.FakeQuantizeChannelsOp)]
    literals = [value.owner for value in (rounded.input, rounded.scales)]
    arrays = [literal.array(store) for literal in literals if isinstance(literal, dialect.LiteralOp)]
    np.testing.assert_array_equal(np.rint(arrays[0] / arrays[1][:, None]), integers)
    np.testing.assert_array_equal(arrays[1], np.array([0.3, 1e-4], np.float32))


@pytest.mark.parametrize(
    ("scales", "zero_points", "axis", "message"),
    [
        ([0.1, 0.0], [0, 0], 0, "its scale 0.0 is not a positive number"),
        ([0.1, float("nan")], [0, 0], 0, "its scale nan"),
        ([0.1, 0.1], [0, 4], 0, "no zero point on this machine, and not 4 as output channel 1"),
        ([0.1, 0.1, 0.1], [0, 0, 0], 1, "axis 1, and not of axis 0"),
        ([0.1], [0], 0, "1 scales for a weight of shape"),
    ],
)
def test_weights_that_the_machine_does_not_have_are_refused(
    scales: Any, zero_points: Any, axis: int, message: str
) -> None:
    with pytest.raises(QuantizationError, match=message):
        fold(*weight(scales, zero_points, np.ones((2, 3), np.int8), axis))


def test_a_value_rounded_twice_alike_is_rounded_once() -> None:
    text = pair(0.5, 0, -128, 127)
    module, _ = fold(text)
    assert sum(isinstance(op, dialect.FakeQuantizeOp) for op in module.walk()) == 1


def test_numbers_that_the_machine_does_not_have_are_an_error_of_the_model() -> None:
    assert issubclass(QuantizationError, ModelError)
