"""
Convolutions as products: windows of the input, and a linear layer over them.

Channels become the last axis, where a window along the innermost axis lies in one run of memory; windows are views
(`aten.unfold`). Patches that do not overlap are plain views. Groups narrower than the array are joined, with zeros
between them, and each such block is a linear layer of its own. A depthwise convolution with few taps is a sum of
shifted rows times constants. A transposed convolution puts zeros between the elements of its input, and convolves it
with the reversed kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.channels import (
    channels_first,
    channels_last,
    constant_name,
    has_channels_last,
    padded,
    windows,
)
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.sweep import sweep
from sta.passes.rewriting.torch_operations import Array, TorchBuilder, array_of

MOST_TAPS = 9
"""Taps of a depthwise convolution up to which it is a sum of shifted rows."""
NARROW = 16
"""Channels up to which groups of a convolution are joined: the columns of the array."""


def decompose_convolutions(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the functions of `module`; new layouts of weights go into `store`."""
    sweep(module, DecomposeConvolution(store))
    erase_dead(module)


@dataclass(frozen=True)
class _Geometry:
    """A convolution along each spatial axis, over an input that is padded already."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def axes(self) -> list[tuple[int, int, int, int]]:
        """For each spatial axis of `[B, ..., C]` its number, kernel, stride and dilation."""
        rows = zip(self.kernel, self.stride, self.dilation, strict=True)
        return [(axis, *row) for axis, row in enumerate(rows, start=1)]

    def sizes(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """The sizes of the result for an input of sizes `spatial`."""
        return tuple(
            (size - (kernel - 1) * dilation - 1) // stride + 1
            for size, (_, kernel, stride, dilation) in zip(spatial, self.axes, strict=True)
        )


@dataclass(frozen=True)
class DecomposeConvolution(RewritePattern):
    """A convolution with a constant kernel."""

    store: WeightStore

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: torch.ConvolutionOp, rewriter: PatternRewriter) -> None:
        weight = array_of(op.weight, self.store)
        has_bias = not isinstance(op.bias.type, torch.NoneType)
        if weight is None or (has_bias and array_of(op.bias, self.store) is None):
            return
        builder = TorchBuilder(op, self.store, rewriter)
        stride, padding, dilation, extra = (
            tuple(torch.integers_of(value)) for value in (op.stride, op.padding, op.dilation, op.output_padding)
        )
        geometry = _Geometry(weight.shape[2:], stride, dilation)
        value, groups = op.input, torch.integer_of(op.groups)
        bias = op.bias if has_bias else None
        apart = not any(padding) and not any(extra) and groups == 1 and geometry.kernel == stride
        if torch.constant_of(op.transposed) and apart and set(dilation) == {1}:
            rewriter.replace(op, (), [channels_first(builder, self._pasted(builder, op, weight, bias))])
            return
        if torch.constant_of(op.transposed):
            extra = extra or (0,) * len(stride)
            weight = _reversed(weight, groups)
            x = _spread(builder, channels_last(builder, value), geometry, padding, extra)
            geometry = replace(geometry, stride=(1,) * len(stride))
        elif apart and set(dilation) == {1}:
            made = self._patches(builder, op, value, weight, geometry, bias)
            rewriter.replace(op, (), [channels_first(builder, made)])
            return
        else:
            widths = [(0, 0), *((width, width) for width in padding), (0, 0)]
            x = padded(builder, channels_last(builder, value), widths)
        made = _Products(builder, self.store, op, weight, geometry, bias).of_groups(x, groups)
        rewriter.replace(op, (), [channels_first(builder, made)])

    def _pasted(self, builder: TorchBuilder, op: torch.ConvolutionOp, weight: Array, bias: SSAValue | None) -> SSAValue:
        """A transposed convolution whose patches do not overlap: a linear layer that gives a patch for each element."""
        x = channels_last(builder, op.input)
        depth, columns, *kernel = weight.shape
        matrix = np.array(np.moveaxis(weight.reshape(depth, columns, -1), 0, -1).swapaxes(0, 1), order="C")
        offsets = None
        if bias is not None:
            array = array_of(bias, self.store)
            assert array is not None
            offsets = builder.literal(np.tile(array, prod(kernel)), constant_name(op, "bias.patches"))
        name = constant_name(op, "weight.patches")
        made = builder.linear(x, builder.literal(matrix.reshape(-1, depth), name), offsets)
        batch, *spatial, _ = torch.sizes_of(x)
        count = len(spatial)
        made = builder.view(made, (batch, *spatial, *kernel, columns))
        order = [
            axis for pair in zip(range(1, count + 1), range(count + 1, 2 * count + 1), strict=True) for axis in pair
        ]
        made = builder.permute(made, (0, *order, 2 * count + 1))
        whole = [size * step for size, step in zip(spatial, kernel, strict=True)]
        return builder.view(made, (batch, *whole, columns))

    def _patches(
        self,
        builder: TorchBuilder,
        op: torch.ConvolutionOp,
        value: SSAValue,
        weight: Array,
        geometry: _Geometry,
        bias: SSAValue | None,
    ) -> SSAValue:
        """The linear layer of patches that do not overlap, in the layout that the input has."""
        last = has_channels_last(value)
        value = channels_last(builder, value) if last else value
        first_spatial = 1 if last else 2
        count = len(geometry.kernel)
        sizes = torch.sizes_of(value)
        results = geometry.sizes(sizes[first_spatial : first_spatial + count])
        for axis, (number, kernel) in enumerate(zip(results, geometry.kernel, strict=True), start=first_spatial):
            value = builder.slice(value, axis, 0, number * kernel)
        split = [size for pair in zip(results, geometry.kernel, strict=True) for size in pair]
        outer, inner = [first_spatial + 2 * i for i in range(count)], [first_spatial + 2 * i + 1 for i in range(count)]
        if last:
            value = builder.view(value, (sizes[0], *split, sizes[-1]))
            value = builder.permute(value, (0, *outer, *inner, 2 * count + 1))
            weight = np.moveaxis(weight, 1, -1)
        else:
            value = builder.view(value, (sizes[0], sizes[1], *split))
            value = builder.permute(value, (0, *outer, 1, *inner))
        columns = weight.shape[0]
        rows = builder.view(value, (sizes[0], *results, weight.size // columns))
        matrix = np.array(weight.reshape(columns, -1), order="C")
        return builder.linear(rows, builder.literal(matrix, constant_name(op, "weight.patches")), bias)


@dataclass(frozen=True)
class _Products:
    """A convolution over a padded input `[B, ..., C]`, as products."""

    builder: TorchBuilder
    store: WeightStore
    op: torch.ConvolutionOp
    weight: Array
    """[O, C / groups, kernel]."""
    geometry: _Geometry
    bias: SSAValue | None

    def of_groups(self, x: SSAValue, groups: int) -> SSAValue:
        """The result `[B, ..., O]`."""
        columns, depth = self.weight.shape[0], self.weight.shape[1]
        if groups == 1:
            return self._linear(x, self.weight, self.bias, "")
        if depth == 1 and columns == groups and prod(self.geometry.kernel) <= MOST_TAPS:
            return self._shifted(x)
        joined = max(1, NARROW // depth)
        parts = [self._block(x, first, min(first + joined, groups), groups) for first in range(0, groups, joined)]
        if len(parts) == 1:
            return parts[0]
        tensors = self.builder.insert(torch.ListConstructOp(parts, torch.VTensorType(None, None)))
        axis = torch.tensor_type(parts[0]).rank - 1
        sizes = (*torch.sizes_of(parts[0])[:-1], columns)
        result = torch.VTensorType(sizes, torch.tensor_type(x).element_type)
        return self.builder.aten(torch.operator_class("aten.cat"), [tensors, self.builder.integer(axis)], result)

    def _block(self, x: SSAValue, first: int, end: int, groups: int) -> SSAValue:
        """Groups `first` to `end` as one linear layer, with zeros between them."""
        builder, depth, columns = self.builder, self.weight.shape[1], self.weight.shape[0] // groups
        count = end - first
        weight = np.zeros((count * columns, count * depth, *self.geometry.kernel), self.weight.dtype)
        for group in range(count):
            rows = slice(group * columns, (group + 1) * columns)
            own = slice((first + group) * columns, (first + group + 1) * columns)
            weight[rows, group * depth : (group + 1) * depth] = self.weight[own]
        axis = torch.tensor_type(x).rank - 1
        part = builder.slice(x, axis, first * depth, end * depth)
        bias, name = self.bias, f".groups_{first}_{end}"
        if bias is not None:
            array = array_of(bias, self.store)
            assert array is not None
            own = np.array(array[first * columns : end * columns], order="C")
            bias = builder.literal(own, constant_name(self.op, f"bias{name}"))
        return self._linear(part, weight, bias, name)

    def _linear(self, x: SSAValue, weight: Array, bias: SSAValue | None, name: str) -> SSAValue:
        """The linear layer over the windows of `x`."""
        builder, count = self.builder, len(self.geometry.kernel)
        rank = count + 2
        value = x
        for axis, kernel, stride, dilation in self.geometry.axes:
            value = windows(builder, value, axis, kernel, stride, dilation)
        value = builder.permute(value, (*range(rank - 1), *range(rank, rank + count), rank - 1))
        columns = weight.shape[0]
        matrix = np.array(np.moveaxis(weight, 1, -1).reshape(columns, -1), order="C")
        rows = builder.view(value, (*torch.sizes_of(value)[: rank - 1], matrix.shape[1]))
        return builder.linear(rows, builder.literal(matrix, constant_name(self.op, f"weight.windows{name}")), bias)

    def _shifted(self, x: SSAValue) -> SSAValue:
        """A depthwise convolution: for each tap the rows that it sees, times a constant for each channel."""
        builder, sizes = self.builder, torch.sizes_of(x)
        results = self.geometry.sizes(sizes[1:-1])
        kind = torch.VTensorType((sizes[0], *results, sizes[-1]), torch.tensor_type(x).element_type)
        total = None
        for taps in product(*map(range, self.geometry.kernel)):
            rows = x
            for tap, size, (axis, _, stride, dilation) in zip(taps, results, self.geometry.axes, strict=True):
                start = tap * dilation
                rows = builder.slice(rows, axis, start, start + (size - 1) * stride + 1, stride)
            factor = np.array(self.weight[(slice(None), 0, *taps)], order="C")
            name = constant_name(self.op, "weight.tap_" + "_".join(map(str, taps)))
            term = builder.aten(torch.MulTensorOp, [rows, builder.literal(factor, name)], kind)
            total = term if total is None else self._sum(total, term, kind)
        assert total is not None
        return total if self.bias is None else self._sum(total, self.bias, kind)

    def _sum(self, total: SSAValue, term: SSAValue, kind: torch.VTensorType) -> SSAValue:
        return self.builder.aten(torch.AddTensorOp, [total, term, self.builder.integer(1)], kind)


def _reversed(weight: Array, groups: int) -> Array:
    """The kernel [O, C / groups, ...] of the convolution that a transposed one with [C, O / groups, ...] is."""
    depth, columns, *kernel = weight.shape
    grouped = weight.reshape(groups, depth // groups, columns, *kernel)
    exchanged = np.moveaxis(grouped, 2, 1).reshape(groups * columns, depth // groups, *kernel)
    return np.flip(exchanged, axis=tuple(range(2, weight.ndim)))


def _spread(
    builder: TorchBuilder, x: SSAValue, geometry: _Geometry, padding: tuple[int, ...], extra: tuple[int, ...]
) -> SSAValue:
    """The input of a transposed convolution with zeros between its elements, and around them."""
    widths = [(0, 0)]
    for (axis, kernel, stride, dilation), width, more in zip(geometry.axes, padding, extra, strict=True):
        sizes = torch.sizes_of(x)
        if stride > 1:
            apart = builder.view(x, (*sizes[: axis + 1], 1, *sizes[axis + 1 :]))
            behind = [(0, 0)] * (axis + 1) + [(0, stride - 1)] + [(0, 0)] * (len(sizes) - axis - 1)
            x = builder.view(padded(builder, apart, behind), (*sizes[:axis], sizes[axis] * stride, *sizes[axis + 1 :]))
        reach = dilation * (kernel - 1) - width
        widths.append((reach, reach + more - (stride - 1)))
    return padded(builder, x, [*widths, (0, 0)])


@dataclass(frozen=True)
class TorchDecomposeConvolutionsPass(ModulePass):
    """Spells convolutions as linear layers over windows, or as sums of shifted rows."""

    name = "torch-decompose-convolutions"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place; new layouts of weights go into the context's weight store."""
        decompose_convolutions(op, weights_of(ctx))
