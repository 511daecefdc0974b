"""Multiply-accumulates of the model, from its shapes: the numerator of MAC efficiency (docs/numerics.md, Cycles)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from xdsl.dialects import func
from xdsl.dialects.builtin import DictionaryAttr, IntegerAttr, ModuleOp, i64

from sta.dialect import nm

ATTRIBUTE = "sta.macs"
"""The attribute of a lowered function that holds what its model needs."""


@dataclass(frozen=True)
class UsefulMacs:
    """`kept`: with the weights' sparsity; `dense`: as if every weight were multiplied."""

    kept: int
    dense: int


def useful_macs(module: ModuleOp) -> UsefulMacs:
    """
    Counts `m * n * K * N / M` for every product with weights, `m * n * K` for one of two values and, for attention,
    the width of a key and of a value for every admissible (query, key) pair; what padding, recomputation or tiling add
    does not count. A mask that is only known at run time excludes nothing.
    """
    kept = dense = 0
    for op in module.walk():
        if isinstance(op, nm.ProductOp | nm.LinearOp):
            columns, depth = nm.tensor_of(op.weight).get_shape()
            pairs = prod(nm.tensor_of(op.x).get_shape()[:-1]) * columns * depth
            pattern, _ = nm.pattern_of(op.weight)
            dense += pairs
            kept += pairs * pattern.n // pattern.m
        if isinstance(op, nm.DynamicProductOp | nm.MatmulOp):
            pairs = prod(nm.dynamic_shape(op.a, op.b)) * nm.tensor_of(op.a).get_shape()[-1]
            dense += pairs
            kept += pairs
        if isinstance(op, nm.AttentionOp):
            batch, heads, queries, depth = nm.tensor_of(op.q).get_shape()
            _, _, keys, width = nm.tensor_of(op.v).get_shape()
            pairs = batch * heads * _admissible(queries, keys, op.causal is not None) * (depth + width)
            dense += pairs
            kept += pairs
    return UsefulMacs(kept, dense)


def _admissible(queries: int, keys: int, causal: bool) -> int:
    if not causal:
        return queries * keys
    return sum(min(query + 1, keys) for query in range(queries))


def record_macs(function: func.FuncOp, macs: UsefulMacs) -> None:
    """Keeps the count with a lowered function, whose operations no longer tell."""
    counts = {"kept": macs.kept, "dense": macs.dense}
    function.attributes[ATTRIBUTE] = DictionaryAttr({name: IntegerAttr(count, i64) for name, count in counts.items()})


def recorded_macs(module: ModuleOp) -> UsefulMacs:
    """The count that was kept with a lowered module. Raises ValueError if there is none."""
    for op in module.ops:
        counts = op.attributes.get(ATTRIBUTE)
        if isinstance(counts, DictionaryAttr) and {"kept", "dense"} <= counts.data.keys():
            return UsefulMacs(nm.integer_value(counts.data["kept"]), nm.integer_value(counts.data["dense"]))
    raise ValueError(
        f"the function has no {ATTRIBUTE} with the model's multiply-accumulates: lower it with convert-nm-to-sta"
    )
