"""The byte layout of the parameter blocks."""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sta.spec.parameters import (
    SOFTMAX_PARAMETERS_SIZE,
    MapParameters,
    NormParameters,
    SoftmaxParameters,
    map_parameters_size,
    norm_parameters_size,
)

INT32 = st.integers(-(2**31), 2**31 - 1)
MULTIPLIER = st.integers(0, 2**31 - 1)
SHIFT = st.integers(2, 62)


def int32(*values: int) -> npt.NDArray[np.int32]:
    """Returns an int32 row."""
    return np.array(values, dtype=np.int32)


def test_a_map_block() -> None:
    block = MapParameters(int32(-1, 2, 3), int32(4, 5, 6), np.array([7, 8, 9], dtype=np.int8), 10, 11, -12, 13, 14, -15)
    expected = struct.pack("<6i8x3i3i3bx", 10, 11, -12, 13, 14, -15, -1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert block.to_bytes() == expected
    assert len(expected) == map_parameters_size(3) == MapParameters.size(3) == 60
    assert block.columns == 3


def test_scales_not_used_are_the_identity() -> None:
    block = MapParameters(int32(0), int32(1), np.array([2], dtype=np.int8))
    assert block.to_bytes() == struct.pack("<6i8x2ib3x", 2**30, 30, 0, 2**30, 30, 0, 0, 1, 2)


def test_a_norm_block() -> None:
    block = NormParameters(int32(1, -2), int32(-3, 4), 2**60 + 5, 44, 6, 7, -8)
    expected = struct.pack("<q4i8x4i", 2**60 + 5, 44, 6, 7, -8, 1, -2, -3, 4)
    assert block.to_bytes() == expected
    assert len(expected) == norm_parameters_size(2) == NormParameters.size(2) == 48


def test_a_softmax_block() -> None:
    assert SoftmaxParameters(5, 6).to_bytes() == struct.pack("<2i8x", 5, 6)
    assert SoftmaxParameters(5, 6, (7, 8)).to_bytes() == struct.pack("<4i", 5, 6, 7, 8)
    assert SoftmaxParameters.size() == SOFTMAX_PARAMETERS_SIZE == 16


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 10), st.data())
def test_map_parameters_are_cut_into_blocks(columns: int, each: int, data: st.DataObject) -> None:
    bias, multiplier = (data.draw(hnp.arrays(np.int32, columns, elements=of)) for of in (INT32, MULTIPLIER))
    shift = data.draw(hnp.arrays(np.int8, columns, elements=SHIFT))
    parts = [slice(start, start + each) for start in range(0, columns, each)]
    assert MapParameters(bias, multiplier, shift, 10, 11, -12, 13, 14, -15).blocks(each) == [
        MapParameters(bias[part], multiplier[part], shift[part], 10, 11, -12, 13, 14, -15).to_bytes() for part in parts
    ]


@settings(deadline=None)
@given(st.integers(1, 9), st.data())
def test_map_blocks_survive(columns: int, data: st.DataObject) -> None:
    block = MapParameters(
        data.draw(hnp.arrays(np.int32, columns)),
        data.draw(hnp.arrays(np.int32, columns, elements=MULTIPLIER)),
        data.draw(hnp.arrays(np.int8, columns, elements=SHIFT)),
        *data.draw(st.tuples(MULTIPLIER, SHIFT, INT32, MULTIPLIER, SHIFT, INT32)),
    )
    written = block.to_bytes()
    assert len(written) == map_parameters_size(columns)
    assert len(written) % 4 == 0
    for buffer in (written, bytearray(written + b"rest"), memoryview(written), np.frombuffer(written, dtype=np.uint8)):
        restored = MapParameters.from_bytes(buffer, columns)
        assert restored == block
        assert hash(restored) == hash(block)
        assert restored.bias.tolist() == block.bias.tolist()
        assert restored.shift.tolist() == block.shift.tolist()


@settings(deadline=None)
@given(st.integers(1, 9), st.data())
def test_norm_blocks_survive(n: int, data: st.DataObject) -> None:
    block = NormParameters(
        data.draw(hnp.arrays(np.int32, n)),
        data.draw(hnp.arrays(np.int32, n)),
        *data.draw(st.tuples(st.integers(1, 2**61 - 1), st.integers(0, 63), MULTIPLIER, SHIFT, INT32)),
    )
    restored = NormParameters.from_bytes(block.to_bytes(), n)
    assert restored == block
    assert hash(restored) == hash(block)
    assert (restored.epsilon, restored.gamma.tolist()) == (block.epsilon, block.gamma.tolist())


@settings(deadline=None)
@given(MULTIPLIER, SHIFT, st.none() | st.tuples(MULTIPLIER, SHIFT))
def test_softmax_blocks_survive(multiplier: int, shift: int, bias: tuple[int, int] | None) -> None:
    block = SoftmaxParameters(multiplier, shift, bias)
    assert SoftmaxParameters.from_bytes(block.to_bytes(), has_bias=bias is not None) == block


def test_wider_integers_are_taken_if_they_fit() -> None:
    wide = MapParameters(np.array([5]), np.array([6]), np.array([7]))  # pyright: ignore[reportArgumentType]
    assert wide == MapParameters(int32(5), int32(6), np.array([7], dtype=np.int8))
    assert wide != SoftmaxParameters(6, 7)
    assert wide.bias.dtype == np.int32
    with pytest.raises(ValueError, match="bias does not fit int32"):
        MapParameters(np.array([2**31]), np.array([6]), np.array([7]))  # pyright: ignore[reportArgumentType]


def test_short_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="a map parameter block has 44 bytes, got 43"):
        MapParameters.from_bytes(bytes(43), 1)
    with pytest.raises(ValueError, match="a norm parameter block has 40 bytes, got 39"):
        NormParameters.from_bytes(bytes(39), 1)
    with pytest.raises(ValueError, match="a softmax parameter block has 16 bytes, got 15"):
        SoftmaxParameters.from_bytes(np.zeros(15, dtype=np.uint8), has_bias=False)


MAP: dict[str, Any] = {"bias": int32(0), "multiplier": int32(1), "shift": np.array([30], dtype=np.int8)}
NORM: dict[str, Any] = {"gamma": int32(0), "beta": int32(1), "epsilon": 1, "shift": 20}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"multiplier": int32(-1)}, "multiplier must be"),
        ({"shift": np.array([1], dtype=np.int8)}, "shift must be"),
        ({"shift": np.array([63], dtype=np.int8)}, "shift must be"),
        ({"bias": int32(0, 1)}, "as long as each other"),
        ({"bias": np.zeros((1, 1), dtype=np.int32)}, "row of integers"),
        ({"bias": np.zeros(1)}, "row of integers"),
        ({"table_multiplier": -1}, "table multiplier"),
        ({"table_shift": 63}, "table shift"),
        ({"residual_multiplier": 2**31}, "residual multiplier"),
        ({"residual_shift": 0}, "residual shift"),
        ({"residual_bias": 2**31}, "residual bias"),
        ({"output_zero_point": -(2**31) - 1}, "output zero point"),
    ],
)
def test_bad_map_values_are_refused(change: dict[str, Any], message: str) -> None:
    MapParameters(**MAP)
    with pytest.raises(ValueError, match=message):
        MapParameters(**{**MAP, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": int32(0, 1)}, "equally long"),
        ({"epsilon": 0}, "epsilon"),
        ({"epsilon": 2**61}, "epsilon"),
        ({"shift": 64}, "shift"),
        ({"copy_multiplier": -1}, "copy multiplier"),
        ({"copy_shift": 1}, "copy shift"),
        ({"copy_zero_point": 2**31}, "copy zero point"),
    ],
)
def test_bad_norm_values_are_refused(change: dict[str, Any], message: str) -> None:
    NormParameters(**NORM)
    with pytest.raises(ValueError, match=message):
        NormParameters(**{**NORM, **change})


def test_bad_softmax_values_are_refused() -> None:
    with pytest.raises(ValueError, match="multiplier"):
        SoftmaxParameters(-1, 30)
    with pytest.raises(ValueError, match="shift"):
        SoftmaxParameters.from_bytes(struct.pack("<2i8x", 1, 63), has_bias=False)
    with pytest.raises(ValueError, match="bias shift"):
        SoftmaxParameters.from_bytes(struct.pack("<2i8x", 1, 30), has_bias=True)
