"""
Pooling, resampling and Fourier transforms, spelled with products and maxima.

What is linear along each axis by itself is a product with a constant matrix along one axis after the other: averages of
windows, nearest and interpolated resampling. Its input keeps 16 bits. The maximum of a window is that of shifted
positions, along one axis after the other; padding repeats the first and the last position, which are in every window
that reaches beyond them. A Fourier transform is a product with cosines and one with sines along each axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, UnitAttr
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.channels import constant_name, padded, windows
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.sweep import sweep
from sta.passes.rewriting.torch_operations import Array, TorchBuilder, is_aten


def decompose_resampling(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the functions of `module`; matrices go into `store`."""
    sweep(module, DecomposeResampling(store))
    erase_dead(module)


@dataclass(frozen=True)
class DecomposeResampling(RewritePattern):
    """One pooling, resampling or Fourier transform of floats."""

    store: WeightStore

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Rewrites `op` if it is one of these."""
        if is_aten(op, "view_as_real"):
            self._fourier(op, rewriter)
            return
        row = torch.find_row(op)
        spell = None if row is None else _SPELLINGS.get(row.spelling)
        if spell is None or any(result.uses for result in op.results[1:]):
            return
        if not torch.tensor_type(op.operands[0]).is_float:
            return
        made = spell(TorchBuilder(op, self.store, rewriter), op)
        if made is not None and made.type == op.results[0].type:
            rewriter.replace(op, (), [made, *(None for _ in op.results[1:])])

    def _fourier(self, op: Operation, rewriter: PatternRewriter) -> None:
        """The real part of a transform, where nothing else of it is used."""
        transform = op.operands[0].owner
        if not isinstance(transform, Operation) or not is_aten(transform, "fft_fftn", "fft_fft"):
            return
        value, length, axes, norm = transform.operands
        last = torch.tensor_type(op.results[0]).rank - 1
        parts = [use.operation for use in op.results[0].uses]
        real = [one for one in parts if isinstance(one, torch.SliceTensorOp) and one.bounds == (last, 0, 1, 1)]
        if len(real) < len(parts) or torch.constant_of(length) is not None or not torch.tensor_type(value).is_float:
            return
        rank = torch.tensor_type(value).rank
        if isinstance(axes.type, torch.NoneType):
            numbers = list(range(rank))
        else:
            numbers = (
                torch.integers_of(axes) if isinstance(axes.owner, torch.ListConstructOp) else [torch.integer_of(axes)]
            )
        builder = TorchBuilder(op, self.store, rewriter)
        made = _transformed(builder, value, [axis % rank for axis in numbers], torch.constant_of(norm))
        for part in real:
            rewriter.replace(part, (), [builder.view(made, torch.sizes_of(part.result))])


def _along(builder: TorchBuilder, value: SSAValue, axis: int, matrix: Array, name: str) -> SSAValue:
    """The product of `matrix` [out, in] with every line of `value` along `axis`, whose 16 bits it reads."""
    if matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix))):
        return value
    rank = torch.tensor_type(value).rank
    order = [*range(axis), *range(axis + 1, rank), axis]
    weight = builder.literal(matrix.astype(np.float32), name)
    made = builder.linear(builder.permute(value, order), weight)
    assert isinstance(made.owner, Operation)
    made.owner.attributes[torch.INT16_INPUT] = UnitAttr()
    return builder.permute(made, [order.index(place) for place in range(rank)])


def _along_axes(builder: TorchBuilder, op: Operation, matrix_of: Callable[[int, int, int], Array]) -> SSAValue:
    """The products along the axes behind the channels; `matrix_of` takes an axis, its size and that of the result."""
    value = op.operands[0]
    sizes, results = torch.sizes_of(value), torch.sizes_of(op.results[0])
    count = _spatial_axes(op)
    for index, axis in enumerate(range(len(sizes) - count, len(sizes))):
        matrix = matrix_of(index, sizes[axis], results[axis])
        value = _along(builder, value, axis, matrix, constant_name(op, f"axis_{index}.weight"))
    return value


def _spatial_axes(op: Operation) -> int:
    """The number of axes behind the channels, which stands in the operator's name."""
    return next(int(letter) for letter in op.name if letter in "123")


def _numbers(value: SSAValue, count: int, default: Sequence[int]) -> list[int]:
    """A constant list of one number for each axis; one number is that of all, none is `default`."""
    given = torch.integers_of(value)
    return [*default] if not given else given * count if len(given) == 1 else given


# --- Averages ---


def _average(builder: TorchBuilder, op: Operation) -> SSAValue | None:
    count = _spatial_axes(op)
    kernel = _numbers(op.operands[1], count, ())
    stride, padding = _numbers(op.operands[2], count, kernel), _numbers(op.operands[3], count, [0] * count)
    counts_padding = torch.constant_of(op.operands[5]) is True
    given = op.operands[6] if len(op.operands) > 6 else None
    divisor = None if given is None or torch.constant_of(given) is None else torch.integer_of(given)

    def matrix(index: int, size: int, result: int) -> Array:
        rows = np.zeros((result, size))
        for place in range(result):
            start = place * stride[index] - padding[index]
            end = min(start + kernel[index], size + padding[index])
            inside = slice(max(start, 0), min(end, size))
            number = end - start if counts_padding else inside.stop - inside.start
            # A divisor of its own is that of the whole window: all of it belongs to the first axis.
            rows[place, inside] = 1 / number if divisor is None else 1 / (divisor if index == 0 else 1)
        return rows

    return _along_axes(builder, op, matrix)


def _adaptive_average(builder: TorchBuilder, op: Operation) -> SSAValue | None:
    def matrix(_: int, size: int, result: int) -> Array:
        rows = np.zeros((result, size))
        for place in range(result):
            start, end = place * size // result, -(-(place + 1) * size // result)
            rows[place, start:end] = 1 / (end - start)
        return rows

    return _along_axes(builder, op, matrix)


# --- Resampling ---


def _scales(op: Operation, count: int, last: int) -> list[float | None]:
    """The factor along each axis, where one is given: in a list of them, or in one operand each from `last` on."""
    listed = op.operands[last].owner
    given = listed.operands if isinstance(listed, torch.ListConstructOp) else op.operands[last:]
    factors = [None if torch.constant_of(one) is None else torch.number_of(one) for one in given]
    return [*factors, *[None] * count][:count]


def _nearest(builder: TorchBuilder, op: Operation) -> SSAValue | None:
    scales = _scales(op, _spatial_axes(op), 2)

    def matrix(index: int, size: int, result: int) -> Array:
        scale = scales[index]
        step = size / result if scale is None else 1 / scale
        places = np.minimum(np.floor(np.arange(result) * step).astype(int), size - 1)
        return np.eye(size)[places]

    return _along_axes(builder, op, matrix)


def _places(size: int, result: int, aligned: bool, scale: float | None) -> Array:
    """The positions in the input of each element of the result."""
    if aligned:
        return np.arange(result) * ((size - 1) / (result - 1) if result > 1 else 0.0)
    step = size / result if scale is None else 1 / scale
    return (np.arange(result) + 0.5) * step - 0.5


def _linear(builder: TorchBuilder, op: Operation) -> SSAValue | None:
    aligned, scales = torch.constant_of(op.operands[2]) is True, _scales(op, _spatial_axes(op), 3)

    def matrix(index: int, size: int, result: int) -> Array:
        places = np.maximum(_places(size, result, aligned, scales[index]), 0.0)
        first = np.minimum(np.floor(places).astype(int), size - 1)
        part = (places - first)[:, np.newaxis]
        return (1 - part) * np.eye(size)[first] + part * np.eye(size)[np.minimum(first + 1, size - 1)]

    return _along_axes(builder, op, matrix)


CUBIC = -0.75
"""The free parameter of PyTorch's cubic convolution (Keys 1981)."""


def _cubic(builder: TorchBuilder, op: Operation) -> SSAValue | None:
    aligned, scales = torch.constant_of(op.operands[2]) is True, _scales(op, _spatial_axes(op), 3)

    def matrix(index: int, size: int, result: int) -> Array:
        places = _places(size, result, aligned, scales[index])
        first = np.floor(places).astype(int)
        rows = np.zeros((result, size))
        for offset in range(-1, 3):
            distance = np.abs(places - first - offset)
            near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
            far = CUBIC * (((distance - 5) * distance + 8) * distance - 4)
            weight = np.where(distance <= 1, near, far)[:, np.newaxis]
            rows += weight * np.eye(size)[np.clip(first + offset, 0, size - 1)]
        return rows

    return _along_axes(builder, op, matrix)


# --- Maxima ---


def _largest(builder: TorchBuilder, op: Operation) -> SSAValue | None:
    count = _spatial_axes(op)
    kernel = _numbers(op.operands[1], count, ())
    stride, padding = _numbers(op.operands[2], count, kernel), _numbers(op.operands[3], count, [0] * count)
    dilation = _numbers(op.operands[4], count, [1] * count)
    value, results = op.operands[0], torch.sizes_of(op.results[0])
    rank = len(results)
    maximum = torch.operator_class("aten.maximum")
    for index, axis in enumerate(range(rank - count, rank)):
        size = torch.sizes_of(value)[axis]
        reach = (results[axis] - 1) * stride[index] + (kernel[index] - 1) * dilation[index] + 1
        after = reach - size - padding[index]
        if dilation[index] > 1 and (padding[index] or after > 0):
            return None
        value = _with_ends(builder, value, axis, padding[index], max(after, 0))
        span = (results[axis] - 1) * stride[index] + 1
        parts = [
            builder.slice(value, axis, tap * dilation[index], tap * dilation[index] + span, stride[index])
            for tap in range(kernel[index])
        ]
        value = parts[0]
        for part in parts[1:]:
            value = builder.aten(maximum, [value, part], value.type)
    return value


def _with_ends(builder: TorchBuilder, value: SSAValue, axis: int, before: int, after: int) -> SSAValue:
    """`value` with its first position `before` more times in front, and its last one `after` more times behind."""
    size = torch.sizes_of(value)[axis]
    first, last = builder.slice(value, axis, 0, 1), builder.slice(value, axis, size - 1, size)
    parts = [*[first] * before, value, *[last] * after]
    if len(parts) == 1:
        return value
    sizes = list(torch.sizes_of(value))
    sizes[axis] += before + after
    tensors = builder.insert(torch.ListConstructOp(parts, torch.VTensorType(None, None)))
    result = torch.VTensorType(sizes, torch.tensor_type(value).element_type)
    return builder.aten(torch.operator_class("aten.cat"), [tensors, builder.integer(axis)], result)


# --- Windows ---


def _patches(builder: TorchBuilder, op: Operation) -> SSAValue | None:
    """The windows of images [..., C, H, W] as columns [..., C * kernel, windows]."""
    value = op.operands[0]
    kernel, dilation, padding, stride = (_numbers(operand, 2, ()) for operand in op.operands[1:5])
    *leading, _, _ = torch.sizes_of(value)
    rank = len(leading) + 2
    value = padded(builder, value, [*[(0, 0)] * len(leading), *((width, width) for width in padding)])
    for index, axis in enumerate((rank - 2, rank - 1)):
        value = windows(builder, value, axis, kernel[index], stride[index], dilation[index])
    value = builder.permute(value, (*range(rank - 2), rank, rank + 1, rank - 2, rank - 1))
    return builder.view(value, torch.sizes_of(op.results[0]))


# --- Fourier transforms ---


def _transformed(builder: TorchBuilder, value: SSAValue, axes: Sequence[int], norm: object) -> SSAValue:
    """The real part of the transform of `value` along `axes`."""
    real, imaginary = value, None
    for axis in axes:
        size = torch.sizes_of(value)[axis]
        scale = {"ortho": math.sqrt(size), "forward": float(size)}.get(str(norm), 1.0)
        angles = 2 * math.pi / size * (np.outer(np.arange(size), np.arange(size)) % size)
        cosine, sine = np.cos(angles) / scale, np.sin(angles) / scale

        def times(part: SSAValue, matrix: Array, name: str, axis: int = axis) -> SSAValue:
            return _along(builder, part, axis, matrix, f"fourier.{name}_{matrix.shape[0]}")

        turned = times(real, -sine, "minus_sine")
        if imaginary is None:
            real, imaginary = times(real, cosine, "cosine"), turned
            continue
        real, imaginary = (
            _sum(builder, times(real, cosine, "cosine"), times(imaginary, sine, "sine")),
            _sum(builder, times(imaginary, cosine, "cosine"), turned),
        )
    return real


def _sum(builder: TorchBuilder, left: SSAValue, right: SSAValue) -> SSAValue:
    return builder.aten(torch.AddTensorOp, [left, right, builder.integer(1)], left.type)


_SPELLINGS: Mapping[str, Callable[[TorchBuilder, Operation], SSAValue | None]] = {
    "average pool": _average,
    "adaptive average pool": _adaptive_average,
    "nearest": _nearest,
    "linear": _linear,
    "cubic": _cubic,
    "maximum pool": _largest,
    "patches": _patches,
}
"""By the spelling of the operator's row."""


@dataclass(frozen=True)
class TorchDecomposeResamplingPass(ModulePass):
    """Spells pooling, resampling and Fourier transforms with products and maxima."""

    name = "torch-decompose-resampling"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place; matrices go into the context's weight store."""
        decompose_resampling(op, weights_of(ctx))
