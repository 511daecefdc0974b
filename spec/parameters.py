"""
The parameter blocks of the vector and softmax units, read from the weight buffer.

Little endian. A map block is a header of 32 bytes (six int32: table multiplier, table shift, residual bias, residual
multiplier, residual shift, output zero point; 8 zero bytes), then ``bias`` int32[c], ``multiplier`` int32[c] and
``shift`` int8[c], padded with zeros to a multiple of 4. A norm block is a header of 32 bytes (int64 epsilon; int32
shift, copy multiplier, copy shift, copy zero point; 8 zero bytes), then ``gamma`` int32[n] and ``beta`` int32[n]. A
softmax block is int32 multiplier, int32 shift and the same of a bias, or 8 zero bytes. A rotate block is int32
multiplier, int32 shift and 8 zero bytes.
"""

import struct
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sta.spec.integers import IDENTITY_SCALE, Int32Array, check_scale
from sta.spec.norm import EPSILON_LIMIT

Buffer: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[np.uint8]

HEADER_BYTES = 32
"""The header of map and norm blocks."""
SOFTMAX_PARAMETERS_SIZE = 16
"""The size in bytes of a softmax block."""
ROTATE_PARAMETERS_SIZE = 16
"""The size in bytes of a rotate block."""

_MAP_HEADER = struct.Struct("<6i8x")
_NORM_HEADER = struct.Struct("<q4i8x")
_SOFTMAX = struct.Struct("<4i")
_ROTATE = struct.Struct("<2i8x")


def map_parameters_size(columns: int) -> int:
    """Returns the size in bytes of a map block with `columns` entries (1 for scalar parameters)."""
    return HEADER_BYTES + 8 * columns + (columns + 3) // 4 * 4


def norm_parameters_size(n: int) -> int:
    """Returns the size in bytes of a norm block for rows of `n` values."""
    return HEADER_BYTES + 8 * n


@dataclass(frozen=True, eq=False)
class MapParameters:
    """
    Parameters of `sta.spec.vector.map_tile`; the arrays have one entry, or one for each column.

    Raises `ValueError` for arrays of different lengths and for values outside their fields: multipliers 0..2^31-1,
    shifts 2..62, everything else int32.
    """

    bias: Int32Array
    """Added to the source before it is rescaled."""
    multiplier: Int32Array
    shift: npt.NDArray[np.int8]
    table_multiplier: int = IDENTITY_SCALE[0]
    """Rescales the table's result, which has 7 fraction bits."""
    table_shift: int = IDENTITY_SCALE[1]
    residual_bias: int = 0
    """Added to the residual before it is rescaled: minus its zero point."""
    residual_multiplier: int = IDENTITY_SCALE[0]
    residual_shift: int = IDENTITY_SCALE[1]
    output_zero_point: int = 0

    def __post_init__(self) -> None:
        for name, dtype in (("bias", np.int32), ("multiplier", np.int32), ("shift", np.int8)):
            object.__setattr__(self, name, _parameter_array(name, getattr(self, name), dtype))
        if not self.bias.shape == self.multiplier.shape == self.shift.shape or not self.bias.size:
            lengths = f"{self.bias.shape}, {self.multiplier.shape}, {self.shift.shape}"
            raise ValueError(f"bias, multiplier and shift must be as long as each other and not empty, got {lengths}")
        check_scale(int(self.multiplier.min()), int(self.shift.min()))
        check_scale(int(self.multiplier.max()), int(self.shift.max()))
        check_scale(self.table_multiplier, self.table_shift, "table ")
        check_scale(self.residual_multiplier, self.residual_shift, "residual ")
        _check_int32("residual bias", self.residual_bias)
        _check_int32("output zero point", self.output_zero_point)

    @property
    def columns(self) -> int:
        """The number of entries: 1 for scalar parameters."""
        return self.bias.size

    @staticmethod
    def size(columns: int) -> int:
        """Returns the size in bytes of a block with `columns` entries."""
        return map_parameters_size(columns)

    def to_bytes(self) -> bytes:
        """Returns the block, `map_parameters_size` bytes."""
        return self.blocks(self.columns)[0]

    def blocks(self, columns: int) -> list[bytes]:
        """Returns blocks of `columns` entries each, the last with the rest, each of `map_parameters_size` bytes."""
        header = _MAP_HEADER.pack(
            self.table_multiplier,
            self.table_shift,
            self.residual_bias,
            self.residual_multiplier,
            self.residual_shift,
            self.output_zero_point,
        )
        bias, multiplier = self.bias.astype("<i4", copy=False), self.multiplier.astype("<i4", copy=False)
        parts = [slice(n, min(n + columns, self.columns)) for n in range(0, self.columns, columns)]
        return [
            (header + bias[part].tobytes() + multiplier[part].tobytes() + self.shift[part].tobytes()).ljust(
                map_parameters_size(part.stop - part.start), b"\0"
            )
            for part in parts
        ]

    @staticmethod
    def from_bytes(data: Buffer, columns: int) -> "MapParameters":
        """Reads a block with `columns` entries from the start of `data`; `ValueError` if it is short or invalid."""
        block = _block(data, map_parameters_size(columns), "map")
        arrays = block[HEADER_BYTES:]
        return MapParameters(
            np.frombuffer(arrays, "<i4", columns),
            np.frombuffer(arrays, "<i4", columns, 4 * columns),
            np.frombuffer(arrays, "i1", columns, 8 * columns),
            *_MAP_HEADER.unpack_from(block),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MapParameters) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())


@dataclass(frozen=True, eq=False)
class NormParameters:
    """
    Parameters of `sta.spec.vector.norm_tile`: parameters of `sta.spec.norm.layer_norm`, and the int8 copy's scale.

    Raises `ValueError` for values out of range: epsilon 1..2^61-1, shift 0..63, the copy's multiplier 0..2^31-1 and
    shift 2..62.
    """

    gamma: Int32Array
    beta: Int32Array
    epsilon: int
    shift: int
    copy_multiplier: int = IDENTITY_SCALE[0]
    copy_shift: int = IDENTITY_SCALE[1]
    copy_zero_point: int = 0

    def __post_init__(self) -> None:
        for name in ("gamma", "beta"):
            object.__setattr__(self, name, _parameter_array(name, getattr(self, name), np.int32))
        if self.gamma.shape != self.beta.shape or not self.gamma.size:
            raise ValueError(f"gamma and beta must be equally long, got {self.gamma.shape} and {self.beta.shape}")
        if not 1 <= self.epsilon < EPSILON_LIMIT:
            raise ValueError(f"epsilon must be in 1..2^61-1, got {self.epsilon}")
        if not 0 <= self.shift <= 63:
            raise ValueError(f"shift must be in 0..63, got {self.shift}")
        check_scale(self.copy_multiplier, self.copy_shift, "copy ")
        _check_int32("copy zero point", self.copy_zero_point)

    @staticmethod
    def size(n: int) -> int:
        """Returns the size in bytes of a block for rows of `n` values."""
        return norm_parameters_size(n)

    def to_bytes(self) -> bytes:
        """Returns the block, `norm_parameters_size` bytes."""
        header = _NORM_HEADER.pack(
            self.epsilon, self.shift, self.copy_multiplier, self.copy_shift, self.copy_zero_point
        )
        return header + self.gamma.astype("<i4").tobytes() + self.beta.astype("<i4").tobytes()

    @staticmethod
    def from_bytes(data: Buffer, n: int) -> "NormParameters":
        """Reads a block for rows of `n` values from the start of `data`; `ValueError` if it is short or invalid."""
        block = _block(data, norm_parameters_size(n), "norm")
        arrays = block[HEADER_BYTES:]
        return NormParameters(
            np.frombuffer(arrays, "<i4", n), np.frombuffer(arrays, "<i4", n, 4 * n), *_NORM_HEADER.unpack_from(block)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NormParameters) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())


@dataclass(frozen=True)
class SoftmaxParameters:
    """
    The scales of scores, and of their bias if there is one, to log2 units with 10 fraction bits.

    Raises `ValueError` for a multiplier outside 0..2^31-1 or a shift outside 2..62.
    """

    multiplier: int
    shift: int
    bias_scale: tuple[int, int] | None = None
    """Multiplier and shift."""

    def __post_init__(self) -> None:
        check_scale(self.multiplier, self.shift)
        if self.bias_scale is not None:
            check_scale(*self.bias_scale, "bias ")

    @staticmethod
    def size() -> int:
        """Returns the size in bytes of a block."""
        return SOFTMAX_PARAMETERS_SIZE

    def to_bytes(self) -> bytes:
        """Returns the block, 16 bytes."""
        return _SOFTMAX.pack(self.multiplier, self.shift, *(self.bias_scale or (0, 0)))

    @staticmethod
    def from_bytes(data: Buffer, *, has_bias: bool) -> "SoftmaxParameters":
        """Reads a block from the start of `data`; `ValueError` if it is short or invalid."""
        multiplier, shift, *bias = _SOFTMAX.unpack_from(_block(data, SOFTMAX_PARAMETERS_SIZE, "softmax"))
        return SoftmaxParameters(multiplier, shift, (bias[0], bias[1]) if has_bias else None)


@dataclass(frozen=True)
class RotateParameters:
    """
    The scale of `sta.spec.rotation.rotate_rows`.

    Raises `ValueError` for a multiplier outside 0..2^31-1 or a shift outside 2..62.
    """

    multiplier: int
    shift: int

    def __post_init__(self) -> None:
        check_scale(self.multiplier, self.shift)

    @staticmethod
    def size() -> int:
        """Returns the size in bytes of a block."""
        return ROTATE_PARAMETERS_SIZE

    def to_bytes(self) -> bytes:
        """Returns the block, 16 bytes."""
        return _ROTATE.pack(self.multiplier, self.shift)

    @staticmethod
    def from_bytes(data: Buffer) -> "RotateParameters":
        """Reads a block from the start of `data`; `ValueError` if it is short or invalid."""
        return RotateParameters(*_ROTATE.unpack_from(_block(data, ROTATE_PARAMETERS_SIZE, "rotate")))


def _block(data: Buffer, size: int, kind: str) -> bytes:
    """Returns the first `size` bytes of a buffer; raises `ValueError` if there are fewer."""
    block = data[:size].tobytes() if isinstance(data, np.ndarray) else bytes(data[:size])
    if len(block) != size:
        raise ValueError(f"a {kind} parameter block has {size} bytes, got {len(block)}")
    return block


def _parameter_array(name: str, values: Any, dtype: type[np.integer[Any]]) -> npt.NDArray[Any]:
    """Returns one-dimensional integers in the field's dtype; raises `ValueError` if they do not fit it."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be a row of integers, got {array.dtype} of shape {array.shape}")
    if array.dtype == dtype:
        return array
    converted = array.astype(dtype)
    if not np.array_equal(converted, array):
        raise ValueError(f"{name} does not fit {np.dtype(dtype)}")
    return converted


def _check_int32(name: str, value: int) -> None:
    """Raises `ValueError` unless the value fits int32."""
    if not -(1 << 31) <= value < 1 << 31:
        raise ValueError(f"{name} does not fit int32: {value}")
