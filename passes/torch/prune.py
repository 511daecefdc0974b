"""
One-shot pruning of linear layers to N:M patterns, by magnitude.

The pruned weight gets a name of its own, so that a weight that layers share can be pruned for one and not for another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.location import module_path
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
    it as it is. Returns the pattern of every pruned layer, by module path. Raises ValueError for a glob that matches no
    linear layer.
    """
    patterns = patterns or {}
    layers = [operation for operation in operations_of(module) if _weight(operation) is not None]
    check_globs(patterns, [module_path(layer) for layer in layers])
    pruned: dict[str, Pattern] = {}
    for layer in layers:
        assert isinstance(layer, torch.LinearOp)
        path = module_path(layer)
        pattern = next((pattern for glob, pattern in patterns.items() if fnmatchcase(path, glob)), default)
        if pattern is None or pattern.is_dense:
            continue
        _prune_layer(layer, store, pattern)
        pruned[path] = pattern
    erase_dead(module)
    return pruned


def _weight(operation: object) -> torch.LiteralOp | None:
    return literal_of(operation.weight) if isinstance(operation, torch.LinearOp) else None


def _prune_layer(layer: torch.LinearOp, store: WeightStore, pattern: Pattern) -> None:
    literal = _weight(layer)
    assert literal is not None
    name = f"{literal.resource or 'constant'}.pruned_{pattern.n}_{pattern.m}"
    weight = TorchBuilder(layer, store).literal(prune_by_magnitude(literal.array(store), pattern), name)
    layer.operands = [layer.input, weight, layer.bias]


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
