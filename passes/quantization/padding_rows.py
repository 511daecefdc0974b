"""
The rows of a value that count: not those of positions that a padding mask leaves out.

A row is the part of a value that belongs to one position of one sequence. Rows meet in attention only. Where every
attention of a model leaves out the positions that one mask names, nothing else depends on the rows at those positions,
and what they hold is of no use to anybody: neither for the range of a value nor for the noise of an output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import BlockArgument, SSAValue

from sta.dialect import torch
from sta.dialect.interpreters.torch import input_names, main_function
from sta.passes.rewriting.torch_operations import operations_of

Array = NDArray[Any]


@dataclass(frozen=True)
class PaddingMask:
    """The input that all attentions of a module take as their padding mask."""

    name: str
    inverted: bool
    """Whether the input is true where a position is left out."""

    def counted(self, sample: Mapping[str, Array]) -> Array:
        """The positions of a sample that count, bool [batch, positions]."""
        return (np.asarray(sample[self.name]) != 0) != self.inverted


def padding_mask(module: ModuleOp) -> PaddingMask | None:
    """The padding mask of all attentions in the function `main` of `module`; None if they do not share one."""
    attentions = [op for op in operations_of(module) if isinstance(op, torch.ScaledDotProductAttentionOp)]
    found = {_input_of(attention.attn_mask) for attention in attentions}
    if len(found) != 1:
        return None
    ((argument, inverted),) = found
    if argument is None or len(torch.sizes_of(argument)) != 2:
        return None
    # The keys must be the sequence itself: in cross attention they are those of another one.
    sizes = torch.sizes_of(argument)
    for attention in attentions:
        query, key = torch.sizes_of(attention.query), torch.sizes_of(attention.key)
        if query[-2] != key[-2] or (query[0], key[-2]) != sizes:
            return None
    return PaddingMask(input_names(main_function(module))[argument.index], inverted)


def _input_of(mask: SSAValue) -> tuple[BlockArgument | None, bool]:
    inverted = False
    while isinstance(mask.owner, torch.ViewOp | torch.ToDtypeOp | torch.LogicalNotOp):
        inverted ^= isinstance(mask.owner, torch.LogicalNotOp)
        mask = mask.owner.operands[0]
    return (mask if isinstance(mask, BlockArgument) else None), inverted


def counted_rows(values: Array, counted: Array | None) -> Array:
    """
    The rows of `values` [..., width] whose positions count, [rows, width].

    `counted` is bool [batch, positions]. All rows are taken if it is None or admits none, or if the shape of `values`
    does not say which of its axes is that of the positions.
    """
    width = values.shape[-1] if values.ndim else 1
    every = values.reshape(-1, width)
    if counted is None or not counted.any():
        return every
    batch, positions = counted.shape
    if values.shape[:-1].count(positions) == 1 or values.shape[:2] == (batch, positions):
        # Of two axes the second is the width, though it may be as long as the sequence.
        if values.ndim > 2 and values.shape[:2] == (batch, positions):
            return _at(values, counted)
        if values.ndim == 3 and values.shape[:2] == (positions, batch):
            return _at(values, counted.T)
        if values.ndim == 4 and (values.shape[0], values.shape[2]) == (batch, positions):
            return _at(np.moveaxis(values, 1, 2), counted)
    if values.ndim == 2 and values.shape[0] == batch * positions and batch == 1:
        return _at(values, counted[0])
    return every


def _at(values: Array, places: Array) -> Array:
    # Nothing is copied where every place counts, as in most samples.
    chosen = values if places.all() else values[places]
    return chosen.reshape(-1, values.shape[-1])
