"""
Operators on integers and bools, spelled with the operations of the host prologue (`sta.spec.host_operations`).

A rule makes the result of one operator. It is called with a `Host`, the type of the operator's result, and the
operator's arguments: values, Python constants, or lists of those. It raises `HostRefusal` for arguments of which the
host makes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from sta.spec.host_operations import HostType

Array: TypeAlias = NDArray[Any]
Number: TypeAlias = int | float
Rule: TypeAlias = Callable[..., Any]


class HostRefusal(ValueError):
    """Arguments of an operator of which the host makes nothing."""


class HostValue(Protocol):
    """A value of a prologue under construction."""

    @property
    def kind(self) -> HostType:
        """Shape and dtype."""
        ...


class HostBuilder(Protocol):
    """Adds steps to a prologue."""

    def apply(self, name: str, operands: Sequence[HostValue], attributes: Mapping[str, Any]) -> HostValue:
        """The result of an operation."""
        ...

    def table(self, array: Array) -> HostValue:
        """The value of constants."""
        ...

    def constant(self, value: HostValue) -> Array | None:
        """The numbers of a value that does not depend on an input; None for another."""
        ...


class Host:
    """Operations on values and Python numbers, with the conversions between their dtypes."""

    def __init__(self, builder: HostBuilder) -> None:
        self._builder = builder

    def apply(self, name: str, *operands: HostValue, **attributes: Any) -> HostValue:
        """The result of an operation."""
        return self._builder.apply(name, operands, attributes)

    def table(self, array: Array) -> HostValue:
        """The value of constants."""
        return self._builder.table(array)

    def constant(self, value: HostValue) -> Array | None:
        """The numbers of a value that does not depend on an input; None for another."""
        return self._builder.constant(value)

    def number(self, value: Number, dtype: str) -> HostValue:
        """A number without axes; raises HostRefusal for one that the dtype does not hold."""
        whole = bool(value) if dtype == "bool" else _whole(value)
        if dtype != "bool" and not np.iinfo(dtype).min <= whole <= np.iinfo(dtype).max:
            raise HostRefusal(f"{value} is no {dtype}")
        return self.apply("number", value=int(whole), dtype=dtype)

    def convert(self, value: HostValue | Number, dtype: str) -> HostValue:
        """A value or a Python number in a dtype."""
        if isinstance(value, int | float):
            return self.number(value, dtype)
        return value if value.kind.dtype == dtype else self.apply("convert", value, dtype=dtype)

    def combine(self, name: str, left: HostValue | Number, right: HostValue | Number, dtype: str) -> HostValue:
        """An operation on two values of one dtype."""
        return self.apply(name, self.convert(left, dtype), self.convert(right, dtype))

    def invert(self, value: HostValue) -> HostValue:
        """The other bits; of bools the negation."""
        return self.apply("not", value)

    def reshape(self, value: HostValue, shape: Sequence[int]) -> HostValue:
        """The same elements under another shape."""
        return value if value.kind.shape == tuple(shape) else self.apply("reshape", value, shape=tuple(shape))

    def expand(self, value: HostValue, shape: Sequence[int]) -> HostValue:
        """Axes of size 1 repeated."""
        return value if value.kind.shape == tuple(shape) else self.apply("expand", value, shape=tuple(shape))

    def permute(self, value: HostValue, axes: Sequence[int]) -> HostValue:
        """The axes in another order."""
        same = list(axes) == list(range(len(axes)))
        return value if same else self.apply("permute", value, axes=tuple(axes))

    def slice(self, value: HostValue, axis: int, start: int, stop: int, step: int = 1) -> HostValue:
        """Positions of an axis; None … if there are none."""
        if start >= stop:
            raise HostRefusal("a part without elements")
        whole = (start, stop, step) == (0, value.kind.shape[axis], 1)
        return value if whole else self.apply("slice", value, axis=axis, start=start, stop=stop, step=step)

    def concatenate(self, values: Sequence[HostValue], axis: int) -> HostValue:
        """Values one after the other."""
        return values[0] if len(values) == 1 else self.apply("concatenate", *values, axis=axis)

    def filled(self, value: Number | HostValue, kind: HostType) -> HostValue:
        """A tensor of one number."""
        return self.expand(self.convert(value, kind.dtype), kind.shape)


_RULES: dict[str, Rule] = {}

HOST_RULES: Mapping[str, Rule] = MappingProxyType(_RULES)
"""The rules by the operators' names: `aten.cumsum`."""


def _rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule under the names of its operators."""

    def register(rule: Rule) -> Rule:
        _RULES.update((f"aten.{name}", rule) for name in names)
        return rule

    return register


def results_of(rule: Rule, host: Host, kind: HostType | None, arguments: Sequence[Any]) -> tuple[HostValue, ...]:
    """The results that a rule makes, of which the first is of type `kind`. Raises ValueError if it makes none."""
    made: Any = rule(host, kind, *arguments)
    return cast("tuple[HostValue, ...]", made) if isinstance(made, tuple) else (made,)


def _whole(value: Number) -> int:
    if not math.isfinite(value) or value != int(value):
        raise HostRefusal(f"{value} is no integer")
    return int(value)


def _axis(value: HostValue, axis: int) -> int:
    return axis % max(len(value.kind.shape), 1)


# --- Arithmetic ---


@_rule("add.Tensor", "add.Scalar")
def _add(host: Host, kind: HostType, left: Any, right: Any, alpha: Number = 1) -> HostValue:
    if kind.is_bool:
        return host.combine("or", left, right, "bool")
    return host.combine("add", left, _scaled(host, kind, right, alpha), kind.dtype)


@_rule("sub.Tensor", "sub.Scalar")
def _subtract(host: Host, kind: HostType, left: Any, right: Any, alpha: Number = 1) -> HostValue:
    return host.combine("subtract", left, _scaled(host, kind, right, alpha), kind.dtype)


@_rule("rsub.Scalar", "rsub.Tensor")
def _subtract_from(host: Host, kind: HostType, left: Any, right: Any, alpha: Number = 1) -> HostValue:
    return _subtract(host, kind, right, left, alpha)


def _scaled(host: Host, kind: HostType, value: Any, factor: Number) -> Any:
    return value if factor == 1 else host.combine("multiply", value, factor, kind.dtype)


@_rule("mul.Tensor", "mul.Scalar")
def _multiply(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return host.combine("and" if kind.is_bool else "multiply", left, right, kind.dtype)


@_rule("neg")
def _negate(host: Host, kind: HostType, value: Any) -> HostValue:
    return host.combine("subtract", 0, value, kind.dtype)


@_rule("abs")
def _absolute(host: Host, kind: HostType, value: Any) -> HostValue:
    return host.combine("maximum", value, _negate(host, kind, value), kind.dtype)


@_rule("floor_divide", "floor_divide.Scalar")
def _floor_divide(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return host.combine("floor_divide", left, right, kind.dtype)


@_rule("div.Tensor_mode", "div.Scalar_mode")
def _divide(host: Host, kind: HostType, left: Any, right: Any, mode: str | None) -> HostValue:
    if mode == "floor":
        return _floor_divide(host, kind, left, right)
    if mode != "trunc":
        raise HostRefusal("a quotient that is not rounded")
    left, right = host.convert(left, kind.dtype), host.convert(right, kind.dtype)
    down = host.apply("floor_divide", left, right)
    # A negative quotient with a remainder is one too low.
    differ = host.apply("xor", _is_negative(host, left), _is_negative(host, right))
    uneven = host.invert(host.combine("equal", host.apply("remainder", left, right), 0, kind.dtype))
    return host.apply("add", down, host.convert(host.apply("and", differ, uneven), kind.dtype))


def _is_negative(host: Host, value: HostValue) -> HostValue:
    return host.combine("less", value, 0, value.kind.dtype)


@_rule("remainder.Tensor", "remainder.Scalar")
def _remainder(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return host.combine("remainder", left, right, kind.dtype)


@_rule("fmod.Tensor", "fmod.Scalar")
def _fmod(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    quotient = _divide(host, kind, left, right, "trunc")
    return _subtract(host, kind, left, _multiply(host, kind, quotient, right))


@_rule("pow.Tensor_Scalar")
def _power(host: Host, kind: HostType, base: Any, exponent: Number) -> HostValue:
    if not 1 <= _whole(exponent) <= 8:
        raise HostRefusal(f"a power of {exponent}")
    result = base = host.convert(base, kind.dtype)
    for _ in range(int(exponent) - 1):
        result = _multiply(host, kind, result, base)
    return result


@_rule("minimum")
def _minimum(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return host.combine("minimum", left, right, kind.dtype)


@_rule("maximum")
def _maximum(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return host.combine("maximum", left, right, kind.dtype)


@_rule("clamp", "clamp.Tensor")
def _clamp(host: Host, kind: HostType, value: Any, low: Any = None, high: Any = None) -> HostValue:
    value = host.convert(value, kind.dtype)
    if low is not None:
        value = host.combine("maximum", value, low, kind.dtype)
    return value if high is None else host.combine("minimum", value, high, kind.dtype)


@_rule("clamp_min", "clamp_min.Tensor")
def _clamp_min(host: Host, kind: HostType, value: Any, low: Any) -> HostValue:
    return _clamp(host, kind, value, low)


@_rule("clamp_max", "clamp_max.Tensor")
def _clamp_max(host: Host, kind: HostType, value: Any, high: Any) -> HostValue:
    return _clamp(host, kind, value, None, high)


# --- Logic and comparisons ---


@_rule("bitwise_and.Tensor", "bitwise_and.Scalar", "__and__.Tensor", "__and__.Scalar")
def _bits_and(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return host.combine("and", left, right, kind.dtype)


@_rule("bitwise_or.Tensor", "bitwise_or.Scalar", "__or__.Tensor", "__or__.Scalar")
def _bits_or(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return host.combine("or", left, right, kind.dtype)


@_rule("bitwise_xor.Tensor", "bitwise_xor.Scalar", "__xor__.Tensor", "__xor__.Scalar")
def _bits_xor(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return host.combine("xor", left, right, kind.dtype)


@_rule("bitwise_not")
def _bits_not(host: Host, kind: HostType, value: Any) -> HostValue:
    return host.invert(value)


@_rule("logical_and")
def _both(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return host.combine("and", left, right, "bool")


@_rule("logical_or")
def _either(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return host.combine("or", left, right, "bool")


@_rule("logical_xor")
def _one_of_both(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return host.combine("xor", left, right, "bool")


@_rule("logical_not")
def _negation(host: Host, kind: HostType, value: Any) -> HostValue:
    return host.invert(host.convert(value, "bool"))


def _compared(host: Host, name: str, left: Any, right: Any) -> HostValue:
    dtypes = {one.kind.dtype for one in (left, right) if not isinstance(one, int | float)}
    only = dtypes.pop() if len(dtypes) == 1 else "int64"
    # Numbers that a narrow dtype does not hold are compared as wide ones.
    plain = not any(isinstance(one, int | float) for one in (left, right))
    return host.combine(name, left, right, only if plain else "int64")


@_rule("eq.Tensor", "eq.Scalar")
def _equal(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return _compared(host, "equal", left, right)


@_rule("ne.Tensor", "ne.Scalar")
def _unequal(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return host.invert(_compared(host, "equal", left, right))


@_rule("lt.Tensor", "lt.Scalar")
def _less(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return _compared(host, "less", left, right)


@_rule("le.Tensor", "le.Scalar")
def _less_or_equal(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return _compared(host, "less_equal", left, right)


@_rule("gt.Tensor", "gt.Scalar")
def _greater(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return _compared(host, "less", right, left)


@_rule("ge.Tensor", "ge.Scalar")
def _greater_or_equal(host: Host, kind: HostType, left: Any, right: Any) -> HostValue:
    return _compared(host, "less_equal", right, left)


@_rule("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _where(host: Host, kind: HostType, condition: Any, left: Any, right: Any) -> HostValue:
    chosen = host.convert(condition, "bool")
    return host.apply("select", chosen, host.convert(left, kind.dtype), host.convert(right, kind.dtype))


@_rule("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(host: Host, kind: HostType, value: Any, mask: Any, filling: Any) -> HostValue:
    return _where(host, kind, mask, filling, value)


# --- Elements as they are ---


@_rule("to.dtype", "_to_copy", "to.dtype_layout", "to.device", "to.other", "type_as")
@_rule("lift_fresh_copy", "clone", "contiguous", "detach", "alias")
def _converted(host: Host, kind: HostType, value: Any, *_: Any) -> HostValue:
    return host.convert(value, kind.dtype)


@_rule("view", "reshape", "_unsafe_view", "flatten.using_ints", "unflatten.int", "unsqueeze")
@_rule("squeeze", "squeeze.dim", "squeeze.dims")
def _reshaped(host: Host, kind: HostType, value: Any, *_: Any) -> HostValue:
    return host.reshape(value, kind.shape)


@_rule("expand", "broadcast_to", "expand_as")
def _expanded(host: Host, kind: HostType, value: Any, *_: Any) -> HostValue:
    return host.expand(value, kind.shape)


@_rule("permute")
def _permuted(host: Host, kind: HostType, value: Any, axes: Sequence[int]) -> HostValue:
    return host.permute(value, [_axis(value, axis) for axis in axes])


@_rule("transpose.int", "swapaxes", "swapdims")
def _exchanged(host: Host, kind: HostType, value: Any, first: int, second: int) -> HostValue:
    axes = list(range(len(kind.shape)))
    first, second = _axis(value, first), _axis(value, second)
    axes[first], axes[second] = axes[second], axes[first]
    return host.permute(value, axes)


@_rule("t")
def _transposed(host: Host, kind: HostType, value: Any) -> HostValue:
    return host.permute(value, range(len(kind.shape))[::-1])


@_rule("slice.Tensor")
def _sliced(
    host: Host,
    kind: HostType,
    value: Any,
    axis: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> HostValue:
    axis = _axis(value, axis)
    low, high, step = slice(start, end, step).indices(value.kind.shape[axis])
    return host.slice(value, axis, low, high, step)


@_rule("select.int")
def _selected(host: Host, kind: HostType, value: Any, axis: int, index: int) -> HostValue:
    axis = _axis(value, axis)
    index %= value.kind.shape[axis]
    return host.reshape(host.slice(value, axis, index, index + 1), kind.shape)


@_rule("flip")
def _flipped(host: Host, kind: HostType, value: Any, axes: Sequence[int]) -> HostValue:
    return host.apply("reverse", value, axes=tuple(_axis(value, axis) for axis in axes))


@_rule("roll")
def _rolled(host: Host, kind: HostType, value: Any, shifts: Sequence[int], axes: Sequence[int] = ()) -> HostValue:
    if not axes:
        flat = host.reshape(value, (kind.elements,))
        return host.reshape(_rolled(host, flat.kind, flat, shifts, (0,)), kind.shape)
    for shift, axis in zip(shifts, axes, strict=True):
        axis = _axis(value, axis)
        size = kind.shape[axis]
        cut = -shift % size
        if cut:
            parts = [host.slice(value, axis, cut, size), host.slice(value, axis, 0, cut)]
            value = host.concatenate(parts, axis)
    return value


@_rule("repeat")
def _repeated(host: Host, kind: HostType, value: Any, repeats: Sequence[int]) -> HostValue:
    sizes = (1,) * (len(repeats) - len(value.kind.shape)) + value.kind.shape
    split = [size for size in sizes for size in (1, size)]
    full = [one for pair in zip(repeats, sizes, strict=True) for one in pair]
    return host.reshape(host.expand(host.reshape(value, split), full), kind.shape)


@_rule("repeat_interleave.self_int")
def _interleaved(
    host: Host, kind: HostType, value: Any, repeats: int, axis: int | None = None, size: int | None = None
) -> HostValue:
    if axis is None:
        value, axis = host.reshape(value, (value.kind.elements,)), 0
    shape, axis = value.kind.shape, _axis(value, axis)
    between = host.reshape(value, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    return host.reshape(host.expand(between, (*shape[: axis + 1], repeats, *shape[axis + 1 :])), kind.shape)


@_rule("cat")
def _concatenated(host: Host, kind: HostType, values: Sequence[Any], axis: int = 0) -> HostValue:
    return host.concatenate([host.convert(value, kind.dtype) for value in values], axis % len(kind.shape))


@_rule("stack")
def _stacked(host: Host, kind: HostType, values: Sequence[Any], axis: int = 0) -> HostValue:
    axis %= len(kind.shape)
    shape = (*kind.shape[:axis], 1, *kind.shape[axis + 1 :])
    return host.concatenate([host.reshape(host.convert(value, kind.dtype), shape) for value in values], axis)


@_rule("constant_pad_nd")
def _padded(host: Host, kind: HostType, value: Any, widths: Sequence[int], number: Number = 0) -> HostValue:
    for position in range(len(widths) // 2):
        axis = len(kind.shape) - 1 - position
        before, after = widths[2 * position], widths[2 * position + 1]
        size = value.kind.shape[axis]
        value = host.slice(value, axis, max(-before, 0), size - max(-after, 0))
        parts = [
            host.filled(number, _resized(value.kind, axis, max(before, 0))) if before > 0 else None,
            value,
            host.filled(number, _resized(value.kind, axis, max(after, 0))) if after > 0 else None,
        ]
        value = host.concatenate([part for part in parts if part is not None], axis)
    return value


def _resized(kind: HostType, axis: int, size: int) -> HostType:
    return HostType((*kind.shape[:axis], size, *kind.shape[axis + 1 :]), kind.dtype)


@_rule("slice_scatter")
def _slice_replaced(
    host: Host,
    kind: HostType,
    value: Any,
    source: Any,
    axis: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> HostValue:
    axis = _axis(value, axis)
    size = kind.shape[axis]
    low, high, step = slice(start, end, step).indices(size)
    if step != 1:
        raise HostRefusal("every other position is replaced")
    if low >= high:
        return value
    parts = [
        host.slice(value, axis, 0, low) if low > 0 else None,
        host.convert(source, kind.dtype),
        host.slice(value, axis, high, size) if high < size else None,
    ]
    return host.concatenate([part for part in parts if part is not None], axis)


@_rule("select_scatter")
def _position_replaced(host: Host, kind: HostType, value: Any, source: Any, axis: int, index: int) -> HostValue:
    axis = _axis(value, axis)
    index %= kind.shape[axis]
    part = host.reshape(source, _resized(kind, axis, 1).shape)
    return _slice_replaced(host, kind, value, part, axis, index, index + 1)


@_rule("copy")
def _copied(host: Host, kind: HostType, value: Any, source: Any, *_: Any) -> HostValue:
    return host.filled(source, kind)


@_rule("fill.Scalar", "fill.Tensor", "full_like")
def _filled(host: Host, kind: HostType, value: Any, number: Any, *_: Any) -> HostValue:
    return host.filled(number, kind)


@_rule("new_full")
def _new_full(host: Host, kind: HostType, value: Any, size: Any, number: Any, *_: Any) -> HostValue:
    return host.filled(number, kind)


@_rule("zeros_like", "new_zeros")
def _zeros(host: Host, kind: HostType, *_: Any) -> HostValue:
    return host.filled(0, kind)


@_rule("ones_like", "new_ones")
def _ones(host: Host, kind: HostType, *_: Any) -> HostValue:
    return host.filled(1, kind)


@_rule("tril")
def _lower(host: Host, kind: HostType, value: Any, diagonal: int = 0) -> HostValue:
    return _where(host, kind, host.table(_triangle(kind, diagonal)), value, 0)


@_rule("triu")
def _upper(host: Host, kind: HostType, value: Any, diagonal: int = 0) -> HostValue:
    return _where(host, kind, host.table(_triangle(kind, diagonal - 1)), 0, value)


def _triangle(kind: HostType, diagonal: int) -> Array:
    """Bools that are true up to a diagonal of the last two axes."""
    rows, columns = kind.shape[-2:]
    return np.tri(rows, columns, diagonal, dtype=np.bool_)


@_rule("one_hot")
def _one_hot(host: Host, kind: HostType, value: Any, classes: int) -> HostValue:
    if classes < 1:
        raise HostRefusal("a number of classes that depends on the numbers")
    column = host.reshape(value, (*value.kind.shape, 1))
    return host.convert(_equal(host, kind, column, host.table(np.arange(classes))), kind.dtype)


# --- Over axes ---


def _reduced(host: Host, kind: HostType, name: str, value: HostValue, axes: Any) -> HostValue:
    rank = len(value.kind.shape)
    chosen = list(range(rank)) if axes is None or axes == [] else [axes] if isinstance(axes, int) else axes
    over = tuple(_axis(value, axis) for axis in chosen)
    return host.reshape(host.apply(name, value, axes=over if rank else ()), kind.shape)


@_rule("sum", "sum.dim_IntList")
def _summed(host: Host, kind: HostType, value: Any, axes: Any = None, *_: Any) -> HostValue:
    # The operator over all axes has a dtype in the second place.
    over = cast("list[int]", axes) if isinstance(axes, list) else None
    return _reduced(host, kind, "sum", host.convert(value, kind.dtype), over)


@_rule("any", "any.dim", "any.dims")
def _any(host: Host, kind: HostType, value: Any, axes: Any = None, *_: Any) -> HostValue:
    return host.convert(_reduced(host, kind, "amax", host.convert(value, "bool"), axes), kind.dtype)


@_rule("all", "all.dim", "all.dims")
def _all(host: Host, kind: HostType, value: Any, axes: Any = None, *_: Any) -> HostValue:
    return host.convert(_reduced(host, kind, "amin", host.convert(value, "bool"), axes), kind.dtype)


@_rule("max", "amax")
def _largest(host: Host, kind: HostType, value: Any, axes: Any = None, *_: Any) -> HostValue:
    return _reduced(host, kind, "amax", value, axes)


@_rule("min", "amin")
def _smallest(host: Host, kind: HostType, value: Any, axes: Any = None, *_: Any) -> HostValue:
    return _reduced(host, kind, "amin", value, axes)


@_rule("argmax")
def _place_of_largest(host: Host, kind: HostType, value: Any, axis: int | None = None, *_: Any) -> HostValue:
    if axis is None:
        value, axis = host.reshape(value, (value.kind.elements,)), 0
    number = host.convert(value, "int64") if value.kind.is_bool else value
    return host.reshape(host.apply("argmax", number, axis=_axis(value, axis)), kind.shape)


@_rule("argmin")
def _place_of_smallest(host: Host, kind: HostType, value: Any, axis: int | None = None, *_: Any) -> HostValue:
    number = host.convert(value, "int64") if value.kind.is_bool else value
    # The other bits of a number are the smaller, the larger it is.
    return _place_of_largest(host, kind, host.invert(number), axis)


@_rule("max.dim")
def _largest_and_place(host: Host, kind: HostType, value: Any, axis: int, *_: Any) -> tuple[HostValue, HostValue]:
    return _largest(host, kind, value, axis), _place_of_largest(host, kind, value, axis)


@_rule("min.dim")
def _smallest_and_place(host: Host, kind: HostType, value: Any, axis: int, *_: Any) -> tuple[HostValue, HostValue]:
    return _smallest(host, kind, value, axis), _place_of_smallest(host, kind, value, axis)


@_rule("cumsum")
def _accumulated(host: Host, kind: HostType, value: Any, axis: int, *_: Any) -> HostValue:
    return host.apply("cumsum", host.convert(value, kind.dtype), axis=_axis(value, axis))


# --- Look-ups ---


@_rule("gather")
def _gathered(host: Host, kind: HostType, value: Any, axis: int, indices: Any, *_: Any) -> HostValue:
    axis = _axis(value, axis)
    for other, size in enumerate(indices.kind.shape):
        if other != axis:
            value = host.slice(value, other, 0, size)
    return host.apply("gather", value, indices, axis=axis)


@_rule("index_select")
def _chosen(host: Host, kind: HostType, value: Any, axis: int, indices: Any) -> HostValue:
    return host.reshape(host.apply("take", value, indices, axis=_axis(value, axis)), kind.shape)


@_rule("embedding")
def _looked_up(host: Host, kind: HostType, table: Any, indices: Any, *_: Any) -> HostValue:
    return host.apply("take", table, indices, axis=0)


@_rule("index.Tensor", "index.Tensor_hacked_twin")
def _indexed(host: Host, kind: HostType, value: Any, indices: Sequence[Any]) -> HostValue:
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    given = [indices[axis] for axis in axes]
    if any(index.kind.is_bool for index in given):
        raise HostRefusal("a number of positions that depends on the numbers")
    rest = [axis for axis in range(len(value.kind.shape)) if axis not in axes]
    sizes = [value.kind.shape[axis] for axis in axes]
    flat: Any = None
    for index, size in zip(given, sizes, strict=True):
        index = _from_front(host, index, size)
        flat = index if flat is None else _row_major(host, flat, size, index)
    last = [value.kind.shape[axis] for axis in rest]
    rows = host.reshape(host.permute(value, [*axes, *rest]), [math.prod(sizes), *last])
    found = host.apply("take", rows, flat, axis=0)
    # The axes of the indices stand where theirs were, in front if these were not side by side.
    before = axes[0] if axes == list(range(axes[0], axes[-1] + 1)) else 0
    count = len(flat.kind.shape)
    order = [*range(count, count + before), *range(count), *range(count + before, len(found.kind.shape))]
    return host.permute(found, order)


@_rule("index_put", "index_put.hacked_twin")
def _put_by_mask(
    host: Host, kind: HostType, value: Any, indices: Sequence[Any], number: Any, accumulate: bool = False
) -> HostValue:
    """One number at all places of a mask, which has the leading axes of the value."""
    mask = indices[0]
    if len(indices) != 1 or not mask.kind.is_bool or accumulate or number.kind.elements != 1:
        raise HostRefusal("other than one number at the places of one mask")
    rank = len(kind.shape)
    shown = host.reshape(mask, [*mask.kind.shape, *(1,) * (rank - len(mask.kind.shape))])
    return _where(host, kind, shown, host.reshape(number, []), value)


def _row_major(host: Host, before: HostValue, size: int, index: HostValue) -> HostValue:
    return host.combine("add", host.combine("multiply", before, size, "int64"), index, "int64")


def _from_front(host: Host, index: HostValue, size: int) -> HostValue:
    """An index of 0..size-1 for one of -size..size-1; any other is a fault of the run."""
    known = host.constant(index)
    if known is not None:
        if known.min() < -size or known.max() >= size:
            raise HostRefusal(f"an index outside of -{size}..{size - 1}")
        return index if known.min() >= 0 else host.table(np.where(known < 0, known + size, known).astype(np.int64))
    index = host.convert(index, "int64")
    wrapped = host.apply("select", _is_negative(host, index), host.combine("add", index, size, "int64"), index)
    return host.apply("take", host.table(np.arange(size)), wrapped, axis=0)
