"""The model's values that a program's buffers hold, as its debug map has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sta.backend.container import Container, ContainerError, is_integer
from sta.runtime.memory import Array, Memories
from sta.spec.instructions.access import DTYPES

_MOST_AXES = 32
"""Most axes and factors of axes; NumPy's own limit is 64."""


@dataclass(frozen=True)
class Value:
    """A tensor that lies in a buffer while the program runs."""

    name: str
    """The path of the module that makes it."""
    operation: str
    """The operation of the ``nm`` dialect that makes it; empty for a buffer as such."""
    space: str
    """``spad``, ``wbuf``, ``acc`` or ``dram``."""
    offset: int
    """Address of the first element, in bytes."""
    dtype: np.dtype[Any]
    axes: tuple[tuple[tuple[int, int], ...], ...]
    """For each axis pairs of size and stride (in elements), outermost first; usually one pair."""
    first: int
    last: int
    """The first and the last instruction that writes it."""
    scale: float | None = None
    """real = (integer - zero_point) * scale; None where the compiler did not say."""
    zero_point: int = 0
    source: str = ""
    """The tensor of the float model that it is, "" where the compiler did not say."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        return tuple(math.prod(size for size, _ in axis) for axis in self.axes)

    @property
    def end(self) -> int:
        """The address behind the last element, in bytes."""
        last = sum((size - 1) * stride for axis in self.axes for size, stride in axis)
        return self.offset + self.dtype.itemsize * (1 + last)

    def read(self, memories: Memories) -> Array:
        """Returns a copy of the integers as they are now, in the tensor's shape."""
        is_dram = self.space == "dram"
        memory = memories.writable if is_dram else getattr(memories, self.space)
        base = memories.program.container.writable_base if is_dram else 0
        factors = [factor for axis in self.axes for factor in axis]
        sizes, strides = [size for size, _ in factors], [stride * self.dtype.itemsize for _, stride in factors]
        return np.ndarray(sizes, self.dtype, memory, self.offset - base, strides).reshape(self.shape).copy()

    def real(self, integers: Array) -> NDArray[np.float64]:
        """Returns what integers mean as float64; raises ValueError where the compiler did not say."""
        if self.scale is None:
            raise ValueError(f"{self.name}: the debug map has no scale for this value")
        return (integers.astype(np.float64) - self.zero_point) * self.scale


def values_of(container: Container) -> list[Value]:
    """
    Returns the values of the debug map, in the order of their first instruction; empty if it has none.

    Raises:
        ContainerError: an entry does not have its documented form, or lies outside its memory.
    """
    entries = container.debug.get("values", [])
    if not isinstance(entries, list):
        raise ContainerError("section 'debug': 'values' is not a list")
    values = [_value(entry, container) for entry in cast(list[object], entries)]
    return sorted(values, key=lambda value: (value.first, value.last))


def buffers_of(container: Container) -> list[Value]:
    """
    Returns the buffers of the debug map as they lie there, in its order; those without shape and type are left out.

    Raises:
        ContainerError: an entry does not have its documented form, or lies outside its memory.
    """
    entries: list[dict[str, Any]] = container.debug["buffers"]
    return [_value(_whole(entry), container) for entry in entries if "shape" in entry and "type" in entry]


def _whole(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entry of a buffer as the entry of a value that fills it, row by row."""
    shape: object = entry["shape"]
    sizes = cast(list[object], shape) if isinstance(shape, list) else []
    if not all(is_integer(size) and cast(int, size) >= 0 for size in sizes):
        raise ContainerError("section 'debug': the shape of an entry of 'buffers' is malformed")
    numbers = cast(list[int], sizes)
    axes = [[[size, math.prod(numbers[axis + 1 :])]] for axis, size in enumerate(numbers)]
    return {**entry, "operation": "", "axes": axes, "last": max(entry.get("first", 0), entry.get("last", 0))}


def _value(entry: object, container: Container) -> Value:
    empty: Mapping[str, Any] = {}
    fields = cast(Mapping[str, Any], entry) if isinstance(entry, dict) else empty
    texts = [fields.get(key) for key in ("name", "operation", "space", "type")]
    numbers = [fields.get(key) for key in ("offset", "first", "last")]
    if not all(isinstance(text, str) for text in texts) or not all(is_integer(number) for number in numbers):
        raise ContainerError("section 'debug': an entry of 'values' is malformed")
    name, operation, space, element = cast(list[str], texts)
    offset, first, last = cast(list[int], numbers)
    if (
        space not in ("spad", "wbuf", "acc", "dram")
        or element not in DTYPES
        or not 0 <= first <= last < len(container.code)
    ):
        raise ContainerError(f"section 'debug': the value {name!r} has an unknown memory, type or instruction")
    source = fields.get("source", "")
    if not isinstance(source, str):
        raise ContainerError(f"section 'debug': the source of the value {name!r} is malformed")
    axes = _axes(name, fields.get("axes"))
    value = Value(name, operation, space, offset, DTYPES[element], axes, first, last, **_scale(fields), source=source)
    low = container.writable_base if space == "dram" else 0
    if not low <= offset <= value.end <= container.program[space]:
        raise ContainerError(f"section 'debug': the value {name!r} lies outside {space}")
    return value


def _axes(name: str, axes: object) -> tuple[tuple[tuple[int, int], ...], ...]:
    parts = cast(list[Any], axes) if isinstance(axes, list) else None
    if parts is None or not all(_is_axis(axis) for axis in parts) or sum(map(len, parts)) > _MOST_AXES:
        raise ContainerError(f"section 'debug': the axes of the value {name!r} are malformed")
    return tuple(tuple((size, stride) for size, stride in axis) for axis in parts)


def _is_axis(axis: object) -> bool:
    return isinstance(axis, list) and all(_is_factor(factor) for factor in cast(list[object], axis))


def _is_factor(factor: object) -> bool:
    if not isinstance(factor, list | tuple):
        return False
    numbers = cast(list[object], factor)
    return len(numbers) == 2 and all(is_integer(number) and cast(int, number) >= 0 for number in numbers)


def _scale(fields: Mapping[str, Any]) -> dict[str, Any]:
    scale, zero_point = fields.get("scale"), fields.get("zero_point", 0)
    if not isinstance(scale, float | int) or isinstance(scale, bool) or not is_integer(zero_point):
        return {}
    return {"scale": float(scale), "zero_point": zero_point}
