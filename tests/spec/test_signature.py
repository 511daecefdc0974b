"""Encoding of the host's arrays, decoding of the device's integers, and the mistakes users make."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sta.spec.signature import TensorSignature

REAL = TensorSignature("x", (2, 3), "float32", "int8", "quantized", 0.5, 10)
IDS = TensorSignature("input_ids", (2, 3), "int64", "int32", "index", limit=100)
MASK = TensorSignature("attention_mask", (2, 3), "int64", "uint8", "mask")
PADDING = TensorSignature("padding", (2, 3), "bool", "uint8", "mask", inverted=True)


@settings(deadline=None)
@given(
    hnp.arrays(np.float64, (4,), elements=st.floats(allow_nan=False, allow_infinity=False)),
    st.floats(1e-9, 1e9),
    st.sampled_from(["int8", "uint8", "int16", "int32"]),
    st.integers(0, 127),
)
def test_quantized_values(values: np.ndarray, scale: float, device_dtype: str, zero_point: int) -> None:
    signature = TensorSignature("x", (4,), "float64", device_dtype, "quantized", scale, zero_point)
    limits = np.iinfo(device_dtype)
    integers = signature.encode(values)
    assert integers.dtype == device_dtype
    for value, integer in zip(values.tolist(), integers.tolist(), strict=True):
        quotient = value / scale
        # Python's round is half to even, like the definition.
        wanted = round(quotient) + zero_point if math.isfinite(quotient) else math.copysign(1e300, quotient)
        assert integer == min(max(wanted, int(limits.min)), int(limits.max))
    decoded = signature.decode(integers)
    assert decoded.dtype == np.float32
    expected = [np.float32((integer - zero_point) * scale) for integer in integers.tolist()]
    assert decoded.tolist() == [float(value) for value in expected]


def test_halves_go_to_even() -> None:
    values = np.array([[0.25, 0.75, 1.25], [-0.25, -0.75, 1e30]], dtype=np.float32)
    assert REAL.encode(values).tolist() == [[10, 12, 12], [10, 8, 127]]


def test_index_and_mask() -> None:
    ids = np.array([[0, 99, 5], [1, 2, 3]])
    assert IDS.encode(ids).dtype == np.int32
    np.testing.assert_array_equal(IDS.encode(ids.astype(np.uint8)), ids)
    np.testing.assert_array_equal(IDS.decode(ids), ids.astype(np.float32))
    mask = np.array([[0, 1, 1], [1, 0, 1]])
    for padding in (mask, mask.astype(bool)):
        assert PADDING.encode(padding).tolist() == [[1, 0, 0], [0, 1, 0]]
        assert PADDING.encode(padding).dtype == np.uint8
    with pytest.raises(ValueError, match="a mask holds 0 and 1, got 2"):
        PADDING.encode(mask + 1)
    for wrong in (7, -1, 2):
        with pytest.raises(
            ValueError, match=rf"'attention_mask': a mask holds 0 and 1, got {wrong} at position \(1, 2\)"
        ):
            MASK.encode(np.array([[0, 1, 1], [1, 0, wrong]]))
    assert MASK.encode(mask).tolist() == [[0, 1, 1], [1, 0, 1]]
    assert MASK.encode(mask).dtype == np.uint8
    assert MASK.encode(mask != 0).tolist() == [[0, 1, 1], [1, 0, 1]]
    assert MASK.decode(MASK.encode(mask)).tolist() == [[0, 1, 1], [1, 0, 1]]
    real_mask = TensorSignature("m", (2,), "float32", "uint8", "mask")
    assert real_mask.encode(np.array([0.0, 1.0])).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("signature", "values", "message"),
    [
        (REAL, np.zeros((3, 2), dtype=np.float32), r"input 'x': expected shape \(2, 3\), got \(3, 2\)"),
        (REAL, np.zeros((2, 3), dtype=np.int64), "input 'x': expected float32, got int64"),
        (REAL, np.full((2, 3), np.nan), r"input 'x': expected finite values, got nan at \[0, 0\]"),
        (REAL, np.array([[0, 0, 0], [0, np.inf, 0]]), r"got inf at \[1, 1\]"),
        (IDS, np.zeros((2, 3)), "input 'input_ids': expected int64, got float64"),
        (IDS, np.zeros((2, 3), dtype=np.bool_), "expected int64, got bool"),
        (IDS, np.array([[0, 1, 2], [3, 100, -1]]), r"'input_ids': expected indices in 0..99, got 100 at \[1, 1\]"),
        (IDS, np.array([[0, 1, 2], [-3, 0, 0]], dtype=np.int8), r"got -3 at \[1, 0\]"),
        (IDS, np.full((2, 3), 2**64 - 1, dtype=np.uint64), r"got 18446744073709551615 at \[0, 0\]"),
        (REAL, [[1.0], [2.0, 3.0]], "input 'x': expected an array of float32: "),
        (REAL, None, r"input 'x': expected shape \(2, 3\), got \(\)"),
        (MASK, np.zeros((2, 3)), "'attention_mask': expected int64, got float64"),
        (MASK, np.array([["a"] * 3] * 2), "'attention_mask': expected int64, got <U1"),
    ],
)
def test_wrong_inputs_are_named(signature: TensorSignature, values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        signature.encode(values)


@pytest.mark.parametrize("signature", [REAL, IDS, MASK, PADDING])
def test_signatures_survive_json(signature: TensorSignature) -> None:
    written = json.loads(json.dumps(signature.to_json()))
    assert TensorSignature.from_json({**written, "address": 64, "bytes": 24}) == signature


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [2, "3"]}, "bad value for 'shape'"),
        ({"shape": 3}, "bad value for 'shape'"),
        ({"shape": [True]}, "bad value for 'shape'"),
        ({"shape": [-1]}, "negative size"),
        ({"name": 3}, "bad value for 'name'"),
        ({"scale": "1"}, "bad value for 'scale'"),
        ({"scale": 0}, "scale must be"),
        ({"scale": math.nan}, "scale must be"),
        ({"zero_point": 1.0}, "bad value for 'zero_point'"),
        ({"zero_point": 128}, "zero point 128 does not fit int8"),
        ({"kind": "complex"}, "'complex' is not one of"),
        ({"device_dtype": "float32"}, "'float32' is not one of"),
        ({"host_dtype": "float33"}, "'float33' is not a dtype"),
        ({"kind": "index"}, "limit 0 does not fit"),
        ({"kind": "index", "limit": 129}, "limit 129 does not fit int8"),
        ({"inverted": 1}, "bad value for 'inverted'"),
        ({"inverted": True}, "only a mask can be inverted"),
    ],
)
def test_bad_json_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorSignature.from_json({**REAL.to_json(), **change})


def test_missing_keys_are_named() -> None:
    written = REAL.to_json()
    del written["kind"]
    with pytest.raises(ValueError, match="lacks the key 'kind'"):
        TensorSignature.from_json(written)
