"""Reductions, softmax and normalizations, spelled with sums, maxima, products and functions of each element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.passes.rewriting.torch_operations import TorchBuilder
from sta.spec.norm import LARGEST_WIDTH


@dataclass(frozen=True)
class Reductions:
    """Builds them with `builder`. Rows are those of the last axis, and a reduced axis stays with size 1."""

    builder: TorchBuilder

    # --- Along rows ---

    def total(self, rows: SSAValue) -> SSAValue:
        """The sum of each row."""
        return self._sum(torch.SumOp, rows)

    def mean(self, rows: SSAValue) -> SSAValue:
        """The mean of each row."""
        return self._sum(torch.MeanOp, rows)

    def _sum(self, kind: type[torch.SumOp] | type[torch.MeanOp], rows: SSAValue) -> SSAValue:
        builder = self.builder
        operands = [rows, builder.integers([-1]), builder.boolean(True), builder.none()]
        return builder.aten(kind, operands, _with_last(rows, 1))

    def largest(self, rows: SSAValue) -> SSAValue:
        """The largest element of each row."""
        return self._halved("maximum", rows)

    def smallest(self, rows: SSAValue) -> SSAValue:
        """The smallest element of each row."""
        return self._halved("minimum", rows)

    def _halved(self, overload: str, rows: SSAValue) -> SSAValue:
        """One element of each row, by halving it; the halves of a row of odd length share an element."""
        while (length := torch.sizes_of(rows)[-1]) > 1:
            half, axis = (length + 1) // 2, torch.tensor_type(rows).rank - 1
            parts = [self.builder.slice(rows, axis, start, start + half) for start in (0, length - half)]
            rows = self.builder.aten(torch.operator_class(f"aten.{overload}"), parts, parts[0].type)
        return rows

    def softmax(self, rows: SSAValue) -> SSAValue:
        """The exponentials of each row over their sum."""
        exponentials = self._apply("exp", self._below_largest(rows))
        return self.product(exponentials, self._apply("reciprocal", self.total(exponentials)))

    def log_softmax(self, rows: SSAValue) -> SSAValue:
        """The logarithms of the softmax of each row."""
        differences = self._below_largest(rows)
        return self.difference(differences, self._apply("log", self.total(self._apply("exp", differences))))

    def log_sum_exp(self, rows: SSAValue) -> SSAValue:
        """The logarithm of the sum of the exponentials of each row."""
        largest = self.largest(rows)
        exponentials = self._apply("exp", self.difference(rows, largest))
        return self.sum(self._apply("log", self.total(exponentials)), largest)

    def _below_largest(self, rows: SSAValue) -> SSAValue:
        return self.difference(rows, self.largest(rows))

    def variance(self, rows: SSAValue, correction: float) -> SSAValue:
        """The variance of each row, with its length less `correction` as divisor."""
        square = self._square(self.difference(rows, self.mean(rows)))
        if correction == 0:
            return self.mean(square)
        return self.scaled(self.total(square), 1.0 / (torch.sizes_of(rows)[-1] - correction))

    def deviation(self, rows: SSAValue, correction: float) -> SSAValue:
        """The root of the variance of each row."""
        return self._apply("sqrt", self.variance(rows, correction))

    def vector_norm(self, rows: SSAValue, order: float) -> SSAValue | None:
        """The norm of each row, of order 1, 2 or infinity; None for others."""
        if order == 2:
            return self._apply("sqrt", self.total(self._square(rows)))
        if order == 1:
            return self.total(self._apply("abs", rows))
        return self.largest(self._apply("abs", rows)) if order == float("inf") else None

    def normalized(self, rows: SSAValue, epsilon: float) -> SSAValue:
        """Each row less its mean, over the root of its variance plus `epsilon`."""
        builder, width = self.builder, torch.sizes_of(rows)[-1]
        if width <= LARGEST_WIDTH:
            parameters = [builder.none(), builder.none(), builder.number(epsilon), builder.boolean(False)]
            return builder.aten(torch.LayerNormOp, [rows, builder.integers([width]), *parameters], rows.type)
        centred = self.difference(rows, self.mean(rows))
        variance = self.mean(self._square(centred))
        return self.product(centred, self._apply("rsqrt", self.shifted(variance, epsilon)))

    # --- Element by element ---

    def sum(self, left: SSAValue, right: SSAValue) -> SSAValue:
        """`left` plus `right`, broadcast to it."""
        return self.builder.aten(torch.AddTensorOp, [left, right, self.builder.integer(1)], left.type)

    def difference(self, left: SSAValue, right: SSAValue) -> SSAValue:
        """`left` less `right`, which broadcasts to it."""
        operands = [left, right, self.builder.integer(1)]
        return self.builder.aten(torch.operator_class("aten.sub.Tensor"), operands, left.type)

    def product(self, left: SSAValue, right: SSAValue) -> SSAValue:
        """`left` times `right`, which broadcasts to it."""
        return self.builder.aten(torch.MulTensorOp, [left, right], left.type)

    def scaled(self, value: SSAValue, factor: float) -> SSAValue:
        """`value` times a number."""
        return self.builder.aten(torch.MulScalarOp, [value, self.builder.number(factor)], value.type)

    def shifted(self, value: SSAValue, number: float) -> SSAValue:
        """`value` plus a number."""
        operands = [value, self.builder.number(number), self.builder.integer(1)]
        return self.builder.aten(torch.operator_class("aten.add.Scalar"), operands, value.type)

    def _square(self, value: SSAValue) -> SSAValue:
        return self.product(value, value)

    def _apply(self, function: str, value: SSAValue) -> SSAValue:
        return self.builder.aten(torch.operator_class(f"aten.{function}"), [value], value.type)

    # --- Axes ---

    def axes_last(self, value: SSAValue, axes: Sequence[int]) -> SSAValue:
        """`value` with `axes` behind the others, as one axis."""
        sizes = torch.sizes_of(value)
        others = [axis for axis in range(len(sizes)) if axis not in axes]
        moved = self.builder.permute(value, [*others, *axes])
        return self.builder.view(moved, [*(sizes[axis] for axis in others), prod(sizes[axis] for axis in axes)])

    def axis_back(self, rows: SSAValue, axis: int) -> SSAValue:
        """`rows` with their last axis at the place `axis`."""
        order = list(range(torch.tensor_type(rows).rank - 1))
        order.insert(axis, len(order))
        return self.builder.permute(rows, order)


def _with_last(rows: SSAValue, size: int) -> torch.VTensorType:
    given = torch.tensor_type(rows)
    return torch.VTensorType((*given.sizes[:-1], size), given.element_type)
