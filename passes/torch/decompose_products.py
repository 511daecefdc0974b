"""
Every product of two values in one form: `aten.matmul` of matrices, or of batches of them.

bmm, mm, mv, dot, addmm and baddbmm become matmul, with a sum where they have one; vectors become matrices of one row or
one column. Where all batches share the second factor the first one's rows are joined, so that it is one product. Runs
behind the recognition of attention, which knows products as models spell them, and leaves products with a constant
matrix to `torch-canonicalize-views`, which makes linear layers of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.sweep import sweep
from sta.passes.rewriting.torch_operations import TorchBuilder
from sta.spec.operators.operator import Role

PRODUCT, PRODUCT_AND_SUM = "product", "product and sum"
"""Spellings of the operators that become matmul."""


def decompose_products(module: ModuleOp, store: WeightStore) -> None:
    """Rewrites the functions of `module`."""
    sweep(module, DecomposeProduct(store))
    erase_dead(module)


@dataclass(frozen=True)
class DecomposeProduct(RewritePattern):
    """One product in another form."""

    store: WeightStore

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        """Rewrites `op` if it is a product of floats."""
        row = torch.find_row(op)
        if row is None or not (row.role is Role.PRODUCT or row.spelling in (PRODUCT, PRODUCT_AND_SUM)):
            return
        if not torch.tensor_type(op.results[0]).is_float:
            return
        if isinstance(op, torch.MatmulOp) and _is_plain(op.input, op.other):
            return
        builder = TorchBuilder(op, self.store, rewriter)
        if row.spelling == PRODUCT_AND_SUM:
            made = _with_sum(builder, op)
        else:
            made = _product(builder, op.operands[0], op.operands[1])
        rewriter.replace(op, (), [builder.view(made, torch.sizes_of(op.results[0]))])


def _is_plain(left: SSAValue, right: SSAValue) -> bool:
    """True if the product of `left` and `right` is in its final form."""
    first, second = torch.sizes_of(left), torch.sizes_of(right)
    return min(len(first), len(second)) >= 2 and (prod(second[:-2]) > 1 or max(len(first), len(second)) == 2)


def _product(builder: TorchBuilder, left: SSAValue, right: SSAValue) -> SSAValue:
    """The product, under a shape that may have joined axes, or axes of size 1 in place of those of vectors."""
    first, second = torch.sizes_of(left), torch.sizes_of(right)
    if prod(second[:-2]) == 1:
        left, right = (
            builder.view(left, (prod(first[:-1]), first[-1])),
            builder.view(right, (first[-1], _columns(second))),
        )
    elif len(first) == 1:
        left = builder.view(left, (1, *first))
    first, second = torch.sizes_of(left), torch.sizes_of(right)
    leading = np.broadcast_shapes(first[:-2], second[:-2])
    result = torch.VTensorType((*leading, first[-2], second[-1]), torch.tensor_type(left).element_type)
    return builder.aten(torch.MatmulOp, [left, right], result)


def _columns(sizes: tuple[int, ...]) -> int:
    return 1 if len(sizes) == 1 else sizes[-1]


def _with_sum(builder: TorchBuilder, op: Operation) -> SSAValue:
    """beta * input + alpha * (left times right)."""
    added, left, right, beta, alpha = op.operands
    sizes = torch.sizes_of(op.results[0])
    product = _scaled(builder, builder.view(_product(builder, left, right), sizes), torch.number_of(alpha))
    if torch.number_of(beta) == 0:
        return product
    operands = [product, _scaled(builder, added, torch.number_of(beta)), builder.integer(1)]
    return builder.aten(torch.AddTensorOp, operands, op.results[0].type)


def _scaled(builder: TorchBuilder, value: SSAValue, factor: float) -> SSAValue:
    return value if factor == 1 else builder.aten(torch.MulScalarOp, [value, builder.number(factor)], value.type)


@dataclass(frozen=True)
class TorchDecomposeProductsPass(ModulePass):
    """Spells every product of two values as aten.matmul of matrices or batches of them."""

    name = "torch-decompose-products"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrites `op` in place."""
        decompose_products(op, weights_of(ctx))
