"""Attention as one operator: ONNX's own, and onnxruntime's for self-attention and for several heads."""
# pyright: basic
# Protocol buffers have no types that pyright could check.

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from xdsl.ir import SSAValue

from sta.dialect import torch
from sta.dialect.torch import sizes_of, tensor_type
from sta.frontend.errors import ModelError
from sta.frontend.onnx.file import label
from sta.frontend.onnx.graph import OnnxGraph, UnsupportedForm
from sta.frontend.onnx.operands import added, broadcast_operand, broadcast_sizes, expect_unused, operand, row_of
from sta.frontend.onnx.products import constant_matrix, linear
from sta.frontend.onnx.rule import Attributes, Rule

if TYPE_CHECKING:
    from onnx import NodeProto

_CACHE = "keys and values of former steps are not supported: export the model without a cache"


def _attention(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """An attention, with a mask, a causal mask or both."""
    if operand(node, 4) or operand(node, 5):
        raise UnsupportedForm(_CACHE)
    if operand(node, 6):
        raise UnsupportedForm("lengths of keys as an operand are not supported: pass a mask of booleans")
    if attributes["softcap"]:
        raise UnsupportedForm("scores are not capped: leave the attribute softcap out")
    expect_unused(graph, node, {1: "the keys", 2: "the values", 3: "the scores"})
    query, key, value = (graph.value(name) for name in node.input[:3])
    merged = tensor_type(query).rank == 3
    if merged:
        heads = attributes["q_num_heads"], attributes["kv_num_heads"], attributes["kv_num_heads"]
        query, key, value = (
            _split_heads(graph, node, part, count) for part, count in zip((query, key, value), heads, strict=True)
        )
    mask = graph.value(node.input[3]) if operand(node, 3) else None
    result = _attended(graph, node, query, key, value, mask, attributes["scale"], bool(attributes["is_causal"]))
    graph.set(node.output[0], _merge_heads(graph, result) if merged else result)


def _self_attention(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """A projection to queries, keys and values in one, and their attention."""
    if operand(node, 4) or operand(node, 5) or operand(node, 6):
        raise UnsupportedForm("only a mask of the keys is supported, no cache and no bias on scores")
    expect_unused(graph, node, {1: "keys and values"})
    x, weight = graph.value(node.input[0]), constant_matrix(graph, node.input[1], transposed=True)
    if weight is None:
        raise UnsupportedForm("its weight must be a constant")
    columns = sizes_of(weight)[0]
    bias = broadcast_operand(graph, node, 2, (columns,))
    joined = linear(graph, node, x, weight, row_of(graph, bias, columns))
    widths = attributes["qkv_hidden_sizes"] or [columns // 3] * 3
    ends = [sum(widths[: index + 1]) for index in range(3)]
    parts = [graph.part(joined, 2, end - width, end) for width, end in zip(widths, ends, strict=True)]
    _attend_heads(graph, node, parts, attributes, mask=3)


def _multi_head_attention(graph: OnnxGraph, node: NodeProto, attributes: Attributes) -> None:
    """An attention of queries, keys and values whose heads are joined, plus a bias."""
    if any(operand(node, index) for index in range(5, len(node.input))):
        raise UnsupportedForm("only a mask of the keys is supported, no cache and no bias on scores")
    if not operand(node, 1) or not operand(node, 2):
        raise UnsupportedForm("queries, keys and values must be operands of their own")
    expect_unused(graph, node, {1: "the keys", 2: "the values", 3: "the scores"})
    parts = [graph.value(name) for name in node.input[:3]]
    bias = graph.constant(operand(node, 3)) if operand(node, 3) else None
    if operand(node, 3) and bias is None:
        raise UnsupportedForm("its bias must be a constant")
    if bias is not None:
        ends = np.cumsum([sizes_of(part)[-1] for part in parts])[:-1]
        rows = [graph.literal(row, node.input[3]) for row in np.split(bias, ends)]
        parts = [added(graph, node, part, row) for part, row in zip(parts, rows, strict=True)]
    _attend_heads(graph, node, parts, attributes, mask=4)


def _attend_heads(
    graph: OnnxGraph, node: NodeProto, parts: list[SSAValue], attributes: Attributes, *, mask: int
) -> None:
    """The attention of queries, keys and values with joined heads; `mask` is the index of a mask of the keys."""
    if any(tensor_type(part).rank != 3 for part in parts):
        raise UnsupportedForm("queries, keys and values must have three axes, with joined heads")
    query, key, value = (_split_heads(graph, node, part, attributes["num_heads"]) for part in parts)
    admitted = _key_mask(graph, node, mask, key)
    scale = attributes["scale"] or None
    causal = bool(attributes["unidirectional"])
    graph.set(node.output[0], _merge_heads(graph, _attended(graph, node, query, key, value, admitted, scale, causal)))


def _key_mask(graph: OnnxGraph, node: NodeProto, index: int, key: SSAValue) -> SSAValue | None:
    """The mask [batch, 1, 1, keys] of the operand [batch, keys] at `index`; None if there is none."""
    if not operand(node, index):
        return None
    given = graph.value(node.input[index])
    batch, _, keys, _ = sizes_of(key)
    if sizes_of(given) != (batch, keys):
        raise UnsupportedForm(f"its mask must have the shape {[batch, keys]}, one number for each key")
    return graph.view(graph.converted(given, np.dtype(np.bool_)), (batch, 1, 1, keys))


def _split_heads(graph: OnnxGraph, node: NodeProto, x: SSAValue, heads: int | None) -> SSAValue:
    """[batch, rows, heads * width] as [batch, heads, rows, width]."""
    batch, rows, width = sizes_of(x)
    if not heads or width % heads:
        raise ModelError(f"{label(node)}: {heads or 'no'} heads do not divide a width of {width}")
    return graph.permuted(graph.view(x, (batch, rows, heads, width // heads)), [0, 2, 1, 3])


def _merge_heads(graph: OnnxGraph, x: SSAValue) -> SSAValue:
    batch, heads, rows, width = sizes_of(x)
    return graph.view(graph.permuted(x, [0, 2, 1, 3]), (batch, rows, heads * width))


def _attended(
    graph: OnnxGraph,
    node: NodeProto,
    query: SSAValue,
    key: SSAValue,
    value: SSAValue,
    mask: SSAValue | None,
    scale: float | None,
    causal: bool,
) -> SSAValue:
    q, k, v = (sizes_of(part) for part in (query, key, value))
    if q[-1] != k[-1] or k[:-1] != v[:-1] or q[0] != k[0] or q[1] % k[1]:
        raise ModelError(f"{label(node)}: queries {list(q)}, keys {list(k)} and values {list(v)} do not fit each other")
    if mask is not None and broadcast_sizes(node, [sizes_of(mask), (*q[:3], k[2])]) != (*q[:3], k[2]):
        raise ModelError(f"{label(node)}: a mask {list(sizes_of(mask))} is no mask of the scores {[*q[:3], k[2]]}")
    operands = [
        query,
        key,
        value,
        graph.none() if mask is None else mask,
        graph.number(0.0),
        graph.boolean(causal),
        graph.none() if scale is None else graph.number(scale),
        graph.boolean(q[1] != k[1]),
    ]
    return graph.aten(torch.ScaledDotProductAttentionOp, operands, (*q[:3], v[-1]))


RULES = {
    "Attention": Rule(
        _attention, ("is_causal", "kv_num_heads", "q_num_heads", "scale", "softcap", "softmax_precision")
    ),
}

_HEADS = ("num_heads", "scale", "unidirectional", "mask_filter_value")
_DEFAULTS = {"scale": 0.0, "unidirectional": 0, "mask_filter_value": -10000.0}

ONNXRUNTIME_RULES = {
    "Attention": Rule(
        _self_attention,
        (*_HEADS, "qkv_hidden_sizes"),
        {**_DEFAULTS, "qkv_hidden_sizes": None, "do_rotary": 0, "past_present_share_buffer": 0},
    ),
    "MultiHeadAttention": Rule(_multi_head_attention, _HEADS, _DEFAULTS),
}
"""Of the domain com.microsoft."""
