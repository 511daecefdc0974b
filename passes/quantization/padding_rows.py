"""
The rows of a value that count: those outside of padding.

A row is the part of a value at one position of one sequence. Rows meet in attention only. If every attention of a model
excludes the positions of one mask, nothing else depends on the rows at those positions, and their numbers matter
neither for the range of a value nor for the noise of an output.
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
from sta.dialect.host import prologue_of
from sta.dialect.interpreters.torch import input_names
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.torch_operations import operations_of
from sta.spec.host_prologue import HostPrologue

Array = NDArray[Any]


@dataclass(frozen=True)
class PaddingMask:
    """The input of `main` that is the padding mask of all attentions of a module."""

    name: str
    inverted: bool
    """True if the input is true at excluded positions."""
    sizes: tuple[int, int]
    """Batch and positions."""
    prologue: HostPrologue | None = None
    """The host prologue that computes it; None where it is an input of the model."""

    def counted(self, sample: Mapping[str, Array]) -> Array:
        """The positions of a sample that count, bool [batch, positions]."""
        given = sample if self.prologue is None else self.prologue.run(sample)
        return ((np.asarray(given[self.name]) != 0) != self.inverted).reshape(self.sizes)


def padding_mask(module: ModuleOp, store: WeightStore) -> PaddingMask | None:
    """
    The padding mask of all attentions in the function `main` of `module`; None if they do not share one, or if rows of
    padding have numbers of their own.
    """
    attentions = [op for op in operations_of(module) if isinstance(op, torch.ScaledDotProductAttentionOp)]
    if any(torch.MEANS in attention.attributes for attention in attentions):
        return None
    found = {_input_of(attention.attn_mask) for attention in attentions}
    if len(found) != 1:
        return None
    ((argument, inverted),) = found
    if argument is None:
        return None
    batch, *between, positions = torch.sizes_of(argument)
    if any(size != 1 for size in between) or torch.tensor_type(argument).rank < 2:
        return None
    # The keys must be the sequence itself: in cross attention they are those of another one.
    sizes = batch, positions
    for attention in attentions:
        query, key = torch.sizes_of(attention.query), torch.sizes_of(attention.key)
        if query[-2] != key[-2] or (query[0], key[-2]) != sizes:
            return None
    name = input_names(main_function(module))[argument.index]
    prologue = prologue_of(module, store)
    is_computed = prologue is not None and name in dict(prologue.results)
    return PaddingMask(name, inverted, sizes, prologue if is_computed else None)


def _input_of(mask: SSAValue) -> tuple[BlockArgument | None, bool]:
    inverted = False
    while isinstance(mask.owner, torch.ViewOp | torch.ToDtypeOp | torch.LogicalNotOp):
        inverted ^= isinstance(mask.owner, torch.LogicalNotOp)
        mask = mask.owner.operands[0]
    return (mask if isinstance(mask, BlockArgument) else None), inverted


def counted_rows(values: Array, counted: Array | None) -> Array:
    """
    The rows of `values` [..., width] whose positions count, [rows, width].

    `counted` is bool [batch, positions]. All rows count if it is None or admits none, or if the shape of `values` does
    not identify the axis of the positions.
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
    # Nothing is copied if every position counts, as in most samples.
    chosen = values if places.all() else values[places]
    return chosen.reshape(-1, values.shape[-1])
