"""
Layers whose results are compared with one another, as a router's: they are computed with 16 bits.

Which result is the larger decides what the model goes on with, so that a small error is a large one where two are
close. Inputs get 16 bits, and a weight becomes the sum of two: itself rounded to 8 bits, and what is left. Such layers
are small.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import UnitAttr
from xdsl.ir import Operation, SSAValue

from sta.dialect import torch
from sta.dialect.ir.location import module_path
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.torch_operations import Array, TorchBuilder, array_of, identifier, is_aten, replace
from sta.passes.rewriting.uses_through_views import VIEWS
from sta.spec.operators.operator import Role

_LARGEST_INTEGER = 127


def refine_compared_layers(operations: Sequence[Operation], store: WeightStore) -> None:
    """Rewrites the linear layers among `operations` whose results are compared with one another."""
    for layer in _compared_layers(operations):
        layer.attributes[torch.INT16_INPUT] = UnitAttr()
        weight = array_of(layer.weight, store)
        if weight is not None:
            _split(layer, weight, store)


def _split(layer: torch.LinearOp, weight: Array, store: WeightStore) -> None:
    """Replaces `layer` by the sum of two, the second with what the first lacks of `weight`."""
    rounded = _rounded(weight)
    if np.array_equal(rounded, weight):
        return
    builder, name = TorchBuilder(layer, store), identifier(module_path(layer)) or "layer"
    parts = [
        builder.linear(layer.input, builder.literal(rounded, f"{name}.rounded"), layer.bias),
        builder.linear(layer.input, builder.literal(weight - rounded, f"{name}.rest")),
    ]
    for part in parts:
        assert isinstance(part.owner, Operation)
        part.owner.attributes[torch.INT16_INPUT] = UnitAttr()
    replace(layer, [builder.aten(torch.AddTensorOp, [*parts, builder.integer(1)], layer.result.type)])


def _compared_layers(operations: Sequence[Operation]) -> list[torch.LinearOp]:
    """The layers from which values come that are compared with themselves, each once."""
    found: dict[torch.LinearOp, None] = {}
    for operation in operations:
        row = torch.find_row(operation)
        difference = operation.operands[0].owner if row is not None and row.role is Role.COMPARISON else None
        if not isinstance(difference, Operation) or not is_aten(difference, "sub.Tensor"):
            continue
        left, right = (_behind_views(value) for value in difference.operands[:2])
        if left is right:
            found.update(dict.fromkeys(_layers_before(left)))
    return list(found)


def _behind_views(value: SSAValue) -> SSAValue:
    while isinstance(value.owner, Operation) and _is_view(value.owner):
        value = value.owner.operands[0]
    return value


def _is_view(operation: Operation) -> bool:
    row = torch.find_row(operation)
    return isinstance(operation, VIEWS) or (row is not None and row.role is Role.VIEW)


def _layers_before(value: SSAValue) -> list[torch.LinearOp]:
    """The layers of which `value` is a function, without another layer in between."""
    found: list[torch.LinearOp] = []
    pending, seen = [value], {value}
    while pending:
        owner = pending.pop().owner
        if isinstance(owner, torch.LinearOp):
            found.append(owner)
        elif isinstance(owner, Operation) and (_is_view(owner) or _is_of_elements(owner)):
            pending += [one for one in owner.operands if one not in seen]
            seen.update(owner.operands)
    return found


def _is_of_elements(operation: Operation) -> bool:
    row = torch.find_row(operation)
    is_softmax = isinstance(operation, torch.SoftmaxIntOp | torch.SoftmaxOp)
    return is_softmax or (row is not None and row.is_pointwise)


def _rounded(weight: Array) -> Array:
    """`weight` [out, in] rounded to the multiples that 8 bits hold of a step of each row."""
    steps = np.abs(weight).max(axis=1, keepdims=True) / np.float32(_LARGEST_INTEGER)
    return np.array(np.rint(weight / np.where(steps == 0, 1, steps)) * steps, np.float32)
