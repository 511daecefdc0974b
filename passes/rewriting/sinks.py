"""
Sinks of attention: one more score of each row, whose weight is dropped behind the softmax.

It is the score of one more key, of zeros, with the sink as its bias and a value of zeros. A gate
`sigmoid(logsumexp(scores) - sink)` of what is attended is such a sink too:
`exp(s) / sum(exp(s)) * sigmoid(log(sum(exp(s))) - sink)` is `exp(s) / (sum(exp(s)) + exp(sink))`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import i1
from xdsl.ir import Operation, SSAValue

from sta.dialect import torch
from sta.passes.rewriting.mask_terms import expanded
from sta.passes.rewriting.torch_operations import TorchBuilder, is_aten, single_use


@dataclass(frozen=True)
class Sink:
    """The sink of a softmax."""

    scores: SSAValue
    """The scores of the keys, without it."""
    sink: SSAValue
    """Its score, [..., rows or 1, 1]."""
    weights: SSAValue
    """The weights of the keys."""


def find_sink(softmax: torch.SoftmaxIntOp | torch.SoftmaxOp) -> Sink | None:
    """The sink of `softmax`, which is over the last axis; None if it has none."""
    joined, rank = softmax.input.owner, softmax.result.type.rank
    if not isinstance(joined, Operation) or not is_aten(joined, "cat") or not single_use(softmax.result):
        return None
    elements, axis = joined.operands[0].owner, torch.integer_of(joined.operands[1]) % rank
    part = next(iter(softmax.result.uses)).operation
    if not isinstance(elements, torch.ListConstructOp) or axis != rank - 1 or len(elements.elements) != 2:
        return None
    scores, sink = elements.elements
    keys = torch.sizes_of(scores)[-1]
    if torch.sizes_of(sink)[-1] != 1 or not isinstance(part, torch.SliceTensorOp) or part.bounds != (axis, 0, keys, 1):
        return None
    return Sink(scores, sink, part.result)


def gate_as_sink(builder: TorchBuilder, product: torch.MulTensorOp) -> SSAValue | None:
    """The attended values that `product` multiplies with a gate, with the gate as a sink; None if it does not."""
    pairs = [(product.input, product.other), (product.other, product.input)]
    return next((made for pair in pairs if (made := _ungated(builder, *pair)) is not None), None)


def _ungated(builder: TorchBuilder, attended: SSAValue, gate: SSAValue) -> SSAValue | None:
    weighing = attended.owner
    if not isinstance(weighing, torch.MatmulOp | torch.BmmOp) or not single_use(attended):
        return None
    softmax = weighing.input.owner
    if not isinstance(softmax, torch.SoftmaxIntOp | torch.SoftmaxOp) or not single_use(softmax.result):
        return None
    scores, rank = softmax.input, softmax.result.type.rank
    sink = _sink_of_gate(gate, scores)
    if sink is None or torch.integer_of(softmax.dim) % rank != rank - 1:
        return None
    sizes = torch.sizes_of(scores)
    column = builder.view(sink, (*torch.sizes_of(sink), 1))
    whole = builder.expand(column, (*sizes[:-1], 1))
    longer = _concatenated(builder, [scores, whole], rank - 1)
    operands = [longer, *softmax.operands[1:]]
    weights = builder.slice(builder.aten(type(softmax), operands, longer.type), rank - 1, 0, sizes[-1])
    return builder.aten(type(weighing), [weights, weighing.operands[1]], attended.type)


def _sink_of_gate(gate: SSAValue, scores: SSAValue) -> SSAValue | None:
    """The sink of the gate of rows [..., rows, 1] that depends on the sum of their `scores`, [..., rows or 1]."""
    *leading, keys = torch.sizes_of(scores)
    if torch.sizes_of(gate) != (*leading, 1) or keys == 1:
        return None
    sigmoid = gate.owner.operands[0].owner if isinstance(gate.owner, torch.ViewOp) else gate.owner
    difference = sigmoid.operands[0].owner if is_aten(sigmoid, "sigmoid") and isinstance(sigmoid, Operation) else None
    if not isinstance(difference, Operation) or not is_aten(difference, "sub.Tensor"):
        return None
    total, sink, alpha = difference.operands
    reduction = total.owner
    if not isinstance(reduction, Operation) or not is_aten(reduction, "logsumexp") or torch.constant_of(alpha) != 1:
        return None
    is_over_keys = reduction.operands[0] is scores and torch.integers_of(reduction.operands[1]) in (
        [-1],
        [len(leading)],
    )
    return sink if is_over_keys and torch.sizes_of(total) == tuple(leading) else None


def with_sink(
    builder: TorchBuilder, sink: Sink, key: SSAValue, value: SSAValue, mask: SSAValue | None, rows: int
) -> tuple[SSAValue, SSAValue, SSAValue | None, list[SSAValue]]:
    """Keys, values and mask with one more key, and a bias that is `sink` there and else zero."""
    longer = [_longer(builder, one) for one in (key, value)]
    keys = torch.sizes_of(key)[-2]
    zeros = builder.literal(np.zeros((1, keys), np.float32), "attention_bias")
    score = _without_repetition(sink.sink)
    leading = torch.sizes_of(score)[:-1]
    bias = _concatenated(builder, [expanded(builder, zeros, (*leading, keys)), score], -1)
    if mask is not None:
        mask = padded(builder, expanded(builder, mask, (*torch.sizes_of(mask)[:-1], keys)))
    return longer[0], longer[1], mask, [bias]


def padded(builder: TorchBuilder, mask: SSAValue) -> SSAValue:
    """A mask with one more key, which it admits."""
    given = torch.tensor_type(mask)
    fill = builder.integer(1) if given.element_type == i1 else builder.number(0.0)
    kind = torch.VTensorType((*given.sizes[:-1], given.sizes[-1] + 1), given.element_type)
    return builder.aten(torch.operator_class("aten.constant_pad_nd"), [mask, builder.integers([0, 1]), fill], kind)


def _longer(builder: TorchBuilder, value: SSAValue) -> SSAValue:
    """Keys or values with one row of zeros more."""
    sizes = torch.sizes_of(value)
    zeros = builder.literal(np.zeros((*sizes[:-2], 1, sizes[-1]), np.float32), "attention_sink")
    return _concatenated(builder, [value, zeros], -2)


def _concatenated(builder: TorchBuilder, parts: list[SSAValue], axis: int) -> SSAValue:
    first = torch.tensor_type(parts[0])
    sizes = list(first.sizes)
    sizes[axis] = sum(torch.sizes_of(part)[axis] for part in parts)
    listed = builder.insert(torch.ListConstructOp(parts, torch.VTensorType(None, None)))
    kind = torch.VTensorType(sizes, first.element_type)
    return builder.aten(torch.operator_class("aten.cat"), [listed, builder.integer(axis)], kind)


def _without_repetition(sink: SSAValue) -> SSAValue:
    """The sink of all rows, if they have the same."""
    repetition = sink.owner
    if not isinstance(repetition, torch.ExpandOp):
        return sink
    given, sizes = torch.sizes_of(repetition.input), torch.sizes_of(sink)
    return repetition.input if len(given) == len(sizes) and given[-2] == 1 else sink
