"""Conversion of inputs and outputs between the host's arrays and the device's integers."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

DEVICE_DTYPES = ("int8", "uint8", "int16", "int32")
"""The dtypes a tensor may have on the device."""
NO_DEVICE = "none"
"""In place of a dtype on the device, for a tensor that never gets there."""
TENSOR_KINDS = ("quantized", "index", "mask", "host")
"""Meaning of a tensor's integers."""

# The fields that are not texts; the shape is a list of integers.
_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "shape": (),
    "scale": (float, int),
    "zero_point": (int,),
    "limit": (int,),
    "inverted": (bool,),
}


@dataclass(frozen=True)
class TensorSignature:
    """
    One input or output of a program.

    Raises `ValueError` for inconsistent fields.
    """

    name: str
    shape: tuple[int, ...]
    host_dtype: str
    """NumPy name of the dtype that the model has on the host."""
    device_dtype: str
    """One of `DEVICE_DTYPES`; `NO_DEVICE` for the kind ``host``."""
    kind: str
    """
    ``quantized``: real = (integer - zero_point) * scale; ``index``: 0 <= integer < limit; ``mask``: 0 or 1; ``host``:
    an input that only the host's prologue reads, or nothing.
    """
    scale: float = 1.0
    zero_point: int = 0
    limit: int = 0
    """
    Rows of the table that an index points into; of the kind ``host`` 2 if only 0 and 1 are accepted. Unused otherwise.
    """
    inverted: bool = False
    """True if a mask is 1 on the host at excluded positions; on the device 1 always marks admissible ones."""

    def __post_init__(self) -> None:
        if self.kind not in TENSOR_KINDS:
            raise ValueError(f"tensor {self.name!r}: kind {self.kind!r} is not one of {', '.join(TENSOR_KINDS)}")
        known = (NO_DEVICE,) if self.kind == "host" else DEVICE_DTYPES
        if self.device_dtype not in known:
            raise ValueError(f"tensor {self.name!r}: {self.device_dtype!r} is not one of {', '.join(known)}")
        if any(size < 0 for size in self.shape):
            raise ValueError(f"tensor {self.name!r}: shape {self.shape} has a negative size")
        try:
            np.dtype(self.host_dtype)
        except TypeError as error:
            raise ValueError(f"tensor {self.name!r}: {self.host_dtype!r} is not a dtype") from error
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"tensor {self.name!r}: scale must be finite and positive, got {self.scale}")
        if self.kind == "host" and self.limit not in (0, 2):
            raise ValueError(f"tensor {self.name!r}: limit {self.limit} is neither 0 nor 2")
        if self.kind == "host":
            return
        limits = np.iinfo(self.device_dtype)
        if not limits.min <= self.zero_point <= limits.max:
            raise ValueError(f"tensor {self.name!r}: zero point {self.zero_point} does not fit {self.device_dtype}")
        if self.kind == "index" and not 1 <= self.limit <= int(limits.max) + 1:
            raise ValueError(f"tensor {self.name!r}: limit {self.limit} does not fit {self.device_dtype}")
        if self.inverted and self.kind != "mask":
            raise ValueError(f"tensor {self.name!r}: only a mask can be inverted, not kind {self.kind!r}")

    def encode(self, array: npt.ArrayLike) -> npt.NDArray[Any]:
        """
        Returns the device's integers for a host array, in the device dtype and the same shape.

        quantized: ``rint(x / scale) + zero_point`` in float64 (half to even), saturated; index: unchanged; mask: 0 or
        1, exchanged if it is inverted; host: unchanged, in the dtype of the host.

        Raises `ValueError` naming the tensor, what is expected and what was given, for another shape or kind of dtype,
        NaN or infinity, the first index out of range, a mask value that is neither 0 nor 1, and a number that the
        host's dtype does not hold.
        """
        try:
            values = np.asarray(array)
        # A tensor that needs gradients, lists of different lengths, …
        except (ValueError, TypeError, RuntimeError) as error:
            raise ValueError(f"input {self.name!r}: expected an array of {self.host_dtype}: {error}") from error
        self._check_host(values)
        if self.kind == "mask":
            self._check_mask(values)
            return (np.logical_not(values) if self.inverted else values).astype(self.device_dtype)
        if self.kind == "index":
            self._check_indices(values)
            return values.astype(self.device_dtype)
        if self.kind == "host":
            self._check_numbers(values)
            if self.limit:
                self._check_mask(values)
            return values.astype(self.host_dtype)
        limits = np.iinfo(self.device_dtype)
        # A huge value over a tiny scale may become infinite; it saturates like any other.
        with np.errstate(over="ignore"):
            scaled = np.rint(values.astype(np.float64) / self.scale) + self.zero_point
        return np.clip(scaled, limits.min, limits.max).astype(self.device_dtype)

    def decode(self, integers: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
        """Returns the device's integers as float32: ``(x - zero_point) * scale`` when quantized, else x itself."""
        if self.kind != "quantized":
            return integers.astype(np.float32)
        return ((integers.astype(np.float64) - self.zero_point) * self.scale).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Returns the signature as a dictionary that JSON can hold; `inverted` is left out where it is false."""
        values = {**dataclasses.asdict(self), "shape": list(self.shape)}
        if not self.inverted:
            del values["inverted"]
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "TensorSignature":
        """
        Returns the signature that `to_json` described; raises `ValueError` for missing keys or wrong types.

        Keys that are not fields are ignored: a container adds the address.
        """
        fields: dict[str, Any] = {}
        for field in dataclasses.fields(TensorSignature):
            if field.name == "inverted" and field.name not in values:
                continue
            if field.name not in values:
                raise ValueError(f"a tensor's signature lacks the key {field.name!r}")
            fields[field.name] = _checked_field(field.name, values[field.name])
        return TensorSignature(**fields)

    def _check_host(self, values: npt.NDArray[Any]) -> None:
        """Raises `ValueError` unless a host array has the right shape, kind of dtype, and only finite values."""
        if values.shape != self.shape:
            raise ValueError(f"input {self.name!r}: expected shape {self.shape}, got {values.shape}")
        if values.dtype.kind not in self._host_kinds():
            raise ValueError(f"input {self.name!r}: expected {self.host_dtype}, got {values.dtype}")
        if values.dtype.kind == "f" and not np.all(np.isfinite(values)):
            position = tuple(np.argwhere(~np.isfinite(values))[0].tolist())
            raise ValueError(f"input {self.name!r}: expected finite values, got {values[position]} at {list(position)}")

    def _host_kinds(self) -> str:
        """Returns the kinds of dtype (NumPy's letters) that are accepted for the host dtype."""
        if np.dtype(self.host_dtype).kind == "f":
            return "biuf" if self.kind == "host" else "f"
        is_index = self.kind == "index"
        return "iu" if is_index else "biu"

    def _check_mask(self, values: npt.NDArray[Any]) -> None:
        """
        Raises `ValueError` unless all values are 0 or 1: models interpret other values differently, `x != 0` one and
        `(1 - x) * -1e9` another.
        """
        wrong = np.argwhere((values != 0) & (values != 1))
        if len(wrong):
            place = tuple(int(axis) for axis in wrong[0])
            raise ValueError(f"input {self.name!r}: a mask holds 0 and 1, got {values[place]} at position {place}")

    def _check_numbers(self, values: npt.NDArray[Any]) -> None:
        """Raises `ValueError` naming the first number that the host's dtype does not hold."""
        wrong = np.argwhere(values.astype(self.host_dtype) != values)
        if len(wrong):
            place = tuple(int(axis) for axis in wrong[0])
            raise ValueError(f"input {self.name!r}: {values[place]} at {list(place)} is no {self.host_dtype}")

    def _check_indices(self, values: npt.NDArray[Any]) -> None:
        """Raises `ValueError` naming the first index outside 0..limit-1."""
        wrong = (values < 0) | (values >= self.limit)
        if not wrong.any():
            return
        position = tuple(np.argwhere(wrong)[0].tolist())
        raise ValueError(
            f"input {self.name!r}: expected indices in 0..{self.limit - 1}, got {values[position]} at {list(position)}"
        )


def _checked_field(name: str, value: Any) -> Any:
    """Returns a field read from JSON in its Python type; raises `ValueError` if JSON held another one."""
    if name == "shape" and isinstance(value, list):
        sizes = cast("list[object]", value)
        if all(type(size) is int for size in sizes):
            return tuple(sizes)
    elif type(value) in _JSON_TYPES.get(name, (str,)):
        return float(value) if name == "scale" else value
    raise ValueError(f"a tensor's signature has a bad value for {name!r}: {value!r}")
