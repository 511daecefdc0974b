"""Operations that make one value of another, run on numbers: what they compute shows what they spell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import Operation, SSAValue

from sta.dialect import torch
from sta.dialect.interpreters.torch import evaluate, tensor_from
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.rewriting.torch_operations import literal_of

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Spelled:
    """The effect of operations on a value."""

    source: SSAValue
    spelled: list[Operation]
    """In their order; all but the source that they read is constant, or made by one of them."""
    result: SSAValue
    store: WeightStore

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of the source."""
        return torch.sizes_of(self.source)

    def of(self, value: Array) -> Array:
        """The result for a value. Raises TorchInterpretationError where PyTorch refuses to compute it."""
        known: dict[SSAValue, Any] = {self.source: tensor_from(value)}
        for operation in self.spelled:
            results = evaluate(
                operation, tuple(self._known(operand, known) for operand in operation.operands), self.store
            )
            known.update(zip(operation.results, results, strict=True))
        return known[self.result].numpy()

    def _known(self, value: SSAValue, known: dict[SSAValue, Any]) -> Any:
        if value in known:
            return known[value]
        owner = value.owner
        assert isinstance(owner, Operation)
        return evaluate(owner, tuple(self._known(operand, known) for operand in owner.operands), self.store)[0]


def tensors_of(operation: Operation) -> list[SSAValue]:
    """The tensors that `operation` takes, those in lists as well."""
    found: list[SSAValue] = []
    for value in operation.operands:
        if isinstance(value.owner, torch.ListConstructOp):
            found += value.owner.elements
        else:
            found.append(value)
    return [value for value in found if isinstance(value.type, torch.VTensorType)]


def values_of(operation: Operation) -> set[SSAValue]:
    """The tensors that `operation` takes, without constants."""
    return {value for value in tensors_of(operation) if literal_of(value) is None}
