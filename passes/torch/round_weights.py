"""
GPTQ's weights in the place of those that they round.

Calibration finds them, smooths and observes, which keeps the function of the module; what it only names takes effect
here. So a check can require that nothing else changed, and say what the rounding costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.passes import ModulePass

from sta.dialect import torch
from sta.dialect.ir.context import weights_of
from sta.dialect.ir.location import describe
from sta.passes.rewriting.dead_code import erase_dead
from sta.passes.rewriting.torch_operations import TorchBuilder, literal_of, operations_of


def name_rounded_weights(module: ModuleOp, rounding: Callable[[], None]) -> None:
    """Notes the names of the weights that `rounding` gives the linear layers of a module, and leaves them their own."""
    layers = [operation for operation in operations_of(module) if isinstance(operation, torch.LinearOp)]
    before = [layer.weight for layer in layers]
    rounding()
    for layer, weight in zip(layers, before, strict=True):
        rounded = literal_of(layer.weight)
        if layer.weight is weight or rounded is None or rounded.resource is None:
            continue
        layer.attributes[torch.ROUNDED_WEIGHT] = StringAttr(rounded.resource)
        layer.operands = [layer.input, weight, layer.bias]
    erase_dead(module)


@dataclass(frozen=True)
class TorchRoundWeightsPass(ModulePass):
    """Puts the weights that calibration has rounded in the place of linear layers' own."""

    name = "torch-round-weights"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """
        Changes `op` in place.

        Raises ValueError for a layer with a name that is none of a weight of its shape, as an edited dump may have.
        """
        store = weights_of(ctx)
        for layer in operations_of(op):
            name = layer.attributes.pop(torch.ROUNDED_WEIGHT, None)
            if not isinstance(layer, torch.LinearOp) or not isinstance(name, StringAttr):
                continue
            sizes = torch.sizes_of(layer.weight)
            if name.data not in store or store.get(name.data).shape != sizes:
                raise ValueError(
                    f"{describe(layer)}: {torch.ROUNDED_WEIGHT} is the name of a weight {list(sizes)}, and "
                    f"{name.data!r} is none"
                )
            weight = TorchBuilder(layer, store).literal(store.get(name.data), name.data)
            layer.operands = [layer.input, weight, layer.bias]
        erase_dead(op)
