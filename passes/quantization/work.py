"""Progress of calibration, by the multiply-accumulates of its parts."""

from __future__ import annotations

import math

from xdsl.dialects.builtin import ModuleOp

from sta.dialect import torch
from sta.passes.options import StageProgress
from sta.passes.rewriting.torch_operations import operations_of


class Work:
    """Reports the done share of work that consists of `products` multiply-accumulates."""

    def __init__(self, report: StageProgress, products: int) -> None:
        self._report = report
        self._all = products
        self._done = 0

    def add(self, stage: str, products: int) -> None:
        """Counts work that is done, and reports it as that of a stage."""
        self._done += products
        # There may be more than was expected.
        self._report(stage, min(self._done / self._all, 1.0) if self._all else None)


def products_of_layers(module: ModuleOp) -> int:
    """Multiply-accumulates of the linear layers of a module."""
    return sum(products_of(layer) for layer in operations_of(module) if isinstance(layer, torch.LinearOp))


def products_of(layer: torch.LinearOp) -> int:
    """Multiply-accumulates of a linear layer."""
    return math.prod(torch.sizes_of(layer.input)) * torch.sizes_of(layer.weight)[0]
