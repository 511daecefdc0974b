"""
The operations of the host prologue: integers and bools only, on whole arrays, in NumPy.

A program's prologue computes on the host what the model computes from ids and masks alone (`sta.spec.host_prologue`).
Each operation says which operands and attributes it takes, the type of its result, and its meaning. Integers wrap
around as NumPy's and PyTorch's do. Results depend on nothing else, so that both engines get the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Attributes: TypeAlias = Mapping[str, Any]

HOST_DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64")
"""The dtypes of values in a prologue."""
MOST_AXES = 32
"""Of a value; NumPy has a limit of its own."""
_LARGEST = (1 << 63) - 1


class HostFault(ValueError):
    """The numbers of an input for which an operation has no result."""


@dataclass(frozen=True)
class HostType:
    """
    Shape and dtype of a value.

    Raises `ValueError` for another dtype than `HOST_DTYPES`, too many axes, and an axis without elements.
    """

    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        if self.dtype not in HOST_DTYPES:
            raise ValueError(f"a value's dtype is {self.dtype!r}, not one of {', '.join(HOST_DTYPES)}")
        if len(self.shape) > MOST_AXES or any(not 1 <= size <= _LARGEST for size in self.shape):
            raise ValueError(
                f"a value of shape {list(self.shape)}: at most {MOST_AXES} axes with elements are expected"
            )

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.elements * np.dtype(self.dtype).itemsize

    @property
    def is_bool(self) -> bool:
        """True for bools."""
        return self.dtype == "bool"

    def __str__(self) -> str:
        """`int64[1, 24]`."""
        return f"{self.dtype}{list(self.shape)}"


Result: TypeAlias = Callable[[Sequence[HostType], Attributes], HostType]
Compute: TypeAlias = Callable[[Sequence[Array], Attributes], Array]


@dataclass(frozen=True)
class HostOperation:
    """One operation of the prologue."""

    name: str
    summary: str
    """Result, as a noun phrase."""
    operands: int | None
    """The number of values that it takes; None for one or more."""
    attributes: Mapping[str, str]
    """Kinds of its attributes by name: `integer`, `integers` (a list) or `dtype`."""
    _result: Result
    _compute: Compute

    def result(self, operands: Sequence[HostType], attributes: Attributes) -> HostType:
        """
        Returns the type of the result.

        Raises `ValueError` for operands or attributes that do not fit.
        """
        if self.operands is not None and len(operands) != self.operands:
            raise ValueError(f"{self.name} takes {self.operands} operands, not {len(operands)}")
        if self.operands is None and not operands:
            raise ValueError(f"{self.name} takes one operand at least")
        if set(attributes) != set(self.attributes):
            raise ValueError(f"{self.name} has the attributes {sorted(self.attributes)}, not {sorted(attributes)}")
        for name, kind in self.attributes.items():
            if not _KINDS[kind](attributes[name]):
                raise ValueError(f"{self.name}: the attribute {name!r} is no {_KIND_TEXTS[kind]}: {attributes[name]!r}")
        try:
            return self._result(operands, attributes)
        except ValueError as error:
            given = ", ".join(map(str, operands))
            raise ValueError(f"{self.name} of {given or 'nothing'}: {error}") from None

    def compute(self, operands: Sequence[Array], attributes: Attributes) -> Array:
        """
        Returns the result for operands and attributes of which `result` gives a type.

        Raises `HostFault` for an index outside of what it points into, and for a division by zero.
        """
        with np.errstate(all="ignore"):
            return np.asarray(self._compute(operands, attributes))


def is_integer(value: object) -> bool:
    """Returns whether a value is an integer of 64 bits (`True` is none)."""
    return isinstance(value, int) and not isinstance(value, bool) and -_LARGEST - 1 <= value <= _LARGEST


def is_integers(value: object) -> bool:
    """Returns whether a value is a list or tuple of integers, for at most `MOST_AXES` axes."""
    if not isinstance(value, list | tuple):
        return False
    items = cast("Sequence[object]", value)
    return len(items) <= MOST_AXES and all(map(is_integer, items))


_KINDS: Mapping[str, Callable[[object], bool]] = {
    "integer": is_integer,
    "integers": is_integers,
    "dtype": lambda value: isinstance(value, str) and value in HOST_DTYPES,
}
_KIND_TEXTS = {"integer": "integer", "integers": "list of integers", "dtype": "dtype of integers or bools"}


# --- Types of results ---


def _axis(kind: HostType, axis: int) -> int:
    if not 0 <= axis < len(kind.shape):
        raise ValueError(f"it has no axis {axis}")
    return axis


def _axes(kind: HostType, axes: Sequence[int]) -> tuple[int, ...]:
    if len(set(axes)) != len(axes):
        raise ValueError(f"an axis is given twice: {list(axes)}")
    return tuple(_axis(kind, axis) for axis in axes)


def _broadcast(kinds: Sequence[HostType]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*(kind.shape for kind in kinds))
    except ValueError:
        raise ValueError("their shapes do not broadcast") from None


def _alike(kinds: Sequence[HostType], _: Attributes) -> HostType:
    if len({kind.dtype for kind in kinds}) != 1:
        raise ValueError("operands of one dtype are expected")
    return HostType(_broadcast(kinds), kinds[0].dtype)


def _numbers(kinds: Sequence[HostType], attributes: Attributes) -> HostType:
    if any(kind.is_bool for kind in kinds):
        raise ValueError("integers are expected, not bools")
    return _alike(kinds, attributes)


def _truths(kinds: Sequence[HostType], attributes: Attributes) -> HostType:
    return HostType(_alike(kinds, attributes).shape, "bool")


def _selected(kinds: Sequence[HostType], attributes: Attributes) -> HostType:
    if not kinds[0].is_bool:
        raise ValueError("bools are expected to choose by")
    return HostType(_broadcast(kinds), _alike(kinds[1:], attributes).dtype)


def _number(_: Sequence[HostType], attributes: Attributes) -> HostType:
    value, dtype = attributes["value"], np.dtype(attributes["dtype"])
    low, high = (0, 1) if dtype == np.bool_ else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not low <= value <= high:
        raise ValueError(f"{value} is no number of dtype {dtype}")
    return HostType((), dtype.name)


def _reshaped(kinds: Sequence[HostType], attributes: Attributes) -> HostType:
    result = HostType(tuple(attributes["shape"]), kinds[0].dtype)
    if result.elements != kinds[0].elements:
        raise ValueError(f"its elements do not fill the shape {list(result.shape)}")
    return result


def _expanded(kinds: Sequence[HostType], attributes: Attributes) -> HostType:
    result = HostType(tuple(attributes["shape"]), kinds[0].dtype)
    if _broadcast([kinds[0], result]) != result.shape:
        raise ValueError(f"it does not expand to {list(result.shape)}")
    return result


def _permuted(kinds: Sequence[HostType], attributes: Attributes) -> HostType:
    axes = _axes(kinds[0], attributes["axes"])
    if len(axes) != len(kinds[0].shape):
        raise ValueError(f"{list(axes)} is no order of its axes")
    return HostType(tuple(kinds[0].shape[axis] for axis in axes), kinds[0].dtype)


def _sliced(kinds: Sequence[HostType], attributes: Attributes) -> HostType:
    axis = _axis(kinds[0], attributes["axis"])
    start, stop, step = (attributes[name] for name in ("start", "stop", "step"))
    if step < 1 or not 0 <= start < stop <= kinds[0].shape[axis]:
        raise ValueError(f"it has no positions {start} to {stop} with step {step} on axis {axis}")
    return HostType(_with_size(kinds[0], axis, len(range(start, stop, step))), kinds[0].dtype)


def _with_size(kind: HostType, axis: int, size: int) -> tuple[int, ...]:
    return (*kind.shape[:axis], size, *kind.shape[axis + 1 :])


def _concatenated(kinds: Sequence[HostType], attributes: Attributes) -> HostType:
    first = kinds[0]
    axis = _axis(first, attributes["axis"])
    for kind in kinds[1:]:
        same = kind.dtype == first.dtype and len(kind.shape) == len(first.shape)
        if not same or _with_size(kind, axis, 1) != _with_size(first, axis, 1):
            raise ValueError(f"they do not fit together along axis {axis}")
    return HostType(_with_size(first, axis, sum(kind.shape[axis] for kind in kinds)), first.dtype)


def _reduced(kinds: Sequence[HostType], attributes: Attributes) -> HostType:
    axes = _axes(kinds[0], attributes["axes"])
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(kinds[0].shape))
    return HostType(shape, kinds[0].dtype)


def _reversed(kinds: Sequence[HostType], attributes: Attributes) -> HostType:
    _axes(kinds[0], attributes["axes"])
    return kinds[0]


def _summed(kinds: Sequence[HostType], attributes: Attributes) -> HostType:
    return _reduced([_numbers(kinds, attributes)], attributes)


def _on_axis(kinds: Sequence[HostType], attributes: Attributes) -> HostType:
    _axis(kinds[0], attributes["axis"])
    return _numbers(kinds, attributes)


def _placed(kinds: Sequence[HostType], attributes: Attributes) -> HostType:
    return HostType(_with_size(kinds[0], _axis(kinds[0], attributes["axis"]), 1), "int64")


def _taken(kinds: Sequence[HostType], attributes: Attributes) -> HostType:
    values, indices = kinds
    axis = _axis(values, attributes["axis"])
    if indices.is_bool:
        raise ValueError("indices are integers")
    return HostType((*values.shape[:axis], *indices.shape, *values.shape[axis + 1 :]), values.dtype)


def _gathered(kinds: Sequence[HostType], attributes: Attributes) -> HostType:
    values, indices = kinds
    axis = _axis(values, attributes["axis"])
    fits = len(indices.shape) == len(values.shape) and _with_size(indices, axis, 1) == _with_size(values, axis, 1)
    if indices.is_bool or not fits:
        raise ValueError(f"indices are integers, in the shape of the values but for axis {axis}")
    return HostType(indices.shape, values.dtype)


# --- Meanings ---


def _divided(operands: Sequence[Array], _: Attributes) -> Array:
    return np.floor_divide(operands[0], _divisor(operands[1]))


def _remainder(operands: Sequence[Array], _: Attributes) -> Array:
    return np.remainder(operands[0], _divisor(operands[1]))


def _divisor(array: Array) -> Array:
    if not np.all(array):
        raise HostFault("it divides by zero")
    return array


def _within(indices: Array, size: int) -> Array:
    """Returns indices of which each is one of 0..size-1."""
    outside = np.argwhere((indices < 0) | (indices >= size))
    if len(outside):
        place = tuple(int(axis) for axis in outside[0])
        raise HostFault(f"{indices[place]} at {list(place)} is no index of 0..{size - 1}")
    return indices


def _take(operands: Sequence[Array], attributes: Attributes) -> Array:
    values, indices = operands
    axis: int = attributes["axis"]
    return np.take(values, _within(indices, values.shape[axis]), axis=axis)


def _gather(operands: Sequence[Array], attributes: Attributes) -> Array:
    values, indices = operands
    axis: int = attributes["axis"]
    return np.take_along_axis(values, _within(indices, values.shape[axis]).astype(np.int64), axis=axis)


def _slice(operands: Sequence[Array], attributes: Attributes) -> Array:
    before = (slice(None),) * attributes["axis"]
    return operands[0][(*before, slice(attributes["start"], attributes["stop"], attributes["step"]))]


def _along(function: Callable[..., Array]) -> Compute:
    """The meaning of a reduction over axes that stay, with one element each."""
    return lambda operands, attributes: function(operands[0], axis=tuple(attributes["axes"]), keepdims=True)


def _sum(values: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    return np.sum(values, axis=axis, keepdims=keepdims, dtype=values.dtype)


def _of(function: Callable[..., Array]) -> Compute:
    """The meaning of a function of the operands alone."""
    return lambda operands, attributes: function(*operands)


_AXIS, _AXES, _SHAPE = {"axis": "integer"}, {"axes": "integers"}, {"shape": "integers"}
_BOUNDS = {name: "integer" for name in ("axis", "start", "stop", "step")}

_OPERATIONS = (
    HostOperation(
        "number",
        "a number",
        0,
        {"value": "integer", "dtype": "dtype"},
        _number,
        lambda operands, attributes: np.array(attributes["value"], attributes["dtype"]),
    ),
    HostOperation(
        "convert",
        "the elements in another dtype; of bools 0 and 1, to bools whether they are not 0",
        1,
        {"dtype": "dtype"},
        lambda kinds, attributes: HostType(kinds[0].shape, attributes["dtype"]),
        lambda operands, attributes: operands[0].astype(attributes["dtype"]),
    ),
    HostOperation("add", "sums", 2, {}, _numbers, _of(np.add)),
    HostOperation("subtract", "differences", 2, {}, _numbers, _of(np.subtract)),
    HostOperation("multiply", "products", 2, {}, _numbers, _of(np.multiply)),
    HostOperation("floor_divide", "quotients, rounded down", 2, {}, _numbers, _divided),
    HostOperation("remainder", "remainders, with the sign of the divisor", 2, {}, _numbers, _remainder),
    HostOperation("minimum", "the smaller of two", 2, {}, _alike, _of(np.minimum)),
    HostOperation("maximum", "the larger of two", 2, {}, _alike, _of(np.maximum)),
    HostOperation("and", "bits that both have", 2, {}, _alike, _of(np.bitwise_and)),
    HostOperation("or", "bits that one or both have", 2, {}, _alike, _of(np.bitwise_or)),
    HostOperation("xor", "bits that one has", 2, {}, _alike, _of(np.bitwise_xor)),
    HostOperation("not", "the other bits", 1, {}, _alike, _of(np.bitwise_not)),
    HostOperation("equal", "whether two are equal", 2, {}, _truths, _of(np.equal)),
    HostOperation("less", "whether the first is less", 2, {}, _truths, _of(np.less)),
    HostOperation("less_equal", "whether the first is less or equal", 2, {}, _truths, _of(np.less_equal)),
    HostOperation("select", "the second where the first is true, else the third", 3, {}, _selected, _of(np.where)),
    HostOperation(
        "reshape",
        "the same elements in row-major order under another shape",
        1,
        _SHAPE,
        _reshaped,
        lambda operands, attributes: operands[0].reshape(attributes["shape"]),
    ),
    HostOperation(
        "expand",
        "axes of size 1, and axes in front, repeated",
        1,
        _SHAPE,
        _expanded,
        lambda operands, attributes: np.broadcast_to(operands[0], tuple(attributes["shape"])),
    ),
    HostOperation(
        "permute",
        "the axes in another order",
        1,
        _AXES,
        _permuted,
        lambda operands, attributes: operands[0].transpose(attributes["axes"]),
    ),
    HostOperation("slice", "positions start, start + step, … below stop of an axis", 1, _BOUNDS, _sliced, _slice),
    HostOperation(
        "reverse",
        "axes in the opposite direction",
        1,
        _AXES,
        _reversed,
        lambda operands, attributes: np.flip(operands[0], tuple(attributes["axes"])),
    ),
    HostOperation(
        "concatenate",
        "values one after the other along an axis",
        None,
        _AXIS,
        _concatenated,
        lambda operands, attributes: np.concatenate(operands, axis=attributes["axis"]),
    ),
    HostOperation("sum", "sums over axes, which stay with one element", 1, _AXES, _summed, _along(_sum)),
    HostOperation("amax", "the largest over axes, which stay with one element", 1, _AXES, _reduced, _along(np.amax)),
    HostOperation("amin", "the smallest over axes, which stay with one element", 1, _AXES, _reduced, _along(np.amin)),
    HostOperation(
        "argmax",
        "the first position of the largest on an axis, which stays with one element",
        1,
        _AXIS,
        _placed,
        lambda operands, attributes: np.argmax(operands[0], axis=attributes["axis"], keepdims=True).astype(np.int64),
    ),
    HostOperation(
        "cumsum",
        "sums up to each position of an axis",
        1,
        _AXIS,
        _on_axis,
        lambda operands, attributes: np.cumsum(operands[0], axis=attributes["axis"], dtype=operands[0].dtype),
    ),
    HostOperation("take", "the positions of an axis that indices name", 2, _AXIS, _taken, _take),
    HostOperation("gather", "for each index the element of its row at that position", 2, _AXIS, _gathered, _gather),
)

HOST_OPERATIONS: Mapping[str, HostOperation] = MappingProxyType({one.name: one for one in _OPERATIONS})
"""The operations by name."""
