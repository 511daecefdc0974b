"""Rearrangements of elements, and operators that keep the elements."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sta.spec.operators.operator import Elements, Form, Operator, Reference, Role

Array: TypeAlias = NDArray[Any]


def _same(x: Array, *rest: Any) -> Array:
    return x


def _converted(x: Array, dtype: int, *rest: Any) -> Array:
    """`x` as numbers of a type, by PyTorch's number for it; floats of any width are float64."""
    if dtype == _BOOL:
        return x != 0
    return np.trunc(x) if dtype <= _LAST_INTEGER else np.asarray(x, np.float64)


_LAST_INTEGER, _BOOL = 4, 11
"""PyTorch's numbers for int64, before which all are integers, and bool."""


def _flatten(x: Array, start_dim: int = 0, end_dim: int = -1) -> Array:
    start, end = start_dim % x.ndim, end_dim % x.ndim
    return x.reshape(*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])


def _unflatten(x: Array, dim: int, sizes: Sequence[int]) -> Array:
    return x.reshape(*x.shape[: dim % x.ndim], *sizes, *x.shape[dim % x.ndim + 1 :])


def _squeeze(x: Array, dim: int | Sequence[int] | None = None) -> Array:
    axes = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    return np.squeeze(x, axis=tuple(axis % x.ndim for axis in axes if x.shape[axis] == 1))


def _slice(x: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    return x[(slice(None),) * (dim % x.ndim) + (slice(start, end, step),)]


def _select(x: Array, dim: int, index: int) -> Array:
    return np.take(x, index, axis=dim)


def _chunk(x: Array, chunks: int, dim: int = 0) -> list[Array]:
    return _split(x, -(-x.shape[dim] // chunks), dim)


def _split(x: Array, sizes: int | Sequence[int], dim: int = 0) -> list[Array]:
    bounds = np.cumsum(sizes)[:-1] if not isinstance(sizes, int) else range(sizes, x.shape[dim], sizes)
    return np.split(x, list(bounds), axis=dim)


def _unbind(x: Array, dim: int = 0) -> list[Array]:
    return list(np.moveaxis(x, dim, 0))


def _expand(x: Array, sizes: Sequence[int], implicit: bool = False) -> Array:
    given = (1,) * (len(sizes) - x.ndim) + x.shape
    return np.broadcast_to(x, [old if new == -1 else new for old, new in zip(given, sizes, strict=True)])


def _concatenate(tensors: Sequence[Array], dim: int = 0) -> Array:
    return np.concatenate(tensors, axis=dim)


def _expand_as(x: Array, other: Array) -> Array:
    return np.broadcast_to(x, other.shape)


def _repeat_interleave(x: Array, repeats: int, dim: int | None = None, output_size: int | None = None) -> Array:
    return np.repeat(x, repeats, axis=dim)


def _unfold(x: Array, dimension: int, size: int, step: int) -> Array:
    axis = dimension % x.ndim
    every = np.lib.stride_tricks.sliding_window_view(x, size, axis)
    return np.moveaxis(np.moveaxis(every, axis, 0)[::step], 0, axis)


def _pad(x: Array, lengths: Sequence[int], value: float = 0.0) -> Array:
    pairs = [(0, 0)] * (x.ndim - len(lengths) // 2) + list(zip(lengths[::2], lengths[1::2], strict=True))[::-1]
    padded = np.pad(x, [(max(before, 0), max(after, 0)) for before, after in pairs], constant_values=value)
    return padded[tuple(slice(max(-before, 0), min(after, 0) or None) for before, after in pairs)]


def _roll(x: Array, shifts: Sequence[int], dims: Sequence[int] = ()) -> Array:
    return np.roll(x, tuple(shifts), tuple(dims)) if dims else np.roll(x, shifts[0])


def _scatter_slice(
    x: Array, source: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Array:
    result = x.copy()
    _slice(result, dim, start, end, step)[...] = source
    return result


def _scatter_position(x: Array, source: Array, dim: int, index: int) -> Array:
    result = x.copy()
    np.moveaxis(result, dim, 0)[index] = source
    return result


def _gather(x: Array, dim: int, index: Array, sparse_grad: bool = False) -> Array:
    return np.take_along_axis(x[tuple(slice(size) for size in _around(index.shape, dim))], index, axis=dim)


def _around(sizes: Sequence[int], dim: int) -> list[int | None]:
    return [None if axis == dim % len(sizes) else size for axis, size in enumerate(sizes)]


def _index(x: Array, indices: Sequence[Array | None]) -> Array:
    return x[tuple(slice(None) if one is None else one for one in indices)]


def _index_select(x: Array, dim: int, index: Array) -> Array:
    return np.take(x, index, axis=dim)


def _view(name: str, summary: str, reference: Reference, elements: Elements, *, kept: bool = True) -> Operator:
    return Operator(f"aten.{name}", Role.VIEW, summary, reference=reference, elements=elements, kept=kept)


def _spelled(
    name: str,
    spelling: str,
    summary: str,
    reference: Reference,
    *,
    elements: Elements | None = None,
    remedy: str = "",
    kept: bool = True,
) -> Operator:
    """The row of an operator that `torch-decompose-movement` spells with views and concatenations."""
    return Operator(
        f"aten.{name}",
        Role.SPELLED,
        summary,
        reference=reference,
        spelling=spelling,
        elements=elements,
        remedy=remedy,
        kept=kept,
    )


_LOOK_UP = "positions must be constants: tables are read with embedding, and positions of a value chosen by the host"


OPERATORS = (
    _view("view", "the same elements in row-major order under another shape", np.reshape, Elements.RESHAPED),
    _view("permute", "the axes in another order", np.transpose, Elements.MOVED),
    _view("slice.Tensor", "positions of an axis", _slice, Elements.MOVED),
    _view("unfold", "windows along an axis, which a new last axis holds", _unfold, Elements.MOVED),
    _view("reshape", "as view, for tensors of any layout", np.reshape, Elements.RESHAPED),
    _view("_unsafe_view", "as view, as decompositions leave it", np.reshape, Elements.RESHAPED, kept=False),
    _view("flatten.using_ints", "several axes as one", _flatten, Elements.RESHAPED),
    _view("unflatten.int", "one axis as several", _unflatten, Elements.RESHAPED),
    Operator(
        "prims.collapse",
        Role.VIEW,
        "several axes as one",
        reference=_flatten,
        elements=Elements.RESHAPED,
        kept=False,
    ),
    _view("unsqueeze", "an axis of size 1 more", np.expand_dims, Elements.RESHAPED),
    _view("squeeze", "no axes of size 1", _squeeze, Elements.RESHAPED),
    _view("squeeze.dim", "an axis of size 1 less", _squeeze, Elements.RESHAPED),
    _view("squeeze.dims", "axes of size 1 less", _squeeze, Elements.RESHAPED, kept=False),
    _view("transpose.int", "two axes exchanged", np.swapaxes, Elements.EXCHANGED),
    _view("swapaxes", "two axes exchanged", np.swapaxes, Elements.EXCHANGED, kept=False),
    _view("swapdims", "two axes exchanged", np.swapaxes, Elements.EXCHANGED, kept=False),
    _view("movedim.int", "an axis at another place", np.moveaxis, Elements.MOVED, kept=False),
    _view("t", "the transpose of a matrix; a vector as it is", np.transpose, Elements.MOVED),
    _view("select.int", "one position of an axis, which disappears", _select, Elements.MOVED),
    _view("chunk", "equal parts of an axis", _chunk, Elements.PARTED),
    _view("split.Tensor", "parts of one size of an axis", _split, Elements.PARTED),
    _view("split_with_sizes", "parts of given sizes of an axis", _split, Elements.PARTED),
    _view("unbind.int", "the positions of an axis", _unbind, Elements.PARTED, kept=False),
    _view("expand", "axes of size 1 repeated", _expand, Elements.EXPANDED),
    *(
        Operator(
            f"aten.{name}",
            Role.VIEW,
            "axes of size 1 repeated",
            reference=reference,
            spelling="expansion",
            elements=Elements.EXPANDED,
            kept=False,
        )
        for name, reference in (("broadcast_to", _expand), ("expand_as", _expand_as))
    ),
    _spelled(
        "repeat", "repetition", "the whole several times along each axis", np.tile, elements=Elements.MOVED, kept=False
    ),
    _spelled(
        "repeat_interleave.self_int",
        "repetition in a row",
        "each position of an axis repeated",
        _repeat_interleave,
        elements=Elements.MOVED,
    ),
    _spelled("roll", "roll", "positions of axes shifted round", _roll, elements=Elements.MOVED),
    _spelled("flip", "flip", "positions of axes in reverse order", np.flip, elements=Elements.MOVED),
    _spelled("constant_pad_nd", "padding", "a number around the ends of axes", _pad),
    _spelled("slice_scatter", "slice scatter", "another tensor at positions of an axis", _scatter_slice),
    _spelled("select_scatter", "position scatter", "another tensor at one position of an axis", _scatter_position),
    _spelled(
        "index_select", "positions", "positions of an axis", _index_select, elements=Elements.MOVED, remedy=_LOOK_UP
    ),
    _spelled(
        "gather",
        "gather",
        "positions of an axis for each of the others",
        _gather,
        elements=Elements.MOVED,
        remedy=_LOOK_UP,
    ),
    *(
        _spelled(name, "indices", "positions of axes", _index, elements=Elements.MOVED, remedy=_LOOK_UP, kept=False)
        for name in ("index.Tensor", "index.Tensor_hacked_twin")
    ),
    Operator(
        "aten.cat",
        Role.CONCATENATION,
        "tensors one after the other along an axis",
        takes=(Form.STREAM,),
        reference=_concatenate,
        spelling="concatenation",
        remedy="only float values can be concatenated: leave integers and masks to the host",
    ),
    _view("alias", "the same", _same, Elements.SAME, kept=False),
    _view("clone", "the same", _same, Elements.SAME, kept=False),
    _view("contiguous", "the same", _same, Elements.SAME, kept=False),
    _view("detach", "the same", _same, Elements.SAME, kept=False),
    Operator("aten.to.dtype", Role.CONVERSION, reference=_converted),
    Operator("aten._to_copy", Role.CONVERSION, kept=False),
    Operator("aten.to.dtype_layout", Role.CONVERSION, kept=False),
    Operator("aten.type_as", Role.CONVERSION, kept=False),
    Operator("aten.dropout", Role.DROPOUT, remedy="export the model in evaluation mode: model.eval()"),
)
