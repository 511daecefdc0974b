"""New nodes of an exported program's graph."""
# pyright: basic
# Operators of torch.ops have no public types.

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

PLACE = ("nn_module_stack", "stack_trace")
"""Entries about a node's place in the model."""


def sizes_of(node: Node) -> list[int]:
    """The sizes of a node's tensor. Raises NotLifted for those that depend on numbers."""
    sizes = list(node.meta["val"].shape)
    if any(not isinstance(size, int) for size in sizes):
        raise NotLifted("sizes that depend on numbers")
    return sizes


class NotLifted(Exception):
    """An operation on slots that has no counterpart on experts."""


class GraphBuilder:
    """Adds nodes before the one that is being rewritten, with its place in the model."""

    def __init__(self, module: GraphModule) -> None:
        self._module = module
        values = [node.meta.get("val") for node in module.graph.nodes if node.op == "placeholder"]
        self._mode = next(value.fake_mode for value in values if hasattr(value, "fake_mode"))
        self._count = 0
        self.current: Node | None = None
        """The node that is being rewritten."""

    def call(self, target: Any, *arguments: Any, **keywords: Any) -> Node:
        """A call of an operator; nodes among its arguments stand for their values."""
        import torch
        from torch.fx.node import map_arg

        assert self.current is not None
        with self._module.graph.inserting_before(self.current):
            node = self._module.graph.call_function(target, arguments, keywords)
        fake = map_arg((arguments, keywords), lambda one: one.meta["val"])
        with self._mode, torch.no_grad():
            value = target(*fake[0], **fake[1])
        place = {key: self.current.meta[key] for key in PLACE if key in self.current.meta}
        node.meta = {**place, "val": value}
        return node

    def constant(self, tensor: Any) -> Node:
        """A tensor that does not depend on the inputs."""
        assert self.current is not None
        name = f"expert_constant_{self._count}"
        self._count += 1
        self._module.register_buffer(name, tensor, persistent=False)
        with self._module.graph.inserting_before(self.current):
            node = self._module.graph.get_attr(name)
        node.meta = {"val": self._mode.from_tensor(tensor)}
        return node

    def view(self, node: Node, sizes: Sequence[int]) -> Node:
        """The same elements under other sizes."""
        import torch

        return node if sizes_of(node) == list(sizes) else self.call(torch.ops.aten.reshape.default, node, list(sizes))

    def expand(self, node: Node, sizes: Sequence[int]) -> Node:
        """Axes of size 1 repeated."""
        import torch

        return node if sizes_of(node) == list(sizes) else self.call(torch.ops.aten.expand.default, node, list(sizes))

    def permute(self, node: Node, axes: Sequence[int]) -> Node:
        """The axes in another order."""
        import torch

        same = list(axes) == list(range(len(axes)))
        return node if same else self.call(torch.ops.aten.permute.default, node, list(axes))

    def total(self, node: Node, axes: Sequence[int]) -> Node:
        """The sum over axes, which are gone afterwards."""
        import torch

        return self.call(torch.ops.aten.sum.dim_IntList, node, list(axes))
