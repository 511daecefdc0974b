"""
One-shot pruning of linear layers to N:M patterns, by magnitude.

The pruned weight gets a name of its own, so that a weight that layers share can be pruned for one and not for another.
The name of the one before stays with the layer, so that calibration can measure the output against the model given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.ir.accuracy import set_pruned_layers
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.location import describe, module_path
from sta.dialect.ir.main_function import main_function
from sta.dialect.ir.weight_store import WeightStore
from sta.passes.errors import CompileError
from sta.passes.quantization.layer_selection import check_globs
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.torch_operations import TorchBuilder, literal_of, operations_of
from sta.passes.torch.fold_quantization import is_quantized
from sta.spec.nm_format import Pattern, prune_by_magnitude


def prune(
    module: ModuleOp, store: WeightStore, default: Pattern | None, patterns: Mapping[str, Pattern] | None = None
) -> dict[str, Pattern]:
    """
    Prunes the weights of the linear layers in the function `main` of `module`.

    A layer gets the pattern of the first glob in `patterns` that its module path matches, else `default`; None leaves
    it as it is. Returns the pattern of every pruned layer, by module path; the function keeps those of layers with
    weights that changed. Raises ValueError for a glob that matches no linear layer.
    """
    patterns = patterns or {}
    layers = [operation for operation in operations_of(module) if _weight(operation) is not None]
    check_globs(patterns, [module_path(layer) for layer in layers])
    pruned: dict[str, Pattern] = {}
    changed: dict[str, Pattern] = {}
    for layer in layers:
        assert isinstance(layer, torch.LinearOp)
        path = module_path(layer)
        pattern = next((pattern for glob, pattern in patterns.items() if fnmatchcase(path, glob)), default)
        if pattern is None or pattern.is_dense:
            continue
        pruned[path] = pattern
        if _prune_layer(layer, store, pattern):
            changed[path] = pattern
    erase_dead(module)
    set_pruned_layers(main_function(module), changed)
    return pruned


def unpruned(module: ModuleOp, store: WeightStore) -> ModuleOp | None:
    """
    A copy of a module in which layers have the weights from before they were pruned; None if none was pruned.

    Raises ValueError for a layer with a name that is none of a weight of its shape, as an edited dump may have.
    """
    if not any(torch.DENSE_WEIGHT in operation.attributes for operation in operations_of(module)):
        return None
    copy = module.clone()
    for operation in operations_of(copy):
        name = operation.attributes.get(torch.DENSE_WEIGHT)
        if not isinstance(operation, torch.LinearOp) or not isinstance(name, StringAttr):
            continue
        sizes = torch.sizes_of(operation.weight)
        if name.data not in store or store.get(name.data).shape != sizes:
            raise ValueError(
                f"{describe(operation)}: {torch.DENSE_WEIGHT} is the name of a weight {list(sizes)}, and {name.data!r} "
                "is none"
            )
        weight = TorchBuilder(operation, store).literal(store.get(name.data), name.data)
        operation.operands = [operation.input, weight, operation.bias]
    return copy


def forget_dense_weights(module: ModuleOp) -> None:
    """Takes the names of weights before pruning away, which have no use any more."""
    for operation in operations_of(module):
        operation.attributes.pop(torch.DENSE_WEIGHT, None)


def _weight(operation: object) -> torch.LiteralOp | None:
    return literal_of(operation.weight) if isinstance(operation, torch.LinearOp) else None


def _prune_layer(layer: torch.LinearOp, store: WeightStore, pattern: Pattern) -> bool:
    """Prunes the weight of a layer; true if that changed it."""
    literal = _weight(layer)
    assert literal is not None
    before = literal.array(store)
    name = f"{literal.resource or 'constant'}.pruned_{pattern.n}_{pattern.m}"
    pruned = prune_by_magnitude(before, pattern)
    layer.operands = [layer.input, TorchBuilder(layer, store).literal(pruned, name), layer.bias]
    changed = not np.array_equal(before, pruned)
    if changed and literal.resource is not None:
        layer.attributes.setdefault(torch.DENSE_WEIGHT, StringAttr(literal.resource))
    return changed


@dataclass(frozen=True)
class TorchPrunePass(ModulePass):
    """Keeps the N largest weights of every group of M in linear layers."""

    name = "torch-prune"

    pattern: str | None = None
    """N:M, for every layer that no glob names; empty for none."""

    patterns: tuple[str, ...] = ()
    """Globs over module paths with their patterns: "encoder.layer.0.*=2:4"."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Prunes `op` in place; pruned weights go into the context's weight store."""
        if is_quantized(op):
            raise CompileError("the model is quantized already, and cannot be pruned any more: prune it before")
        default = Pattern.parse(self.pattern) if self.pattern else None
        prune(op, weights_of(ctx), default, dict(_parse_assignment(text) for text in self.patterns))


def _parse_assignment(text: str) -> tuple[str, Pattern]:
    glob, equals, pattern = text.rpartition("=")
    if not equals:
        raise ValueError(f"{text!r} is not of the form module-path-glob=N:M")
    return glob, Pattern.parse(pattern)
